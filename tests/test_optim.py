"""Optimisers, clipping and schedules against PyTorch; see fixtures/make_optim_fixtures.py."""

import copy
import json
import math
import pickle
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from tolerances import TOLERANCES, assert_close

from fastrnn import optim
from fastrnn.layers import Dense
from fastrnn.parameters import Parameters

with np.load(Path(__file__).parent / "fixtures" / "optim" / "steps.npz") as _file:
    FIXTURES = dict(_file)
CASES = json.loads(str(FIXTURES["cases"]))

# Every optimiser with every buffer it can have.
FULL = {
    "SGD": {"momentum": 0.9},
    "Adagrad": {"initial_accumulator_value": 0.3},
    "RMSprop": {"momentum": 0.9, "centered": True},
    "Adam": {},
    "AdamW": {},
}


def make_parameters(dtype="float64"):
    """Return parameters with the fixtures' shapes and initial values."""
    parameters = Parameters(
        {f"p{k}": tuple(shape) for k, shape in enumerate(CASES["shapes"])}, dtype
    )
    fill(parameters, FIXTURES["initial"])
    return parameters


def fill(arrays, flat):
    """Copy an array into named ones laid end to end."""
    start = 0
    for array in arrays.values():
        array[...] = flat[start : start + array.size].reshape(array.shape)
        start += array.size


def flatten(arrays):
    """Return named arrays laid end to end."""
    return np.concatenate([array.ravel() for array in arrays.values()])


def walk(optimizer, steps):
    """Make steps of the optimiser with the fixtures' gradients; return the values after each."""
    for gradient in FIXTURES["gradients"][steps]:
        fill(optimizer.parameters.gradients, gradient)
        optimizer.step()
        yield flatten(optimizer.parameters)


def make(name, parameters, *arguments, **options):
    """Return an optimiser by its class's name."""
    return getattr(optim, name)(parameters, *arguments, **options)


@pytest.mark.parametrize("case", CASES["optimizers"])
def test_steps_are_those_of_pytorch(backend, case, dtype):
    name, options = CASES["optimizers"][case]
    options = {{"lr": "learning_rate"}.get(key, key): value for key, value in options.items()}
    optimizer = make(name, make_parameters(dtype), **options)
    steps = list(walk(optimizer, slice(None)))
    assert len(steps) == len(FIXTURES[case])
    for actual, expected in zip(steps, FIXTURES[case], strict=True):
        assert_close(actual, expected, TOLERANCES[dtype])


@pytest.mark.parametrize("case", CASES["groups"])
def test_factors_are_pytorchs_parameter_groups(backend, case, dtype):
    name, options, groups = CASES["groups"][case]
    rate, weight_decay = options["lr"], options["weight_decay"]
    optimizer = make(name, make_parameters(dtype), rate, weight_decay=weight_decay)
    for key, own in zip(optimizer.parameters, groups, strict=True):
        if "lr" in own:
            optimizer.scale(key, learning_rate=own["lr"] / rate)
        if "weight_decay" in own:
            optimizer.scale(key, weight_decay=own["weight_decay"] / weight_decay)
    for actual, expected in zip(walk(optimizer, slice(None)), FIXTURES[case], strict=True):
        assert_close(actual, expected, TOLERANCES[dtype])


def test_factors_of_an_array_are_set_one_by_one():
    optimizer = optim.AdamW(make_parameters())
    optimizer.scale("p0", "p1", weight_decay=0)
    optimizer.scale("p1", learning_rate=0.5)
    optimizer.scale("p0", weight_decay=2)
    state = optimizer.state_dict()
    names = [f"{setting}.p{k}" for setting in ("learning_rate", "weight_decay") for k in (0, 1)]
    assert [state.get(name) for name in names] == [None, 0.5, 2.0, 0.0]


