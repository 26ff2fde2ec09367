"""The CTC loss against all alignments one by one, central differences, and PyTorch."""

import functools
import itertools
import math

import numpy as np
import pytest
from gradients import central_differences
from scipy.special import log_softmax
from tolerances import CENTRAL_DIFFERENCES, TOLERANCES, assert_close

import fastrnn as fr
from fastrnn.backends import active_backend
from fastrnn.data import Padded, pad
from fastrnn.losses import ctc

# Frames and target of each sequence; the blank is 1 of 0..3.
T, V, BLANK = 5, 4, 1
CASES = {
    "two symbols": (5, [2, 0]),
    "a repeat": (5, [3, 3]),
    "repeats at the limit": (5, [0, 0, 0]),
    "as many symbols as frames": (3, [0, 2, 3]),
    "one symbol, one frame": (1, [2]),
    "empty": (4, []),
    "no frame": (0, []),
}


def make(name=None, dtype="float64"):
    """Return scores and targets of one case, or of all of them side by side."""
    cases = [CASES[name]] if name else list(CASES.values())
    rng = np.random.default_rng(0)
    logits = 2 * rng.standard_normal((T, len(cases), V)).astype(dtype)
    lengths, targets = zip(*cases)
    return Padded(logits, np.array(lengths)), pad([np.array(z, int) for z in targets])


def says(alignment):
    """Return the symbols of an alignment: runs are merged, then blanks are dropped."""
    return [symbol for symbol, _ in itertools.groupby(alignment) if symbol != BLANK]


def by_enumeration(logits, target):
    """Return -log p of the sum over all alignments of frames (T, V) that say the target."""
    log_y = log_softmax(logits.astype(np.float64), axis=-1)
    sums = [
        log_y[np.arange(len(log_y)), list(alignment)].sum()
        for alignment in itertools.product(range(V), repeat=len(log_y))
        if says(alignment) == list(target)
    ]
    return -np.logaddexp.reduce(sums)


@pytest.mark.parametrize("name", CASES)
def test_it_is_the_sum_over_all_alignments(backend, name, dtype):
    (logits, lengths), targets = make(name, dtype)
    loss, d_logits = ctc(logits, lengths, *targets, BLANK)
    target = CASES[name][1]
    expected = by_enumeration(logits[: lengths[0], 0], target) / max(1, len(target))
    assert isinstance(loss, float)
    assert_close(loss, expected, TOLERANCES[dtype])
    assert d_logits.dtype == dtype


@pytest.mark.parametrize("name", [*CASES, None])
def test_the_gradient(backend, name):
    (logits, lengths), targets = make(name)
    d_logits = ctc(logits, lengths, *targets, BLANK)[1]
    expected = central_differences(lambda: ctc(logits, lengths, *targets, BLANK)[0], logits)
    assert_close(d_logits, expected, CENTRAL_DIFFERENCES)


def test_the_gradient_in_float32(backend):
    (logits, lengths), targets = make(dtype="float32")
    expected = ctc(logits.astype(np.float64), lengths, *targets, BLANK)[1]
    assert_close(ctc(logits, lengths, *targets, BLANK)[1], expected, TOLERANCES["float32"])


def test_the_mean_is_over_sequences_of_nats_a_symbol(backend):
    (logits, lengths), targets = make()
    alone = []
    for b, target in enumerate(CASES.values()):
        length, symbols = target
        rows = logits[: max(1, length), b : b + 1]
        alone.append(ctc(rows, [length], *pad([np.array(symbols, int)]), BLANK)[0])
    assert_close(ctc(logits, lengths, *targets, BLANK)[0], np.mean(alone), 1e-14)


def test_padding_is_never_read(backend):
    (logits, lengths), targets = make()
    expected = ctc(logits, lengths, *targets, BLANK)
    logits[np.arange(T)[:, None] >= lengths] = np.nan
    targets.values[np.arange(len(targets.values))[:, None] >= targets.lengths] = -7
    loss, d_logits = ctc(logits, lengths, *targets, BLANK)
    assert loss == expected[0]
    assert np.array_equal(d_logits, expected[1])
    assert not d_logits[np.arange(T)[:, None] >= lengths].any()


def test_the_arguments_are_left(backend):
    (logits, lengths), targets = make()
    before = [array.copy() for array in (logits, lengths, *targets)]
    ctc(logits, lengths, *targets, BLANK)
    for array, copy in zip((logits, lengths, *targets), before):
        assert np.array_equal(array, copy)


def test_lengths_of_any_strides_are_taken(backend):
    (logits, lengths), targets = make()
    every_other = np.zeros((2, 2 * len(lengths)), np.int64)[:, ::2]
    every_other[:] = lengths, targets.lengths
    loss, d_logits = ctc(logits, every_other[0], targets.values, every_other[1], BLANK)
    expected, d_expected = ctc(logits, lengths, *targets, BLANK)
    assert loss == expected
    assert np.array_equal(d_logits, d_expected)


