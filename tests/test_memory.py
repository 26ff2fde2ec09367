"""The memory that large arrays of the core pass on to one another."""

import copy
import gc
import pickle
import subprocess
import sys

import numpy as np
import pytest

memory = pytest.importorskip("fastrnn._core.memory")

LARGE = (1 << 20,)


def address(array):
    return array.__array_interface__["data"][0]


@pytest.mark.parametrize("shape", [(), (3,), (0, 4), (7, 3), (300, 1001), (2, 3, 50_000)])
@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.int64])
def test_an_array_is_like_one_of_numpy(shape, dtype):
    array = memory.empty(shape, dtype)
    assert array.shape == shape
    assert array.dtype == dtype
    assert array.flags.c_contiguous
    assert array.flags.aligned
    assert array.flags.writeable
    array[...] = 3
    assert np.array_equal(array, np.full(shape, 3, dtype))


def test_memory_is_passed_on():
    most = 60_000_000  # larger than what other tests have left to be used again
    array = memory.empty((most,), np.float32)
    first = address(array)
    del array
    smaller = memory.empty((most - 100,), np.float32)
    assert address(smaller) == first
    assert address(memory.empty((most,), np.float32)) != first


def test_memory_waits_for_the_last_view():
    array = memory.empty(LARGE, np.float32)
    array[...] = 1
    view = array[10:20].reshape(2, 5)
    first = address(array)
    del array
    gc.collect()
    other = memory.empty(LARGE, np.float32)
    assert address(other) != first
    other[...] = 2
    assert np.array_equal(view, np.ones((2, 5)))


def test_a_much_larger_block_is_not_taken():
    array = memory.empty((1 << 22,), np.float32)
    first = address(array)
    del array
    assert address(memory.empty((1 << 20,), np.float32)) != first


def test_many_blocks_come_and_go():
    rng = np.random.default_rng(0)
    kept = []
    for _ in range(1000):
        size = int(rng.integers(1 << 13, 1 << 19))
        array = memory.empty((size,), np.float32)
        value = float(rng.integers(1000))
        array[...] = value
        kept.append((array, value))
        if len(kept) > 90:
            for _ in range(80):  # more than can wait
                array, value = kept.pop(int(rng.integers(len(kept))))
                assert (array == value).all()


@pytest.mark.parametrize("length", [1 << 45, 1 << 59, 1 << 62])
def test_too_much_is_an_error(length):
    with pytest.raises((MemoryError, OverflowError)):
        memory.empty((length,), np.float64)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="macOS has no limit to set")
def test_waiting_memory_makes_room():
    code = """
import resource
from pathlib import Path
import numpy as np
from fastrnn._core.memory import empty
arrays = [empty((40 << 20,), np.uint8) for _ in range(6)]
del arrays
used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (used + (20 << 20), resource.RLIM_INFINITY))
print(empty((150 << 20,), np.uint8).size >> 20)
"""
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert result.stdout.strip() == "150", result.stderr


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads Linux's account")
def test_no_more_than_so_much_memory_waits():
    code = """
import resource
from pathlib import Path
import numpy as np
from fastrnn._core.memory import empty
def mapped():
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    return pages * resource.getpagesize() >> 20
before = mapped()
arrays = [empty((100 << 20,), np.uint8) for _ in range(8)]
held = mapped() - before
del arrays
print(held >= 800, 200 <= mapped() - before <= 256)
"""
    child = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (child.stdout, child.stderr) == ("True True\n", "")


@pytest.mark.parametrize("duplicate", [copy.copy, copy.deepcopy, pickle.dumps])
def test_memory_has_one_owner(duplicate):
    with pytest.raises(TypeError, match="Block"):
        duplicate(memory.empty(LARGE, np.float32).base)


def test_arrays_have_no_more_axes_than_numpy_has_room_for():
    assert memory.empty((1,) * 64, np.float32).ndim == 64
    assert memory.empty((1,) * 63 + LARGE, np.float32).ndim == 64
    with pytest.raises(ValueError, match="shape must have at most 64 axes, got 65"):
        memory.empty((1,) * 65, np.float32)
