"""A layer keeps its prepared passes from the second call on, with the same results."""

import copy
import gc
import os
import signal
import threading
import weakref
from functools import partial

import numpy as np
import pytest
from cases import LAYERS, as_state, as_tuple, random_call

import fastrnn as fr
from fastrnn.backends.runs import Extras

if os.environ.get("FASTRNN_BACKEND") != "reference":
    from fastrnn.backends import compiled

SHAPES = [(1, 1), (25, 1), (1, 3), (4, 3), (30, 6)]  # (T, B): few rows, and rows that are packed


def anew(layer, x, state=None):
    """Return the results of the first call of a copy of the layer."""
    return copy.deepcopy(layer)(x, state)


def assert_same(found, expected):
    for a, b in zip([found[0], *as_tuple(found[1])], [expected[0], *as_tuple(expected[1])]):
        assert a.shape == b.shape
        assert a.dtype == b.dtype
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("cell", LAYERS)
@pytest.mark.parametrize("options", [{}, {"num_layers": 2, "bidirectional": True}, {"bias": False}])
def test_the_same_bits_for_other_inputs_states_and_weights(backend, cell, options, dtype):
    layer = LAYERS[cell](40, 5, dtype=dtype, seed=1, **options)
    for T, B in SHAPES:
        for seed in range(4):
            x, state, *_ = random_call(layer, T, B, seed=seed)
            state = None if seed == 1 else state
            assert_same(layer(x, state), anew(layer, x, state))
        for weight in layer.parameters.values():
            weight *= 0.5
        assert_same(layer(x, state), anew(layer, x, state))


def refuse(*args, **kwargs):
    raise AssertionError("a call was laid out anew")


@pytest.mark.parametrize("batch_first", [False, True])
def test_the_third_call_lays_nothing_out(compiled_backend, monkeypatch, batch_first):
    layer = fr.LSTM(3, 5, 2, batch_first=batch_first, bidirectional=True, seed=1)
    x, state, *_ = random_call(layer, 6, 2)
    expected = anew(layer, x, state)
    layer(x), layer(x)
    monkeypatch.setattr("fastrnn.backends.compiled.Run", refuse)
    monkeypatch.setattr("fastrnn.backends.compiled.scans", refuse)
    assert_same(layer(x, state), expected)
    for other in (x[:, :1], x[:1]):  # are not like it
        with pytest.raises(AssertionError, match="laid out anew"):
            layer(np.ascontiguousarray(other))


@pytest.mark.parametrize("changed", ["threads", "instruction set"])
def test_what_was_laid_out_for_others_is_not_made_again(
    compiled_backend, monkeypatch, set_threads, changed
):
    layer = fr.GRU(3, 5, seed=1)
    x = random_call(layer, 6, 2).x
    layer(x), layer(x)
    if changed == "threads":
        set_threads(fr.get_num_threads() % 2 + 1)
    else:
        kernels = pytest.importorskip("fastrnn._core.kernels")
        others = [isa for isa in kernels.available_isas() if isa != kernels.isa()]
        if not others:
            pytest.skip("this machine has one instruction set")
        kernels.use_isa(others[0])  # the fixture puts its own back
    monkeypatch.setattr("fastrnn.backends.compiled.Run", refuse)
    with pytest.raises(AssertionError, match="laid out anew"):
        layer(x)


def test_much_memory_is_not_kept(compiled_backend, monkeypatch):
    layer = fr.GRU(2, 16, 2, seed=1)
    x = np.zeros((100_000, 1, 2), np.float32)  # 6 MB of rows between the layers
    layer(x), layer(x)
    monkeypatch.setattr("fastrnn.backends.compiled.Run", refuse)
    with pytest.raises(AssertionError, match="laid out anew"):
        layer(x)


@pytest.mark.parametrize("options", [{"reverse": True}, {"zoneout": 0.3}, {"learned_state": True}])
def test_options_of_inference(backend, options):
    layer = fr.LSTM(3, 5, cell_clip=0.5, seed=1, **options)
    for seed in range(3):
        x, *_ = random_call(layer, 6, 2, seed=seed)
        assert_same(layer(x), anew(layer, x))
        for name, parameter in layer.parameters.items():
            parameter += 0.1 * (name in {"h0", "c0"})


@pytest.mark.parametrize("threads", [1, 2, 3])
@pytest.mark.parametrize(
    "layer",
    [
        fr.GRU(300, 20, seed=0),
        fr.LSTM(64, 200, 2, seed=0),
        fr.LSTM(300, 16, 2, bidirectional=True, seed=0),  # both directions at the same time
    ],
    ids=["small", "large", "both ways"],
)
def test_threads(layer, threads, set_threads):
    rng = np.random.default_rng(0)
    for count in (threads, 1, threads):
        set_threads(count)
        for T, B in ((60, 1), (20, 8), (100, 3)):
            for _ in range(3):
                x = rng.standard_normal((T, B, layer.input_size), np.float32)
                assert_same(layer(x), anew(layer, x))


