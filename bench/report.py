"""Tables and a plot of what ``bench.compare`` measured: ``python -m bench.report --help``."""

from __future__ import annotations

import argparse
import json
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

from .cases import CASES, Case, parse

RESULTS = Path(__file__).parent / "results"
DOCS = Path(__file__).parents[1] / "docs"
ONE_THREAD = "fastrnn on one thread"  # a side of runs on several
LIBRARIES = {"torch": "PyTorch", "onnxruntime": "ONNX Runtime", "numpy": "NumPy"}
MARKED = re.compile(r"(<!-- bench: (\w+) -->\n).*?(<!-- bench: end -->)", re.DOTALL)

Row = tuple[str, ...]
Run = dict[str, Any]


class Result(NamedTuple):
    """The content of one file of results; `runs` as `bench.compare.measure` returns them."""

    case: Case
    environment: dict[str, Any]
    runs: list[Run]


def load(folder: Path) -> list[Result]:
    """Return the results of a folder in the order of the table, other cases last."""
    table = {case.name: case for case in CASES}
    results = []
    for path in sorted(folder.glob("*.json")):
        content = json.loads(path.read_text())
        if "runs" in content:
            case = table.get(content["case"])
            if case is None or case.spec != content["spec"]:
                case = replace(parse(content["spec"]), name=content["case"])
            results.append(Result(case, content["environment"], content["runs"]))
    order = [*table, *[result.case.name for result in results]]
    return sorted(results, key=lambda result: order.index(result.case.name))


def fastest(run: Run) -> dict[str, str]:
    """Return for each peer its fastest way of running the case."""
    sides = sorted(run["sides"], key=lambda name: -run["sides"][name]["value"][1])
    return {name.split()[0]: name for name in sides if name.split()[0] != "fastrnn"}


def ours(run: Run) -> float:
    """Return our median."""
    return run["sides"]["fastrnn"]["value"][1]


def chosen(results: Iterable[Result]) -> Iterator[tuple[Case, Run]]:
    """Yield each case of a recurrent network with a run of it, at most threads with a target."""
    for case, _, runs in results:
        alone = [run for run in runs if not run["neighbour"]]
        if alone and case.kind in ("stream", "infer", "fwdbwd", "train-step"):
            aims = {threads for target in case.targets for threads in target.threads}
            yield case, max(alone, key=lambda run: (run["threads"] in aims, run["threads"]))


def overview(results: Iterable[Result]) -> Iterator[Row]:
    """Yield a row for each of these, our time and those of the peers, heading first."""
    yield "case", "threads", "fastrnn", *LIBRARIES.values()
    for case, run in chosen(results):
        cells = [_beside(run, peer) for peer in LIBRARIES]
        yield case.name, str(run["threads"]), amount(ours(run), run["unit"]), *cells


def _beside(run: Run, peer: str) -> str:
    name = fastest(run).get(peer)
    if name is None:
        return ""
    side = run["sides"][name]
    return f"{amount(side['value'][1], run['unit'])}, {_digits(side['ratio'][1])}x"


def ratios(results: Iterable[Result]) -> Iterator[Row]:
    """Yield the rows of the comparison with the peers, heading first."""
    yield "case", "threads", "fastrnn", "peer", "its time", "peer / fastrnn", "target"
    for case, _, runs in results:
        for run in runs:
            targets = () if run["neighbour"] else case.targets
            wanted = {t.peer: t.ratio for t in targets if run["threads"] in t.threads}
            best = fastest(run)
            for peer in [peer for peer in LIBRARIES if peer in best]:
                side = run["sides"][best[peer]]
                low, ratio, high = [_digits(value) for value in side["ratio"]]
                yield (
                    case.name,
                    _conditions(run),
                    spread(run["sides"]["fastrnn"]["value"], run["unit"]),
                    best[peer].replace(peer, LIBRARIES[peer], 1),
                    spread(side["value"], run["unit"]),
                    f"{ratio} ({low} to {high})",
                    _verdict(side["ratio"][1], wanted.get(peer), "{:.3g}x"),
                )


def efficiencies(results: Iterable[Result]) -> Iterator[Row]:
    """Yield the rows on the use of the machine, heading first."""
    yield "case", "threads", "GFLOP/s", "of a large product", "target", "against 1 thread", "target"
    for case, _, runs in results:
        for run in [run for run in runs if run["ceiling"]]:
            speed = case.flops / ours(run)
            share = speed / run["ceiling"]
            single = run["sides"].get(ONE_THREAD)
            gain = single["ratio"][1] if single else None
            yield (
                case.name,
                _conditions(run),
                _digits(speed / 1e9),
                f"{share:.0%} of {_digits(run['ceiling'] / 1e9)}",
                _verdict(share, None if run["neighbour"] else case.ceiling_wanted, "{:.0%}"),
                f"{_digits(gain)}x" if gain else "",
                _verdict(gain, None if run["neighbour"] else case.speedup_wanted, "{}x"),
            )


def neighbours(results: Iterable[Result]) -> Iterator[Row]:
    """Yield the rows on what a process that spins beside us costs each side, heading first."""
    yield "case", "threads", "library", "alone", "beside a spinning process", "times as long"
    for case, _, runs in results:
        for run in [run for run in runs if run["neighbour"]]:
            same = (r for r in runs if r["threads"] == run["threads"] and not r["neighbour"])
            alone = next(same, None)
            for name, side in run["sides"].items() if alone else ():
                before, after = alone["sides"][name]["value"], side["value"]
                texts = [spread(value, run["unit"]) for value in (before, after)]
                yield case.name, str(run["threads"]), name, *texts, _digits(after[1] / before[1])


def _conditions(run: Run) -> str:
    return str(run["threads"]) + (", beside a spinning process" if run["neighbour"] else "")