@pytest.mark.parametrize(
    ("names", "factors", "error", "message"),
    [
        (["p0", "p7"], {"weight_decay": 0}, KeyError, "no parameter p7; there are p0, p1"),
        ([["p0"]], {"weight_decay": 0}, KeyError, r"no parameter \['p0'\]; there are p0, p1"),
        (["p0"], {"weight_decay": -1}, ValueError, "weight_decay must be a non-negative number"),
        (
            ["p0"],
            {"learning_rate": 2, "weight_decay": "no"},
            TypeError,
            "weight_decay must be a non-negative number, got str 'no'",
        ),
    ],
)
def test_refused_factors_change_nothing(names, factors, error, message):
    optimizer = optim.Adam(make_parameters())
    before = optimizer.state_dict().keys()
    with pytest.raises(error, match=message):
        optimizer.scale(*names, **factors)
    assert optimizer.state_dict().keys() == before


def test_neighbours_of_the_same_factors_are_one_piece():
    parameters = Parameters(dict.fromkeys("abcde", (9,)), "float32")
    parameters.freeze("e")
    pieces = parameters.runs({"b": {"x": 0}, "c": {"x": 0}}, parameters.flat_values)
    assert [(kind, piece.size) for kind, (piece,) in pieces] == [
        (None, 16),
        ({"x": 0}, 32),
        (None, 16),
    ]


@pytest.mark.parametrize("name", FULL)
def test_a_step_leaves_gradients_and_padding(name):
    optimizer = make(name, make_parameters(), weight_decay=0.1, **FULL[name])
    list(walk(optimizer, slice(None)))
    np.testing.assert_array_equal(
        flatten(optimizer.parameters.gradients), FIXTURES["gradients"][-1]
    )
    values = optimizer.parameters.flat_values.copy()
    for view in optimizer.parameters.views(values).values():
        view[...] = 0
    assert len(values) > len(FIXTURES["initial"])
    assert not values.any()


@pytest.mark.parametrize("name", FULL)
def test_a_step_allocates_no_arrays(name):
    parameters = Parameters({"w": (100_000,)}, "float64")
    optimizer = make(name, parameters, weight_decay=0.1, **FULL[name])
    optimizer.step()
    tracemalloc.start()
    optimizer.step()
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    # An array would take 800 kB. NumPy's own buffer for casts takes up to 64 kB.
    assert peak < 100_000


@pytest.mark.parametrize("name", FULL)
def test_a_resumed_run_has_the_same_bits(name):
    options = {**FULL[name], "schedule": optim.ExponentialDecay(0.7)}
    optimizer = make(name, make_parameters("float32"), weight_decay=0.1, **options)
    optimizer.scale("p0", learning_rate=0.3, weight_decay=0)
    list(walk(optimizer, slice(3)))
    saved = json.loads(
        json.dumps({k: v for k, v in optimizer.state_dict().items() if np.isscalar(v)})
    )
    saved |= {k: v for k, v in optimizer.state_dict().items() if isinstance(v, np.ndarray)}
    assert saved.keys() == optimizer.state_dict().keys()
    parameters = copy.deepcopy(optimizer.parameters)
    resumed = make(name, parameters, learning_rate=7.0, schedule=optim.ExponentialDecay(0.7))
    resumed.scale("p1", learning_rate=0)
    resumed.load_state_dict(saved)
    assert resumed.steps == 3
    assert resumed.learning_rate == optimizer.learning_rate
    rest = slice(3, None)
    for actual, expected in zip(walk(resumed, rest), walk(optimizer, rest), strict=True):
        np.testing.assert_array_equal(actual, expected)


@pytest.mark.parametrize("name", FULL)
def test_what_was_pickled_into_read_only_memory_goes_on(name):
    """As joblib hands large arrays to its workers, and reads a file with ``mmap_mode``."""
    optimizer = make(name, make_parameters("float32"), weight_decay=0.1, **FULL[name])
    list(walk(optimizer, slice(2)))
    buffers = []
    stored = pickle.dumps(optimizer, 5, buffer_callback=buffers.append)
    again = pickle.loads(stored, buffers=[bytes(buffer) for buffer in buffers])
    rest = slice(2, None)
    for actual, expected in zip(walk(again, rest), walk(optimizer, rest), strict=True):
        np.testing.assert_array_equal(actual, expected)


