"""Threads of Python that share layers, memory and the library's settings.

Free-threaded Python runs them at the same time; with the interpreter's lock they take turns where
Python does, and run at the same time in long calls.
"""

import copy
import os
import queue
import subprocess
import sys
import sysconfig
import threading
from pathlib import Path

import numpy as np
import pytest
from cases import as_tuple, random_call

import fastrnn as fr

NEEDS_CORE = pytest.mark.skipif(
    os.environ.get("FASTRNN_BACKEND") == "reference", reason="needs the compiled core"
)
ANOTHERS = "a stream must be one thread's at a time, got another thread's call"


@pytest.fixture(autouse=True)
def frequent_turns():
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    yield
    sys.setswitchinterval(before)


def together(work, count=4):
    """Return what `work(k)` returns in each of so many threads, which begin at the same time."""
    results, errors = [None] * count, []
    begin = threading.Barrier(count)

    def call(k):
        try:
            begin.wait()
            results[k] = work(k)
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=call, args=[k]) for k in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if errors:
        raise errors[0]
    return results


def arrays_of(result):
    output, state = result
    return [output, *as_tuple(state)]


def assert_same(found, expected):
    for a, b in zip(arrays_of(found), arrays_of(expected)):
        assert np.array_equal(a, b)


def python(code):
    """Run code with the fastrnn under test in a child process; return it when it has ended."""
    path = os.pathsep.join([str(Path(fr.__file__).parents[1]), os.environ.get("PYTHONPATH", "")])
    command = [sys.executable, "-W", "ignore:This process:DeprecationWarning", "-c", code]
    environment = {**os.environ, "PYTHONPATH": path}
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=100)


@pytest.mark.skipif(not sysconfig.get_config_var("Py_GIL_DISABLED"), reason="has the lock anyway")
def test_the_import_does_not_bring_the_interpreters_lock_back():
    child = python("""
import sys
import fastrnn as fr
fr.LSTM(3, 4)([[1.0] * 3])
print(sys._is_gil_enabled())
""")
    assert (child.stdout, child.stderr) == ("False\n", "")


