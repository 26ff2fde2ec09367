"""Greedy decoding, samples and beam search over steps whose probabilities are known."""

import itertools

import numpy as np
import pytest
from scipy.special import log_softmax

from fastrnn.models import LanguageModel
from fastrnn.models.decoding import beam_search, greedy, largest, sample

EOS, V, LENGTH = 0, 3, 4


class Table:
    """A step whose scores depend on all that a row has read: random numbers seeded by it."""

    def __init__(self, size, seed=0):
        self.read = [()] * size
        self.seed, self.calls = seed, 0

    def scores(self, read):
        rng = np.random.default_rng([self.seed, *map(int, read)])
        return 2 * rng.standard_normal(V)

    def __call__(self, ids, rows=None):
        self.calls += 1
        rows = range(len(ids)) if rows is None else rows
        self.read = [(*self.read[row], symbol) for row, symbol in zip(rows, ids)]
        return np.array([self.scores(read) for read in self.read])


def score(table, first, ids, ended, length_penalty):
    read, total = (first,), 0.0
    symbols = [*ids, EOS] if ended else ids
    for symbol in symbols:
        total += log_softmax(table.scores(read))[symbol]
        read = (*read, symbol)
    return total / len(symbols) ** length_penalty


def exhaustive(table, first, length_penalty):
    """Return all sequences and their scores, the best first."""
    found = []
    for n in range(LENGTH + 1):
        found += [
            (score(table, first, ids, n < LENGTH, length_penalty), ids)
            for ids in itertools.product(range(1, V), repeat=n)
        ]
    return sorted(found, reverse=True)


@pytest.mark.parametrize("length_penalty", [0.0, 0.6, 1.0, 2.0])
@pytest.mark.parametrize("seed", range(5))
def test_a_wide_beam_is_exhaustive_search(seed, length_penalty):
    first, K = [1, 2], V**LENGTH
    found = beam_search(
        Table(2 * K, seed), first, EOS, LENGTH, beam_width=K, length_penalty=length_penalty
    )
    for symbol, hypotheses in zip(first, found):
        expected = exhaustive(Table(1, seed), symbol, length_penalty)
        assert [tuple(h.ids) for h in hypotheses] == [ids for _, ids in expected]
        np.testing.assert_allclose([h.score for h in hypotheses], [s for s, _ in expected])


@pytest.mark.parametrize("seed", range(20))
def test_a_beam_of_one_is_greedy(seed):
    first = [0, 1, 2]
    expected = greedy(Table(3, seed), first, EOS, LENGTH)
    found = beam_search(Table(3, seed), first, EOS, LENGTH, beam_width=1)
    assert [h[0].ids.tolist() for h in found] == [ids.tolist() for ids in expected]
    assert all(len(h) == 1 for h in found)


@pytest.mark.parametrize("beam_width", [2, 3, 5])
def test_scores_are_those_of_the_sequences(beam_width):
    first = [1, 2]
    found = beam_search(Table(2 * beam_width), first, EOS, LENGTH, beam_width=beam_width)
    for symbol, hypotheses in zip(first, found):
        expected = {ids: value for value, ids in exhaustive(Table(1), symbol, 1.0)}
        assert len({tuple(h.ids) for h in hypotheses}) == len(hypotheses) == beam_width
        for h in hypotheses:
            np.testing.assert_allclose(h.score, expected[tuple(h.ids)])
        assert [h.score for h in hypotheses] == sorted((h.score for h in hypotheses), reverse=True)


def test_a_wider_beam_finds_better_sequences():
    def total(beam_width):
        found = [
            beam_search(
                Table(beam_width, seed), [1], EOS, 8, beam_width=beam_width, length_penalty=0
            )
            for seed in range(30)
        ]
        return sum(hypotheses[0][0].score for hypotheses in found)

    assert total(1) < total(2) <= total(8)


def test_a_beam_goes_on_with_as_many_when_some_have_ended():
    """After the first symbol, 3: an end, 1 and 2; after 2 an end for certain, after 1 anything."""
    probabilities = np.array([[1, 1, 1], [0.4, 0.3, 0.3], [1, 1e-9, 1e-9], [0.5, 0.3, 0.2]])
    (found,) = beam_search(
        lambda ids, rows=None: np.log(probabilities[ids]),
        [3],
        EOS,
        3,
        beam_width=2,
        length_penalty=0,
    )
    assert [h.ids.tolist() for h in found] == [[], [2]]