def test_read_only_memory_is_not_written_to(backend):
    optimizer = optim.Adam(make_parameters("float32"))
    optimizer.parameters.flat_values.flags.writeable = False
    with pytest.raises(ValueError, match="read-only"):
        optimizer.step()


def test_settings_can_be_read():
    optimizer = optim.AdamW(make_parameters(), 0.5, betas=(0.8, 0.9), weight_decay=0.1)
    assert (optimizer.learning_rate, optimizer.beta2, optimizer.weight_decay) == (0.5, 0.9, 0.1)
    with pytest.raises(AttributeError, match="'AdamW' object has no attribute 'momentum'"):
        optimizer.momentum  # noqa: B018
    optimizer.scale("p1", weight_decay=0)
    assert repr(optimizer) == (
        "<AdamW after 0 steps: learning_rate=0.5, beta1=0.8, beta2=0.9, eps=1e-08, "
        "weight_decay=0.1; p1: {'weight_decay': 0.0}>"
    )


@pytest.mark.parametrize("duplicate", [copy.copy, copy.deepcopy])
def test_a_copy_has_settings_of_its_own(duplicate):
    optimizer = optim.SGD(make_parameters(), 0.5)
    optimizer.scale("p0", learning_rate=0.5)
    twin = duplicate(optimizer)
    twin.learning_rate = 0.25
    twin.scale("p0", learning_rate=0.1)
    assert (optimizer.learning_rate, optimizer.state_dict()["learning_rate.p0"]) == (0.5, 0.5)
    assert (twin.learning_rate, twin.state_dict()["learning_rate.p0"]) == (0.25, 0.1)


def test_state_dict_holds_copies():
    optimizer = optim.Adam(make_parameters())
    list(walk(optimizer, slice(2)))
    state = optimizer.state_dict()
    before = state["exp_avg.p0"].copy()
    list(walk(optimizer, slice(2)))
    np.testing.assert_array_equal(state["exp_avg.p0"], before)
    optimizer.load_state_dict(state)
    state["exp_avg.p0"][...] = 5
    np.testing.assert_array_equal(optimizer.state_dict()["exp_avg.p0"], before)


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"algorithm": "AdamW"}, ValueError, "state must be of Adam, got AdamW"),
        ({"algorithm": np.array(["Adam", "x"])}, ValueError, "state must be of Adam, got"),
        ({"steps": -1}, ValueError, "steps must be"),
        ({"steps": 1.5}, TypeError, "steps must be"),
        ({"beta1": 1.0}, ValueError, r"beta1 must be in \[0, 1\), got 1.0"),
        ({"eps": math.nan}, ValueError, "eps must be"),
        ({"exp_avg.p1": np.zeros(4)}, ValueError, r"exp_avg.p1 must be \(5,\), got \(4,\)"),
        ({"exp_avg.p1": np.zeros(5, complex)}, TypeError, "exp_avg.p1 must be castable"),
        ({"weight_decay.p1": -1}, ValueError, r"weight_decay\.p1 must be a non-negative number"),
        ({"exp_avg.p2": np.zeros(5)}, KeyError, "missing nothing; unexpected exp_avg.p2"),
        (
            {"exp_avg.p1": None, "eps": None},
            KeyError,
            "missing eps, exp_avg.p1; unexpected nothing",
        ),
    ],
)
def test_a_refused_state_changes_nothing(change, error, message):
    optimizer = optim.Adam(make_parameters())
    list(walk(optimizer, slice(2)))
    before = optimizer.state_dict()
    state = {**optim.Adam(make_parameters(), learning_rate=0.5).state_dict(), **change}
    with pytest.raises(error, match=message):
        optimizer.load_state_dict({k: v for k, v in state.items() if v is not None})
    after = optimizer.state_dict()
    assert after.keys() == before.keys()
    for name, value in before.items():
        np.testing.assert_array_equal(after[name], value)