def test_threads_call_one_layer_with_different_shapes(backend):
    layer = fr.LSTM(5, 6, 2, bidirectional=True, seed=0)
    calls = []
    for seed, (T, B, lengths) in enumerate(
        [(4, 1, None), (4, 1, None), (7, 3, None), (5, 2, [3, 5])]
    ):
        call = random_call(layer, T, B, seed=seed)
        arguments = (call.x, None if seed == 1 else call.state, lengths)
        calls.append((arguments, copy.deepcopy(layer)(*arguments)))

    def work(k):
        for i in range(24):
            arguments, expected = calls[(k + i // (k + 1)) % len(calls)]
            assert_same(layer(*arguments), expected)

    together(work)


def test_threads_train_on_one_layer_and_add_gradients_one_at_a_time(backend):
    layer = fr.LSTM(5, 6, 2, dropout=0.5, recurrent_dropout=0.5, zoneout=0.5, seed=0)
    call, turn = random_call(layer, 4, 2), threading.Lock()

    def work(k):
        drawn = []
        for _ in range(10):
            output, _, pullback = layer.vjp(call.x, call.state)
            drawn.append(output.tobytes())
            with turn:
                pullback(call.d_output)
        return drawn

    drawn = [output for part in together(work) for output in part]
    assert len(set(drawn)) == len(drawn)
    assert np.isfinite(layer.parameters.flat_gradients).all()


def test_parameters_change_between_calls_of_threads(backend):
    layer = fr.GRU(5, 6, seed=0)
    xs = [random_call(layer, 4, 2, seed=seed).x for seed in range(4)]
    for scale in (1, 1, 1, 0.5, 0.9, 1.1):
        layer.parameters.flat_values[:] *= scale
        expected = [copy.deepcopy(layer)(x) for x in xs]

        def work(k, expected=expected):
            for _ in range(4 if backend == "reference" else 50):
                assert_same(layer(xs[k]), expected[k])

        together(work)


def test_streams_of_one_layer_in_threads(backend):
    layer = fr.LSTM(5, 6, 2, seed=0)
    xs = np.random.default_rng(0).standard_normal((4, 40, 5), np.float32)
    alone = [layer.stream() for _ in xs]
    expected = [[stream.step(x).copy() for x in steps] for stream, steps in zip(alone, xs)]

    def work(k):
        stream = layer.stream()
        return [stream.step(x) for x in xs[k]]

    np.testing.assert_array_equal(together(work), expected)


def test_a_stream_makes_the_steps_that_it_does_not_refuse(backend):
    layer, x = fr.RNN(1, 64, nonlinearity="relu", seed=0), np.ones(1, np.float32)
    layer.load_state_dict({name: 0 * array for name, array in layer.parameters.items()})
    layer.parameters["weight_ih_l0"][...] = 1
    np.fill_diagonal(layer.parameters["weight_hh_l0"], 1)  # so that h is the number of steps
    stream = layer.stream()

    def work(k):
        found = []
        for _ in range(50 if backend == "reference" else 2000):
            try:
                found.append(stream.step(x))
                assert stream.state[0].min() >= found[-1].max()
            except RuntimeError as error:
                if str(error) != ANOTHERS:
                    raise
        return found

    found = np.array([output for part in together(work) for output in part])
    expected = np.arange(1, len(found) + 1)
    np.testing.assert_array_equal(np.sort(found, axis=0), np.repeat(expected[:, None], 64, axis=1))
    np.testing.assert_array_equal(stream.state[0, 0], found.max(axis=0))


def train(seed):
    """Return the losses and parameters of a small language model that is trained on ids."""
    rng = np.random.default_rng(seed)
    embedding, layer, dense = (
        fr.Embedding(30, 8, seed=seed),
        fr.GRU(8, 12, 2, dropout=0.3, seed=seed),
        fr.Dense(12, 30, seed=seed),
    )
    parameters = fr.parameters.join({"embedding": embedding, "layer": layer, "dense": dense})
    optimizer = fr.optim.Adam(parameters, learning_rate=1e-2)
    ids, losses = rng.integers(30, size=(9, 8, 6)), []
    for i in range(12):
        parameters.zero_gradients()
        output, _, pullback = layer.vjp_on_ids(ids[i % 8], embedding)
        scores, dense_pullback = dense.vjp(output)
        loss, d_scores = fr.losses.softmax_cross_entropy(scores, ids[i % 8 + 1])
        pullback(dense_pullback(d_scores))
        fr.optim.clip_gradient_norm(parameters, 1.0)
        optimizer.step()
        losses.append(loss)
    return np.array(losses), parameters.flat_values


def test_each_thread_trains_a_model_of_its_own(backend):
    expected = [train(seed) for seed in range(4)]
    for (losses, values), (other_losses, other_values) in zip(together(train), expected):
        np.testing.assert_array_equal(losses, other_losses)
        np.testing.assert_array_equal(values, other_values)


@NEEDS_CORE
def test_blas_has_its_threads_again_after_calls_of_several_threads():
    threadpoolctl = pytest.importorskip("threadpoolctl")

    def numbers():
        return [(p["filepath"], p["num_threads"]) for p in threadpoolctl.threadpool_info()]

    embedding, layer = fr.Embedding(30, 8, seed=0), fr.GRU(8, 12, seed=0)
    ids = np.random.default_rng(0).integers(30, size=(8, 6))
    with threadpoolctl.threadpool_limits(2):
        before = numbers()
        together(lambda k: [layer.on_ids(ids, embedding) for _ in range(300)] and None)
        assert numbers() == before


def test_one_of_several_threads_gets_to_use_a_pullback(backend):
    layers = [fr.LSTM(3, 4, seed=0) for _ in range(60)]
    call = random_call(layers[0], 5, 2)
    pullbacks = [layer.vjp(call.x)[2] for layer in layers]

    def work(k):
        used = 0
        for pullback in pullbacks:
            try:
                pullback(call.d_output)
                used += 1
            except RuntimeError as error:
                if "has been used" not in str(error):
                    raise
        return used

    assert sum(together(work)) == len(pullbacks)
    expected = fr.LSTM(3, 4, seed=0)
    expected.vjp(call.x)[2](call.d_output)
    for layer in layers:
        np.testing.assert_array_equal(
            layer.parameters.flat_gradients, expected.parameters.flat_gradients
        )


@NEEDS_CORE
def test_memory_is_passed_on_among_threads():
    from fastrnn._core.memory import empty

    passed = queue.SimpleQueue()

    def work(k):
        kept = []
        for i in range(2000):
            array = empty((1 << 14,), np.float32)
            array[0] = array[-1] = value = 10_000 * k + i
            kept.append((array, value))
            if i % 8 == 0:
                passed.put(kept.pop(0))  # for another to let go of
                kept.append(passed.get())
            if len(kept) > 3:
                array, value = kept.pop(0)
                assert array[0] == array[-1] == value

    together(work)


def test_the_number_of_threads_is_set_while_threads_call(compiled_backend, set_threads):
    layer = fr.LSTM(8, 24, seed=0)
    x = random_call(layer, 20, 8).x
    expected = layer(x)

    def work(k):
        for i in range(30):
            set_threads(1 + (k + i) % 3)
            assert_same(layer(x), expected)

    together(work)


@NEEDS_CORE
@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_children_forked_while_threads_call_compute():
    child = python("""
import os, signal, threading
import numpy as np
import fastrnn as fr
fr.set_num_threads(2)
layer, embedding = fr.LSTM(16, 32, seed=0), fr.Embedding(30, 16, seed=0)
ids = np.random.default_rng(0).integers(30, size=(40, 8))
def call():
    output, _, pullback = layer.vjp_on_ids(ids, embedding)
    step = layer.stream(8).step(embedding(ids[0]))
    return output, layer.on_ids(ids, embedding)[0], layer(embedding(ids))[0], step
expected, done = call(), threading.Event()
def work():
    while not done.is_set():
        call()
threads = [threading.Thread(target=work) for _ in range(3)]
for thread in threads:
    thread.start()
codes = []
for _ in range(8):
    child = os.fork()
    if child == 0:
        signal.alarm(60)  # rather than to wait for ever for a lock
        os._exit(0 if all(map(np.array_equal, call(), expected)) else 1)
    codes.append(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
done.set()
for thread in threads:
    thread.join()
print(codes)
""")
    assert (child.stdout, child.stderr) == (f"{[0] * 8}\n", "")