def test_lengths_may_be_left_out(backend):
    logits = np.random.default_rng(1).standard_normal((5, 2, V))
    targets = np.array([[2, 3], [2, 0]])
    expected = ctc(logits, [5, 5], targets, [2, 2], BLANK)[0]
    assert ctc(logits, None, targets, blank=BLANK)[0] == expected
    assert ctc(logits[:, :, [1, 0, 2, 3]], None, np.where(targets == 0, 1, targets))[0] == (
        pytest.approx(expected)
    )


@functools.cache
def long_sequence(scale):
    """Return scores, targets, and the reference's loss and gradient."""
    rng = np.random.default_rng(2)
    logits = scale * rng.standard_normal((2000, 1, 20))
    targets = rng.integers(1, 20, (150, 1))
    with fr.use_backend("reference"):
        return logits, targets, *ctc(logits, None, targets)


@pytest.mark.parametrize("scale", [1.0, 100.0])
def test_long_sequences_neither_underflow_nor_overflow(compiled_backend, scale):
    """Probabilities here are of the order of exp(-3e3), with large scores of exp(-3e5)."""
    logits, targets, expected, d_expected = long_sequence(scale)
    loss, d_logits = ctc(logits, None, targets)
    assert loss > 10 * scale
    assert_close(loss, expected, TOLERANCES["float64"])
    # A logarithm of 3e5 is rounded to 3e-11, which is the relative error of its probability.
    assert_close(d_logits, d_expected, 1e-10 * scale)
    assert_close(d_logits.sum(axis=2), np.zeros((2000, 1)), 1e-8)


def test_scores_that_swallow_the_nats(backend, dtype):
    """Scores so large that log 2, of two equal symbols, is rounded away."""
    logits = np.full((4, 1, 3), 1e30, dtype)
    logits[..., 0] = -1e30
    loss, d_logits = ctc(logits, None, [[1], [2]])
    # 1112, 1122 and 1222 are 3 of 16.
    assert_close(loss, np.log(16 / 3) / 2, TOLERANCES[dtype])
    expected = np.array([-1 / 2, -1 / 6, 1 / 6, 1 / 2]) / 2
    assert_close(d_logits[:, 0, 1], expected, TOLERANCES[dtype])


def test_one_alignment_alone(backend):
    """As many frames as symbols: the loss is the cross-entropy of the symbols."""
    rng = np.random.default_rng(3)
    logits, targets = rng.standard_normal((40, 1, 9)), (np.arange(40)[:, None] % 8) + 1
    loss, d_logits = ctc(logits, None, targets)
    expected, d_expected = fr.losses.softmax_cross_entropy(logits, targets)
    assert_close(loss, expected, TOLERANCES["float64"])
    assert_close(d_logits, d_expected, TOLERANCES["float64"])


def test_nan_flows_in_its_sequence(backend):
    (logits, lengths), targets = make()
    logits[2, 1, 0] = np.nan
    loss, d_logits = ctc(logits, lengths, *targets, BLANK)
    assert math.isnan(loss)
    assert np.isnan(d_logits[: lengths[1], 1]).all()
    assert not d_logits[lengths[1] :, 1].any()
    assert np.isfinite(np.delete(d_logits, 1, axis=1)).all()


def test_impossible_symbols(backend):
    logits = np.zeros((3, 1, 3))
    logits[1, 0, 2] = -np.inf
    loss, d_logits = ctc(logits, None, [[1], [2]])
    # Of 3 * 2 * 3 alignments: 1 1 2, 1 0 2 and 0 1 2.
    assert_close(loss, math.log(18 / 3) / 2, TOLERANCES["float64"])
    assert np.isfinite(d_logits).all()
    assert d_logits[1, 0, 2] == 0
    logits[:, 0, 1] = -np.inf
    loss, d_logits = ctc(logits, None, [[1], [2]])
    assert loss == np.inf
    assert np.isnan(d_logits).all()


@pytest.mark.parametrize("symbol", [0, 1, 2])
def test_a_score_of_infinity_is_no_loss(backend, symbol):
    # As in the cross-entropy of a softmax, and in PyTorch.
    logits = np.zeros((3, 1, 3))
    logits[1, 0, symbol] = np.inf
    assert math.isnan(ctc(logits, None, [[1]])[0])


def test_the_number_of_threads_changes_no_bit(set_threads):
    rng = np.random.default_rng(4)
    logits, targets = rng.standard_normal((60, 9, 30)), rng.integers(1, 30, (12, 9))
    lengths = rng.integers(30, 61, 9)
    results = []
    for threads in (1, 2, 3):
        set_threads(threads)
        results.append(ctc(logits, lengths, targets))
    for loss, d_logits in results[1:]:
        assert loss == results[0][0]
        assert np.array_equal(d_logits, results[0][1])


