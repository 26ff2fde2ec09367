"""Benchmarks: one table of cases, and what runs, compares and reports them."""
