"""One flat buffer, and the names of its pieces."""

import copy
import pickle
from types import SimpleNamespace

import numpy as np
import pytest

from fastrnn.layers.base import Module, Pullback
from fastrnn.parameters import Parameters, join

SHAPES = {"weight": (3, 5), "bias": (3,), "scale": ()}


class Part(Module):
    """A module with nothing but parameters, each value and gradient a different number."""

    def __init__(self, shapes, dtype="float64", start=0):
        self.parameters = Parameters(shapes, dtype)
        for array in self.parameters.values():
            array[...] = np.arange(start, start + array.size).reshape(array.shape)
            start += array.size
        for name, array in self.gradients.items():
            array[...] = -self.parameters[name]


class Joined(Module):
    """A module of modules."""

    def __init__(self, **parts):
        self.parts = parts
        self.parameters = join(parts)


def assert_laid_out(parameters):
    """Check that arrays are aligned views of the buffers, that they do not overlap, and padding."""
    claimed = np.zeros(parameters.flat_values.size, int)
    for name, view in parameters.items():
        gradient = parameters.gradients[name]
        assert view.shape == gradient.shape
        for array, flat in [(view, parameters.flat_values), (gradient, parameters.flat_gradients)]:
            assert array.dtype == parameters.dtype
            assert array.flags.c_contiguous
            assert array.flags.writeable
            assert array.ctypes.data % 64 == 0
            start = (array.ctypes.data - flat.ctypes.data) // flat.itemsize
            assert array.size == 0 or np.shares_memory(array, flat)
        claimed[start : start + view.size] += 1
    assert claimed.max(initial=0) <= 1
    assert not parameters.flat_values[claimed == 0].any()
    assert not parameters.flat_gradients[claimed == 0].any()


def test_new_parameters_are_zero_and_laid_out(dtype):
    parameters = Parameters(SHAPES, dtype)
    assert list(parameters) == list(parameters.gradients) == list(SHAPES)
    assert {name: view.shape for name, view in parameters.items()} == SHAPES
    assert not parameters.flat_values.any()
    assert not parameters.flat_gradients.any()
    parameters.flat_values.fill(1)
    assert sum(view.sum() for view in parameters.values()) == 19
    parameters.flat_values.fill(0)
    assert_laid_out(parameters)


@pytest.mark.parametrize("dtype", ["int32", "float16", "complex128", "U3", None, "no such"])
def test_other_dtypes_are_refused(dtype):
    with pytest.raises(ValueError, match="dtype must be float32 or float64"):
        Parameters(SHAPES, dtype)


@pytest.mark.parametrize(("size", "error"), [(-1, ValueError), (1.5, TypeError), (True, TypeError)])
def test_impossible_sizes_are_refused(size, error):
    with pytest.raises(error, match="a size of weight must be a non-negative integer, got"):
        Parameters({"bias": (3,), "weight": (2, size)}, "float32")


def test_products_of_small_integers_do_not_wrap_around():
    parameters = Parameters({"weight": (np.int8(100), np.int8(100))}, "float32")
    assert parameters["weight"].shape == (100, 100)


def test_values_can_be_assigned_in_every_way():
    part = Part(SHAPES)
    view = part.parameters["bias"]
    view[...] = 1
    part.parameters["bias"] *= 2
    part.parameters["bias"] = part.parameters["bias"] + np.arange(3)
    assert part.parameters["bias"] is view
    np.testing.assert_array_equal(view, [2, 3, 4])
    with pytest.raises(ValueError, match=r"bias must be \(3,\), got \(1,\)"):
        part.parameters["bias"] = [1.0]
    with pytest.raises(KeyError):
        part.parameters["other"] = 1.0
    np.testing.assert_array_equal(view, [2, 3, 4])


@pytest.mark.parametrize("name", ["flat_values", "flat_gradients"])
def test_what_is_assigned_to_a_whole_buffer_is_copied_in(name):
    parameters = Parameters(SHAPES, "float32")
    buffer = getattr(parameters, name)
    own = parameters if name == "flat_values" else parameters.gradients
    setattr(parameters, name, np.full(buffer.shape, 3.0))
    assert getattr(parameters, name) is buffer
    assert own["bias"].tolist() == [3, 3, 3]
    with pytest.raises(ValueError, match=rf"^{name} must be \({buffer.size},\), got \(2,\)"):
        setattr(parameters, name, np.zeros(2))


