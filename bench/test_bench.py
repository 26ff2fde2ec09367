"""Every case of the table on every library: ``pytest bench/``, or ``-k "char-rnn and torch"``.

All run on ``fastrnn.get_num_threads()`` threads, which ``FASTRNN_NUM_THREADS`` sets, one library
after the other; `bench.compare` is more precise, because it lets them take turns.
"""

import json
import os
import re
from dataclasses import replace

import pytest

import fastrnn as fr

from . import applications, cases, compare, growth, peers, processes, report

CALLS = [
    pytest.param(case, name, id=f"{case.slug}-{name.replace(' ', '-')}")
    for case in cases.CASES
    for name in peers.SIDES.get(case.kind, ())
]


@pytest.mark.filterwarnings("default")
@pytest.mark.benchmark(disable_gc=True, warmup=True, warmup_iterations=10, min_rounds=3)
@pytest.mark.parametrize(("case", "name"), CALLS)
def test_case(benchmark, case, name):
    """Time one library after a check against ours."""
    if name not in peers.side_names(case, [name.split()[0]]):
        pytest.skip(f"{name.split()[0]} is not installed")
    benchmark.group = case.name
    threads = fr.get_num_threads()
    problem = peers.Problem(case)
    sides = {n: peers.SIDES[case.kind][n](problem, threads) for n in {"fastrnn", name}}
    with peers.use_threads(threads):
        peers.check(case, sides)
        with sides[name].context():
            benchmark(sides[name].call)


@pytest.mark.parametrize("case", cases.CASES, ids=lambda case: case.slug)
def test_spec_makes_the_case_again(case):
    """Results are read back by it."""
    again = cases.parse(case.spec)
    assert replace(again, name=case.name, targets=case.targets) == case


def test_each_case_has_a_process_of_its_own(capsys):
    """And every side takes its turns there."""
    assert processes.alone(os.getpid) != os.getpid()
    compare.main(["--case", "stream rnn hidden=2", "--quick", "--peers", "numpy", "--threads", "1"])
    case, heading, row = capsys.readouterr().out.splitlines()[-3:]
    assert case == "stream rnn hidden=2"
    assert "peer / fastrnn" in heading
    assert row.split()[0] == "1"
    assert "NumPy" in row


@pytest.mark.parametrize(
    ("document", "folder"),
    [
        ("README.md", report.RESULTS / "zen4"),
        ("docs/zen4.md", report.RESULTS / "zen4"),
        ("docs/performance.md", report.RESULTS),
        ("docs/zen5.md", report.RESULTS),
    ],
)
def test_documents_show_the_results(document, folder):
    """Those that the repository holds, as the command writes them."""
    text = (report.DOCS.parent / document).read_text()
    tables = report.tables(report.load(folder))
    shown = {m[2]: m[0] for m in report.MARKED.finditer(text) if m[2] in tables}
    assert shown
    for name, place in shown.items():
        assert tables[name] in place


@pytest.mark.parametrize(("document", "folder"), [("zen5.md", ""), ("zen4.md", "zen4")])
def test_documents_say_when_it_was_measured(document, folder):
    """And those of applications, in how many turns."""
    results = report.load(report.RESULTS / folder)
    text = (report.DOCS / document).read_text()
    (said,) = re.findall(r"Measured on ((?:\d{4}-\d\d-\d\d(?: and )?)+)", text)
    assert set(said.split(" and ")) == {result.environment["date"] for result in results}


def test_applications_say_in_how_many_turns_they_were_timed():
    """Rows are measured one by one."""
    results = [json.loads(path.read_text()) for path in applications.RESULTS.glob("*.json")]
    turns = sorted({result["timing"]["rounds"] for result in results})
    text = (report.DOCS / "applications.md").read_text()
    assert f"in {' or '.join(map(str, turns))} turns of about a second" in text


def test_growth_is_measured_and_drawn(monkeypatch, tmp_path):
    """On several threads there is a side more, our own on one."""
    pytest.importorskip("matplotlib")

    def run(_, case, threads, *args, **effort):
        sides = ["fastrnn", "torch fused Adam" if case.vocabulary else "torch"]
        if threads > 1:
            sides.append(report.ONE_THREAD)
        return {"unit": "s", "sides": {side: {"value": [1e-3, 2e-3, 3e-3]} for side in sides}}

    monkeypatch.setattr(processes, "alone", run)
    monkeypatch.setattr(fr, "get_num_threads", lambda: 2)
    growth.draw(growth.measure(1, 0.0, longest=2), tmp_path / "growth.svg")
    assert (tmp_path / "growth.svg").read_text().count("<svg") == 1


@pytest.mark.parametrize("name", applications.APPLICATIONS)
def test_applications_are_the_same_in_pytorch(name):
    """Losses, gradients and steps of an example's model are those of its twin."""
    pytest.importorskip("torch")
    built = applications.build(applications.APPLICATIONS[name], quick=True)
    assert applications.check(*built) <= applications.TOLERANCE


def test_a_wrong_twin_is_noticed(monkeypatch):
    """A twin that leaves something out has another loss."""
    twins = pytest.importorskip("bench.twins")
    monkeypatch.setattr(twins.Pooled, "outputs", _without_bias)
    model, batches, settings = applications.build(applications.APPLICATIONS["finger"], quick=True)
    with pytest.raises(AssertionError, match="from ours"):
        applications.check(model, batches, settings)


def _without_bias(module, values, lengths):
    output, _ = module.encoder(values, lengths)
    return output[-1] @ module.output.weight.T + 0 * module.output.bias
