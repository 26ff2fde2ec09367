"""Attention: what it computes, its gradients, ends of sequences, refusals."""

import numpy as np
import pytest
from gradients import central_differences
from tolerances import CENTRAL_DIFFERENCES, TOLERANCES, assert_close

from fastrnn.layers import AdditiveAttention, DotAttention, GeneralAttention, attention

S, T, B, Q, M, A = 3, 4, 3, 2, 5, 6
LENGTHS = [4, 1, 3]
MAKE = {
    "dot": lambda **options: DotAttention(M, M, **options),
    "general": lambda **options: GeneralAttention(Q, M, **options),
    "additive": lambda **options: AdditiveAttention(Q, M, A, **options),
}


def make_arrays(layer):
    rng = np.random.default_rng(0)
    queries = rng.standard_normal((S, B, layer.query_size)).astype(layer.dtype)
    return queries, rng.standard_normal((T, B, M)).astype(layer.dtype)


def score(layer, q, m):
    """Return f(q, m) as the papers write it."""
    p = layer.parameters
    if isinstance(layer, DotAttention):
        return layer.scale * q @ m
    if isinstance(layer, GeneralAttention):
        return layer.scale * m @ p["query.weight"] @ q
    hidden = np.tanh(p["query.weight"] @ q + p["memory.weight"] @ m + p["query.bias"])
    return float(p["score.weight"][0] @ hidden)


@pytest.mark.parametrize("name", MAKE)
def test_the_context_is_the_weighted_mean_of_the_valid_steps(name, dtype):
    layer = MAKE[name](dtype=dtype, seed=0)
    queries, memory = make_arrays(layer)
    context, weights = layer(queries, memory, LENGTHS)
    assert (context.dtype, context.shape, weights.shape) == (dtype, (S, B, M), (S, B, T))
    for s, b in np.ndindex(S, B):
        steps = memory[: LENGTHS[b], b]
        expected = np.exp([score(layer, queries[s, b], step) for step in steps])
        expected /= expected.sum()
        assert_close(weights[s, b, : LENGTHS[b]], expected, TOLERANCES[dtype])
        assert not weights[s, b, LENGTHS[b] :].any()
        assert_close(context[s, b], expected @ steps, TOLERANCES[dtype])


@pytest.mark.parametrize("lengths", [None, LENGTHS, LENGTHS[:1]])
@pytest.mark.parametrize("name", MAKE)
def test_central_differences(name, lengths, backend):
    layer = MAKE[name](dtype="float64", seed=0)
    queries, memory = make_arrays(layer)
    if lengths is not None:
        queries, memory = queries[:, : len(lengths)].copy(), memory[:, : len(lengths)].copy()
    context, weights, pullback = layer.vjp(queries, memory, lengths)
    for own, called in zip((context, weights), layer(queries, memory, lengths)):
        np.testing.assert_array_equal(own, called)
    d_context = np.random.default_rng(4).standard_normal(context.shape)
    kept = queries.copy(), memory.copy()
    queries[...] = memory[...] = context[...] = weights[...] = 7  # the caller may
    d_queries, d_memory = pullback(d_context)
    queries[...], memory[...] = kept

    arrays = {**layer.parameters, "queries": queries, "memory": memory}
    gradients = {**layer.gradients, "queries": d_queries, "memory": d_memory}
    for key, array in arrays.items():
        expected = central_differences(
            lambda: np.sum(layer(queries, memory, lengths)[0] * d_context), array
        )
        assert np.abs(expected).max() > 1e-3, key
        assert_close(gradients[key], expected, CENTRAL_DIFFERENCES, key)


def test_sequences_are_scored_a_few_at_a_time(monkeypatch):
    layer = MAKE["additive"](dtype="float64", seed=0)
    queries, memory = make_arrays(layer)

    def run():
        layer.zero_gradients()
        context, weights, pullback = layer.vjp(queries, memory, LENGTHS)
        return context, weights, *pullback(np.ones((S, B, M))), *layer.gradients.values()

    expected = [array.copy() for array in run()]
    for count in (1, 2):
        monkeypatch.setattr(attention, "UNITS_AT_ONCE", count * S * T * A)
        for array, whole in zip(run(), expected, strict=True):
            assert_close(array, whole, TOLERANCES["float64"])


@pytest.mark.parametrize("shape", [(0, B), (S, 0)])
@pytest.mark.parametrize("name", MAKE)
def test_there_may_be_no_queries_or_no_sequences(name, shape):
    layer = MAKE[name](seed=0)
    queries, memory = np.zeros((*shape, layer.query_size)), np.zeros((T, shape[1], M))
    context, weights, pullback = layer.vjp(queries, memory)
    assert (context.shape, weights.shape) == ((*shape, M), (*shape, T))
    d_queries, d_memory = pullback(context)
    assert (d_queries.shape, d_memory.shape) == (queries.shape, memory.shape)
    assert not d_memory.any()
    assert not layer.parameters.flat_gradients.any()


@pytest.mark.parametrize("name", MAKE)
def test_gradients_are_added(name):
    layer = MAKE[name](dtype="float64", seed=0)
    queries, memory = make_arrays(layer)
    layer.vjp(queries, memory, LENGTHS)[2](np.ones((S, B, M)))
    once = layer.parameters.flat_gradients.copy()
    layer.vjp(queries, memory, LENGTHS)[2](np.ones((S, B, M)))
    assert_close(layer.parameters.flat_gradients, 2 * once, TOLERANCES["float64"])