def test_without_axis_b_and_batch_first(backend):
    layer = fr.LSTM(3, 5, batch_first=True, seed=1)
    rng = np.random.default_rng(0)
    for shape in ((7, 3), (1, 7, 3), (4, 7, 3), (4, 1, 3)):
        for _ in range(3):
            x = rng.standard_normal(shape, np.float32)
            assert_same(layer(x), anew(layer, x))


def test_a_changed_layer_is_in_effect(backend):
    layer = fr.GRU(3, 4, seed=1)
    x = np.random.default_rng(0).standard_normal((5, 5, 3), np.float32)
    layer(x), layer(x)
    layer.batch_first = True
    assert_same(layer(x), anew(layer, x))
    before = layer(x)[0]
    layer.load_state_dict(fr.GRU(3, 4, seed=2).state_dict())
    after = layer(x)[0]
    assert not np.array_equal(after, before)
    assert_same(layer(x), anew(layer, x))
    # The parameters move, and what they were is overwritten.
    old = layer.parameters.flat_values
    fr.parameters.join({"layer": layer})
    old.fill(np.nan)
    np.testing.assert_array_equal(layer(x)[0], after)


def test_another_backend_is_in_effect():
    layer = fr.GRU(3, 4, seed=1)
    x = np.random.default_rng(0).standard_normal((5, 2, 3), np.float32)
    found = layer(x)[0], layer(x)[0], layer(x)[0]
    with fr.use_backend("reference"):
        expected = layer(x)[0], layer(x)[0]
    np.testing.assert_array_equal(found[0], found[2])
    np.testing.assert_array_equal(*expected)
    np.testing.assert_allclose(found[0], expected[0], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("cell", [fr.RNN, fr.LSTM])
def test_arrays_of_earlier_calls_stay_as_they_are_and_are_let_go_of(backend, cell):
    layer = cell(3, 4, 2, seed=1)
    kept = []
    for seed in range(4):
        x, state, *_ = random_call(layer, 5, 2, seed=seed)
        output, final = layer(x, state)
        arrays = [x, *as_tuple(state), output, *as_tuple(final)]
        kept.append((arrays, [array.copy() for array in arrays]))
    for arrays, copies in kept:
        for array, expected in zip(arrays, copies):
            np.testing.assert_array_equal(array, expected)
    owners = [a if a.base is None else a.base for arrays, _ in kept for a in arrays]
    references = [weakref.ref(owner) for owner in owners]
    del owners, kept, arrays, array, x, state, output, final
    gc.collect()
    assert not any(reference() is not None for reference in references)


def test_what_is_kept_outlives_a_call_of_another_shape_and_a_refused_one(
    compiled_backend, monkeypatch
):
    layer = fr.GRU(3, 4, seed=1)
    x = random_call(layer, 5, 2).x
    expected = layer(x)
    layer(x)
    layer(x[:3])
    with pytest.raises(ValueError, match="x must be"):
        layer(x[..., :2])
    monkeypatch.setattr("fastrnn.backends.compiled.Run", refuse)
    assert_same(layer(x), expected)


def test_a_layer_that_is_changed_during_a_call_keeps_nothing_of_it(compiled_backend, monkeypatch):
    """As another thread may change it while the kernels run."""

    def changing(*arguments):
        layer.zoneout = 0.5
        return original(*arguments)

    original = compiled.replay
    layer = fr.GRU(3, 4, seed=1)
    x = random_call(layer, 5, 2).x
    layer(x)
    monkeypatch.setattr(compiled, "replay", changing)
    layer(x)
    assert_same(layer(x), fr.GRU(3, 4, zoneout=0.5, seed=1)(x))


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="needs a timer")
def test_the_handler_of_a_signal_calls_the_layer_whose_call_it_interrupts(compiled_backend):
    layer = fr.LSTM(1, 16, seed=1)
    x = np.random.default_rng(0).standard_normal((20_000, 1, 1), np.float32)
    expected, *_ = [layer(x)[1][0] for _ in range(3)]
    found = []
    before = signal.signal(signal.SIGALRM, lambda number, frame: found.append(layer(x)[1][0]))
    try:
        for _ in range(3):
            signal.setitimer(signal.ITIMER_REAL, 0.002)
            found.append(layer(x)[1][0])
            signal.setitimer(signal.ITIMER_REAL, 0)
    finally:
        signal.signal(signal.SIGALRM, before)
    for array in found:
        np.testing.assert_array_equal(array, expected)


