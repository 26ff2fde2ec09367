"""Decoding of a recogniser's scores against all alignments one by one."""

import itertools

import numpy as np
import pytest
from scipy.special import log_softmax

from fastrnn.losses import ctc
from fastrnn.models.ctc_decoding import best_path, merge, prefix_beam

V = 3
ALL = 1000  # more beginnings than there are


def make(T=5, B=4, scale=1.0, seed=0):
    return scale * np.random.default_rng(seed).standard_normal((T, B, V))


def says(alignment, blank=0):
    return tuple(symbol for symbol, _ in itertools.groupby(alignment) if symbol != blank)


def by_enumeration(frames, blank=0):
    """Return the log-probability of everything that frames (T, V) may say."""
    log_y = log_softmax(frames, axis=1)
    sums = {}
    for alignment in itertools.product(range(V), repeat=len(frames)):
        nats = log_y[np.arange(len(frames)), list(alignment)].sum()
        said = says(alignment, blank)
        sums[said] = np.logaddexp(sums.get(said, -np.inf), nats)
    return sums


@pytest.mark.parametrize("blank", range(V))
def test_a_wide_beam_finds_all_there_is(blank):
    logits = make()
    for b, readings in enumerate(prefix_beam(logits, beam_width=ALL, blank=blank)):
        expected = by_enumeration(logits[:, b], blank)
        found = {tuple(symbols.tolist()): nats for symbols, nats in readings}
        assert len(found) == len(readings)
        assert found.keys() == expected.keys()
        for said, nats in expected.items():
            assert found[said] == pytest.approx(nats, rel=1e-12)
        nats = [reading.log_probability for reading in readings]
        assert nats == sorted(nats, reverse=True)
        assert np.logaddexp.reduce(nats) == pytest.approx(0, abs=1e-12)


def test_a_beam_is_the_same_with_less():
    """A narrow beam finds the likeliest symbols; its sums lack the dropped prefixes."""
    logits = make(T=6, B=20, scale=2.0)
    wide, narrow = prefix_beam(logits, beam_width=ALL), prefix_beam(logits, beam_width=6)
    for exact, few in zip(wide, narrow):
        assert len(few) == 6
        assert few[0].symbols.tolist() == exact[0].symbols.tolist()
        sums = {tuple(symbols.tolist()): nats for symbols, nats in exact}
        for symbols, nats in few:
            assert nats <= sums[tuple(symbols.tolist())] + 1e-12


def by_beginnings(frames, width):
    """Return the readings of frames (T, V), by the algorithm as published; the blank is 0."""
    beam = {(): (0.0, -np.inf)}
    for row in log_softmax(frames, axis=1):
        sums = {}

        def add(prefix, place, nats, sums=sums):
            parts = sums.setdefault(prefix, [-np.inf, -np.inf])
            parts[place] = np.logaddexp(parts[place], nats)

        for prefix, (blank, symbol) in beam.items():
            add(prefix, 0, np.logaddexp(blank, symbol) + row[0])
            for k in range(1, len(row)):
                again = prefix[-1:] == (k,)
                if again:
                    add(prefix, 1, symbol + row[k])
                add((*prefix, k), 1, (blank if again else np.logaddexp(blank, symbol)) + row[k])
        best = sorted(sums, key=lambda prefix: -np.logaddexp(*sums[prefix]))[:width]
        beam = {prefix: sums[prefix] for prefix in best}
    return [(prefix, np.logaddexp(*parts)) for prefix, parts in beam.items()]


@pytest.mark.parametrize(("width", "symbols"), [(1, 4), (3, 3), (4, 40), (12, 6)])
def test_a_narrow_beam_keeps_the_best_beginnings(width, symbols):
    """Also if a prefix is dropped and comes back while its extensions are still in the beam."""
    logits = 2 * np.random.default_rng(0).standard_normal((40, 3, symbols))
    for b, readings in enumerate(prefix_beam(logits, beam_width=width)):
        expected = by_beginnings(logits[:, b], width)
        assert [tuple(found.tolist()) for found, _ in readings] == [said for said, _ in expected]
        nats = [nats for _, nats in expected]
        np.testing.assert_allclose([nats for _, nats in readings], nats, rtol=1e-12)


