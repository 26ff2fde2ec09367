"""Dense, embedding and dropout: values, gradients against central differences, and refusals."""

import math

import numpy as np
import pytest
from gradients import central_differences
from tolerances import CENTRAL_DIFFERENCES, TOLERANCES, assert_close

from fastrnn.layers.dense import Dense
from fastrnn.layers.dropout import Dropout
from fastrnn.layers.embedding import Embedding, add_rows
from fastrnn.parameters import join

LAYERS = {
    "dense": lambda **options: Dense(4, 3, **options),
    "dense without bias": lambda **options: Dense(4, 3, bias=False, **options),
    "embedding": lambda **options: Embedding(5, 4, **options),
}


def random_input(layer, shape):
    """Return an input with these leading axes."""
    rng = np.random.default_rng(3)
    if isinstance(layer, Embedding):
        return rng.integers(0, layer.num_embeddings, shape)
    return rng.standard_normal((*shape, layer.in_features)).astype(layer.dtype)


def test_the_gradient_of_a_bias_over_many_rows(backend):
    # Every term is rounded the same way, so that errors add up: one by one to 1 %.
    layer = Dense(2, 2)
    _, pullback = layer.vjp(np.ones((1_000_000, 2), np.float32))
    pullback(np.full((1_000_000, 2), 0.1, np.float32))
    for gradient in layer.gradients.values():
        assert_close(gradient, np.full(gradient.shape, 1e6 * np.float64(np.float32(0.1))), 1e-4)


@pytest.mark.parametrize("shape", [(), (6,), (3, 2), (2, 1, 3)])
@pytest.mark.parametrize("name", LAYERS)
def test_central_differences(name, shape):
    layer = LAYERS[name](dtype="float64", seed=0)
    x = random_input(layer, shape)
    output, pullback = layer.vjp(x)
    np.testing.assert_array_equal(output, layer(x))
    assert output.shape[:-1] == shape
    d_output = np.random.default_rng(4).standard_normal(output.shape)
    for gradient in layer.gradients.values():
        gradient[...] = 0.5  # what is there is added to
    d_x = pullback(d_output)

    arrays = dict(layer.parameters)
    actual = {name: gradient - 0.5 for name, gradient in layer.gradients.items()}
    if isinstance(layer, Embedding):
        assert d_x is None
    else:
        arrays["x"], actual["x"] = x, d_x
    for name, array in arrays.items():
        expected = central_differences(lambda: np.sum(layer(x) * d_output), array)
        assert_close(actual[name], expected, CENTRAL_DIFFERENCES, name)


@pytest.mark.parametrize("name", LAYERS)
def test_values_and_dtype(name, dtype):
    layer = LAYERS[name](dtype=dtype, seed=0)
    x = random_input(layer, (3, 2))
    output, pullback = layer.vjp(x)
    assert output.dtype == dtype
    weight = layer.parameters["weight"].astype(np.float64)
    if isinstance(layer, Embedding):
        np.testing.assert_array_equal(output, weight[x])
    else:
        expected = np.einsum("tbi,oi->tbo", x, weight) + layer.parameters.get("bias", 0)
        assert_close(output, expected, TOLERANCES[dtype])
        assert pullback(np.ones_like(output)).dtype == dtype


@pytest.mark.parametrize("name", LAYERS)
def test_the_seed_decides_and_dtypes_agree(name):
    first, again, other = (LAYERS[name](seed=seed).state_dict() for seed in (7, 7, 8))
    double = LAYERS[name](seed=7, dtype="float64").state_dict()
    for key in first:
        np.testing.assert_array_equal(first[key], again[key])
        np.testing.assert_array_equal(first[key], double[key].astype(np.float32))
        assert not np.array_equal(first[key], other[key])


def test_initial_parameters():
    dense = Dense(100, 300, seed=0).parameters
    for array in dense.values():
        assert 0.09 < np.abs(array).max() <= 0.1  # 1 / sqrt(100)
        assert_close(array.std(), 0.1 / math.sqrt(3), 0.1)
    assert_close(Embedding(100, 300, seed=0).parameters["weight"].std(), 1.0, 0.02)


@pytest.mark.parametrize("name", LAYERS)
def test_the_caller_may_overwrite_input_and_output(name):
    layer = LAYERS[name](seed=0)
    gradients = []
    for overwrite in (False, True):
        x = random_input(layer, (3, 2))
        output, pullback = layer.vjp(x)
        d_output = np.ones_like(output)
        if overwrite:
            x[...] = 0
            output[...] = 0
        layer.zero_gradients()
        pullback(d_output)
        gradients.append(layer.parameters.flat_gradients.copy())
    np.testing.assert_array_equal(*gradients)


