"""The cost of sequences of different lengths, against their sum: ``python -m bench.lengths``.

Each layer runs forward and backward over a batch that is padded to 100 steps. Writes
``results/lengths.json``, draws ``docs/lengths.svg`` and fills the table of ``docs/lengths.md``;
``--draw`` does the last two from the file.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

import fastrnn as fr

from . import compare, processes, report
from .cases import Case
from .peers import Problem

TARGET = 5  # times as long PyTorch's packed path takes
CASES = tuple(
    Case(f"{cell.upper()} 256, B32", "lengths", cell, 256, batch=32, steps=100)
    for cell in ("lstm", "gru")
)
LONGEST = (100, 10, 25, 50, 75)  # the first is that of the table
LABELS = {
    "fastrnn": "fastrnn",
    "fastrnn accelerate": "torch.nn after accelerate",
    "torch packed": "PyTorch, packed",
    "torch padded": "PyTorch, padded: no lengths",
}


def measure(rounds: int, seconds: float, count: int | None) -> list[dict[str, Any]]:
    """Return for each layer, at each range of lengths, their sum and each side's quartiles."""
    rows = []
    for case in CASES:
        for longest in LONGEST[:count]:
            drawn = replace(case, longest=longest)
            threads, effort = fr.get_num_threads(), {"rounds": rounds, "seconds": seconds}
            run = processes.alone(compare.measure, drawn, threads, ("torch",), **effort)
            steps = int(np.sum(Problem(drawn).lengths))
            rows.append({"case": case.name, "longest": longest, "sum": steps, **run})
            ours = report.spread(run["sides"]["fastrnn"]["value"], "s")
            print(f"{case.name}, lengths 1..{longest}, sum {steps}: {ours}", flush=True)
    return rows


def table(rows: Sequence[dict[str, Any]]) -> Iterator[report.Row]:
    """Yield the rows of the table, heading first."""
    yield "layer", "threads", "way", "time", "times as long as fastrnn", "target"
    for row in rows:
        if row["longest"] != LONGEST[0]:
            continue
        for name, side in row["sides"].items():
            ratio, wanted = "", ""
            if "ratio" in side:
                low, median, high = side["ratio"]
                ratio = f"{median:.2f} ({low:.2f} to {high:.2f})"
                if name == "torch packed":
                    verdict = "reached" if median >= TARGET else "**not reached**"
                    wanted = f"{TARGET}x: {verdict}"
            time = report.spread(side["value"], "s")
            yield row["case"], str(row["threads"]), LABELS.get(name, name), time, ratio, wanted


def draw(rows: Sequence[dict[str, Any]], path: Path) -> None:
    """Draw time against the sum of the lengths, a panel for each layer."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 4), layout="constrained")
    for axes, case in zip(figure.subplots(1, len(CASES), sharey=True), CASES):
        points = [row for row in rows if row["case"] == case.name]
        points.sort(key=lambda row: row["sum"])
        sums = [row["sum"] for row in points]
        for name, label in LABELS.items():
            quartiles = [[1e3 * v for v in row["sides"][name]["value"]] for row in points]
            low, median, high = zip(*quartiles)
            axes.plot(sums, median, marker="o", markersize=4, label=label)
            axes.fill_between(sums, low, high, alpha=0.2)
        axes.set_title(f"{case.name}, padded to T = {case.steps}, forward and backward", fontsize=9)
        axes.set(xlabel="sum of the lengths in steps", xlim=(0, None), ylim=(0, None))
        axes.grid(alpha=0.3)
        axes.legend(fontsize=8)
    figure.axes[0].set_ylabel("time in ms, median and quartiles")
    report.save(figure, path)


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, draw, and write the table."""
    parser = argparse.ArgumentParser(prog="python -m bench.lengths", description=__doc__)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--quick", action="store_true", help="one point a layer; nothing written")
    parser.add_argument("--draw", action="store_true", help="only draw what was measured before")
    args = parser.parse_args(arguments)
    file = report.RESULTS / "lengths.json"
    if args.quick:
        print(report.markdown(table(measure(rounds=1, seconds=0.01, count=1))))
        return
    if not args.draw:
        rows = measure(args.rounds, seconds=0.05, count=None)
        content = {"environment": compare.environment(), "rows": rows}
        file.write_text(json.dumps(content, indent=1) + "\n")
    content = json.loads(file.read_text())
    draw(content["rows"], report.DOCS / "lengths.svg")
    texts = {
        "lengths": report.markdown(table(content["rows"])),
        "environment": report.describe(content["environment"]),
    }
    report.rewrite(report.DOCS / "lengths.md", texts)


if __name__ == "__main__":
    main()
