"""Wrong arguments and their errors; arguments of calls are in test_recurrent_contract.py."""

import numpy as np
import pytest

import fastrnn as fr
from fastrnn import _validation as check


@pytest.mark.parametrize("value", [1, np.int8(1), np.uint64(1), np.array(1)])
def test_integers_that_are_taken(value):
    number = check.check_positive_int("n", value)
    assert number == 1
    assert type(number) is int


@pytest.mark.parametrize("value", [1.0, True, np.True_, "1", None, [1], np.array([1, 2])])
def test_what_is_no_integer(value):
    for function in (check.check_positive_int, check.check_non_negative_int):
        with pytest.raises(TypeError, match=r"^n must be a (positive|non-negative) integer, got "):
            function("n", value)


def test_ranges_of_integers():
    assert check.check_non_negative_int("n", 0) == 0
    with pytest.raises(ValueError, match=r"^n must be a positive integer, got 0$"):
        check.check_positive_int("n", 0)
    with pytest.raises(ValueError, match=r"^n must be a non-negative integer, got -1$"):
        check.check_non_negative_int("n", -1)
    for sign in (1, -1):
        with pytest.raises(ValueError, match=r"^n must be .* of at most 1024 bits, got 16610$"):
            check.check_positive_int("n", sign * 10**5000)


FLOATS = {
    check.check_positive_float: ([1, 1e-300, np.float32(2)], [0, -1.0]),
    check.check_non_negative_float: ([0, 1e300], [-1e-9]),
    check.check_probability: ([0, 1, np.float64(0.5)], [-0.1, 1.1]),
}


@pytest.mark.parametrize("function", FLOATS)
def test_ranges_of_floats(function):
    accepted, refused = FLOATS[function]
    for value in accepted:
        number = function("p", value)
        assert number == value
        assert type(number) is float
    for value in (*refused, np.nan, np.inf, -np.inf, 10**400):
        with pytest.raises(ValueError, match=r"^p must be a "):
            function("p", value)
    for value in (None, "0.5", True, 1j, [0.5, 0.5]):
        with pytest.raises(TypeError, match=r"^p must be a "):
            function("p", value)


def test_a_message_is_not_as_long_as_what_came():
    with pytest.raises(TypeError) as error:
        check.check_float("p", "x" * 1000)
    assert len(str(error.value)) < 150


def test_ids_are_aligned():
    ids = np.zeros(17, np.uint8)[1:].view(np.int64)
    assert not ids.flags.aligned
    assert check.check_ids("ids", ids, 1).flags.aligned


def test_choices():
    assert check.check_choice("mode", "a", ("a", "b")) == "a"
    for value in ("c", None, ["a"], 1):
        with pytest.raises(ValueError, match=r"^mode must be one of 'a', 'b', got "):
            check.check_choice("mode", value, {"a": 1, "b": 2})


def test_dtypes():
    for dtype in ("float32", np.float32, np.dtype("f4")):
        assert check.check_dtype(dtype) is np.dtype(np.float32)
    assert check.check_dtype(float) is np.dtype(np.float64)
    for dtype in ("float16", "no such", None, np.dtype(float).newbyteorder("S"), int):
        with pytest.raises(ValueError, match=r"^dtype must be float32 or float64, got "):
            check.check_dtype(dtype)


F32 = np.dtype(np.float32)


def test_an_array_that_fits_is_handed_through():
    x = np.zeros((2, 3), F32)
    assert check.check_array("x", x, F32, ("T", None)) is x
    assert not np.shares_memory(check.check_array("x", x, F32, (2, 3), copy=True), x)


@pytest.mark.parametrize("size", [3, np.int64(3)])
def test_an_array_that_fits_has_the_sizes(size):
    x = np.zeros((2, 3), F32)
    x.flags.writeable = False
    assert check.check_array("x", x, F32, (2, size)) is x
    for shape in [(2, size + 1), (2, 2**70), (size, "I"), (2,), (2, size, None)]:
        with pytest.raises(ValueError, match=r"^x must be "):
            check.check_array("x", x, F32, shape)