def test_dense_keeps_the_input_itself_on_request():
    layer = Dense(4, 3, bias=False, dtype="float64", seed=0)
    x = np.ones((2, 4))
    _, pullback = layer.vjp(x, copy=False)
    x[...] = 2
    pullback(np.ones((2, 3)))
    np.testing.assert_array_equal(layer.gradients["weight"], np.full((3, 4), 4.0))


@pytest.mark.parametrize("name", LAYERS)
def test_empty_batches(name):
    layer = LAYERS[name](seed=0)
    output, pullback = layer.vjp(random_input(layer, (3, 0)))
    assert output.shape == (3, 0, layer.parameters["weight"].shape[0] if "dense" in name else 4)
    pullback(output)
    assert not layer.parameters.flat_gradients.any()


@pytest.mark.parametrize("name", LAYERS)
def test_a_refused_pullback_changes_nothing_and_can_be_used(name):
    layer = LAYERS[name](seed=0)
    output, pullback = layer.vjp(random_input(layer, (3, 2)))
    with pytest.raises(ValueError, match=r"d_output must be \(3, 2, \d\), got \(2, \d\)"):
        pullback(output[0])
    with pytest.raises(TypeError, match="d_output must be castable to float32"):
        pullback(output * 1j)
    assert not layer.parameters.flat_gradients.any()
    pullback(output)
    assert layer.parameters.flat_gradients.any()
    with pytest.raises(RuntimeError, match="has been used"):
        pullback(output)


def test_inputs_of_any_kind_strides_and_byte_order():
    layer = Dense(3, 2, seed=0)
    x = np.arange(12.0).reshape(4, 3)
    expected = layer(x.astype(np.float32))
    for same in (x.astype(int), x.tolist(), x.astype(">f8"), np.asfortranarray(x)):
        np.testing.assert_array_equal(layer(same), expected)
        output, pullback = layer.vjp(same)
        np.testing.assert_array_equal(output, expected)
        assert pullback(np.asfortranarray(expected)).dtype == np.float32
    ids = Embedding(5, 2, seed=0)
    expected = ids(np.array([[1, 4], [0, 1]]))
    for same in (
        [[1, 4], [0, 1]],
        np.array([[1, 0], [4, 1]], np.uint8).T,
        np.array([[1, 4], [0, 1]], ">i4"),
    ):
        np.testing.assert_array_equal(ids(same), expected)


def test_a_row_of_nan_stays_in_its_row():
    layer = Dense(3, 2, seed=0)
    output = layer([[1.0, 2.0, 3.0], [math.nan, 0.0, 0.0]])
    assert np.isfinite(output[0]).all()
    assert np.isnan(output[1]).all()


@pytest.mark.parametrize(
    ("x", "error", "message"),
    [
        (np.zeros((2, 3)), ValueError, r"x must be \(2, 4\), got \(2, 3\)"),
        (1.0, ValueError, r"x must be \(4,\), got \(\)"),
        (np.zeros(4, complex), TypeError, "x must be castable to float32"),
        (["a", "b", "c", "d"], TypeError, "x must be castable to float32"),
    ],
)
def test_dense_refuses(x, error, message):
    layer = Dense(4, 3)
    for call in (layer, layer.vjp):
        with pytest.raises(error, match=message):
            call(x)


@pytest.mark.parametrize(
    ("ids", "error", "message"),
    [
        ([[0, 1], [2, 5]], ValueError, r"ids must be in 0\.\.4, got 5 at \(1, 1\)"),
        ([-1], ValueError, r"ids must be in 0\.\.4, got -1"),
        (
            np.array([2**63], np.uint64),
            ValueError,
            r"ids must be in 0\.\.4, got 9223372036854775808",
        ),
        ([0.0], TypeError, "ids must be integers"),
        ([True], TypeError, "ids must be integers"),
    ],
)
def test_embedding_refuses(ids, error, message):
    layer = Embedding(5, 4)
    for call in (layer, layer.vjp):
        with pytest.raises(error, match=message):
            call(ids)


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: Dense(0, 3), ValueError, "in_features must be"),
        (lambda: Dense(3, 2.0), TypeError, "out_features must be"),
        (lambda: Dense(3, 2, bias="no"), TypeError, "bias must be"),
        (lambda: Dense(3, 2, dtype="int32"), ValueError, "dtype must be"),
        (lambda: Embedding(-1, 2), ValueError, "num_embeddings must be"),
        (lambda: Embedding(2, 0), ValueError, "embedding_dim must be"),
        (lambda: Dropout(1.5), ValueError, "p must be"),
        (lambda: Dropout(math.nan), ValueError, "p must be"),
        (lambda: Dropout("half"), TypeError, "p must be"),
        (lambda: setattr(Dropout(), "p", 7), ValueError, "p must be a probability in"),
    ],
)
def test_impossible_settings(make, error, message):
    with pytest.raises(error, match=message):
        make()