def test_a_state_must_be_a_mapping():
    with pytest.raises(TypeError, match="state must be a mapping, got list"):
        optim.SGD(make_parameters()).load_state_dict([])


@pytest.mark.parametrize(
    ("name", "options"),
    [
        *(
            (name, {"learning_rate": value})
            for name in FULL
            for value in (-1e-3, math.nan, math.inf)
        ),
        *((name, {"weight_decay": -0.1}) for name in FULL),
        *((name, {"eps": value}) for name in ("Adagrad", "RMSprop", "Adam") for value in (0, -1)),
        *(("Adam", {"betas": betas}) for betas in ((1, 0.9), (0.9, 1), (-0.1, 0.9), (0.9,), 0.9)),
        ("SGD", {"momentum": -0.1}),
        ("SGD", {"momentum": 1.0}),
        ("SGD", {"nesterov": True}),
        ("Adagrad", {"lr_decay": -1}),
        ("Adagrad", {"initial_accumulator_value": -1}),
        ("RMSprop", {"alpha": 1}),
        ("RMSprop", {"momentum": math.nan}),
    ],
)
def test_impossible_settings(name, options):
    with pytest.raises(ValueError, match="must be"):
        make(name, make_parameters(), **options)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", ["Adagrad", "RMSprop", "Adam", "AdamW"])
def test_eps_must_not_vanish_in_the_type_of_the_parameters(name, dtype):
    tiny = float(np.finfo(dtype).tiny)
    with pytest.raises(ValueError, match=f"eps must be at least {tiny} in {dtype}, got"):
        make(name, make_parameters(dtype), eps=tiny / 2)
    parameters = make_parameters(dtype)
    make(name, parameters, eps=tiny).step()  # of zero gradients
    assert np.isfinite(flatten(parameters)).all()


def test_adam_without_momentum_forgets_the_last_gradient(backend):
    parameters = make_parameters("float32")
    optimizer = optim.Adam(parameters, 0.5, betas=(0, 0))
    parameters["p1"][...] = 0
    for gradient, expected in ((1e6, -0.5), (1e-4, -1.0)):
        parameters.gradients["p1"][...] = gradient
        optimizer.step()
        assert_close(parameters["p1"], np.full(5, expected), 1e-3)


@pytest.mark.parametrize(
    "options", [{"learning_rate": "fast"}, {"nesterov": 1}, {"momentum": None}, {"schedule": 0.5}]
)
def test_settings_of_the_wrong_kind(options):
    with pytest.raises(TypeError, match="must be"):
        optim.SGD(make_parameters(), **options)


def test_parameters_must_be_parameters():
    with pytest.raises(TypeError, match=r"a model's \.parameters, got dict"):
        optim.SGD({"w": np.zeros(3)})


def test_learning_rate_may_be_set():
    optimizer = optim.SGD(make_parameters(), learning_rate=1.0)
    optimizer.learning_rate = 0.25
    (values,) = walk(optimizer, slice(1))
    expected = FIXTURES["initial"] - 0.25 * FIXTURES["gradients"][0]
    assert_close(values, expected, TOLERANCES["float64"])
    with pytest.raises(ValueError, match="learning_rate must be"):
        optimizer.learning_rate = -1
    assert optimizer.learning_rate == 0.25


@pytest.mark.parametrize("name", FULL)
def test_schedule_is_a_factor_on_the_learning_rate(name):
    options = {**FULL[name], "weight_decay": 0.1}
    scheduled = make(name, make_parameters(), 0.4, schedule=lambda step: 0.25, **options)
    constant = make(name, make_parameters(), 0.1, **options)
    for actual, expected in zip(
        walk(scheduled, slice(None)), walk(constant, slice(None)), strict=True
    ):
        assert_close(actual, expected, TOLERANCES["float64"])