@pytest.mark.parametrize(
    "value",
    [
        np.zeros((2, 3)),
        np.zeros((3, 2), F32).T,
        np.zeros((2, 3), ">f4"),
        np.zeros(25, np.uint8)[1:].view(F32).reshape(2, 3),
        np.ma.zeros((2, 3), F32),
        [[0, 0, 0], [0, 0, 0]],
    ],
    ids=["float64", "transposed", "big-endian", "unaligned", "subclass", "list"],
)
@pytest.mark.parametrize("copy", [False, True])
def test_an_array_is_made_to_fit(value, copy):
    array = check.check_array("x", value, F32, (2, 3), copy=copy)
    assert type(array) is np.ndarray
    assert array.dtype is F32
    assert array.flags.carray


def test_shapes_in_messages():
    x = np.zeros((2, 3), F32)
    for shape, written in [
        (("T", "B", 65), r"\(T, B, 65\)"),
        ((None, 65), r"\(any, 65\)"),
        ((7,), r"\(7,\)"),
        ((), r"\(\)"),
    ]:
        with pytest.raises(ValueError, match=rf"^x must be {written}, got \(2, 3\)$"):
            check.check_array("x", x, F32, shape)


def test_ids():
    ids = check.check_ids("ids", np.array([[0, 4], [2, 1]], np.uint8)[:, ::-1], 5)
    assert ids.dtype == np.int64
    assert ids.flags.c_contiguous
    np.testing.assert_array_equal(ids, [[4, 0], [1, 2]])
    assert check.check_ids("ids", [], 5).dtype == np.int64
    with pytest.raises(ValueError, match=r"^ids must be in 0\.\.4, got 5 at \(1, 0\)$"):
        check.check_ids("ids", [[0, 1], [5, 6]], 5)
    with pytest.raises(ValueError, match=r"^ids must be in 0\.\.4, got -1 at \(0,\)$"):
        check.check_ids("ids", [-1], 5)
    with pytest.raises(ValueError, match=r"^ids must be in 0\.\.4, got 5$"):
        check.check_ids("ids", 5, 5)
    with pytest.raises(TypeError, match=r"^ids must be integers, got dtype float64$"):
        check.check_ids("ids", [0.0], 5)


@pytest.mark.parametrize("step", [1, 2])
def test_ids_of_the_usual_type(step):
    given = np.arange(6)[::step]
    ids = check.check_ids("ids", given, 6)
    assert not np.shares_memory(ids, given)
    np.testing.assert_array_equal(ids, given)
    np.testing.assert_array_equal(check.check_ids("ids", given, 2**70), given)
    swapped = check.check_ids("ids", given.astype(given.dtype.newbyteorder()), 2**63)
    assert swapped.dtype.isnative
    np.testing.assert_array_equal(swapped, given)
    with pytest.raises(ValueError, match=rf"^ids must be in 0\.\.3, got 4 at \({4 // step},\)$"):
        check.check_ids("ids", given, 4)
    with pytest.raises(ValueError, match=r"^ids must be in 0\.\.5, got -4 at \(0,\)$"):
        check.check_ids("ids", given - 4, 6)


@pytest.mark.parametrize(
    ("kind", "expected"), [("f4", "f4"), (">f4", "f4"), ("f8", "f8"), (">f8", "f8"), ("f2", "f8")]
)
def test_floats_of_either_byte_order(kind, expected):
    array = check.check_floats("x", np.array([[1.5, -2]], kind))
    assert array.dtype == np.dtype(expected)
    np.testing.assert_array_equal(array, [[1.5, -2]])