@pytest.mark.parametrize("V", [1, 70, 500, 150_000])  # the last are not walked over
@pytest.mark.parametrize("N", [0, 1, 50])
def test_add_rows_is_add_at(V, N, dtype):
    rng = np.random.default_rng(0)
    ids, rows = rng.integers(0, V, N), rng.standard_normal((N, 3)).astype(dtype)
    table = rng.standard_normal((V, 3)).astype(dtype)
    expected = table.astype(np.float64)
    np.add.at(expected, ids, rows)
    add_rows(table, ids, rows)
    assert_close(table, expected, TOLERANCES[dtype])


def test_dropout_is_nothing_at_inference(dtype):
    layer = Dropout(0.5, seed=0)
    x = np.ones((3, 4), dtype)
    before = layer.generator.bit_generator.state
    assert layer(x) is x
    assert layer(np.ones(3, np.float16)).dtype == np.float64
    assert layer.generator.bit_generator.state == before
    assert len(layer.parameters) == 0


def test_dropout_keeps_the_expectation(dtype):
    x = np.full((400, 500), 3.0, dtype)
    output, pullback = Dropout(0.2, seed=0).vjp(x)
    kept = output != 0
    assert output.dtype == dtype
    assert_close(kept.mean(), 0.8, 0.01)
    assert_close(output[kept], x[kept] / 0.8, TOLERANCES[dtype])
    d_output = np.full_like(x, 7)
    assert_close(pullback(d_output), kept * 7 / 0.8, TOLERANCES[dtype])


def test_dropout_draws_a_fresh_mask_a_call_from_its_seed():
    x = np.ones((5, 20))
    first, second = Dropout(0.5, seed=1), Dropout(0.5, seed=1)
    masks = [first.vjp(x)[0] for _ in range(2)]
    assert not np.array_equal(*masks)
    for mask in masks:
        np.testing.assert_array_equal(second.vjp(x)[0], mask)


def test_dropout_of_none_and_of_all():
    x = np.arange(6.0)
    for p, factor in [(0, 1), (1, 0)]:
        output, pullback = Dropout(p).vjp(x)
        assert not np.shares_memory(output, x)
        np.testing.assert_array_equal(output, factor * x)
        np.testing.assert_array_equal(pullback(x), factor * x)


def test_dropout_refuses():
    layer = Dropout(0.5, seed=0)
    with pytest.raises(TypeError, match="x must be castable to float64"):
        layer.vjp([1j])
    _, pullback = layer.vjp(np.ones((2, 3)))
    with pytest.raises(ValueError, match=r"d_output must be \(2, 3\), got \(3,\)"):
        pullback(np.ones(3))
    pullback(np.ones((2, 3)))
    with pytest.raises(RuntimeError, match="has been used"):
        pullback(np.ones((2, 3)))


def test_dropout_that_is_shared_along_an_axis():
    dropout = Dropout(0.5, shared_axis=0, seed=1)
    x = np.ones((5, 3, 40))
    y, pullback = dropout.vjp(x)
    assert set(np.unique(y)) == {0.0, 2.0}
    assert (y == y[0]).all()
    assert (y[0, 0] != y[0, 1]).any()
    np.testing.assert_array_equal(pullback(x), y)
    np.testing.assert_array_equal(dropout(x), x)
    with pytest.raises(ValueError, match=r"x must have an axis 2 to share a mask along"):
        Dropout(0.5, shared_axis=2).vjp(np.ones((2, 3)))
    with pytest.raises(ValueError, match="shared_axis must be a non-negative integer"):
        Dropout(0.5, shared_axis=-1)
    for value, error in ((-1, ValueError), ("time", TypeError)):
        with pytest.raises(error, match="shared_axis must be a non-negative integer"):
            dropout.shared_axis = value
    dropout.shared_axis = None
    y, _ = dropout.vjp(x)
    assert (y != y[0]).any()


def test_a_pullback_of_dense_that_is_joined_meanwhile(backend):
    dense, twin, x = Dense(3, 2, seed=0), Dense(3, 2, seed=0), np.ones((4, 3))
    pullbacks = dense.vjp(x)[1], twin.vjp(x)[1]
    joined = join({"dense": dense})
    for pullback in pullbacks:
        pullback(np.ones((4, 2)))
    for name, gradient in twin.gradients.items():
        np.testing.assert_array_equal(joined.gradients[f"dense.{name}"], gradient)
