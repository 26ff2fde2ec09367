"""Every example runs with ``--quick``: no data, no network, core dependencies."""

import json
import math
import os
import runpy
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import fastrnn as fr

EXAMPLES = Path(__file__).parents[1] / "examples"
SETS = {
    "characters": ["names"],
    "sentiment": ["uci-sentences"],
    "sequence_labels": ["finger-tracks"],
    "time_series": ["airline"],
}
RUNS = [[path.stem] for path in sorted(EXAMPLES.glob("[!_]*.py")) if path.stem != "hello"]
RUNS += [[name, "--set", choice] for name, choices in SETS.items() for choice in choices]
RUNS += [["captions", "--read", "parts"]]


@pytest.mark.slow
@pytest.mark.parametrize("run", RUNS, ids=" ".join)
def test_an_example_reports_scores(run, tmp_path, monkeypatch, capsys):
    name, *options = run
    monkeypatch.syspath_prepend(str(EXAMPLES))
    monkeypatch.delenv("FASTRNN_DATA", raising=False)
    monkeypatch.setenv("MPLBACKEND", "Agg")
    written = ["--output", str(tmp_path), "--json", str(tmp_path / "scores.json")]
    monkeypatch.setattr(sys, "argv", [name, "--quick", *written, *options])
    runpy.run_path(str(EXAMPLES / f"{name}.py"), run_name="__main__")
    result = json.loads((tmp_path / "scores.json").read_text(encoding="utf-8"))
    assert result["epochs"] == 1
    assert len(result) > 5  # a score at least
    assert all(math.isfinite(value) for value in result.values())
    assert "after 1 epochs" in capsys.readouterr().out


@pytest.mark.parametrize("name", ["hello", "digits"])
def test_an_example_runs_without_docstrings(name):
    path = os.pathsep.join([str(Path(fr.__file__).parents[1]), str(EXAMPLES)])
    run = subprocess.run(
        [sys.executable, "-OO", EXAMPLES / f"{name}.py", "--help"],
        env={**os.environ, "PYTHONPATH": path},
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.stdout.startswith("usage:"), run.stderr


@pytest.mark.sklearn
def test_the_shared_scores_are_scikit_learns(monkeypatch):
    metrics = pytest.importorskip("sklearn.metrics")
    monkeypatch.syspath_prepend(str(EXAMPLES))
    from _common import classification_scores

    truth, predicted = [0, 0, 1, 2, 2, 4], [0, 1, 1, 2, 0, 3]
    scores = classification_scores(np.array(truth), np.array(predicted))
    assert scores["accuracy"] == pytest.approx(metrics.accuracy_score(truth, predicted))
    expected = metrics.f1_score(truth, predicted, average="macro", zero_division=0)
    assert scores["macro_f1"] == pytest.approx(expected)


def by_definition(a, b):
    """Return the edit distance of two strings by trying every edit of their last characters."""
    if not a or not b:
        return len(a) + len(b)
    return min(
        by_definition(a[:-1], b[:-1]) + (a[-1] != b[-1]),
        by_definition(a[:-1], b) + 1,
        by_definition(a, b[:-1]) + 1,
    )


def test_the_edit_distance(monkeypatch):
    monkeypatch.syspath_prepend(str(EXAMPLES))
    from _common import edit_distance, error_rates

    assert edit_distance("kitten", "sitting") == 3
    generator = np.random.default_rng(0)
    for _ in range(40):
        a, b = ("".join(generator.choice(list("ab"), n)) for n in generator.integers(0, 6, 2))
        assert edit_distance(a, b) == by_definition(a, b)
    assert error_rates(["", "abc", "x"], ["ab", "abc", "yx"]) == [3 / 7, 2 / 3]