@pytest.mark.parametrize("kind", [np.int64, np.longlong, np.uint64])
def test_ids_and_lengths_are_copies(kind):
    given = np.arange(6).astype(kind)
    for array in (given, given.view(np.recarray), given[::2]):
        assert not np.shares_memory(check.check_ids("ids", array, 6), given)
        assert not np.shares_memory(check.check_lengths(array, 5, len(array)), given)


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"input_size": 0}, ValueError, "input_size must be a positive integer, got 0"),
        ({"input_size": 2.0}, TypeError, "input_size must be a positive integer, got float"),
        ({"hidden_size": -1}, ValueError, "hidden_size must be a positive integer, got -1"),
        ({"hidden_size": True}, TypeError, "hidden_size must be a positive integer, got bool"),
        ({"num_layers": 0}, ValueError, "num_layers must be a positive integer, got 0"),
        ({"bias": 0.5}, TypeError, "bias must be True or False, got float 0.5"),
        ({"batch_first": "no"}, TypeError, "batch_first must be True or False, got str 'no'"),
        ({"bidirectional": 2}, TypeError, "bidirectional must be True or False, got int 2"),
        ({"dropout": 1.5}, ValueError, r"dropout must be a probability in \[0, 1\], got 1.5"),
        ({"dropout": "a"}, TypeError, "dropout must be a probability"),
        ({"dtype": "float16"}, ValueError, "dtype must be float32 or float64, got 'float16'"),
        ({"dtype": None}, ValueError, "dtype must be float32 or float64, got None"),
    ],
)
@pytest.mark.parametrize("kind", ["RNN", "LSTM", "GRU"])
def test_constructors_of_recurrent_layers(kind, options, error, message):
    with pytest.raises(error, match=message):
        getattr(fr, kind)(**{"input_size": 3, "hidden_size": 6, **options})


def test_a_projection_is_narrower():
    for proj_size in (6, -1):
        with pytest.raises(ValueError, match="proj_size must be"):
            fr.LSTM(3, 6, proj_size=proj_size)


def test_nonlinearity_stands_where_pytorch_has_it():
    assert fr.RNN(3, 6, 1, "relu", False).cell.name == "rnn_relu"
    with pytest.raises(ValueError, match="nonlinearity must be one of 'tanh', 'relu', got 'x'"):
        fr.RNN(3, 6, nonlinearity="x")


def test_seeds():
    generator = np.random.default_rng(0)
    assert check.check_seed(generator) is generator
    assert check.check_seed(7).random() == np.random.default_rng(7).random()
    for seed, error in ((-1, ValueError), ("a", TypeError), (1.5, TypeError), (True, TypeError)):
        with pytest.raises(error, match=r"^seed must be a non-negative integer, .* or None, got "):
            fr.LSTM(2, 3, seed=seed)
        with pytest.raises(error, match=r"^seed must be"):
            fr.Dropout(0.5, seed=seed)
    # Of which NumPy's generator ends the interpreter.
    matrix = np.array([[1.0, 2.0]]).view(np.matrix)
    with pytest.raises(TypeError, match=r"^seed must be"):
        fr.LSTM(2, 3, seed=matrix)


def test_masked_elements_are_no_data():
    x = np.ma.array(np.zeros((3, 2, 2)), mask=False)
    layer = fr.GRU(2, 3, seed=0)
    np.testing.assert_array_equal(layer(x)[0], layer(np.zeros((3, 2, 2)))[0])
    x[1, 0] = np.ma.masked
    with pytest.raises(ValueError, match=r"^x must have no masked elements, got 2; lengths say"):
        layer(x)
    with pytest.raises(ValueError, match=r"^lengths must have no masked elements, got 1"):
        layer(np.zeros((3, 2, 2)), lengths=np.ma.array([1, 2], mask=[0, 1]))


RAGGED = [[1, 2], [3]]


@pytest.mark.parametrize(
    ("name", "call"),
    [
        ("logits", lambda x: fr.losses.softmax_cross_entropy(x, [0, 1])),
        ("targets", lambda x: fr.losses.softmax_cross_entropy(np.zeros((2, 3)), x)),
        ("mask", lambda x: fr.losses.softmax_cross_entropy(np.zeros((2, 3)), [0, 1], x)),
        ("logits", lambda x: fr.losses.ctc(x, None, [[1]])),
        ("predictions", lambda x: fr.losses.mean_squared_error(x, x)),
        ("mask", lambda x: fr.losses.mean_squared_error(np.zeros(2), np.zeros(2), x)),
        ("predictions", lambda x: fr.losses.pinball(x, [1, 2], [0.5])),
        ("outputs", lambda x: fr.losses.gaussian_mixture_nll(x, [1, 2])),
        ("x", fr.Dropout(0.5)),
        ("x", fr.Dropout(0.5).vjp),
    ],
)
def test_lists_of_unequal_lengths_are_named(name, call):
    with pytest.raises(ValueError, match=f"^{name} must be an array, got lists of unequal lengths"):
        call(RAGGED)