def test_more_sequences_than_c_counts_are_refused(compiled_backend):
    logits = np.broadcast_to(np.float32(0), (1, 2**31, 1))  # of one number
    one = np.ones(1, np.int64)
    with pytest.raises(OverflowError, match=r"fewer than 2\*\*31 sequences, got 2147483648"):
        active_backend().ctc(logits, one, one[:, None], one, 0, np.ones(1), logits)


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"logits": np.zeros((3, 2))}, ValueError, r"logits must be \(T, B, V\) with all of them"),
        ({"logits": np.zeros((3, 0, 4))}, ValueError, r">= 1, got \(3, 0, 4\)"),
        ({"logits": np.zeros((3, 2, 4), complex)}, TypeError, "logits must be castable"),
        ({"lengths": [3]}, ValueError, r"lengths must be \(2,\), got \(1,\)"),
        ({"lengths": [3, 4]}, ValueError, "lengths must be in 0..3, got 4 at row 1"),
        ({"lengths": [3.0, 2.0]}, TypeError, "lengths must be integers"),
        ({"targets": [1, 2]}, ValueError, r"targets must be \(S, 2\), got \(2,\)"),
        ({"targets": [[1], [2]]}, ValueError, r"targets must be \(S, 2\), got \(2, 1\)"),
        ({"targets": [[1, 2], [2, 4]]}, ValueError, r"targets must be in 0..3, got 4 at \(1, 1\)"),
        ({"targets": [[1, 2], [2, -1]]}, ValueError, r"in 0..3, got -1 at \(1, 1\)"),
        ({"targets": [[1.0, 2], [2, 1]]}, TypeError, "targets must be integers"),
        ({"targets": [[1, 2], [2, 0]]}, ValueError, r"the blank 0, got it at \(1, 1\)"),
        ({"blank": [0, 0]}, ValueError, r"blank must be one integer, got \(2,\)"),
        ({"target_lengths": [2]}, ValueError, r"target_lengths must be \(2,\)"),
        ({"target_lengths": [2, 3]}, ValueError, "target_lengths must be in 0..2, got 3 at row 1"),
        (
            {"targets": [[1, 2], [2, 2]], "lengths": [2, 2]},
            ValueError,
            "that of sequence 1 has 2 symbols and 1 repeats, so it needs 3 frames, got 2",
        ),
        ({"lengths": [0, 3]}, ValueError, "that of sequence 0 has 2 symbols .* got 0"),
        ({"blank": 4}, ValueError, "blank must be in 0..3, got 4"),
        ({"blank": 0.0}, TypeError, "blank must be integers"),
    ],
)
def test_wrong_arguments_are_refused(change, error, message):
    arguments = {
        "logits": np.zeros((3, 2, 4)),
        "lengths": [3, 3],
        "targets": [[1, 2], [2, 1]],
        "target_lengths": [2, 2],
    }
    with pytest.raises(error, match=message):
        ctc(**(arguments | change))


@functools.cache
def random_cases():
    """Return arguments of random calls with PyTorch's loss and gradient."""
    torch = pytest.importorskip("torch")
    rng = np.random.default_rng(5)
    cases = []
    for _ in range(60):
        frames, B, symbols = rng.integers(1, 12), rng.integers(1, 5), rng.integers(2, 6)
        blank = int(rng.integers(symbols))
        lengths = rng.integers(1, frames + 1, B)
        others = np.delete(np.arange(symbols), blank)
        # What a random alignment says: repeats, and targets at the limit, come with it.
        drawn = [rng.choice(np.append(others, blank), length) for length in lengths]
        said = [[k for k, _ in itertools.groupby(row) if k != blank] for row in drawn]
        targets, target_lengths = pad([np.array(row, int) for row in said])
        logits = 3 * rng.standard_normal((frames, B, symbols))
        x = torch.tensor(logits, requires_grad=True)
        loss = torch.nn.functional.ctc_loss(
            x.log_softmax(2),
            torch.tensor(targets.T.copy()),
            torch.tensor(lengths),
            torch.tensor(target_lengths),
            blank=blank,
        )
        loss.backward()
        arguments = (logits, lengths, targets, target_lengths, blank)
        cases.append((arguments, loss.item(), x.grad.numpy()))
    return cases


@pytest.mark.torch
def test_it_is_pytorchs(backend):
    for arguments, expected, d_expected in random_cases():
        loss, d_logits = ctc(*arguments)
        assert_close(loss, expected, 1e-10)
        assert_close(d_logits, d_expected, 1e-10)