def test_a_centred_variance_that_rounds_below_zero_is_none():
    parameters = Parameters({"p": (1000,)}, "float32")
    parameters.gradients["p"][...] = np.linspace(1, 2, 1000)
    optimizer = optim.RMSprop(parameters, alpha=0.5, centered=True)
    for _ in range(40):
        optimizer.step()
    assert np.isfinite(parameters["p"]).all()


def test_schedule_counts_the_steps_made():
    optimizer = optim.SGD(make_parameters(), learning_rate=0.5, schedule=lambda step: step**2)
    *_, values = walk(optimizer, slice(3))
    expected = FIXTURES["initial"] - 0.5 * np.array([0, 1, 4]) @ FIXTURES["gradients"][:3]
    assert_close(values, expected, TOLERANCES["float64"])


def test_a_refused_schedule_changes_nothing():
    optimizer = optim.SGD(make_parameters(), schedule=lambda step: -1.0)
    with pytest.raises(ValueError, match=r"schedule\(steps\) must be"):
        optimizer.step()
    assert optimizer.steps == 0
    np.testing.assert_array_equal(flatten(optimizer.parameters), FIXTURES["initial"])


@pytest.mark.parametrize("max_norm", [0.5, 100.0])
def test_clipping_is_that_of_pytorch(max_norm, dtype):
    parameters = make_parameters(dtype)
    fill(parameters.gradients, FIXTURES["gradients"][0])
    expected = FIXTURES[f"clip {max_norm}"]
    norm = optim.clip_gradient_norm(parameters, max_norm)
    assert_close(norm, expected[0], TOLERANCES[dtype])
    assert_close(flatten(parameters.gradients), expected[1:], TOLERANCES[dtype])


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_clipping_leaves_gradients_without_a_finite_norm(bad):
    parameters = make_parameters()
    parameters.gradients["p1"][...] = [bad, 1, 2, 3, 4]
    norm = optim.clip_gradient_norm(parameters, 1.0)
    assert not math.isfinite(norm)
    np.testing.assert_array_equal(parameters.gradients["p1"], [bad, 1, 2, 3, 4])


@pytest.mark.parametrize(("dtype", "size"), [("float32", 1e30), ("float64", 1e200)])
def test_clipping_where_squares_overflow(backend, dtype, size):
    parameters = make_parameters(dtype)
    parameters.gradients["p1"][...] = size
    norm = optim.clip_gradient_norm(parameters, 2.0)
    assert_close(norm, size * math.sqrt(5), TOLERANCES["float32"])
    assert_close(parameters.gradients["p1"], np.full(5, 2 / math.sqrt(5)), TOLERANCES["float32"])


@pytest.mark.parametrize(("dtype", "size"), [("float32", 1e-22), ("float64", 1e-170)])
def test_a_norm_where_squares_underflow(backend, dtype, size):
    parameters = make_parameters(dtype)
    assert optim.clip_gradient_norm(parameters, 2.0) == 0
    parameters.gradients["p1"][...] = size
    norm = optim.clip_gradient_norm(parameters, 2.0)
    assert_close(norm, size * math.sqrt(5), TOLERANCES["float32"])
    np.testing.assert_array_equal(parameters.gradients["p1"], parameters.dtype.type(size))


@pytest.mark.parametrize("name", FULL)
def test_frozen_parameters_are_as_if_they_were_not_there(backend, name):
    options = {"weight_decay": 0.1, **FULL[name]}
    shapes = {name: array.shape for name, array in make_parameters().items()}
    kept = tuple(shapes)[1]
    rest = Parameters({name: shape for name, shape in shapes.items() if name != kept}, "float64")
    parameters = make_parameters()
    for key, array in rest.items():
        array[...] = parameters[key]
    before = parameters[kept].copy()
    parameters.freeze(kept)
    optimizers = make(name, parameters, 0.1, **options), make(name, rest, 0.1, **options)
    for gradient in FIXTURES["gradients"]:
        fill(parameters.gradients, gradient)
        for key, array in rest.gradients.items():
            array[...] = parameters.gradients[key]
        norms = [optim.clip_gradient_norm(o.parameters, 0.5) for o in optimizers]
        assert_close(norms[0], norms[1], TOLERANCES["float64"])
        for optimizer in optimizers:
            optimizer.step()
    np.testing.assert_array_equal(parameters[kept], before)
    for key, array in rest.items():
        assert_close(parameters[key], array, TOLERANCES["float64"])


