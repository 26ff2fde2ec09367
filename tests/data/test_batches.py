"""Ids and vectors to windows and batches."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fastrnn.data import Batches, Windows, pad, split


def test_streams_lie_side_by_side_and_go_on_from_window_to_window():
    windows = Windows(np.arange(23), batch_size=2, seq_length=3)
    assert len(windows) == 3
    inputs = np.concatenate([x for x, _ in windows])
    targets = np.concatenate([y for _, y in windows])
    assert inputs[:, 0].tolist() == [*range(9)]
    assert inputs[:, 1].tolist() == [*range(11, 20)]
    assert np.array_equal(targets, inputs + 1)
    assert all(x.shape == y.shape == (3, 2) for x, y in windows)


@pytest.mark.parametrize("n", [2, 3, 10, 11, 12])
def test_scoring_makes_every_prediction_once_and_in_order(n):
    windows = Windows(np.arange(n), 1, 5, keep_rest=True)
    assert np.concatenate([x for x, _ in windows]).ravel().tolist() == [*range(n - 1)]
    assert np.concatenate([y for _, y in windows]).ravel().tolist() == [*range(1, n)]


def test_windows_end_where_a_sequence_does():
    windows = Windows(np.arange(11), 2, 5)
    assert len(windows) == 1
    assert windows[-1][1][-1].tolist() == [5, 10]
    with pytest.raises(IndexError):
        windows[1]


@pytest.mark.parametrize(
    ("size", "options", "needed"),
    [
        (10, {"batch_size": 2, "seq_length": 5}, 11),
        (1, {"batch_size": 1, "seq_length": 5, "keep_rest": True}, 2),
        (0, {"batch_size": 1, "seq_length": 1}, 2),
        (100, {"batch_size": 10**30, "seq_length": 10**30}, 10**60 + 1),
    ],
)
def test_too_short_a_text_is_refused(size, options, needed):
    with pytest.raises(
        ValueError, match=f"the text is too short: .* at least {needed} symbols, got {size}"
    ):
        Windows(np.arange(size), **options)


@pytest.mark.parametrize("name", ["batch_size", "seq_length"])
@pytest.mark.parametrize(("value", "error"), [(0, ValueError), (-1, ValueError), (1.5, TypeError)])
def test_impossible_sizes_are_refused(name, value, error):
    with pytest.raises(error, match=f"{name} must be a positive integer, got"):
        Windows(np.arange(100), **({"batch_size": 2, "seq_length": 5} | {name: value}))


@pytest.mark.parametrize("value", ["no", 0, None])
def test_the_rest_is_kept_or_not(value):
    with pytest.raises(TypeError, match="keep_rest must be True or False, got"):
        Windows(np.arange(100), 2, 5, keep_rest=value)


@pytest.mark.parametrize(
    ("n", "fraction", "cut"),
    [(1_115_394, 0.1, 1_003_854), (10, 0.0, 10), (10, 0.25, 7), (3, 0.5, 1)],
)
def test_the_last_part_validates(n, fraction, cut):
    training, validation = split(np.arange(n), fraction)
    assert len(training) == cut
    assert np.array_equal(np.concatenate([training, validation]), np.arange(n))


@pytest.mark.parametrize(("fraction", "left"), [(1.0, "0 to train"), (0.99, "0 to"), (0.1, "9 to")])
def test_both_parts_must_be_of_use(fraction, left):
    with pytest.raises(
        ValueError,
        match=f"too short for validation_fraction {fraction:g}: .* {left}.*; take a longer text or",
    ):
        split(np.arange(10), fraction)


@pytest.mark.parametrize("fraction", [-0.1, 1.5, float("nan")])
def test_impossible_fractions_are_refused(fraction):
    with pytest.raises(ValueError, match="validation_fraction must be a probability"):
        split(np.arange(10), fraction)


def test_padding_puts_sequences_side_by_side():
    values, lengths = pad([[1, 2, 3], [], [4]])
    assert values.tolist() == [[1, 0, 4], [2, 0, 0], [3, 0, 0]]
    assert lengths.tolist() == [3, 0, 1]
    assert pad([[1, 2, 3], [], [4]]).mask.tolist() == [[1, 0, 1], [1, 0, 0], [1, 0, 0]]
    assert values.dtype == lengths.dtype == np.int64


def test_vectors_are_padded_with_zeros():
    values, lengths = pad([np.ones((1, 3), np.float32), np.full((2, 3), 2, np.float32)])
    assert values.shape == (2, 2, 3)
    assert values.dtype == np.float32
    assert values[:, 0].tolist() == [[1, 1, 1], [0, 0, 0]]
    assert lengths.tolist() == [1, 2]


def test_empty_sequences_have_a_step_that_is_not_read():
    assert pad([[], []]).values.tolist() == [[0, 0]]
    assert pad([[]]).values.dtype == np.int64
    assert pad([np.zeros((0, 5))]).values.shape == (1, 1, 5)


@pytest.mark.parametrize("empty", [[], np.array([]), np.zeros(0, np.float32)])
def test_an_empty_sequence_leaves_ids_integers(empty):
    assert pad([empty, [7, 8], np.array([9], np.int32)]).values.dtype == np.int64


def test_mixed_dtypes_become_the_one_that_holds_them_all():
    assert pad([np.ones(2, np.float32), np.ones(1, np.float64)]).values.dtype == np.float64
    assert pad([np.ones(2, ">i4"), np.ones(1, np.uint8)]).values.dtype == np.int32


REFUSED = [
    ([], ValueError, "{name} must be one sequence or more, got none"),
    ([3, 4], ValueError, r"{name}\[0\] must be \(T,\) or \(T, I\), got \(\)"),
    ([[1, 2], [[1, 2]]], ValueError, r"{name}\[1\] must be \(T,\), got \(1, 2\)"),
    ([np.ones((2, 3)), np.ones((2, 4))], ValueError, r"\[1\] must be \(T, 3\), got \(2, 4\)"),
    ([np.ones((2, 3)), []], ValueError, r"{name}\[1\] must be \(T, 3\), got \(0,\)"),
    ([np.ones((1, 2, 3))], ValueError, r"must be \(T,\) or \(T, I\), got \(1, 2, 3\)"),
    ([[1], [[1, 2], [3]]], ValueError, r"{name}\[1\] must be an array, got lists of unequal"),
    ([[1], ["a"]], TypeError, r"{name}\[1\] must be of numbers, got dtype <U1"),
    ([[1], [None]], TypeError, r"{name}\[1\] must be of numbers, got dtype object"),
    ([[1], [1j]], TypeError, r"{name}\[1\] must be of numbers, got dtype complex128"),
]


@pytest.mark.parametrize(("sequences", "error", "message"), REFUSED)
def test_sequences_that_do_not_fit_are_refused(sequences, error, message):
    with pytest.raises(error, match=message.format(name="sequences")):
        pad(sequences)


@pytest.mark.parametrize(("sequences", "error", "message"), REFUSED[2:])
def test_batches_refuse_before_the_first_is_made(sequences, error, message):
    count = len(sequences)
    with pytest.raises(error, match=message.format(name="inputs")):
        Batches(sequences, np.zeros(count), 2)
    with pytest.raises(error, match=message.format(name=r"targets\[0\]")):
        Batches(np.zeros(count), (sequences, np.zeros(count)), 2)


def test_a_list_of_pictures_is_no_list_of_sequences():
    with pytest.raises(ValueError, match=r"inputs\[0\] must be .*, got \(4, 4, 3\); .* np.stack"):
        Batches([np.zeros((4, 4, 3))] * 2, [0, 1], 2)


@pytest.mark.parametrize("labels", [["neg", "pos"], np.array(["neg", "pos"]), [1j, 2j]])
def test_examples_are_numbers(labels):
    with pytest.raises(TypeError, match=r"targets must be of numbers, got dtype (<U3|complex128)"):
        Batches([[1], [2]], labels, 2)


@pytest.mark.parametrize(
    "examples", ["abc", {"a": 1}, None, 3, np.array(3), pad([[1, 2, 3], [4], [5]])]
)
def test_examples_are_lists_or_arrays(examples):
    with pytest.raises(TypeError, match="inputs must be a list of sequences or an array"):
        Batches(examples, np.zeros(3), 2)


def test_tuples_of_examples_are_explained():
    x, y = zip(*[([k], k % 2) for k in range(3000)])
    with pytest.raises(ValueError, match="of several inputs a tuple, of the examples of") as error:
        Batches(tuple(np.arange(k % 4 + 2) for k in range(3000)), list(y), 32)
    assert len(str(error.value)) < 300
    with pytest.raises(TypeError, match="a tuple is one of several inputs, list"):
        Batches(list(x), y, 32)


@pytest.mark.parametrize("kind", ["windows", "batches", "epoch"])
def test_a_slice_is_a_list_of_pairs(kind):
    batches = Windows(np.arange(100), 2, 5)
    if kind != "windows":
        batches = Batches(list(np.arange(40).reshape(20, 2)), np.arange(20), 3)
    batches = batches.epoch(1) if kind == "epoch" else batches
    pairs = batches[-3:1:-2]
    assert len(pairs) == len(range(len(batches))[-3:1:-2]) > 1
    for pair, expected in zip(pairs, list(batches)[-3:1:-2], strict=True):
        for part, other in zip(pair, expected, strict=True):
            np.testing.assert_array_equal(part[0], other[0])
    assert batches[:0] == []
    with pytest.raises(IndexError):
        batches[len(batches)]


@pytest.mark.parametrize(
    ("inputs", "targets", "found"),
    [
        ([[1]], np.zeros(2), "1 and 2"),
        ([], [], "0 and 0"),
        (np.zeros((0, 3)), np.zeros(0), "0 and 0"),
        (([[1], [2]], np.zeros(3)), np.zeros(2), "2 and 3 and 2"),
    ],
)
def test_inputs_and_targets_are_equally_many(inputs, targets, found):
    with pytest.raises(ValueError, match=f"equally many, got {found}"):
        Batches(inputs, targets, 2)


def numbered(count):
    """Sequences of random lengths, each of its own number, and the numbers."""
    lengths = np.random.default_rng(0).integers(0, 40, count)
    return [np.full(length, k) for k, length in enumerate(lengths)], np.arange(count)


@settings(deadline=None)
@given(
    count=st.integers(1, 60),
    batch_size=st.integers(1, 9),
    pool=st.integers(1, 4),
    seed=st.integers(0, 2**32),
    epoch=st.integers(0, 10**9),
)
def test_each_example_comes_once_an_epoch(count, batch_size, pool, seed, epoch):
    inputs, targets = numbered(count)
    batches = Batches(inputs, targets, batch_size, pool=pool, seed=seed)
    drawn = batches.epoch(epoch)
    assert len(drawn) == len(batches) == -(-count // batch_size)
    seen = []
    for padded, numbers in drawn:
        assert 1 <= len(numbers) <= batch_size
        for b, number in enumerate(numbers):
            length = padded.lengths[b]
            assert length == len(inputs[number])
            assert (padded.values[:length, b] == number).all()
            assert (padded.values[length:, b] == 0).all()
        seen += numbers.tolist()
    assert sorted(seen) == list(range(count))


def order(batches, epoch):
    return [number for _, numbers in batches.epoch(epoch) for number in numbers.tolist()]


def test_an_epoch_depends_on_seed_and_number_alone():
    inputs, targets = numbered(50)
    batches = Batches(inputs, targets, 4, pool=2, seed=7)
    fifth = order(batches, 5)
    assert order(batches, 0) != fifth
    assert order(batches, 5) == fifth
    assert order(Batches(inputs, targets, 4, pool=2, seed=7), 5) == fifth
    assert order(Batches(inputs, targets, 4, pool=2, seed=8), 5) != fifth


def test_the_global_generator_is_left_alone():
    before = np.random.get_state()[1].copy()  # noqa: NPY002
    order(Batches(*numbered(50), 4), 0)
    assert np.array_equal(np.random.get_state()[1], before)  # noqa: NPY002


@pytest.mark.parametrize(("pool", "least", "most"), [(1, 0.4, 0.6), (20, 0.0, 0.05)])
def test_a_pool_saves_padding(pool, least, most):
    lengths = np.random.default_rng(0).integers(1, 100, 2000)
    batches = Batches([np.ones(length) for length in lengths], lengths, 20, pool=pool)
    steps = sum(padded.values.size for padded, _ in batches.epoch(0))
    assert least <= 1 - lengths.sum() / steps <= most


def test_without_an_epoch_the_order_is_the_examples():
    inputs, targets = numbered(11)
    batches = Batches(inputs, targets, 4)
    assert [numbers.tolist() for _, numbers in batches] == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9, 10]]
    assert batches[-1][1].tolist() == [8, 9, 10]
    with pytest.raises(IndexError):
        batches[3]
    with pytest.raises(IndexError):
        batches.epoch(0)[3]


def test_arrays_and_tuples_keep_their_rows_together():
    images = np.arange(5)[:, None, None] * np.ones((5, 2, 2), np.uint8)
    words = [[k] * (5 - k) for k in range(5)]
    batches = Batches(images, (words, np.arange(5)), 2, seed=1)
    for pictures, (padded, numbers) in batches.epoch(3):
        assert np.array_equal(pictures[:, 0, 0], numbers)
        assert np.array_equal(padded.values[0], numbers)
        assert np.array_equal(padded.lengths, 5 - numbers)


def test_a_list_of_numbers_is_an_array():
    batches = Batches([[1], [2, 3], [4]], [0, 1, 0], 2)
    assert [targets.tolist() for _, targets in batches] == [[0, 1], [0]]
    with pytest.raises(ValueError, match="targets must be an array, got lists of unequal"):
        Batches([[1], [2, 3]], [0, [1]], 2)


def test_sequences_of_one_length_are_sorted_by_those_of_the_targets():
    inputs = [[1] * (1 + k // 7 % 5) for k in range(70)]
    targets = [[0] * (1 + k % 7) for k in range(70)]
    for read, _ in Batches(inputs, targets, 14, pool=5).epoch(0):
        assert len(set(read.lengths.tolist())) == 1
    for batch in Batches(inputs, targets, 2, pool=35).epoch(0):
        assert all(len(set(padded.lengths.tolist())) == 1 for padded in batch)


def test_batches_of_a_pool_come_in_any_order():
    lengths = [padded.lengths.max() for padded, _ in Batches(*numbered(50), 4).epoch(0)]
    assert lengths != sorted(lengths)


@pytest.mark.parametrize(
    ("name", "value"), [("batch_size", 0), ("pool", 0), ("seed", -1), ("batch_size", -2)]
)
def test_sizes_out_of_range_are_refused(name, value):
    with pytest.raises(ValueError, match=f"{name} must be a"):
        Batches([[1]], [[1]], **({"batch_size": 1} | {name: value}))
    with pytest.raises(ValueError, match="number must be a non-negative integer"):
        Batches([[1]], [[1]], 1).epoch(-1)


def test_sequences_of_an_iterator_are_checked_too():
    with pytest.raises(ValueError, match=r"sequences\[1\] must be \(T,\), got \(1, 2\)"):
        pad(iter([[1], [[2, 3]]]))


class Column:
    """As a column of a data frame: no array, but NumPy makes one of it."""

    def __init__(self, values):
        self.values = values

    def __array__(self, dtype=None, copy=None):
        return self.values

    def __iter__(self):
        return iter(["names", "of", "columns"])


def test_tables_and_their_columns_are_arrays():
    table, labels = np.arange(6.0).reshape(3, 2), np.array([2, 0, 1], object)
    ((inputs, targets),) = Batches(Column(table), Column(labels), 3)
    assert np.array_equal(inputs, table)
    assert targets.tolist() == [2, 0, 1]
    assert targets.dtype == np.int64
    assert np.array_equal(pad(Column(table)).values, table.T)


def test_a_table_may_have_columns_of_several_types():
    table = np.array([[True, 0.5], [False, 2]], object)  # as NumPy makes it of a data frame
    ((inputs, _),) = Batches(Column(table), [0, 1], 2)
    np.testing.assert_array_equal(inputs, [[1, 0.5], [0, 2]])
    assert inputs.dtype == np.float64
    table[1, 1] = "b"
    with pytest.raises(TypeError, match=r"inputs must have columns of numbers alone: .*'b'"):
        Batches(Column(table), [0, 1], 2)


def test_no_inputs_are_refused():
    with pytest.raises(TypeError, match="inputs must be a list of sequences or an array"):
        Batches((), [1], 1)


def test_a_column_of_sequences_is_their_list():
    sequences = np.empty(3, object)
    sequences[:] = [[1, 2, 3], [4], [5, 6]]
    ((padded, _),) = Batches(Column(sequences), np.zeros(3), 3)
    assert padded.lengths.tolist() == [3, 1, 2]
    with pytest.raises(TypeError, match="make numbers of strings, as a Vocabulary does"):
        Batches(np.zeros(2), Column(np.array(["neg", "pos"], object)), 2)


@pytest.mark.parametrize("name", ["batch_size", "pool", "seed", "seq_length"])
def test_sizes_that_are_set_later_are_judged_at_once(name):
    ids = np.arange(40)
    pairs = Windows(ids, 2, 5) if name == "seq_length" else Batches(ids, ids, 8)
    with pytest.raises(ValueError, match=f"{name} must be a (positive|non-negative) integer"):
        setattr(pairs, name, -1)
    setattr(pairs, name, 4)
    assert getattr(pairs, name) == 4
