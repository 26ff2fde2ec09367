"""Recurrent layers on ids: the same numbers as on the ids' vectors, for few and many symbols."""

import numpy as np
import pytest
from tolerances import assert_close

import fastrnn as fr

T, B, E, H = 4, 3, 5, 6
FEW, MANY = 7, 40  # symbols: fewer than the T * B steps, and more
LAYERS = {"rnn": fr.RNN, "lstm": fr.LSTM, "gru": fr.GRU}


@pytest.mark.parametrize("cell", LAYERS)
@pytest.mark.parametrize("symbols", [FEW, MANY])
@pytest.mark.parametrize("one_hot", [False, True], ids=["embedding", "one_hot"])
@pytest.mark.parametrize("bidirectional", [False, True], ids=["forwards", "both_directions"])
def test_ids_stand_for_their_vectors(backend, cell, symbols, one_hot, bidirectional):
    rng = np.random.default_rng(0)
    embedding = None if one_hot else fr.Embedding(symbols, E, dtype="float64", seed=1)
    table = np.eye(symbols) if one_hot else embedding.parameters["weight"]
    layer = LAYERS[cell](table.shape[1], H, 2, bidirectional=bidirectional, dtype="float64", seed=2)
    ids = rng.integers(0, symbols, (T, B))
    lengths = [2, T, 0]
    d_output = rng.standard_normal((T, B, H * (1 + bidirectional)))

    output, _, pullback = layer.vjp(table[ids], lengths=lengths)
    d_x, _ = pullback(d_output)
    expected = {name: gradient.copy() for name, gradient in layer.gradients.items()}
    d_table = np.zeros_like(table)
    np.add.at(d_table, ids, d_x)

    layer.zero_gradients()
    found, _, pullback = layer.vjp_on_ids(ids, embedding, lengths=lengths)
    assert pullback(d_output)[0] is None
    assert_close(found, output, 1e-12)
    assert_close(layer.on_ids(ids, embedding, lengths=lengths)[0], output, 1e-12)
    for name, gradient in layer.gradients.items():
        assert_close(gradient, expected[name], 1e-12, name)
    if embedding is not None:
        assert_close(embedding.gradients["weight"], d_table, 1e-12, "embedding")


@pytest.mark.parametrize("symbols", [9, 400])
@pytest.mark.parametrize("one_hot", [False, True], ids=["embedding", "one_hot"])
def test_a_thread_behind_the_loop_changes_nothing(set_threads, symbols, one_hot):
    """One long sequence, whose steps are too small to be divided."""
    embedding = None if one_hot else fr.Embedding(symbols, 64, dtype="float64", seed=1)
    layer = fr.LSTM(symbols if one_hot else 64, 72, dtype="float64", seed=2)
    ids = np.random.default_rng(0).integers(0, symbols, 300)
    gradients = []
    for threads in (1, 2):
        set_threads(threads)
        layer.zero_gradients()
        output, _, pullback = layer.vjp_on_ids(ids, embedding)
        pullback(output)
        gradients.append({name: array.copy() for name, array in layer.gradients.items()})
        if embedding is not None:
            gradients[-1]["embedding"] = embedding.gradients["weight"].copy()
            embedding.zero_gradients()
    for name, gradient in gradients[0].items():
        assert_close(gradients[1][name], gradient, 1e-12, name)


def test_both_directions_add_into_one_table(set_threads):
    """They must not do so at the same time, however much they have to do."""
    embedding = fr.Embedding(1000, 600, dtype="float64", seed=1)
    layer = fr.RNN(600, 64, bidirectional=True, dtype="float64", seed=2)
    ids = np.random.default_rng(0).integers(0, 1000, (10, 100))
    gradients = []
    for threads in (1, *[2] * 10):
        set_threads(threads)
        embedding.zero_gradients()
        output, _, pullback = layer.vjp_on_ids(ids, embedding)
        pullback(output)
        gradients.append(embedding.gradients["weight"].copy())
    for gradient in gradients[1:]:
        assert_close(gradient, gradients[0], 1e-12)


def test_ids_may_be_overwritten_after_vjp(backend):
    layer = fr.GRU(FEW, H, seed=0)
    ids = np.arange(T)
    _, _, pullback = layer.vjp_on_ids(ids, None)
    ids[:] = 0
    pullback(np.ones((T, H)))
    assert np.abs(layer.gradients["weight_ih_l0"][:, :T]).max(axis=0).min() > 0


@pytest.mark.parametrize("dtype", ["l", "q", ">i8", "u1", "i2"])  # two of them int64, in C's words
def test_ids_of_every_type(backend, dtype):
    ids = np.array([2, 0, 1], dtype)
    layer = fr.GRU(FEW, H, seed=0)
    assert_close(layer.on_ids(ids, None)[0], layer.on_ids([2, 0, 1], None)[0], 0)


def test_no_ids_are_refused_by_their_name():
    with pytest.raises(ValueError, match="ids must have at least 1 step"):
        fr.GRU(FEW, H).on_ids(np.zeros((0, 2), int), None)


@pytest.mark.parametrize("ids", [[[FEW]], [[-1]], [[[0]]], 0, [[0.5]], np.zeros((0, 2), int)])
def test_ids_without_a_vector_are_refused(backend, ids):
    with pytest.raises((ValueError, TypeError), match="must"):
        fr.GRU(FEW, H).on_ids(ids, None)


def test_an_embedding_of_another_width_is_refused(backend):
    with pytest.raises(ValueError, match=r"embedding must be \(V, 5\), got \(7, 3\)"):
        fr.GRU(E, H).on_ids([[0]], fr.Embedding(FEW, 3))
