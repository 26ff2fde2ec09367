"""Benchmarks: one table of cases, and modules that run, compare and report them."""

import runpy
from pathlib import Path

# Has the installed package measured. By its path, since the tests have a conftest of their own.
runpy.run_path(str(Path(__file__).resolve().parents[1] / "conftest.py"))
