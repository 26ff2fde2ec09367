"""Fixtures that run a test on every backend, and on every instruction set of this machine."""

import os
import signal

import hypothesis
import pytest

import fastrnn as fr

# A job in a shell's background begins with Ctrl-C ignored; there are tests that send it.
signal.signal(signal.SIGINT, signal.default_int_handler)

# A test fails for a change, not by luck; ``--hypothesis-profile=default`` draws other examples.
hypothesis.settings.register_profile("fastrnn", derandomize=True, deadline=None)
hypothesis.settings.load_profile("fastrnn")

if os.environ.get("FASTRNN_BACKEND") == "reference":
    COMPILED = []
else:
    from fastrnn._core import kernels

    COMPILED = [("compiled", isa) for isa in kernels.available_isas()]


def _use(request):
    name, isa = request.param
    with fr.use_backend(name):
        if isa is None:
            yield name
            return
        before = kernels.isa()
        kernels.use_isa(isa)
        yield name
        kernels.use_isa(before)


def _label(parameter):
    name, isa = parameter
    return name if isa is None else f"{name}-{isa}"


@pytest.fixture(params=[("reference", None), *COMPILED], ids=_label)
def backend(request):
    """Run the test on each backend and instruction set."""
    yield from _use(request)


@pytest.fixture(params=COMPILED, ids=_label)
def compiled_backend(request):
    """Run the test on the compiled backend alone, on each instruction set."""
    yield from _use(request)


@pytest.fixture
def set_threads():
    """Return ``fr.set_num_threads``; the number of threads is restored after the test."""
    before = fr.get_num_threads()
    yield fr.set_num_threads
    fr.set_num_threads(before)


@pytest.fixture(params=["float64", "float32"])
def dtype(request):
    """Run the test in each dtype."""
    return request.param
