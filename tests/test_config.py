"""Threads, instruction set and the report of `show_config` on them."""

import os
import re
from pathlib import Path

import numpy as np
import pytest
import scipy

import fastrnn as fr
from fastrnn import _config, backends


@pytest.fixture(autouse=True)
def environment(monkeypatch, set_threads):
    """Start from an environment that asks for nothing; put the settings back."""
    for name in ("FASTRNN_NUM_THREADS", "OMP_NUM_THREADS", "FASTRNN_ISA"):
        monkeypatch.delenv(name, raising=False)
    isa = _config._kernels.isa() if _config._kernels else None
    yield monkeypatch
    if isa:
        _config._kernels.use_isa(isa)


def test_number_of_threads_is_set_for_the_kernels_too():
    for n in (1, 3, 256):
        fr.set_num_threads(n)
        assert fr.get_num_threads() == n
        if _config._kernels:
            assert _config._kernels.get_num_threads() == n


@pytest.mark.parametrize(
    ("value", "error", "message"),
    [
        (0, ValueError, "n must be a positive integer, got 0"),
        (-2, ValueError, "n must be a positive integer, got -2"),
        (257, ValueError, "n must be at most 256 threads, got 257"),
        (10**30, ValueError, "n must be at most 256 threads"),
        (True, TypeError, "n must be a positive integer"),
        (2.0, TypeError, "n must be a positive integer"),
        ("2", TypeError, "n must be a positive integer"),
        (None, TypeError, "n must be a positive integer"),
    ],
)
def test_senseless_number_of_threads_is_refused(value, error, message):
    fr.set_num_threads(2)
    with pytest.raises(error, match=message):
        fr.set_num_threads(value)
    assert fr.get_num_threads() == 2


@pytest.mark.parametrize(
    ("variables", "expected"),
    [
        ({"FASTRNN_NUM_THREADS": "3"}, 3),
        ({"OMP_NUM_THREADS": "5"}, 5),
        ({"OMP_NUM_THREADS": "4,2"}, 4),
        ({"FASTRNN_NUM_THREADS": "3", "OMP_NUM_THREADS": "5"}, 3),
        ({"FASTRNN_NUM_THREADS": "", "OMP_NUM_THREADS": "5"}, 5),
    ],
)
def test_environment_gives_the_number_of_threads(environment, variables, expected):
    for name, value in variables.items():
        environment.setenv(name, value)
    _config._read_environment()
    assert fr.get_num_threads() == expected


@pytest.mark.parametrize("value", ["0", "-1", "two", "1.5", "257"])
@pytest.mark.parametrize("name", ["FASTRNN_NUM_THREADS", "OMP_NUM_THREADS"])
def test_senseless_variable_is_named_and_passed_over(environment, name, value):
    environment.setattr(_config, "_cores", lambda: 7)
    environment.setenv(name, value)
    with pytest.warns(RuntimeWarning, match=f"{name} must be a number .* got '{value}'"):
        _config._read_environment()
    assert fr.get_num_threads() == 7


@pytest.mark.skipif(not hasattr(os, "sched_getaffinity"), reason="the system has no affinity")
def test_default_is_the_cores_of_the_process(environment):
    environment.setattr(os, "sched_getaffinity", lambda pid: {0, 4, 5})
    environment.setattr(_config, "CGROUP", Path("no such folder"))
    _config._read_environment()
    assert fr.get_num_threads() == 3


@pytest.mark.parametrize(
    ("quota", "period", "expected"),
    [
        ("200000", "100000\n", 2),
        ("150000", "100000\n", 2),
        ("1000", "100000\n", 1),
        ("6400000", "100000\n", 5),
        ("max", "100000\n", 5),
        ("-1", "100000\n", 5),
        ("0", "0\n", 5),
        ("100000", "0\n", 5),
        ("", "", 5),
    ],
)
@pytest.mark.parametrize("version", [1, 2])
def test_default_is_no_more_than_a_container_gets(
    environment, tmp_path, version, quota, period, expected
):
    environment.setattr(os, "sched_getaffinity", lambda pid: set(range(5)), raising=False)
    environment.setattr(_config, "CGROUP", tmp_path)
    if version == 2:
        (tmp_path / "cpu.max").write_text(f"{quota} {period}")
    else:
        (tmp_path / "cpu").mkdir()
        (tmp_path / "cpu" / "cpu.cfs_quota_us").write_text(f"{quota}\n")
        (tmp_path / "cpu" / "cpu.cfs_period_us").write_text(period)
    _config._read_environment()
    assert fr.get_num_threads() == expected


@pytest.mark.skipif(_config._kernels is None, reason="built without the extension")
def test_environment_forces_an_instruction_set(environment):
    for isa in _config._kernels.available_isas():
        environment.setenv("FASTRNN_ISA", isa)
        _config._read_environment()
        assert fr.show_config(mode="dicts")["instruction set"] == isa


def test_unknown_instruction_set_is_named_and_passed_over(environment):
    before = fr.show_config(mode="dicts")["instruction set"]
    environment.setenv("FASTRNN_ISA", "sse9")
    with pytest.warns(RuntimeWarning, match="FASTRNN_ISA must be .*, got 'sse9'"):
        _config._read_environment()
    assert fr.show_config(mode="dicts")["instruction set"] == before


def test_show_config_prints_what_it_returns(capsys):
    config = fr.show_config(mode="dicts")
    assert capsys.readouterr().out == ""
    assert fr.show_config() is None
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == len(config)
    for line, (name, value) in zip(lines, config.items(), strict=True):
        assert line.startswith(name)
        assert line.endswith(", ".join(value) if isinstance(value, tuple) else str(value))
    assert config["fastrnn"] == fr.__version__


def test_the_blas_is_that_of_the_backend(backend, monkeypatch):
    for module in (np, scipy):
        tables = {"Build Dependencies": {"blas": {"name": module.__name__, "version": "1"}}}
        monkeypatch.setattr(module, "show_config", lambda mode, tables=tables: tables)
    config = fr.show_config(mode="dicts")
    assert config["BLAS"] == ("scipy 1" if config["backend"] == "compiled" else "numpy 1")


def test_versions_are_numbers():
    config = fr.show_config(mode="dicts")
    for name in ("Python", "NumPy", "SciPy", "Cython"):
        assert re.match(r"\d+\.\d+|none$", config[name])


def test_show_config_refuses_another_mode():
    with pytest.raises(ValueError, match="mode must be one of 'stdout', 'dicts', got 'json'"):
        fr.show_config(mode="json")


def test_backend_shown_is_the_one_in_use():
    with fr.use_backend("reference"):
        assert fr.show_config(mode="dicts")["backend"] == "reference"


def test_a_report_of_a_backend_that_does_not_run(environment, capsys):
    environment.setattr(backends, "_active", None)
    environment.setenv("FASTRNN_BACKEND", "bogus")
    fr.show_config()
    assert "none (FASTRNN_BACKEND must be" in capsys.readouterr().out