@pytest.mark.parametrize("seed", range(20))
def test_a_sequence_does_not_depend_on_its_neighbours(seed):
    def search(first):
        table = Table(3 * len(first), seed)
        return beam_search(table, first, EOS, 9, beam_width=3, length_penalty=2.0)

    both, alone = search([1, 2]), [search([symbol])[0] for symbol in (1, 2)]
    for own, one in zip(both, alone):
        assert [h.ids.tolist() for h in own] == [h.ids.tolist() for h in one]


def certain(symbols):
    """Return a step that writes the n-th of `symbols` at the n-th call, in both its rows."""
    rest = iter(symbols)
    return lambda ids, rows=None: np.where(np.arange(V) == next(rest), 9.0, [[0.0]] * len(ids))


@pytest.mark.parametrize("size", [1, 7, 1000])
@pytest.mark.parametrize("number", [1, 6, 40, 2000])
def test_the_largest_are_those_of_a_sort(size, number):
    scores = np.random.default_rng(0).standard_normal((5, size))
    scores[1] = np.round(scores[1])  # ties
    scores[2, : size // 2] = -np.inf
    scores[3, size // 50 :] = -np.inf
    expected = np.argsort(-scores, axis=1, kind="stable")[:, :number]
    np.testing.assert_array_equal(largest(scores, number), expected)


def test_of_no_sequences_none_is_drawn():
    assert sample(lambda ids: np.zeros((0, 50)), np.zeros(0, int), EOS, 5, top_k=3) == []
    assert beam_search(lambda ids: np.zeros((0, 3)), np.empty(0, int), 0, 4) == []


def test_greedy_ends_at_the_end_mark_or_the_longest_length():
    assert greedy(certain([2, 1, EOS]), [1], EOS, 9)[0].tolist() == [2, 1]
    assert greedy(certain([2, 1, 2]), [1], EOS, 3)[0].tolist() == [2, 1, 2]
    assert greedy(certain([EOS]), [1, 1], EOS, 3)[1].tolist() == []
    assert greedy(certain([1, EOS]), [1], EOS, 2**62)[0].tolist() == [1]


def test_without_an_end_mark_all_are_of_the_longest_length():
    assert greedy(Table(2), [1, 2], None, LENGTH)[1].shape == (LENGTH,)
    (found,) = beam_search(Table(V), [1], None, LENGTH, beam_width=V)
    assert [h.ids.shape for h in found] == [(LENGTH,)] * V


def test_all_are_written_when_one_has_ended():
    def step(ids):
        return np.eye(V)[np.where(ids == 1, EOS, [2, 2])]

    found = greedy(step, [1, 2], EOS, 3)
    assert [ids.tolist() for ids in found] == [[], [2, 2, 2]]


def test_draws_follow_the_distribution():
    probabilities = np.array([0.2, 0.5, 0.3])

    def step(ids):
        return np.log([probabilities] * len(ids))

    found = sample(step, [1] * 4000, EOS, 1, seed=0)
    counts = np.bincount([ids[0] if len(ids) else EOS for ids in found], minlength=V)
    assert np.all(np.abs(counts / 4000 - probabilities) < 0.04)
    for k, likeliest in ((1, {1}), (2, {1, 2})):
        kept = sample(step, [1] * 99, EOS, 5, top_k=k, seed=0)
        assert set(np.ravel(kept)) == likeliest


def test_the_same_seed_draws_the_same():
    drawn = [sample(Table(9), [1] * 9, None, 9, seed=seed) for seed in (1, 1, 2)]
    same, again, other = [[ids.tolist() for ids in row] for row in drawn]
    assert same == again != other
    assert len({tuple(ids) for ids in same}) > 1


@pytest.mark.parametrize("decode", [greedy, beam_search])
@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"first": [[1]]}, ValueError, r"first must be \(N,\), got \(1, 1\)"),
        ({"first": [0.5]}, TypeError, "first must be castable to int64"),
        ({"eos": -1}, ValueError, "eos must be a non-negative integer"),
        ({"eos": V}, ValueError, r"eos must be in 0\.\.2 or None, got 3"),
        ({"max_length": 0}, ValueError, "max_length must be a positive integer"),
    ],
)
def test_refused(decode, arguments, error, message):
    with pytest.raises(error, match=message):
        decode(**{"step": Table(5), "first": [1], "eos": EOS, "max_length": 3} | arguments)