def test_a_beam_of_one_finds_the_best_where_the_last_symbol_is_the_likeliest():
    # 1 has been said, and ends in a blank as often as not: 1 more is 0.2, the same 0.3, 2 is 0.39.
    zero = 1e-30
    frames = [[zero, 1, zero, zero], [0.5, 0.5, zero, zero], [0.1, 0.4, 0.39, 0.11]]
    (((symbols, nats),),) = prefix_beam(np.log(frames)[:, None], beam_width=1)
    assert symbols.tolist() == [1, 2]
    assert np.isclose(nats, np.log(0.39))


def test_probabilities_of_float32_scores_are_summed_in_float64():
    logits = make(T=40).astype(np.float32)
    found = zip(prefix_beam(logits), prefix_beam(logits.astype(np.float64)), strict=True)
    for narrow, wide in found:
        assert [nats for _, nats in narrow] == [nats for _, nats in wide]


def test_its_probabilities_are_the_losses():
    logits = make(T=6, B=3)
    for b, readings in enumerate(prefix_beam(logits, beam_width=ALL)):
        for symbols, nats in readings[:5]:
            loss, _ = ctc(logits[:, b : b + 1], None, symbols[:, None])
            assert nats == pytest.approx(-loss * max(1, len(symbols)), rel=1e-12)


@pytest.mark.parametrize("blank", range(V))
def test_the_best_path_is_the_likeliest_alignment(blank):
    logits = make(B=10, scale=2.0)
    for b, found in enumerate(best_path(logits, blank=blank)):
        log_y = log_softmax(logits[:, b], axis=1)
        likeliest = max(
            itertools.product(range(V), repeat=len(log_y)),
            key=lambda alignment: log_y[np.arange(len(log_y)), list(alignment)].sum(),
        )
        assert tuple(found.tolist()) == says(likeliest, blank)
        assert found.dtype == np.int64


def test_the_best_path_may_say_what_is_not_the_likeliest():
    """Graves (2006), section 3.2: two frames of 0.6 blank and 0.4 for the symbol."""
    logits = np.log([[[0.6, 0.4]], [[0.6, 0.4]]])
    assert best_path(logits)[0].tolist() == []
    ((first, second),) = prefix_beam(logits, beam_width=2)
    assert first.symbols.tolist() == [1]
    assert first.log_probability == pytest.approx(np.log(0.64))
    assert second.log_probability == pytest.approx(np.log(0.36))


def test_runs_are_merged_before_blanks_are_dropped():
    assert merge([0, 1, 1, 0, 1, 2, 2, 0, 0]).tolist() == [1, 1, 2]
    assert merge([2, 2, 0, 1], blank=2).tolist() == [0, 1]
    assert merge([]).tolist() == merge([0, 0]).tolist() == []
    with pytest.raises(TypeError, match="alignment must be integers, got dtype float64"):
        merge([1.7])


@pytest.mark.parametrize("decode", [best_path, lambda *a: [r[0].symbols for r in prefix_beam(*a)]])
def test_each_sequence_ends_at_its_length(decode):
    logits, lengths = make(B=3, scale=3.0), np.array([5, 2, 0])
    alone = [decode(logits[:length, [b]])[0].tolist() for b, length in enumerate(lengths)]
    logits[np.arange(5)[:, None] >= lengths] = np.nan
    assert [symbols.tolist() for symbols in decode(logits, lengths)] == alone
    assert alone[2] == []


def test_impossible_symbols_are_not_found():
    logits = make(T=3, B=1)
    logits[:, 0, 2] = -np.inf
    (readings,) = prefix_beam(logits, beam_width=ALL)
    assert {tuple(symbols.tolist()) for symbols, _ in readings} == {(), (1,), (1, 1)}


@pytest.mark.parametrize("decode", [best_path, prefix_beam])
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_scores_gone_wrong_are_refused(decode, bad):
    logits = make()
    logits[2, 1] = bad
    with pytest.raises(ValueError, match="the scores of sequence 1 are not finite; train"):
        decode(logits)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"logits": np.zeros((2, 3))}, ValueError, r"logits must be \(T, B, V\), got \(2, 3\)"),
        ({"lengths": [6, 1, 1, 1]}, ValueError, "lengths must be in 0..5, got 6"),
        ({"blank": 3}, ValueError, "blank must be in 0..2, got 3"),
        ({"blank": [0]}, ValueError, r"blank must be one integer, got \(1,\)"),
        ({"beam_width": 0}, ValueError, "beam_width must be a positive integer, got 0"),
        ({"beam_width": 1.5}, TypeError, "beam_width must be a positive integer"),
    ],
)
def test_wrong_arguments_are_refused(arguments, error, message):
    with pytest.raises(error, match=message):
        prefix_beam(**({"logits": make()} | arguments))