def _verdict(value: float | None, wanted: float | None, style: str) -> str:
    if value is None or wanted is None:
        return ""
    return style.format(wanted) + (": reached" if value >= wanted else ": **not reached**")


def spread(quartiles: Sequence[float], unit: str) -> str:
    """Return a median with its quartiles, in a unit that suits it: ``"1.23 (1.20 to 1.31) ms"``."""
    prefix, scale = _prefix(quartiles[1])
    low, median, high = [_digits(value / scale) for value in quartiles]
    return f"{median} ({low} to {high}) {prefix}{unit}"


def amount(value: float, unit: str) -> str:
    """Return a value in a unit that suits it: ``"1.23 ms"``."""
    prefix, scale = _prefix(value)
    return f"{_digits(value / scale)} {prefix}{unit}"


def _prefix(value: float) -> tuple[str, float]:
    prefixes = {"M": 1e6, "": 1.0, "m": 1e-3, "u": 1e-6}
    return next((item for item in prefixes.items() if value >= item[1]), ("u", 1e-6))


def _digits(value: float) -> str:
    return f"{value:.{0 if value >= 100 else 1 if value >= 10 else 2}f}"


def describe(environment: dict[str, Any]) -> str:
    """Return an environment as one line."""
    return "; ".join(f"{name} {value}" for name, value in environment.items())


def markdown(rows: Iterable[Row]) -> str:
    """Return a table of Markdown whose first row is the heading."""
    heading, *body = rows
    return "\n".join(f"| {' | '.join(row)} |" for row in [heading, ["---"] * len(heading), *body])


def as_text(result: Result) -> str:
    """Return a case's rows of all tables, in columns for a terminal."""
    lines = [result.case.name]
    for table in (ratios, efficiencies, neighbours):
        rows = [row[1:] for row in table([result])]
        widths = [max(map(len, column)) for column in zip(*rows)]
        if len(rows) > 1:
            lines += ["  ".join(map(str.ljust, row, widths)).rstrip() for row in rows]
    return "\n  ".join(lines)


def tables(results: Sequence[Result]) -> dict[str, str]:
    """Return the texts that marked places of a document can show, by name."""
    return {
        "environment": "\n\n".join(dict.fromkeys(describe(r.environment) for r in results)),
        "overview": markdown(overview(results)),
        "ratios": markdown(ratios(results)),
        "efficiency": markdown(efficiencies(results)),
        "neighbour": markdown(neighbours(results)),
    }


def rewrite(path: Path, texts: dict[str, str]) -> None:
    """Put the texts between ``<!-- bench: name -->`` and ``<!-- bench: end -->`` in a document.

    Places of other names stay as they are.

    Raises
    ------
    ValueError
        If the document has no place for any of the texts.
    """
    before = path.read_text()
    if texts.keys().isdisjoint(name for _, name, _ in MARKED.findall(before)):
        raise ValueError(f"{path} must have a line <!-- bench: name -->, one of {', '.join(texts)}")
    path.write_text(
        MARKED.sub(lambda m: f"{m[1]}\n{texts[m[2]]}\n\n{m[3]}" if m[2] in texts else m[0], before)
    )


def plot(results: Iterable[Result], path: Path) -> None:
    """Draw how many times as long as we each peer takes, at most threads that have a target."""
    from matplotlib.figure import Figure

    last = list(chosen(results))
    figure = Figure(figsize=(9, 1 + 0.3 * len(last)), layout="constrained")
    axes = figure.add_subplot()
    for (peer, label), marker in zip(LIBRARIES.items(), "osx"):
        best = [(y, fastest(run).get(peer), run) for y, (_, run) in enumerate(last)]
        points = [(y, run["sides"][name]["ratio"]) for y, name, run in best if name]
        if points:
            errors = [[q[1] - q[0] for _, q in points], [q[2] - q[1] for _, q in points]]
            places = [q[1] for _, q in points], [y for y, _ in points]
            axes.errorbar(*places, xerr=errors, fmt=marker, label=label)
    axes.axvline(1, color="black", linewidth=0.8)
    axes.set(xscale="log", xlabel="time of the peer / time of fastrnn, median and quartiles")
    axes.xaxis.set_major_formatter("{x:g}")  # after the scale, which brings its own
    labels = [f"{case.name}, threads {run['threads']}" for case, run in last]
    axes.set_yticks(range(len(last)), labels, fontsize=8)
    axes.invert_yaxis()
    axes.grid(axis="x", which="both", alpha=0.3)
    axes.legend()
    save(figure, path)


def save(figure: Any, path: Path) -> None:
    """Write an image, the same bytes for the same figure."""
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, metadata={"Date": None} if path.suffix == ".svg" else None)


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the tables, or put them where documents are marked for them."""
    parser = argparse.ArgumentParser(prog="python -m bench.report", description=__doc__)
    add = parser.add_argument
    add("--results", type=Path, default=RESULTS, metavar="FOLDER")
    marks = "put tables between <!-- bench: NAME --> and <!-- bench: end -->; NAME is overview, "
    marks += "ratios, efficiency, neighbour or environment"
    add("--write", nargs="+", type=Path, default=[], metavar="DOCUMENT", help=marks)
    add("--plot", type=Path, metavar="IMAGE", help="such as docs/speed.png")
    args = parser.parse_args(arguments)
    results = load(args.results)
    if not results:
        parser.error(f"{args.results} holds no results; run python -m bench.compare")
    texts = tables(results)
    for path in args.write:
        rewrite(path, texts)
    if args.plot:
        plot(results, args.plot)
    if not args.write and not args.plot:
        print("\n\n".join([texts[name] for name in ("environment", "ratios", "efficiency")]))


if __name__ == "__main__":
    main()