@pytest.mark.parametrize(
    ("decode", "arguments", "message"),
    [
        (sample, {"temperature": -1}, "temperature must be a non-negative number"),
        (sample, {"top_k": 0}, "top_k must be a positive integer"),
        (sample, {"seed": -1}, "seed must be a non-negative integer, .* got int -1"),
        (beam_search, {"beam_width": 0}, "beam_width must be a positive integer"),
        (beam_search, {"beam_width": 2**62}, "beam_width must be at most 1000000, got 46116860"),
        (beam_search, {"length_penalty": -1}, "length_penalty must be a non-negative number"),
        (beam_search, {"length_penalty": 1e6}, "length_penalty must be at most 637 where max_len"),
    ],
)
def test_refused_settings(decode, arguments, message):
    with pytest.raises(ValueError, match=message):
        decode(Table(5), [1], EOS, 3, **arguments)


@pytest.mark.parametrize("max_length", [1, 2, 3, 50])
def test_the_largest_length_penalty_overflows_nowhere(max_length):
    penalty = 1e6 if max_length == 1 else 700 // np.log(max_length)
    (found,) = beam_search(
        lambda ids, rows=None: np.array([[-9.0, 1.0, 0.0]] * len(ids)),
        [1],
        EOS,
        max_length,
        beam_width=2,
        length_penalty=penalty,
    )
    assert found[0].ids.tolist() == [1] * max_length  # the longest, and of those the likeliest


@pytest.mark.parametrize(
    ("returned", "error", "message"),
    [
        ([0.1, 0.2], ValueError, r"step's logits must be \(2, V\), got \(2,\)"),
        (np.zeros(V), ValueError, r"step's logits must be \(2, V\), got \(3,\)"),
        (np.zeros((3, V)), ValueError, r"step's logits must be \(2, V\), got \(3, 3\)"),
        (None, TypeError, "step's logits must be castable to float64, got dtype object"),
    ],
)
@pytest.mark.parametrize("decode", [greedy, sample, beam_search])
def test_what_are_no_logits_is_refused(decode, returned, error, message):
    options = {"beam_width": 1} if decode is beam_search else {}
    with pytest.raises(error, match=message):
        decode(lambda ids, rows=None: returned, [1, 2], EOS, 3, **options)


@pytest.mark.parametrize("scores", [[0, np.nan, 0], [np.inf, 0, 0], [-np.inf] * V])
@pytest.mark.parametrize("decode", [greedy, sample, beam_search])
def test_scores_that_are_not_finite_are_refused(decode, scores):
    with pytest.raises(ValueError, match="scores are not finite"):
        decode(lambda ids, rows=None: np.array([scores] * len(ids)), [1], EOS, 3)


def test_the_stream_of_a_language_model_is_decoded_as_the_documentation_says():
    model = LanguageModel(V, 4, dtype="float64", seed=0)
    for values in model.parameters.values():
        values *= 3

    def score(ids):
        nats = -log_softmax(model([1, *ids[:-1]])[0], axis=1)[np.arange(len(ids)), ids]
        return -nats.mean()

    stream = model.stream(batch_size=V**LENGTH)

    def step(ids, rows=None):
        if rows is not None:
            stream.state = tuple(part[:, rows] for part in stream.state)
        return stream.step(ids)

    (found,) = beam_search(step, [1], EOS, LENGTH, beam_width=V**LENGTH)
    expected = [
        score([*ids, EOS] if n < LENGTH else list(ids))
        for n in range(LENGTH + 1)
        for ids in itertools.product(range(1, V), repeat=n)
    ]
    np.testing.assert_allclose([h.score for h in found], sorted(expected, reverse=True))
    (ids,) = greedy(model.stream().step, [1], EOS, LENGTH)
    for n, symbol in enumerate(ids):
        assert symbol == model([1, *ids[:n]])[0][-1].argmax()
    assert len(sample(model.stream(2).step, [1, 2], EOS, LENGTH, seed=0)) == 2