@pytest.mark.parametrize("max_norm", [0, -1, math.nan])
def test_clipping_needs_a_positive_norm(max_norm):
    with pytest.raises(ValueError, match="max_norm must be"):
        optim.clip_gradient_norm(make_parameters(), max_norm)


@pytest.mark.parametrize(
    ("case", "schedule"),
    [
        ("step", optim.StepDecay(3, 0.5)),
        ("exponential", optim.ExponentialDecay(0.9)),
        ("cosine", optim.CosineDecay(10, 0.1)),
        ("warm-up", optim.WarmUp(4)),
    ],
)
def test_schedules_are_those_of_pytorch(case, schedule):
    expected = FIXTURES[f"schedule {case}"]
    factors = [schedule(step) for step in range(len(expected))]
    assert_close(factors, expected, TOLERANCES["float64"])


def test_a_model_is_not_its_parameters():
    model = Dense(2, 3)
    for call in (lambda: optim.SGD(model), lambda: optim.clip_gradient_norm(model, 1.0)):
        with pytest.raises(
            TypeError,
            match=r"parameters must be a model's \.parameters, got Dense; .*join",
        ):
            call()


def test_schedules_past_their_end():
    assert optim.Constant()(10**9) == 1
    assert optim.CosineDecay(10, 0.1)(25) == pytest.approx(0.1, abs=1e-15)
    decay = optim.StepDecay(2, 0.5)
    warm_up = optim.WarmUp(3, decay)
    assert [warm_up(step) for step in range(3, 9)] == [decay(step) for step in range(6)]


@pytest.mark.parametrize(
    "make_schedule",
    [
        lambda: optim.StepDecay(0),
        lambda: optim.StepDecay(3, -0.5),
        lambda: optim.ExponentialDecay(math.nan),
        lambda: optim.CosineDecay(0),
        lambda: optim.CosineDecay(10, -1),
        lambda: optim.WarmUp(0),
    ],
)
def test_impossible_schedules(make_schedule):
    with pytest.raises(ValueError, match="must be"):
        make_schedule()


def test_what_follows_a_warm_up_is_a_schedule():
    with pytest.raises(TypeError, match="then must be callable, got float"):
        optim.WarmUp(3, 0.5)


@pytest.mark.parametrize(
    ("algorithm", "name"),
    [
        ("SGD", "momentum"),
        ("Adagrad", "lr_decay"),
        ("RMSprop", "centered"),
        ("Adam", "betas"),
        ("AdamW", "weight_decay"),
        ("Adam", "parameters"),
    ],
)
def test_a_setting_that_would_have_no_effect_later_cannot_be_set(algorithm, name):
    optimizer = getattr(optim, algorithm)(make_parameters())
    with pytest.raises(
        ValueError, match=f"{name} cannot be set later, .*; make another {algorithm}"
    ):
        setattr(optimizer, name, Dense(9, 9).parameters)
    optimizer.learning_rate = 0.1
    optimizer.schedule = optim.StepDecay(1)
    optimizer.step()


def test_an_optimizer_of_ones_own_may_have_settings_of_its_own():
    class Clipped(optim.AdamW):
        def __init__(self, parameters, learning_rate=1e-3, limit=1.0):
            super().__init__(parameters, learning_rate)
            self.limit = limit

    optimizer = Clipped(make_parameters(), limit=0.5)
    assert optimizer.limit == 0.5
    optimizer.limit = 0.25
    with pytest.raises(ValueError, match=r"betas cannot be set later, .*; make another Clipped"):
        optimizer.betas = (0.5, 0.5)
