"""Fixtures of the tests with other packages."""

import pytest


@pytest.fixture(scope="module", autouse=True)
def small_steps(request):
    """Run steps of PyTorch's cells on our kernels however small they are."""
    if not request.module.__name__.rpartition(".")[2].startswith("test_torch"):
        yield
        return
    from fastrnn.interop import torch as ours

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ours, "FLOPS_A_STEP", 0)
        yield


@pytest.fixture
def runs(monkeypatch):
    """Count the runs of our kernels for PyTorch's modules."""
    from fastrnn.interop.torch import scan

    counted = []
    once = scan._Run

    def run(*arguments, **options):
        counted.append(arguments)
        return once(*arguments, **options)

    monkeypatch.setattr(scan, "_Run", run)
    return counted