def test_gradients_are_a_read_only_mapping_of_writable_arrays():
    part = Part(SHAPES)
    with pytest.raises(TypeError):
        part.gradients["bias"] = np.zeros(3)
    part.gradients["bias"][1] = 7
    assert 7 in part.parameters.flat_gradients
    part.zero_gradients()
    assert not part.parameters.flat_gradients.any()
    assert part.parameters.flat_values.any()


def test_gradients_are_set_to_zero_where_they_lie():
    first, second = Part(SHAPES, start=1), Part(SHAPES, start=1)
    joined = Joined(first=first, second=second)
    first.zero_gradients()
    assert not first.parameters.flat_gradients.any()
    assert all(gradient.all() for gradient in second.gradients.values())
    joined.zero_gradients()
    assert not second.parameters.flat_gradients.any()
    for other in (copy.deepcopy(joined), pickle.loads(pickle.dumps(joined))):
        other.parameters.flat_gradients = np.ones(other.parameters.flat_gradients.shape)
        other.parts["second"].zero_gradients()
        assert not any(g.any() for g in other.parts["second"].gradients.values())
        assert all(g.all() for g in other.parts["first"].gradients.values())


def test_buffers_of_the_same_layout():
    parameters = Part(SHAPES).parameters
    buffer = parameters.new_buffer()
    assert not buffer.any()
    assert not np.shares_memory(buffer, parameters.flat_values)
    buffer[...] = parameters.flat_values
    for name, view in parameters.views(buffer).items():
        np.testing.assert_array_equal(view, parameters[name])


def test_state_dict_copies_out_and_in():
    source, target = Part(SHAPES, start=5), Part(SHAPES)
    state = source.state_dict()
    assert list(state) == list(SHAPES)
    target.load_state_dict(state)
    for name, array in state.items():
        np.testing.assert_array_equal(target.parameters[name], source.parameters[name])
        assert not np.shares_memory(array, source.parameters.flat_values)
        array[...] = -1
    assert source.parameters.flat_values.min() == target.parameters.flat_values.min() == 0


def test_load_state_dict_casts():
    part = Part({"weight": (2, 3)}, "float32")
    big_endian = np.arange(6, dtype=">f8").reshape(3, 2).T
    part.load_state_dict({"weight": big_endian})
    np.testing.assert_array_equal(part.parameters["weight"], [[0, 2, 4], [1, 3, 5]])
    part.load_state_dict({"weight": [[1, 2, 3], [4, 5, 6]]})
    np.testing.assert_array_equal(part.parameters["weight"], [[1, 2, 3], [4, 5, 6]])


def test_load_state_dict_swaps_its_own_views():
    part = Part({"a": (2,), "b": (2,)})
    part.load_state_dict({"a": part.parameters["b"], "b": part.parameters["a"]})
    np.testing.assert_array_equal(part.parameters["a"], [2, 3])
    np.testing.assert_array_equal(part.parameters["b"], [0, 1])


@pytest.mark.parametrize(
    ("change", "error", "messages"),
    [
        (
            {"bias": None, "scale": None, "w": 1.0, "weight": np.ones((5, 3))},
            KeyError,
            ["missing bias, scale", "unexpected w", "weight must be (3, 5), got (5, 3)"],
        ),
        (
            {"weight": np.ones((3, 4)), "bias": [1j, 2, 3], "scale": [1.0]},
            ValueError,
            ["weight must be (3, 5)", "bias must be castable to float64", "scale must be ()"],
        ),
        ({"bias": ["a", "b", "c"]}, TypeError, ["bias must be castable"]),
    ],
)
def test_a_refused_state_lists_all_and_changes_nothing(change, error, messages):
    part = Part(SHAPES, start=5)
    before = part.parameters.flat_values.copy()
    state = {**Part(SHAPES, start=50).state_dict(), **change}
    with pytest.raises(error) as info:
        part.load_state_dict({name: value for name, value in state.items() if value is not None})
    for message in messages:
        assert message in str(info.value)
    np.testing.assert_array_equal(part.parameters.flat_values, before)


def test_a_state_must_be_a_mapping():
    with pytest.raises(TypeError, match="state must be a mapping of names to arrays, got list"):
        Part(SHAPES).load_state_dict([1, 2])