def test_a_generator_is_no_array():
    with pytest.raises(TypeError, match=r"^ids must be an array, got generator; list\(...\) reads"):
        fr.data.CharVocabulary("ab").decode(k for k in [0, 1])


@pytest.mark.parametrize(("value", "kind"), [("a text", "<U6"), (None, "object")])
def test_what_is_no_number_is_not_judged_by_its_shape(value, kind):
    with pytest.raises(TypeError, match=f"^ids must be castable to int64, got dtype {kind}"):
        fr.data.Windows(value, 1, 2)
    with pytest.raises(TypeError, match=f"^x must be castable to float32, got dtype {kind}"):
        fr.GRU(2, 3)(value)


class Guarded:
    """As a tensor of PyTorch that requires gradients, or has a type that NumPy has not."""

    def __init__(self, error):
        self.error = error

    def __array__(self, dtype=None, copy=None):
        raise self.error


@pytest.mark.parametrize("kind", [RuntimeError, TypeError])
def test_what_will_not_be_an_array_is_named(kind):
    value, layer = Guarded(kind("detach it")), fr.RNN(2, 2)
    with pytest.raises(TypeError, match=r"^x must be an array, got Guarded: detach it$"):
        layer(value)
    with pytest.raises(TypeError, match=r"weight_ih_l0 must be an array, got Guarded: detach it"):
        layer.load_state_dict(layer.state_dict() | {"weight_ih_l0": value})


def test_masked_targets_are_no_data():
    targets = np.ma.array([0, 1], mask=[0, 1])
    with pytest.raises(ValueError, match=r"^targets must have no masked elements, got 1"):
        fr.losses.softmax_cross_entropy(np.zeros((2, 3)), targets)


@pytest.mark.parametrize("value", [5, None, fr.Dropout])
def test_what_is_no_sequences_is_named(value):
    with pytest.raises(TypeError, match=r"^sequences must be sequences of numbers, got "):
        fr.data.pad(value)


@pytest.mark.parametrize(
    "make",
    [
        lambda: fr.LSTM(4, 2**31),
        lambda: fr.Dense(2**62, 4),
        lambda: fr.GRUCell(2**40, 2**40),
        lambda: fr.models.LanguageModel(2**60, 4, embedding_size=4, tie_weights=True),
        lambda: fr.models.Forecaster(4, input_size=2**60),
    ],
)
def test_sizes_beyond_memory_are_named(make):
    with pytest.raises(
        MemoryError, match=r"^parameters must fit into memory, got [\d,]+ of float32"
    ):
        make()


def test_embeddings_of_another_kind():
    layer = fr.GRU(2, 3, seed=0)
    with pytest.raises(TypeError, match=r"^embedding must be an Embedding, got str$"):
        layer.on_ids([[1]], "x")
    with pytest.raises(ValueError, match=r"^embedding must be float32, got float64$"):
        layer.vjp_on_ids([[1]], fr.Embedding(4, 2, dtype="float64"))


def test_integers_that_another_width_has_not():
    small = np.dtype(np.int32)
    np.testing.assert_array_equal(check.check_array("ids", [1, -2], small, ("B",)), [1, -2])
    assert check.check_array("ids", np.zeros(0, np.int64), small, ("B",)).dtype == small
    for number, dtype in ((2**31, "i8"), (-(2**31) - 1, "i8"), (2**64 - 1, "u8")):
        with pytest.raises(ValueError, match=rf"^ids must be int32, got {number}$"):
            check.check_array("ids", np.array([1, number], dtype), small, ("B",))
