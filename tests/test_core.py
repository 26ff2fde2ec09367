"""The compiled core among threads, forks and signals, and at impossible sizes."""

import os
import signal
import subprocess
import sys
import threading
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from cases import as_tuple
from tolerances import TOLERANCES, assert_close

import fastrnn as fr

if os.environ.get("FASTRNN_BACKEND") == "reference":
    pytest.skip("needs the compiled core", allow_module_level=True)

from fastrnn._core import kernels
from fastrnn.backends import compiled
from fastrnn.backends.runs import AdjointRun

ROOT = Path(fr.__file__).parents[1]


def run(layer, x):
    """Return outputs and gradients of a call."""
    output, _, pullback = layer.vjp(x)
    d_x, _ = pullback(output)
    return output, d_x


def python(code, **environment):
    """Start a child process that imports the fastrnn under test."""
    path = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
    return subprocess.Popen(
        [sys.executable, "-c", code],
        env={**os.environ, "PYTHONPATH": path, **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def interrupted(code):
    """Run code that calls `press`: 0.02 s of its CPU time later comes Ctrl-C; return its output."""
    press = """
import signal
def press():
    signal.signal(signal.SIGPROF, signal.default_int_handler)
    signal.setitimer(signal.ITIMER_PROF, 0.02)  # the same point of a call on a busy machine
"""
    return python(press + code).communicate(timeout=120)


def test_an_unknown_instruction_set_is_refused():
    with pytest.raises(ValueError, match="isa must be one of scalar"):
        kernels.use_isa("mmx")


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"state": (np.zeros(4, np.float32),)}, "state must be an array of two axes"),
        ({"state": (None,)}, "state must be an array of two axes, got None"),
        ({"weight_ih": None}, "weight_ih must be an array of two axes, got None"),
        ({"weight_ih": np.zeros(12, np.float32)}, "weight_ih must be an array of two axes"),
        ({"x": [[0.0] * 3] * 2}, "ids must be an array, got list"),
    ],
)
def test_a_scan_refuses_what_it_cannot_read(changed, message):
    layer = fr.GRU(3, 4)
    given = {"x": np.zeros((2, 3), np.float32), "state": (np.zeros((1, 4), np.float32),), **changed}
    weights = {**layer.passes()[0].weights, **{k: v for k, v in given.items() if k == "weight_ih"}}
    out = np.zeros((2, 4), np.float32)
    with pytest.raises((TypeError, ValueError), match=message):
        compiled.scans(
            [compiled.Run(layer.cell, weights, given["x"], np.arange(3), given["state"], out)]
        )


def test_gradients_that_cannot_be_written_are_refused():
    layer = fr.GRU(3, 4)
    cell, one = layer.cell, layer.passes()[0]
    x, out = np.zeros((2, 3), np.float32), np.zeros((2, 4), np.float32)
    state = (np.zeros((1, 4), np.float32),)
    run = compiled.Run(cell, one.weights, x, np.arange(3), state, out, keep_tape=True)
    [(_, tape)] = compiled.scans([run])
    for name, array in one.gradients.items():
        read_only = array.copy()
        read_only.flags.writeable = False
        with pytest.raises(ValueError, match=f"{name} must be writable, got a read-only array"):
            compiled.scan_adjoints(
                [tape], [AdjointRun(out, None, {**one.gradients, name: read_only})]
            )
    compiled.scan_adjoints([tape], [AdjointRun(out, None, one.gradients)])


def test_the_environment_lowers_the_instruction_set():
    child = python("from fastrnn._core import kernels; print(kernels.isa())", FASTRNN_ISA="scalar")
    assert child.communicate(timeout=60)[0].strip() == "scalar"


