"""Benchmarks: one table of cases, and what runs, compares and reports them."""

import conftest  # noqa: F401 - has the installed package measured
