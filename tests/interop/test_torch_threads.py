"""PyTorch's threads sleep while ours compute."""

import subprocess
import sys

import pytest

import fastrnn as fr

torch = pytest.importorskip("torch")

from torch_pairs import MARKS, assert_alike, pair  # noqa: E402

from fastrnn.interop.torch import threads  # noqa: E402

pytestmark = MARKS


gnu = pytest.mark.skipif(threads._openmp is None, reason="PyTorch's threads are not GNU's")


@pytest.fixture
def two_threads():
    before = fr.get_num_threads(), torch.get_num_threads()
    fr.set_num_threads(2)
    torch.set_num_threads(2)
    yield
    fr.set_num_threads(before[0])
    torch.set_num_threads(before[1])


def they_sleep():
    """Whether the threads that PyTorch has for this one are in a region of ours."""
    return threads._openmp.omp_in_parallel() == 1


@gnu
@pytest.mark.usefixtures("two_threads")
def test_pytorchs_threads_sleep_while_kernels_run(monkeypatch):
    theirs, accelerated = pair("GRU", 64, 128, 2, dtype=torch.float32)
    slept = []
    for name in ("scans", "scan_adjoints"):
        function = getattr(fr.backends.active_backend(), name)

        def watched(*arguments, function=function, **options):
            slept.append(they_sleep())
            return function(*arguments, **options)

        monkeypatch.setattr(fr.backends.active_backend(), name, watched)
    x = torch.randn(20, 30, 64)
    assert_alike(theirs, accelerated, (x,))
    assert slept == [True] * 4
    assert not they_sleep()
    accelerated(x[:1])  # too little to be worth it
    assert slept[4:] == [False] * 2


@gnu
@pytest.mark.usefixtures("two_threads")
def test_numpy_has_no_parallel_region_around_it(monkeypatch):
    """Its BLAS would warn of one."""
    _, accelerated = pair("GRU", 64, 128, 2, dtype=torch.float32)
    slept = []
    with fr.use_backend("reference"):
        backend = fr.backends.active_backend()
        scans = backend.scans
        monkeypatch.setattr(backend, "scans", lambda *a: slept.append(they_sleep()) or scans(*a))
        accelerated(torch.randn(20, 30, 64))
    assert slept == [False] * 2


@gnu
@pytest.mark.usefixtures("two_threads")
def test_pytorchs_threads_are_woken_after_an_error():
    def interrupted():
        with threads.asleep(1e9):
            assert they_sleep()
            with threads.asleep(1e9):  # there is nobody left
                pass
            raise KeyboardInterrupt

    for _ in range(3):
        with pytest.raises(KeyboardInterrupt):
            interrupted()
        assert not they_sleep()
    x = torch.randn(300, 300)
    assert torch.equal(x @ x, x @ x)


@gnu
@pytest.mark.usefixtures("two_threads")
@pytest.mark.parametrize(
    ("library", "name"),
    [("_openmp", "omp_get_level"), ("_libc", "sem_post"), ("_openmp", "GOMP_parallel_end")],
)
def test_pytorchs_threads_are_woken_where_ctrl_c_comes_meanwhile(library, name, monkeypatch):
    library = getattr(threads, library)
    function = getattr(library, name)

    def interrupted(*arguments):
        monkeypatch.undo()
        function(*arguments)
        raise KeyboardInterrupt

    def work():
        with threads.asleep(1e9):
            monkeypatch.setattr(library, name, interrupted)

    with pytest.raises(KeyboardInterrupt):
        work()
    assert not they_sleep()


@gnu
@pytest.mark.usefixtures("two_threads")
def test_what_was_interrupted_before_its_region_ends_no_other(monkeypatch):
    class Interrupted:
        ended = False

        def omp_get_level(self):
            return 1  # that of a region of the caller's

        def GOMP_parallel_start(self, *arguments):  # noqa: N802 - OpenMP's name
            raise KeyboardInterrupt

        def GOMP_parallel_end(self):  # noqa: N802
            self.ended = True

    monkeypatch.setattr(threads, "_openmp", Interrupted())
    with pytest.raises(KeyboardInterrupt), threads.asleep(1e9):
        pass
    assert not threads._openmp.ended


@pytest.mark.usefixtures("two_threads")
def test_small_work_keeps_to_one_thread_where_pytorch_has_more():
    with threads.asleep(1e6) as most_threads:
        assert most_threads == 1
    with threads.asleep(1e9) as most_threads:
        assert most_threads is None
    torch.set_num_threads(1)
    with threads.asleep(1e6) as most_threads:
        assert most_threads is None


@gnu
def test_work_on_one_thread_starts_no_other():
    code = """
import os, torch, fastrnn as fr
from fastrnn.interop.torch import threads
torch.set_num_threads(2)
layer = fr.interop.torch.GRU(64, 128, bidirectional=True)
x, y = torch.randn(50, 32, 64), torch.randn(500, 500)
fr.set_num_threads(1)
y @ y
layer(x)[0].sum().backward()  # the threads of PyTorch and of BLAS are there now
fr.set_num_threads(2)
for threads.FLOPS_A_SLEEP in (1e12, 1e6):
    before = len(os.listdir("/proc/self/task"))
    layer(x)[0].sum().backward()
    print(len(os.listdir("/proc/self/task")) - before)
"""
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code], capture_output=True, text=True, timeout=120
    )
    assert done.stdout == "0\n1\n", done.stderr


@gnu
@pytest.mark.usefixtures("two_threads")
def test_threads_sleep_only_where_both_libraries_have_more_than_one():
    torch.set_num_threads(1)
    with threads.asleep(1e9):
        assert not they_sleep()
    torch.set_num_threads(2)
    fr.set_num_threads(1)
    with threads.asleep(1e9):
        assert not they_sleep()


def test_child_of_a_fork_computes_the_same():
    """OpenMP's threads are not there; to wait for them would be for ever."""
    code = """
import os, torch, fastrnn as fr
fr.set_num_threads(2); torch.set_num_threads(2)
layer = fr.interop.torch.GRU(64, 128)
x = torch.randn(50, 32, 64)
with torch.no_grad():
    x @ torch.ones(64, 64)
    expected = layer(x)[0]
    child = os.fork()
    if not child:
        # NumPy compares, PyTorch's own operators would wait.
        os._exit(0 if (layer(x)[0].numpy() == expected.numpy()).all() else 3)
    print(os.waitpid(child, 0)[1], torch.equal(layer(x)[0], expected))
"""
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code], capture_output=True, text=True, timeout=120
    )
    assert done.stdout == "0 True\n", done.stderr
