"""Gradients of recurrent layers: against central differences, and across dtypes and backends."""

import numpy as np
import pytest
from cases import LAYERS, as_tuple, random_call, run
from gradients import slope
from tolerances import CENTRAL_DIFFERENCES, assert_close, tolerance

import fastrnn as fr
from fastrnn.cells import CELLS

VARIANTS = {
    "1 layer": ({}, None),
    "3 layers": ({"num_layers": 3}, None),
    "no bias": ({"bias": False}, None),
    "lengths": ({}, [2, 4, 0]),
    "2 layers bidirectional": ({"num_layers": 2, "bidirectional": True}, [2, 4, 1]),
}

# T, B, I, H: single units and rows, widths that fill no vector, tiles with edges.
SIZES = [
    (1, 1, 1, 1),
    (3, 1, 4, 7),
    (1, 5, 3, 16),
    (4, 2, 19, 19),
    (3, 7, 5, 33),
    (5, 13, 8, 70),
    (2, 50, 6, 24),
]


def test_every_cell_has_a_layer():
    assert set(CELLS) == set(LAYERS)
    for name, make in LAYERS.items():
        assert make(3, 5).cell is CELLS[name]


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("cell", LAYERS)
def test_central_differences(backend, cell, variant):
    options, lengths = VARIANTS[variant]
    layer = LAYERS[cell](3, 5, dtype="float64", seed=1, **options)
    call = random_call(layer, T=4, B=3, lengths=lengths)
    results = run(layer, call)

    def loss():
        output, state = layer(call.x, call.state, call.lengths)
        pairs = [(output, call.d_output), *zip(as_tuple(state), as_tuple(call.d_state))]
        return sum(np.sum(array * d) for array, d in pairs)

    arrays = {"d_x": call.x, **layer.parameters}
    arrays.update({f"d_state {k}": array for k, array in enumerate(as_tuple(call.state))})
    for name, array in arrays.items():
        along = directions(array.size, backend)
        expected = [
            slope(loss, array, direction, step=1e-6)
            for direction in along.reshape(-1, *array.shape)
        ]
        found = along @ results[name].ravel()
        assert_close(found, np.array(expected), CENTRAL_DIFFERENCES, name)


def directions(size, backend):
    """Return unit vectors along which a gradient is checked: all axes, or four for the reference.

    NumPy takes 0.1 ms a step, and `test_cells.py` checks every element of its gradients.
    """
    if backend == "compiled":
        return np.eye(size)
    along = np.random.default_rng(0).standard_normal((4, size))
    return along / np.linalg.norm(along, axis=1, keepdims=True)


@pytest.mark.parametrize("num_layers", [1, 3])
@pytest.mark.parametrize("cell", LAYERS)
def test_float32_agrees_with_the_float64_reference(backend, cell, num_layers):
    single = LAYERS[cell](3, 5, num_layers, seed=1)
    double = LAYERS[cell](3, 5, num_layers, dtype="float64")
    double.load_state_dict(single.state_dict())
    results = run(single, random_call(single, T=4, B=3))
    with fr.use_backend("reference"):
        expected = run(double, random_call(double, T=4, B=3))
    for name, array in results.items():
        assert array.dtype == np.float32, name
        assert_close(array, expected[name], tolerance(cell, "float32"), name)


@pytest.mark.parametrize("lengths", [False, True], ids=["full", "lengths"])
@pytest.mark.parametrize("size", SIZES, ids=str)
@pytest.mark.parametrize("cell", LAYERS)
def test_compiled_agrees_with_the_reference(compiled_backend, cell, size, lengths, dtype):
    T, B, I, H = size
    if cell.endswith("_projected") or "normalised" in cell:
        H = max(H, 3)  # it projects to 2; of one unit normalisation leaves rounding alone
    layer = LAYERS[cell](I, H, bidirectional=lengths, dtype=dtype, seed=1)
    exact = LAYERS[cell](I, H, bidirectional=lengths, dtype="float64")
    exact.load_state_dict(layer.state_dict())
    steps = np.random.default_rng(2).integers(0, T + 1, B).tolist() if lengths else None
    results = run(layer, random_call(layer, T, B, steps))
    with fr.use_backend("reference"):
        expected = run(exact, random_call(exact, T, B, steps))
    if "normalised" in cell:
        # The scale of a product makes no difference, so the gradient of a factor that is one number
        # is zero but for what is added to the variance: rounding is all that is left of it.
        for name, width in (("d_x", I), ("d_state 0", layer.output_size)):
            if width == 1:
                del results[name]
    for name, array in results.items():
        assert_close(array, expected[name], tolerance(cell, dtype), name)