@pytest.mark.parametrize("name", MAKE)
def test_padding_is_never_read(name):
    layer = MAKE[name](dtype="float64", seed=0)
    queries, memory = make_arrays(layer)
    d_context = np.ones((S, B, M))

    def run(memory):
        layer.zero_gradients()
        context, weights, pullback = layer.vjp(queries, memory, LENGTHS)
        gradients = pullback(d_context)
        return context, weights, *gradients, layer.parameters.flat_gradients.copy()

    expected = run(memory)
    for b, length in enumerate(LENGTHS):
        memory[length:, b] = np.nan
    for found, same in zip(run(memory), expected):
        np.testing.assert_array_equal(found, same)


@pytest.mark.parametrize("name", MAKE)
def test_nan_flows_neither_into_padding_nor_into_other_sequences(name):
    layer = MAKE[name](dtype="float64", seed=0)
    queries, memory = make_arrays(layer)

    def run():
        context, weights, pullback = layer.vjp(queries, memory, LENGTHS)
        return context, weights, *pullback(np.ones((S, B, M)))

    expected = run()
    b = int(np.argmin(LENGTHS))
    memory[0, b] = np.nan
    found = run()
    for array, clean in zip(found, expected):
        np.testing.assert_array_equal(np.delete(array, b, 1), np.delete(clean, b, 1))
    _, weights, _, d_memory = found
    assert np.isnan(d_memory[0, b]).all()
    assert not weights[:, b, LENGTHS[b] :].any()
    assert not d_memory[LENGTHS[b] :, b].any()


@pytest.mark.parametrize("name", MAKE)
def test_a_sequence_is_read_as_if_alone(name):
    layer = MAKE[name](dtype="float64", seed=0)
    queries, memory = make_arrays(layer)
    context, weights = layer(queries, memory, LENGTHS)
    for b, length in enumerate(LENGTHS):
        alone = slice(b, b + 1)
        one, own = layer(queries[:, alone], memory[:length, alone])
        np.testing.assert_allclose(context[:, alone], one, rtol=1e-13)
        np.testing.assert_allclose(weights[:, alone, :length], own, rtol=1e-13)


@pytest.mark.parametrize("name", MAKE)
def test_queries_may_come_one_at_a_time(name):
    layer = MAKE[name](dtype="float64", seed=0)
    queries, memory = make_arrays(layer)
    attend = layer.over(memory, LENGTHS)
    steps = [attend(query[None])[0][0] for query in queries]
    np.testing.assert_allclose(steps, layer(queries, memory, LENGTHS)[0], rtol=1e-13)


def test_scores_are_scaled_by_the_width_unless_told():
    for make in (DotAttention, GeneralAttention):
        assert make(M, M).scale == pytest.approx(1 / np.sqrt(M))
        assert make(M, M, 1).scale == 1
        with pytest.raises(ValueError, match="scale must be a positive number, got 0"):
            make(M, M, 0)


def test_additive_scores_have_units_as_queries_are_wide_unless_told():
    assert AdditiveAttention(Q, M).size == Q


def test_scores_of_any_size_have_weights():
    layer = DotAttention(1, 1)
    _, weights = layer(np.full((1, 1, 1), 1e15), [[[1e15]], [[1e15]], [[-1e15]]])
    np.testing.assert_array_equal(weights[0, 0], [0.5, 0.5, 0])


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"queries": np.zeros((S, B, 1))}, ValueError, r"queries must be \(S, 3, 2\), got"),
        ({"queries": np.zeros((S, 1, Q))}, ValueError, r"queries must be \(S, 3, 2\), got"),
        ({"queries": np.zeros((S, B, Q), complex)}, TypeError, "queries must be castable"),
        ({"memory": np.zeros((T, B, Q))}, ValueError, r"memory must be \(T, B, 5\), got"),
        ({"memory": np.zeros((0, B, M))}, ValueError, "memory must have at least 1 step"),
        ({"lengths": [1, 2]}, ValueError, r"lengths must be \(3,\), got \(2,\)"),
        ({"lengths": [1, 0, 2]}, ValueError, r"lengths must be in 1\.\.4, got 0 at row 1"),
        ({"lengths": [1, 5, 2]}, ValueError, r"lengths must be in 1\.\.4, got 5 at row 1"),
    ],
)
@pytest.mark.parametrize("name", ["general", "additive"])
def test_refused(name, arguments, error, message):
    layer = MAKE[name]()
    queries, memory = make_arrays(layer)
    arguments = {"queries": queries, "memory": memory, "lengths": LENGTHS} | arguments
    for call in (layer, layer.vjp):
        with pytest.raises(error, match=message):
            call(**arguments)


def test_a_refused_pullback_can_be_used():
    layer = MAKE["general"]()
    context, _, pullback = layer.vjp(*make_arrays(layer))
    with pytest.raises(ValueError, match=r"d_context must be \(3, 3, 5\), got \(3, 5\)"):
        pullback(context[0])
    pullback(context)
    with pytest.raises(RuntimeError, match="has been used"):
        pullback(context)


def test_impossible_settings():
    with pytest.raises(ValueError, match=r"memory_size must be query_size 2 .*got 5"):
        DotAttention(Q, M)
    with pytest.raises(ValueError, match="size must be a positive integer"):
        AdditiveAttention(Q, M, 0)