def test_what_is_not_like_the_first_call(backend):
    layer = fr.LSTM(3, 4, seed=1)
    x, state, *_ = random_call(layer, 5, 2)
    expected = anew(layer, x, state)
    layer(x, state), layer(x, state)
    for again in (x.tolist(), x.astype(np.float64), np.asfortranarray(x), x[::-1].copy()[::-1]):
        assert_same(layer(again, state), expected)
    swapped = as_state(array.astype(array.dtype.newbyteorder()) for array in state)
    assert_same(layer(x, swapped), expected)
    assert_same(layer(x, [array.tolist() for array in state]), expected)
    assert_same(layer(x, state, lengths=[5, 5]), expected)
    assert_same(layer(x, (state[0], None)), anew(layer, x, (state[0], np.zeros_like(state[1]))))

    class Items(tuple):
        def __getitem__(self, place):
            return super().__getitem__(place).copy()

    assert_same(layer(x, list(state)), expected)
    assert_same(layer(x, Items(state)), expected)
    with pytest.raises(ValueError, match="x must be"):
        layer(x[..., :2], state)
    with pytest.raises(ValueError, match="h0 must be"):
        layer(x, (state[0][:, :1], state[1]))
    with pytest.raises(TypeError, match="state must be a pair"):
        layer(x, state[0])
    with pytest.raises(TypeError, match="x must be"):
        layer(x.astype(complex), state)
    assert_same(layer(x, state), expected)


def test_a_state_of_one_array_is_no_tuple(backend):
    layer = fr.GRU(3, 4, seed=1)
    x, state, *_ = random_call(layer, 5, 2)
    for _ in range(3):
        layer(x, state)
        with pytest.raises(ValueError, match="h0 must be"):
            layer(x, (state,))


def test_methods_of_a_subclass_and_of_an_instance_are_in_effect(backend):
    class Shifted(fr.GRU):
        def initial_state(self, B):
            return [array + 1 for array in super().initial_state(B)]

    layer = Shifted(3, 4, seed=1)
    x = random_call(layer, 5, 2).x
    first = layer(x)
    for _ in range(3):
        assert_same(layer(x), first)
    layer = fr.GRU(3, 4, seed=1)
    expected = layer(x), layer(x), layer(x)
    layer.extras = lambda: Extras(zoneout=(np.full((1, 4), 0.5, np.float32),))
    zoned_out = layer(x), layer(x), layer(x)
    del layer.extras
    for found in zoned_out:
        assert_same(found, fr.GRU(3, 4, zoneout=0.5, seed=1)(x))
    assert_same(layer(x), expected[0])


def test_an_attribute_of_a_class_is_in_effect_where_that_of_the_instance_is_deleted(backend):
    layer = type("ZonedOut", (fr.GRU,), {"zoneout": (0.5,)})(3, 4, seed=1)
    x = random_call(layer, 5, 2).x
    for _ in range(3):
        assert_same(layer(x), fr.GRU(3, 4, seed=1)(x))
    del layer.zoneout
    assert_same(layer(x), fr.GRU(3, 4, zoneout=0.5, seed=1)(x))


@pytest.mark.parametrize("is_of_the_instance", [False, True])
def test_weights_that_are_computed_for_each_call(backend, is_of_the_instance):
    """Weight normalisation, for instance: what `passes` returns is asked for at each call."""

    def passes(layer):
        return [
            p._replace(weights={name: 2 * array for name, array in p.weights.items()})
            for p in fr.GRU.passes(layer)
        ]

    if is_of_the_instance:
        layer = fr.GRU(3, 4, seed=1)
        layer.passes = partial(passes, layer)
    else:
        layer = type("Doubled", (fr.GRU,), {"passes": passes})(3, 4, seed=1)
    twice = fr.GRU(3, 4, seed=1)
    x = random_call(layer, 5, 2).x
    for scale in (1, 1, 1, 0.5):
        layer.parameters.flat_values[:] *= scale
        for name, array in layer.parameters.items():
            twice.parameters[name] = 2 * array
        assert_same(layer(x), twice(x))


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="needs a timer")
def test_a_call_that_is_interrupted_can_be_made_again(compiled_backend):
    layer = fr.LSTM(1, 16, seed=1)
    x = np.random.default_rng(0).standard_normal((600_000, 1, 1), np.float32)
    expected, *_ = [layer(x)[1][0] for _ in range(3)]

    def interrupted():
        signal.setitimer(signal.ITIMER_REAL, 0.01)
        layer(x)

    before = signal.signal(signal.SIGALRM, signal.default_int_handler)
    try:
        for _ in range(2):
            with pytest.raises(KeyboardInterrupt):
                interrupted()
            np.testing.assert_array_equal(layer(x)[1][0], expected)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def test_threads_of_the_caller_share_a_layer(backend):
    layer = fr.LSTM(30, 40, seed=1)
    inputs = [random_call(layer, 40, 4, seed=seed).x for seed in range(4)]
    expected = [anew(layer, x) for x in inputs]
    differences = []

    def call(k):
        for _ in range(60):
            try:
                assert_same(layer(inputs[k]), expected[k])
            except AssertionError as error:
                differences.append(error)

    workers = [threading.Thread(target=call, args=(k,)) for k in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert not differences