def test_join_shares_memory_and_keeps_names_and_numbers(dtype):
    first = Part(SHAPES, dtype, start=1)
    second = Part({"weight": (7, 2)}, dtype, start=100)
    own = {name: part.parameters for name, part in [("first", first), ("second", second)]}
    held = first.gradients
    before = {f"first.{name}": array for name, array in first.state_dict().items()}
    before |= {f"second.{name}": array for name, array in second.state_dict().items()}
    joined = join({"first": first, "second": second})
    assert list(joined) == ["first.weight", "first.bias", "first.scale", "second.weight"]
    assert_laid_out(joined)
    for part_name, part in [("first", first), ("second", second)]:
        assert part.parameters is own[part_name]
        assert_laid_out(part.parameters)
        assert np.shares_memory(part.parameters.flat_values, joined.flat_values)
        for name, view in part.parameters.items():
            full = f"{part_name}.{name}"
            np.testing.assert_array_equal(joined[full], before[full])
            np.testing.assert_array_equal(joined.gradients[full], -before[full])
            assert np.shares_memory(view, joined[full])
            assert np.shares_memory(part.gradients[name], joined.gradients[full])
    joined["second.weight"][3, 1] = -8
    assert second.parameters["weight"][3, 1] == -8
    held["bias"][2] = 9
    assert joined.gradients["first.bias"][2] == 9


def test_parts_are_neighbours_that_do_not_overlap():
    first, second = Part(SHAPES), Part(SHAPES)
    joined = join({"first": first, "second": second})
    first.parameters.flat_values.fill(1)
    second.parameters.flat_values.fill(2)
    n = first.parameters.flat_values.size
    np.testing.assert_array_equal(joined.flat_values, np.repeat([1, 2], n))


def test_join_of_joined():
    inner = Joined(a=Part(SHAPES, start=1), b=Part({"weight": (4,)}, start=40))
    outer = Joined(inner=inner, c=Part({"weight": (2, 2)}, start=80))
    assert list(outer.parameters) == [
        "inner.a.weight",
        "inner.a.bias",
        "inner.a.scale",
        "inner.b.weight",
        "c.weight",
    ]
    assert_laid_out(outer.parameters)
    leaf = inner.parts["b"]
    for view in (
        leaf.parameters["weight"],
        inner.parameters["b.weight"],
        outer.parameters["inner.b.weight"],
    ):
        np.testing.assert_array_equal(view, [40, 41, 42, 43])
        assert view.ctypes.data == leaf.parameters["weight"].ctypes.data
    leaf.gradients["weight"][...] = 6
    np.testing.assert_array_equal(outer.gradients["inner.b.weight"], [6, 6, 6, 6])


def test_join_takes_parts_without_parameters():
    joined = join({"nothing": Part({}, "float32"), "part": Part(SHAPES, "float64")})
    assert list(joined) == ["part.weight", "part.bias", "part.scale"]
    assert joined.dtype == np.float64


def shared_twice():
    part = Part(SHAPES)
    return {"a": part, "b": part}


def shared_with_another_model():
    part = Part(SHAPES)
    join({"x": part})
    return {"new": Part(SHAPES), "b": part}


@pytest.mark.parametrize(
    ("make_parts", "message"),
    [
        (shared_twice, "b already belongs to a model"),
        (shared_with_another_model, "b already belongs to a model"),
        (lambda: {"a.b": Part(SHAPES)}, "must not contain a dot, got 'a.b'"),
        (
            lambda: {"a": Part(SHAPES), "b": Part(SHAPES, "float32")},
            "one dtype, got a float64, b float32",
        ),
        (lambda: {"a": Part({})}, "got no parameters"),
        (dict, "got no parameters"),
    ],
)
def test_a_refused_join_changes_nothing(make_parts, message):
    parts = make_parts()
    buffers = {name: part.parameters.flat_values for name, part in parts.items()}
    with pytest.raises(ValueError, match=message):
        join(parts)
    for name, part in parts.items():
        assert part.parameters.flat_values is buffers[name]


def test_parts_have_names():
    with pytest.raises(TypeError, match="parts must be a mapping of names to layers, got list"):
        join([Part(SHAPES)])
    with pytest.raises(TypeError, match=r"a part's name must be a str, got 1$"):
        join({1: Part(SHAPES)})


@pytest.mark.parametrize("part", [3, None, SimpleNamespace(parameters=list)])
def test_parts_have_parameters(part):
    found = type(part).__name__
    with pytest.raises(TypeError, match=f"^b must be a layer or a model, got {found}$"):
        join({"a": Part(SHAPES), "b": part})


