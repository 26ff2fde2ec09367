"""Pooling: against other formulas for the same, central differences, streams and refusals."""

import numpy as np
import pytest
from gradients import slope
from tolerances import CENTRAL_DIFFERENCES, TOLERANCES, assert_close

from fastrnn.layers import AttentionPooling, LastPooling, MeanPooling

T, B, W = 4, 3, 6
LENGTHS = np.array([4, 1, 2])
POOLINGS = {
    "last": lambda dtype: LastPooling(W, dtype=dtype),
    "both ends": lambda dtype: LastPooling(W, True, dtype=dtype),
    "mean": lambda dtype: MeanPooling(W, dtype=dtype),
    "attention": lambda dtype: AttentionPooling(W, dtype=dtype, seed=1),
}


def steps(dtype="float64"):
    """Return x (T, B, W), NaN beyond the ends."""
    x = np.random.default_rng(0).standard_normal((T, B, W)).astype(dtype)
    x[np.arange(T)[:, None] >= LENGTHS] = np.nan
    return x


def expected(name, layer, x):
    """Return what one sequence (T_b, W) is pooled to."""
    if name == "last":
        return x[-1]
    if name == "both ends":
        return np.concatenate([x[-1, : W // 2], x[0, W // 2 :]])
    if name == "mean":
        return x.mean(axis=0)
    p = layer.parameters
    scores = np.tanh(x @ p["hidden.weight"].T + p["hidden.bias"]) @ p["score.weight"][0]
    weights = np.exp(scores) / np.exp(scores).sum()
    return weights @ x


@pytest.mark.parametrize("name", POOLINGS)
def test_each_sequence_is_pooled_alone(name, dtype, backend):
    layer, x = POOLINGS[name](dtype), steps(dtype)
    pooled = layer(x, LENGTHS)
    assert pooled.dtype == dtype
    alone = [expected(name, layer, x[:length, b]) for b, length in enumerate(LENGTHS)]
    assert_close(pooled, alone, TOLERANCES[dtype])
    assert np.array_equal(pooled, layer.vjp(x, LENGTHS)[0])
    assert_close(layer(x[:, :1]), layer(x[:, :1], [T]), 0)


@pytest.mark.parametrize("name", POOLINGS)
def test_gradients_are_those_of_central_differences(name, backend):
    layer, x = POOLINGS[name]("float64"), steps()
    rng = np.random.default_rng(2)
    weight = rng.standard_normal((B, W))
    _, pullback = layer.vjp(x, LENGTHS)
    d_x = pullback(weight)
    assert not d_x[np.isnan(x)].any()

    arrays = {"x": x, **layer.parameters}
    gradients = {"x": d_x, **layer.gradients}
    for key, array in arrays.items():
        direction = rng.standard_normal(array.shape)
        expected = slope(lambda: (layer(x, LENGTHS) * weight).sum(), array, direction)
        assert_close((gradients[key] * direction).sum(), expected, CENTRAL_DIFFERENCES, key)


@pytest.mark.parametrize("name", POOLINGS)
def test_lengths_may_be_overwritten_after_vjp(name):
    layer, x, found = POOLINGS[name]("float64"), steps(), []
    for overwritten in (LENGTHS, 1):
        lengths = LENGTHS.copy()
        _, pullback = layer.vjp(x, lengths)
        lengths[...] = overwritten
        found.append(pullback(np.ones((B, W))))
    np.testing.assert_array_equal(*found)


@pytest.mark.parametrize("name", ["last", "mean", "attention"])
def test_a_stream_pools_what_was_read(name, dtype):
    layer = POOLINGS[name](dtype)
    x = 30 * np.random.default_rng(3).standard_normal((T, B, W)).astype(dtype)
    stream = layer.stream(B)
    for _ in range(2):
        for t in range(T):
            assert_close(stream.step(x[t]), layer(x[: t + 1]), 10 * TOLERANCES[dtype])
        stream.reset()


@pytest.mark.parametrize("name", ["mean", "attention"])
def test_many_steps_are_not_rounded_away(name):
    x = np.full((100_000, 1, W), 0.7, np.float32)
    layer = POOLINGS[name]("float32")
    pooled, pullback = layer.vjp(x)
    assert_close(pooled, x[0], TOLERANCES["float32"])
    # Steps alike have equal shares, and gradients of no more than these.
    assert_close(pullback(np.ones((1, W)))[:, 0], np.full((len(x), W), 1e-5), TOLERANCES["float32"])
    stream = layer.stream(1)
    for step in x:
        pooled = stream.step(step)
    assert pooled.dtype == np.float32
    assert_close(pooled, x[0], TOLERANCES["float32"])


@pytest.mark.parametrize("name", POOLINGS)
def test_nan_flows_neither_into_padding_nor_into_other_sequences(name):
    layer, x = POOLINGS[name]("float64"), np.nan_to_num(steps())
    pooled, pullback = layer.vjp(x, LENGTHS)
    d_x = pullback(np.ones((B, W)))
    b = int(np.argmin(LENGTHS))
    bad = x.copy()
    bad[0, b] = np.nan
    found, pullback = layer.vjp(bad, LENGTHS)
    d_pooled = np.ones((B, W))
    d_pooled[b] = np.nan
    d_found = pullback(d_pooled)
    assert np.isnan(found[b]).any()
    np.testing.assert_array_equal(np.delete(found, b, 0), np.delete(pooled, b, 0))
    np.testing.assert_array_equal(np.delete(d_found, b, 1), np.delete(d_x, b, 1))
    assert not d_found[LENGTHS[b] :, b].any()


def test_weights_of_attention():
    weights = AttentionPooling(W, dtype="float64", seed=1).weights(steps(), LENGTHS)
    assert_close(weights.sum(axis=0), np.ones(B), TOLERANCES["float64"])
    assert not weights[np.arange(T)[:, None] >= LENGTHS].any()
    assert len(np.unique(weights[:, 0])) == T


def test_scores_may_be_large():
    layer = AttentionPooling(W, dtype="float64", seed=1)
    layer.parameters["score.weight"] = 1e4 * np.ones((1, W))
    assert np.isfinite(layer(steps(), LENGTHS)).all()
    x, stream = steps()[:, :1], layer.stream(1)
    for t in range(T):
        assert_close(stream.step(x[t]), layer(x[: t + 1]), TOLERANCES["float64"])


@pytest.mark.parametrize(
    ("x", "lengths", "message"),
    [
        (np.zeros((T, B, W + 1)), None, r"x must be \(T, B, 6\), got \(4, 3, 7\)"),
        (np.zeros((0, B, W)), None, "x must have at least 1 step"),
        (np.zeros((T, B, W)), [4, 0, 1], r"lengths must be in 1..4, got 0 at row 1"),
        (np.zeros((T, B, W)), [4, 5, 1], r"lengths must be in 1..4, got 5 at row 1"),
        (np.zeros((T, B, W)), [4, 1], r"lengths must be \(3,\)"),
    ],
)
@pytest.mark.parametrize("name", POOLINGS)
def test_wrong_arguments_are_named(name, x, lengths, message):
    layer = POOLINGS[name]("float64")
    with pytest.raises(ValueError, match=message):
        layer(x, lengths)
    with pytest.raises(ValueError, match=message):
        layer.vjp(x, lengths)


def test_a_refused_gradient_leaves_the_pullback():
    pullback = MeanPooling(W).vjp(np.zeros((T, B, W)))[1]
    with pytest.raises(ValueError, match=r"d_pooled must be \(3, 6\)"):
        pullback(np.zeros((B, W + 1)))
    pullback(np.zeros((B, W)))
    with pytest.raises(RuntimeError, match="has been used"):
        pullback(np.zeros((B, W)))


@pytest.mark.parametrize("pooling", [LastPooling, MeanPooling, AttentionPooling])
def test_streams_take_lists_and_refuse_other_shapes(pooling):
    assert pooling(2).stream(1).step([[1, 2]]).shape == (1, 2)
    with pytest.raises(ValueError, match=r"x must be \(3, 6\), got \(1, 6\)"):
        pooling(W).stream(B).step(np.zeros((1, W)))
    with pytest.raises(TypeError, match="batch_size must be a positive integer"):
        pooling(W).stream("3")


def test_two_directions_are_of_one_width():
    with pytest.raises(ValueError, match="size must be even for two directions, got 5"):
        LastPooling(5, bidirectional=True)


def test_both_ends_do_not_stream():
    with pytest.raises(ValueError, match="cannot stream"):
        LastPooling(W, True).stream(1)
