"""Fixtures of the tests beside other packages."""

import pytest


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