def test_calls_from_several_threads_give_the_bits_of_one(set_threads):
    set_threads(2)
    layer = fr.LSTM(64, 96, seed=0)
    xs = [np.random.default_rng(seed).standard_normal((20, 32, 64)) for seed in range(4)]
    expected = [run(layer, x) for x in xs]
    found = [None] * len(xs)

    def work(i):
        for _ in range(5):
            found[i] = run(layer, xs[i])

    threads = [threading.Thread(target=work, args=(i,)) for i in range(len(xs))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for ours, theirs in zip(found, expected, strict=True):
        for a, b in zip(ours, theirs, strict=True):
            np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("layer", [fr.GRU(64, 96, seed=0), fr.LSTM(64, 512, seed=0)])
@pytest.mark.parametrize("B", [1, 4, 32])
def test_the_number_of_threads_does_not_change_an_output(set_threads, layer, B):
    x = np.random.default_rng(0).standard_normal((100, B, 64))
    set_threads(2)
    expected = layer(x)[0]
    set_threads(1)
    np.testing.assert_array_equal(layer(x)[0], expected)


@pytest.mark.parametrize("threads", [2, 6, 8])
@pytest.mark.parametrize("H", [260, 280])
def test_a_team_that_comes_out_smaller_does_not_change_a_bit(set_threads, threads, H):
    """Of more threads than cores some are late; each then has a larger share of the weight."""
    layer, x = fr.LSTM(64, H, seed=0), np.random.default_rng(0).standard_normal((100, 1, 64))
    expected = layer(x)[0]
    set_threads(threads)
    for _ in range(5):
        np.testing.assert_array_equal(layer(x)[0], expected)


@pytest.mark.parametrize(("H", "depth"), [(64, 64), (128, 20)])
def test_the_number_of_threads_does_not_change_a_stream(set_threads, H, depth):
    layer = fr.LSTM(H, H, depth, seed=0)
    x = np.random.default_rng(0).standard_normal((10, H))
    found = []
    for threads in (1, 2, 3):
        set_threads(threads)
        stream = layer.stream()
        found.append([stream.step(row).copy() for row in x])
    np.testing.assert_array_equal(found[1:], [found[0]] * 2)


@pytest.mark.parametrize("threads", [1, 2, 3])
@pytest.mark.parametrize(
    ("layer", "T", "B"),
    [
        (fr.LSTM(500, 9, dtype="float64", seed=0), 40, 30),  # more inputs than rows of the weight
        (fr.GRU(200, 5, 2, dtype="float64", seed=0), 90, 7),  # more rows of x than of the weight
        (fr.RNN(20, 520, dtype="float64", seed=0), 9, 12),  # a weight that L2 does not hold
        (fr.LSTM(30, 270, proj_size=250, dtype="float64", seed=0), 9, 16),
        (fr.GRU(30, 310, bidirectional=True, dtype="float64", seed=0), 9, 5),
    ],
    ids=["wide input", "long", "large", "projected", "both ways"],
)
def test_threads_divide_any_shape_into_what_the_reference_computes(
    set_threads, layer, T, B, threads
):
    x = np.random.default_rng(0).standard_normal((T, B, layer.input_size))

    def everything():
        layer.zero_gradients()
        output, _, pullback = layer.vjp(x)
        return [output, layer(x)[0], pullback(output)[0], *map(np.copy, layer.gradients.values())]

    with fr.use_backend("reference"):
        expected = everything()
    set_threads(threads)
    for found, wanted in zip(everything(), expected, strict=True):
        assert_close(found, wanted, TOLERANCES["float64"])


@pytest.mark.parametrize(
    "layer",
    [
        fr.RNN(40, 250, dtype="float64", seed=0),
        fr.GRU(40, 250, 2, dtype="float64", seed=0),
        fr.GRU(40, 250, reset_after=False, zoneout=0.1, dtype="float64", seed=0),
        fr.LSTM(40, 250, 2, proj_size=100, zoneout=(0.1, 0.2), dtype="float64", seed=0),
        fr.LSTM(40, 250, peepholes=True, bias=False, dtype="float64", seed=0),
        fr.LSTM(40, 250, layer_norm=True, dtype="float64", seed=0),
    ],
    ids=["RNN", "GRU", "reset before", "projected", "peepholes", "layer norm"],
)
def test_threads_divide_the_units_of_a_wide_stream(set_threads, layer):
    set_threads(2)
    x = np.random.default_rng(0).standard_normal((4, 64, 40))
    expected, last = layer(x)
    outputs = []
    for threads in (2, 1):
        set_threads(threads)
        stream = layer.stream(64)
        outputs.append([stream.step(step) for step in x])
        for found, state in zip(as_tuple(stream.state), as_tuple(last), strict=True):
            np.testing.assert_allclose(found, state, atol=1e-12)
    np.testing.assert_allclose(outputs[0], expected, atol=1e-12)
    np.testing.assert_array_equal(*outputs)


@pytest.mark.parametrize(
    ("function", "call"),
    [
        ("Run", lambda ids, _: fr.GRU(5, 4).on_ids(ids, None)),
        ("softmax_cross_entropy", lambda ids, _: fr.losses.softmax_cross_entropy(np.eye(5), ids)),
        (
            "ctc",
            lambda lengths, others: fr.losses.ctc(
                np.zeros((9, 5, 2)), lengths, np.ones((1, 5), int), others
            ),
        ),
    ],
)
def test_numbers_that_another_thread_may_write_to_are_copied(monkeypatch, function, call):
    # The core looks at them once, and then finds addresses by them without the interpreter's lock.
    given, read = np.arange(5), []
    others = given.clip(0, 1)

    def spy(*arguments, **options):
        read.extend(arguments)
        return original(*arguments, **options)

    original = getattr(compiled, function)
    monkeypatch.setattr(compiled, function, spy)
    with fr.use_backend("compiled"):
        call(given, others)
    arrays = [array for array in flat(read) if isinstance(array, np.ndarray)]
    assert any(array.dtype == np.int64 for array in arrays)
    assert not any(np.shares_memory(a, b) for a in arrays for b in (given, others))


def flat(value):
    """Yield what is in lists and tuples, and in those in them."""
    if not isinstance(value, (list, tuple)):
        yield value
        return
    for part in value:
        yield from flat(part)


def test_a_forked_child_computes():
    code = """
import os
import numpy as np
import fastrnn as fr
fr.set_num_threads(2)
layer, x = fr.LSTM(64, 96, seed=0), np.ones((20, 32, 64))
expected, _ = layer(x)
child = os.fork()
if child == 0:
    os._exit(0 if np.array_equal(layer(x)[0], expected) else 1)
print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""
    out, err = python(code).communicate(timeout=60)
    assert out.strip() == "0", err


def test_a_child_forked_in_a_call_of_another_thread_has_all_threads_of_blas():
    pytest.importorskip("threadpoolctl")
    code = """
import os, threading
import fastrnn as fr
import numpy as np
from threadpoolctl import threadpool_info
numbers = lambda: {pool["num_threads"] for pool in threadpool_info() if pool["user_api"] == "blas"}
layer, table, done = fr.LSTM(64, 256, seed=0), fr.Embedding(700, 64, seed=0), threading.Event()
ids = np.zeros((50, 16), np.int64)  # more than symbols: the table goes through BLAS
layer.on_ids(ids, table)  # loads it
expected = numbers()
def work():
    while not done.is_set():
        layer.on_ids(ids, table)
thread = threading.Thread(target=work)
thread.start()
codes = []
for _ in range(8):
    child = os.fork()
    if child == 0:
        os._exit(0 if numbers() == expected else 1)
    codes.append(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
done.set()
thread.join()
print(codes)
"""
    out, err = python(code, OPENBLAS_NUM_THREADS="2").communicate(timeout=60)
    assert out.strip() == str([0] * 8), err


@pytest.mark.parametrize("call", ["layer(x)", "pullback(d)"])
@pytest.mark.parametrize(
    "sizes", ["8, 1024), (300, 32, 8)", "1, 128), (60_000, 1, 1)"], ids=["large", "long"]
)
def test_ctrl_c_reaches_into_a_long_call(call, sizes):
    units, shape = sizes.split("), ")
    code = f"""
import traceback
import numpy as np
import fastrnn as fr
fr.set_num_threads(2)
layer, x = fr.LSTM({units}, seed=0), np.ones({shape})
layer(x[:1])  # imports the backend
if "{call}" == "pullback(d)":
    output, _, pullback = layer.vjp(x)
    d = np.zeros_like(output)
try:
    press()
    {call}
except KeyboardInterrupt:
    print("scan.pyx" in traceback.format_exc())
    print(layer.parameters.flat_gradients.any())  # nothing that is no gradient was added
"""
    out, err = interrupted(code)
    assert out.split() == ["True", "False"], err


@pytest.mark.parametrize("call", ["layer(x)", "pullback(x)"])
def test_ctrl_c_reaches_into_a_large_affine_layer(call):
    code = f"""
import traceback
import numpy as np
import fastrnn as fr
layer, x = fr.Dense(2000, 2000, dtype="float64", seed=0), np.ones((4000, 2000))
_, pullback = layer.vjp(x if "{call}" == "pullback(x)" else x[:1])  # imports the backend
try:
    press()
    {call}
except KeyboardInterrupt:
    print("functional.pyx" in traceback.format_exc())
"""
    out, err = interrupted(code)
    assert out.strip() == "True", err


def test_a_large_affine_layer_is_the_product():
    generator = np.random.default_rng(0)
    layer = fr.Dense(1000, 1000, seed=0)
    weight, bias = layer.parameters.values()
    x, d = generator.standard_normal((2, 5001, 1000), np.float32)  # 1e10 operations
    y, pullback = layer.vjp(x)
    np.testing.assert_allclose(y, x @ weight.T + bias, atol=1e-4)
    np.testing.assert_allclose(pullback(d), d @ weight, atol=1e-4)
    np.testing.assert_allclose(layer.gradients["weight"], d.T @ x, atol=1e-2)
    np.testing.assert_allclose(layer.gradients["bias"], d.sum(axis=0), atol=1e-2)


def test_ctrl_c_reaches_into_a_large_cross_entropy():
    code = """
import traceback
import numpy as np
import fastrnn as fr
logits, targets = np.ones((30_000, 1000), np.float32), np.zeros(30_000, int)
fr.losses.softmax_cross_entropy(logits[:1], targets[:1])  # imports the backend
try:
    press()
    fr.losses.softmax_cross_entropy(logits, targets)
except KeyboardInterrupt:
    print("functional.pyx" in traceback.format_exc())
"""
    out, err = interrupted(code)
    assert out.strip() == "True", err


def test_a_large_cross_entropy_is_that_of_all_rows():
    logits = np.random.default_rng(0).standard_normal((701, 30_000), np.float32)
    targets = np.arange(701)
    loss, d_logits = fr.losses.softmax_cross_entropy(logits, targets)
    parts = [
        fr.losses.softmax_cross_entropy(logits[rows], targets[rows])
        for rows in (slice(300), slice(300, 701))
    ]
    assert np.isclose(loss, (300 * parts[0][0] + 401 * parts[1][0]) / 701, rtol=1e-6)
    np.testing.assert_allclose(d_logits[:300], parts[0][1] * (300 / 701), rtol=1e-5, atol=1e-12)
    np.testing.assert_allclose(d_logits[300:], parts[1][1] * (401 / 701), rtol=1e-5, atol=1e-12)


def test_ctrl_c_ends_both_of_two_runs_at_the_same_time():
    code = """
import numpy as np
import fastrnn as fr
from fastrnn.backends import compiled
fr.set_num_threads(2)
layer, x = fr.LSTM(8, 1024, bidirectional=True, seed=0), np.ones((300 * 32, 8), np.float32)
out = np.full((300, 32, 2048), np.nan, np.float32)
runs = [
    compiled.Run(
        layer.cell,
        weights,
        x,
        32 * np.arange(301),
        (np.zeros((32, 1024), np.float32),) * 2,
        out.reshape(-1, 2048)[:, 1024 * direction : 1024 * (direction + 1)],
        direction == 1,
    )
    for direction, weights, _ in layer.passes()
]
try:
    press()
    compiled.scans(runs)
except KeyboardInterrupt:
    print(np.isnan(out[-1, :, :1024]).all() and np.isnan(out[0, :, 1024:]).all())
"""
    out, err = interrupted(code)
    assert out.strip() == "True", err


def test_ctrl_c_reaches_into_the_product_of_a_table():
    code = """
import numpy as np
import fastrnn as fr
from fastrnn.backends import compiled
fr.set_num_threads(2)
layer, table = fr.LSTM(4000, 128, seed=0), np.ones((5000, 4000), np.float32)
weights = {**layer.passes()[0].weights, "embedding": table}
state = (np.zeros((50, 128), np.float32),) * 2
out = np.full((5000, 128), np.nan, np.float32)
ids, offsets = np.arange(5000), 50 * np.arange(101)
run = compiled.Run(layer.cell, weights, ids, offsets, state, out)
try:
    press()
    compiled.scans([run])
except KeyboardInterrupt:
    print(np.isnan(out).all())  # no step was run
"""
    out, err = interrupted(code)
    assert out.strip() == "True", err


def test_denormals_of_the_caller_stay_as_they_are():
    tiny = np.float32(np.finfo(np.float32).smallest_subnormal)
    run(fr.GRU(3, 4, seed=0), np.ones((5, 2, 3)))
    assert tiny * np.float32(1) == tiny


def test_what_does_not_fit_into_memory_is_a_memory_error():
    with pytest.raises(MemoryError, match="parameters must fit into memory"):
        fr.LSTM(2**40, 2**20)
    x = np.broadcast_to(np.float32(0), (2**30, 2**12, 1))
    with pytest.raises(MemoryError):
        fr.LSTM(1, 4)(x)


def test_a_step_of_a_stream_allocates_no_array():
    stream, x = fr.GRU(8, 300, seed=0).stream(), np.ones(8, np.float32)
    for _ in range(2):
        y = stream.step(x)
    tracemalloc.start()
    try:
        for _ in range(5):
            y = stream.step(x)  # held while the next is made
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < y.nbytes


def test_a_stream_is_no_place_for_two_threads():
    # A child, as memory that is gone ends the process.
    child = python("""
import threading
import numpy as np
import fastrnn as fr
stream = fr.LSTM(300, 300, seed=0).stream(8)
refused = []
def work():
    generator = np.random.default_rng()
    for _ in range(1000):
        try:
            stream.step(generator.standard_normal((8, 300)).astype(np.float32))
        except RuntimeError as error:
            refused.append(str(error))
threads = [threading.Thread(target=work) for _ in range(4)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
stream.step(np.ones((8, 300)))
print(set(refused) <= {"a stream must be one thread's at a time, got another thread's call"})
""")
    output, errors = child.communicate(timeout=100)
    assert (child.returncode, output, errors) == (0, "True\n", "")


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.parametrize("backend", ["compiled", "reference"])
def test_a_child_forked_in_a_step_of_another_thread_begins_its_stream_anew(backend):
    child = python(f"""
import os, threading, warnings
import numpy as np
import fastrnn as fr
warnings.filterwarnings("ignore", "This process", DeprecationWarning)  # from Python 3.12 on
fr.use_backend("{backend}")
layer, x = fr.GRU(3, 4, seed=0), np.ones(3)
stream = layer.stream()
expected = stream.step(x).copy()
fr.parameters.join({{"layer": layer}})  # the next step looks for the parameters
inside, leave = threading.Event(), threading.Event()
def passes():
    inside.set()
    leave.wait()
    return fr.GRU.passes(layer)
layer.passes = passes
thread = threading.Thread(target=stream.step, args=[x])
thread.start()
inside.wait()
child = os.fork()
if child == 0:
    del layer.passes
    try:
        stream.step(x)
    except RuntimeError:
        stream.reset()
        os._exit(3 if np.array_equal(stream.step(x), expected) else 2)
    os._exit(1)
print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
leave.set()
thread.join()
""")
    output, errors = child.communicate(timeout=100)
    assert (child.returncode, output, errors) == (0, "3\n", "")


def test_a_state_is_read_before_or_after_a_step_of_another_thread():
    layer = fr.LSTM(64, 512, 4, seed=0)
    x = np.random.default_rng(0).standard_normal((16, 64)).astype(np.float32)
    stream = layer.stream(16)
    states = {b"".join(part.tobytes() for part in stream.state)}
    for _ in range(20):
        stream.step(x)
        states.add(b"".join(part.tobytes() for part in stream.state))
    stream.reset()
    refused, found = [], []

    def work():
        steps = 0
        while steps < 20:
            try:
                stream.step(x)
                steps += 1
            except RuntimeError as error:
                refused.append(str(error))

    thread = threading.Thread(target=work)
    thread.start()
    while thread.is_alive():
        try:
            found.append(b"".join(part.tobytes() for part in stream.state))
        except RuntimeError as error:
            refused.append(str(error))
    thread.join()
    assert set(found) <= states
    assert set(refused) <= {"a stream must be one thread's at a time, got another thread's call"}


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="needs a timer")
@pytest.mark.parametrize("backend", ["compiled", "reference"])
def test_a_stream_goes_on_where_the_handler_of_a_signal_has_raised(backend):
    class Timeout(Exception):  # noqa: N818 - no error
        pass

    def expire(number, frame):
        raise Timeout

    def work(seconds):
        signal.setitimer(signal.ITIMER_REAL, seconds)
        while True:
            stream.state = stream.state

    with fr.use_backend(backend):
        stream = fr.LSTM(3, 4, seed=0).stream()
    before = signal.signal(signal.SIGALRM, expire)
    try:
        for k in range(300):
            with pytest.raises(Timeout):
                work(1e-4 + 1e-7 * k)
            stream.reset()
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    stream.step(np.ones(3))


def test_sizes_that_were_changed_after_construction_are_no_danger():
    dense, layer = fr.Dense(4, 3), fr.GRU(4, 3)
    vars(dense)["in_features"] = 400  # a plain setting of it is refused
    with pytest.raises(ValueError, match="x must be 4 wide"):
        dense(np.ones((2, 400)))
    vars(dense)["in_features"] = 4
    _, pullback = dense.vjp(np.ones((100, 4)))
    vars(dense)["out_features"] = 300
    with pytest.raises(ValueError, match=r"d_output must be \(100, 3\)"):
        pullback(np.ones((100, 300)))
    stream = layer.stream()
    vars(layer)["input_size"] = 400
    with pytest.raises(ValueError, match="x must be 4 wide"):
        stream.step(np.ones(400))


@pytest.mark.parametrize("name", ["d_weight", "d_bias"])
def test_the_adjoint_of_an_affine_layer_looks_at_the_shapes_of_its_gradients(name):
    arrays = {"d_weight": np.zeros((3, 4)), "d_bias": np.zeros(3)}
    arrays[name] = arrays[name][..., :2].copy()
    with pytest.raises(ValueError, match=rf"^{name} must be contiguous float64 \(3,"):
        compiled.affine_adjoint(np.ones((5, 3)), np.ones((5, 4)), np.ones((3, 4)), **arrays)


@pytest.mark.parametrize("shape", [(4, 3), (5, 2), (5, 3, 1), (15,), ()])
def test_the_adjoint_of_an_affine_layer_looks_at_what_it_reads(shape):
    x, weight, gradients = np.ones((5, 4)), np.ones((3, 4)), (np.zeros((3, 4)), np.zeros(3))
    with pytest.raises(ValueError, match=r"^d_y must be as x \(5, 4\) and 3 wide, got "):
        compiled.affine_adjoint(np.ones(shape), x, weight, *gradients)
    with pytest.raises(ValueError, match=r"^x must be 4 wide, got \(\)$"):
        compiled.affine(np.ones(()), weight, None)


def test_attributes_that_were_changed_after_construction_are_no_danger():
    # A child, as memory that is not there ends the process.
    child = python("""
import numpy as np
import fastrnn as fr
from fastrnn.cells import CELLS
layers = {"GRU": fr.GRU, "LSTM": fr.LSTM, "Dense": fr.Dense}
for kind, name, value, call in [
    ("GRU", "depth", 4000, lambda layer: layer.stream()),
    ("GRU", "dtype", np.dtype("float64"), lambda layer: layer.stream()),
    ("GRU", "cell", CELLS["lstm"], lambda layer: layer.stream()),
    ("GRU", "cell", CELLS["lstm"], lambda layer: layer(np.ones((5, 2, 4)))),
    ("LSTM", "cell", CELLS["gru"], lambda layer: layer.stream()),
    ("LSTM", "zoneout", (0.5,), lambda layer: layer.stream()),
    ("LSTM", "zoneout", (0.5,), lambda layer: layer(np.ones((5, 2, 4)))),
    ("LSTM", "state_widths", (800, 800), lambda layer: layer.stream()),
    ("LSTM", "state_widths", (5, 8), lambda layer: layer(np.ones((5, 2, 4)))),
    ("Dense", "dtype", np.dtype("float64"), lambda layer: layer(np.ones((2, 4)))),
]:
    layer = layers[kind](4, 8)
    vars(layer)[name] = value
    try:
        call(layer)
        print("OK")
    except (TypeError, ValueError) as error:
        print(error)
""")
    output, errors = child.communicate(timeout=100)
    assert (child.returncode, errors) == (0, "")
    assert output.splitlines() == [
        "states must be of 1 layers, got 4000",
        "weight_ih must be contiguous float64 (24, 4), got float32 (24, 4)",
        "states must have 2 arrays, got 1",
        "state must have 2 arrays, got 1",
        "weight_ih must be contiguous float32 (30, 4), got float32 (32, 4)",
        "zoneout must have 2 arrays, got 1",
        "zoneout must have 2 arrays, got 1",
        "weight_hh must be contiguous float32 (32, 800), got float32 (32, 8)",
        "out must be (10, 5) with neighbouring columns, got float32 (10, 8)",
        "x must be float32, got float64",
    ]
