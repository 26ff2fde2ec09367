"""RNNCell, LSTMCell and GRUCell: the layers for one step, and PyTorch's of these names."""

import copy
import pickle
from functools import partial

import numpy as np
import pytest
from tolerances import TOLERANCES, assert_close

import fastrnn as fr

I, H, B = 3, 5, 2

# Constructor, layer of the same formula.
CELLS = {
    "tanh": (fr.RNNCell, fr.RNN),
    "relu": (partial(fr.RNNCell, nonlinearity="relu"), partial(fr.RNN, nonlinearity="relu")),
    "lstm": (fr.LSTMCell, fr.LSTM),
    "gru": (fr.GRUCell, fr.GRU),
    "gru_reset_before": (
        partial(fr.GRUCell, reset_after=False),
        partial(fr.GRU, reset_after=False),
    ),
    "lstm_normalised": (partial(fr.LSTMCell, layer_norm=True), partial(fr.LSTM, layer_norm=True)),
    "lstm_coupled_normalised": (
        partial(fr.LSTMCell, coupled=True, layer_norm=True),
        partial(fr.LSTM, coupled=True, layer_norm=True),
    ),
    "lstm_with_options": tuple(
        partial(make, peepholes=True, cell_clip=0.1, forget_bias=1.0, init="orthogonal")
        for make in (fr.LSTMCell, fr.LSTM)
    ),
    "gru_orthogonal": tuple(partial(make, init="orthogonal") for make in (fr.GRUCell, fr.GRU)),
}

pytestmark = pytest.mark.usefixtures("backend")


def pair(arrays):
    return tuple(arrays) if len(arrays) > 1 else arrays[0]


def arrays_of(state):
    return state if isinstance(state, tuple) else (state,)


def call(cell, name, leading=(B,)):
    rng = np.random.default_rng(0)
    count = 2 if name.startswith("lstm") else 1
    x = rng.standard_normal((*leading, I))
    state = pair([rng.standard_normal((*leading, H)) for _ in range(count)])
    d_state = pair([rng.standard_normal((*leading, H)) for _ in range(count)])
    cell.zero_gradients()
    after, pullback = cell.vjp(x, state)
    d_x, d_before = pullback(d_state)
    return x, state, after, d_x, d_state, d_before


@pytest.mark.parametrize("name", CELLS)
def test_is_a_step_of_the_layer(name):
    make, make_layer = CELLS[name]
    cell, layer = make(I, H, dtype="float64", seed=1), make_layer(I, H, dtype="float64", seed=1)
    for key, array in cell.parameters.items():
        np.testing.assert_array_equal(array, layer.parameters[key + "_l0"])
    assert len(cell.parameters) == len(layer.parameters)
    x, state, after, d_x, d_state, d_before = call(cell, name)
    assert_close(np.array(cell(x, state)), np.array(after), 1e-14)
    stacked = pair([array[None] for array in arrays_of(state)])
    _, expected, pullback = layer.vjp(x[None], stacked)
    d_expected, d_first = pullback(None, pair([array[None] for array in arrays_of(d_state)]))
    np.testing.assert_array_equal(d_x, d_expected[0])
    for found, array in zip(
        (*arrays_of(after), *arrays_of(d_before)), (*arrays_of(expected), *arrays_of(d_first))
    ):
        np.testing.assert_array_equal(found, array[0])
    for key, array in cell.gradients.items():
        np.testing.assert_array_equal(array, layer.gradients[key + "_l0"])


@pytest.mark.parametrize("name", CELLS)
def test_one_sequence_and_no_state(name):
    cell = CELLS[name][0](I, H, dtype="float64", seed=1)
    x, state, after, d_x, _, d_before = call(cell, name, leading=())
    assert d_x.shape == (I,)
    batched = cell(x[None], pair([array[None] for array in arrays_of(state)]))
    for array, d, expected in zip(arrays_of(after), arrays_of(d_before), arrays_of(batched)):
        assert array.shape == d.shape == (H,)
        assert_close(array, expected[0], 1e-14)
    zero = pair([np.zeros(H) for _ in arrays_of(state)])
    np.testing.assert_array_equal(cell(x), cell(x, zero))


@pytest.mark.parametrize("name", CELLS)
@pytest.mark.parametrize("duplicate", [copy.deepcopy, lambda a: pickle.loads(pickle.dumps(a))])
def test_copies(name, duplicate):
    cell = CELLS[name][0](I, H, seed=1)
    other = duplicate(cell)
    x = np.ones((B, I))
    np.testing.assert_array_equal(other(x), cell(x))
    other.parameters["weight_ih"][...] = 0
    assert (np.array(other(x)) != np.array(cell(x))).any()


def test_refusals():
    cell = fr.LSTMCell(I, H)
    x, h = np.ones((B, I)), np.ones((B, H))
    for arguments, message in [
        ((x[None],), r"x must be \(B, 3\), got \(1, 2, 3\)"),
        ((x[:, 1:],), r"x must be \(B, 3\)"),
        ((x, h), "state must be a pair"),
        ((x, (h, h[0])), r"c0 must be \(2, 5\), got \(5,\)"),
        ((x[0], (h, h)), r"h0 must be \(5,\), got \(2, 5\)"),
    ]:
        with pytest.raises((TypeError, ValueError), match=message):
            cell(*arguments)
    with pytest.raises(TypeError, match="state must be an array h0, got tuple with None"):
        fr.GRUCell(I, H)(x, (h, None))
    _, pullback = cell.vjp(x)
    with pytest.raises(ValueError, match="d_h must be"):
        pullback((h[:1], None))
    pullback((None, h))
    with pytest.raises(RuntimeError, match="used"):
        pullback((None, h))


@pytest.mark.torch
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("name", ["tanh", "relu", "lstm", "gru"])
def test_as_pytorch(name, bias):
    torch = pytest.importorskip("torch")
    make = {
        "tanh": torch.nn.RNNCell,
        "relu": partial(torch.nn.RNNCell, nonlinearity="relu"),
        "lstm": torch.nn.LSTMCell,
        "gru": torch.nn.GRUCell,
    }[name]
    theirs = make(I, H, bias, dtype=torch.float64)
    cell = CELLS[name][0](I, H, bias, dtype="float64")
    cell.load_state_dict({key: array.numpy() for key, array in theirs.state_dict().items()})
    assert list(cell.parameters) == list(theirs.state_dict())
    x, state, after, d_x, d_state, d_before = call(cell, name)

    def tensors(value):
        return [torch.tensor(array, requires_grad=True) for array in arrays_of(value)]

    (t_x,), t_state = tensors(x), tensors(state)
    t_after = theirs(t_x, pair(t_state))
    torch.autograd.backward(
        arrays_of(t_after), [torch.tensor(array) for array in arrays_of(d_state)]
    )
    limit = TOLERANCES["float64"]
    assert_close(d_x, t_x.grad.numpy(), limit)
    for k, expected in enumerate(arrays_of(t_after)):
        assert_close(arrays_of(after)[k], expected.detach().numpy(), limit)
        assert_close(arrays_of(d_before)[k], t_state[k].grad.numpy(), limit)
    for key, parameter in theirs.named_parameters():
        assert_close(cell.gradients[key], parameter.grad.numpy(), limit, key)