@pytest.mark.parametrize(
    "duplicate", [copy.deepcopy, lambda model: pickle.loads(pickle.dumps(model))]
)
def test_copies_of_a_model_share_memory_inside_and_none_with_it(duplicate):
    model = Joined(inner=Joined(a=Part(SHAPES, start=1)), b=Part({"weight": (4,)}, start=40))
    twin = duplicate(model)
    assert_laid_out(twin.parameters)
    np.testing.assert_array_equal(twin.parameters.flat_values, model.parameters.flat_values)
    np.testing.assert_array_equal(twin.parameters.flat_gradients, model.parameters.flat_gradients)
    assert not np.shares_memory(twin.parameters.flat_values, model.parameters.flat_values)
    leaf = twin.parts["inner"].parts["a"]
    leaf.parameters["bias"][...] = -3
    np.testing.assert_array_equal(twin.parameters["inner.a.bias"], [-3, -3, -3])
    with pytest.raises(ValueError, match="already belongs"):
        join({"leaf": leaf})


def test_a_copy_of_parameters_leaves_the_model_whole():
    model = Joined(a=Part(SHAPES, start=1), b=Part({"weight": (4,)}, start=40))
    twin = copy.copy(model.parameters)
    model.parameters.flat_values[:] = 0
    assert not model.parts["a"].parameters["bias"].any()
    np.testing.assert_array_equal(twin["b.weight"], [40, 41, 42, 43])


def test_a_pullback_is_used_once_and_outlives_a_refusal():
    def adjoint(d_output):
        if d_output is None:
            raise ValueError("d_output must be a number")
        return 2 * d_output

    pullback = Pullback(adjoint)
    with pytest.raises(ValueError, match="d_output"):
        pullback(None)
    assert pullback(3) == 6
    with pytest.raises(RuntimeError, match="has been used"):
        pullback(3)


def test_a_pullback_is_used_up_by_what_interrupts_it():
    gradients = []

    def adjoint(d_output):
        gradients.append(d_output)
        raise MemoryError  # or Ctrl-C

    pullback = Pullback(adjoint)
    with pytest.raises(MemoryError):
        pullback(3)
    with pytest.raises(RuntimeError, match="has been used"):
        pullback(3)
    assert gradients == [3]


def test_a_pullback_is_not_used_again_while_it_is_in_use():
    def adjoint(d_output):
        return pullback(d_output)  # as a handler of signals, or another thread, might

    pullback = Pullback(adjoint)
    with pytest.raises(RuntimeError, match="has been used"):
        pullback(3)


def make_nested():
    """Return nested models; the last array of the second layer is frozen."""
    first, second = Part(SHAPES, start=1), Part(SHAPES, start=20)
    second.parameters.freeze("scale")  # before it is joined
    return Joined(inner=Joined(first=first, second=second), other=Part({"weight": (4,)}, start=50))


def test_joined_parameters_and_their_parts_know_what_is_frozen():
    model = make_nested()
    inner, other = (model.parts[name].parameters for name in ("inner", "other"))
    assert model.parameters.frozen == ("inner.second.scale",)
    inner.freeze("first.bias", "first.weight")
    model.parameters.freeze("other.weight")
    assert inner.frozen == ("first.weight", "first.bias", "second.scale")
    assert other.frozen == ("weight",)
    assert other.trainable(other.flat_values) == []
    other.unfreeze(*other)
    assert model.parameters.frozen == tuple(f"inner.{name}" for name in inner.frozen)


def test_trainable_pieces_are_all_that_is_not_frozen():
    parameters = make_nested().parameters
    ((whole,),) = Part(SHAPES).parameters.trainable(parameters.flat_values)
    assert whole is parameters.flat_values
    parameters.freeze("inner.first.bias", "inner.first.scale")
    copies = parameters.flat_values.copy()
    for (piece,) in parameters.trainable(parameters.flat_values):
        piece.fill(0)
    for name, view in parameters.items():
        expected = parameters.views(copies)[name] if name in parameters.frozen else 0
        np.testing.assert_array_equal(view, expected)


def test_an_unknown_name_freezes_nothing():
    parameters = make_nested().parameters
    for call in (parameters.freeze, parameters.unfreeze):
        with pytest.raises(KeyError, match=r"no parameter bias, 3; there are inner\.first\.weight"):
            call("other.weight", "bias", 3)
    assert parameters.frozen == ("inner.second.scale",)


@pytest.mark.parametrize("duplicate", [copy.deepcopy, lambda x: pickle.loads(pickle.dumps(x))])
def test_copies_are_frozen_where_the_original_is(duplicate):
    model = make_nested()
    twin = duplicate(model)
    part = duplicate(model.parts["inner"])  # without what it is a part of
    twin.parameters.freeze("other.weight")
    assert twin.parts["other"].parameters.frozen == ("weight",)
    assert twin.parts["inner"].parameters.frozen == part.parameters.frozen == ("second.scale",)
    assert model.parameters.frozen == ("inner.second.scale",)
