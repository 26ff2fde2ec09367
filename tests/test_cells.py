"""Every cell of the registry as the NumPy loop runs it: its equations, and their adjoints."""

import math

import numpy as np
import pytest
from gradients import central_differences
from tolerances import CENTRAL_DIFFERENCES, assert_close

from fastrnn.backends import reference
from fastrnn.backends.runs import AdjointRun, Extras, Run
from fastrnn.cells import CELLS
from fastrnn.cells.base import sigmoid

# Three sequences of 4, 3 and 1 steps, and one of none.
OFFSETS = np.array([0, 3, 5, 7, 8])
B, I, H, P = 4, 3, 5, 2


def numbers(cell, dtype=np.float64):
    """Return weights, packed input and initial states of a cell."""
    rng = np.random.default_rng(3)
    rows = len(cell.gates) * H
    width = P if cell.name.endswith("_projected") else H
    shapes = {
        "weight_ih": (rows, I),
        "weight_hh": (rows, width),
        "bias_ih": (rows,),
        "bias_hh": (rows,),
    }
    if width != H:
        shapes["weight_hr"] = (width, H)
    vectors = {name: (blocks * H,) for name, blocks in cell.vectors}
    if "bias" in vectors:  # in place of the two
        del shapes["bias_ih"], shapes["bias_hh"]
    shapes |= vectors
    weights = {name: rng.standard_normal(shape).astype(dtype) for name, shape in shapes.items()}
    x = rng.standard_normal((OFFSETS[-1], I)).astype(dtype)
    state = tuple(
        rng.standard_normal((B, width if name == "h" else H)).astype(dtype) for name in cell.states
    )
    return weights, x, state, width


@pytest.mark.parametrize("name", CELLS)
def test_stages_say_what_they_produce_and_write_to_nothing_else(name):
    cell = CELLS[name]
    weights, x, state, _ = numbers(cell)
    values = dict(zip(cell.states, state)) | {name: weights[name] for name, _ in cell.vectors}
    values["cell_clip"] = math.inf
    zx = x[:B] @ weights["weight_ih"].T
    for stage in cell.stages:
        z = values[stage.operand] @ weights[stage.weight].T
        columns = slice(0, len(z[0]))
        if stage.gates is not None:
            columns = slice(stage.gates.start * H, stage.gates.stop * H)
            z = z[:, columns]
        arrays = [value for name, value in values.items() if name != "cell_clip"]
        arguments = (zx[:, columns], z, *arrays)
        before = [array.copy() for array in arguments]
        outputs, saved = stage.forward(arguments[0], z, values)
        assert tuple(outputs) == stage.outputs
        d_outputs = {name: np.ones_like(array) for name, array in outputs.items()}
        d_zx, d_zh, _ = stage.adjoint(saved, d_outputs)
        assert d_zh.shape == z.shape
        assert (d_zx is None) == (stage.gates is None)
        for array, copy in zip(arguments, before):
            np.testing.assert_array_equal(array, copy)
        assert all((d == 1).all() for d in d_outputs.values())
        values.update(outputs)
    assert set(cell.states) <= set(values)


def options(cell, width):
    """Return the results of a loop apart from the cell, all at once."""
    rng = np.random.default_rng(5)
    widths = [width if name == "h" else H for name in cell.states]
    return Extras(
        cell_clip=0.7,
        recurrent_mask=rng.integers(0, 2, (B, width)) * 1.5,
        zoneout=tuple(rng.integers(0, 2, (OFFSETS[-1], w)) * 0.75 for w in widths),
    )


@pytest.mark.parametrize("plain", [True, False], ids=["plain", "options"])
@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("name", CELLS)
def test_the_adjoint_is_that_of_the_loop(name, reverse, plain):
    cell = CELLS[name]
    weights, x, state, width = numbers(cell)
    extras = None if plain else options(cell, width)
    rng = np.random.default_rng(4)
    out = np.empty((len(x), width))
    d_out = rng.standard_normal(out.shape)
    d_final = tuple(rng.standard_normal(array.shape) for array in state)

    def scan(keep_tape=False):
        return reference.scan(
            Run(cell, weights, x, OFFSETS, state, out, reverse, keep_tape, extras)
        )

    def loss():
        final, tape = scan()
        assert tape is None
        return np.sum(out * d_out) + sum(np.sum(a * d) for a, d in zip(final, d_final))

    _, tape = scan(keep_tape=True)
    gradients = {name: np.ones_like(array) for name, array in weights.items()}
    d_x, d_initial = reference.scan_adjoint(tape, AdjointRun(d_out, d_final, gradients))
    assert_close(d_x, central_differences(loss, x), CENTRAL_DIFFERENCES, "x")
    for key, array, gradient in zip(cell.states, state, d_initial):
        assert_close(gradient, central_differences(loss, array), CENTRAL_DIFFERENCES, key)
    for key, array in weights.items():
        # They are added into what was there.
        expected = central_differences(loss, array) + 1
        assert_close(gradients[key], expected, CENTRAL_DIFFERENCES, key)


@pytest.mark.parametrize("name", CELLS)
def test_float32_stays_float32(name):
    cell = CELLS[name]
    weights, x, state, width = numbers(cell, np.float32)
    out = np.empty((len(x), width), np.float32)
    final, tape = reference.scan(Run(cell, weights, x, OFFSETS, state, out, keep_tape=True))
    gradients = {name: np.zeros_like(array) for name, array in weights.items()}
    d_x, d_initial = reference.scan_adjoint(tape, AdjointRun(out, None, gradients))
    assert {array.dtype for array in (*final, d_x, *d_initial)} == {np.dtype(np.float32)}


def test_gru_that_resets_before_the_product():
    # The one cell that PyTorch has no numbers for, element by element.
    weights, x, (h,), _ = numbers(CELLS["gru_reset_before"])
    out = np.empty((1, H))
    cell, offsets = CELLS["gru_reset_before"], np.array([0, 1])
    reference.scan(Run(cell, weights, x[:1], offsets, (h[:1],), out))
    zx = weights["weight_ih"] @ x[0] + weights["bias_ih"] + weights["bias_hh"]
    U, h = weights["weight_hh"], h[0]

    def gate(k, vector):
        return zx[k] + sum(U[k, j] * vector[j] for j in range(H))

    r = [1 / (1 + math.exp(-gate(k, h))) for k in range(H)]
    z = [1 / (1 + math.exp(-gate(H + k, h))) for k in range(H)]
    m = [r[k] * h[k] for k in range(H)]
    n = [math.tanh(gate(2 * H + k, m)) for k in range(H)]
    expected = [(1 - z[k]) * n[k] + z[k] * h[k] for k in range(H)]
    assert_close(out[0], expected, 1e-14)


def test_sigmoid_has_the_right_limits_and_no_warning():
    z = np.array([-np.inf, -1e4, -40.0, 0.0, 40.0, 1e4, np.inf, np.nan])
    with np.errstate(all="raise", under="ignore"):
        y = sigmoid(z)
    np.testing.assert_array_equal(y[[0, 1, 3, 5, 6, 7]], [0, 0, 0.5, 1, 1, np.nan])
    assert y[2] == pytest.approx(math.exp(-40), rel=1e-15)
