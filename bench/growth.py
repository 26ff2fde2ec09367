"""Growth of time with T, B, H, V and threads, and of memory with T: ``python -m bench.growth``.

Writes ``results/growth.json`` and draws ``docs/growth.svg``; ``--draw`` draws again from the file.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import fastrnn as fr

from . import compare, processes, report
from .cases import Case

PEERS = ("torch",)
LAYER = Case("fwd+bwd LSTM 256, B32 T100", "fwdbwd", "lstm", 256, batch=32, steps=100)
MODEL = Case(
    "training step LSTM 2x200, E200, B20 T20", "train-step", "lstm", 200, 2,
    batch=20, steps=20, vocabulary=1000, embedding=200,
)  # fmt: skip
MEMORY = replace(LAYER, name="peak extra memory of fwd+bwd LSTM 256, B32", kind="memory")

# Title of the axis, case, field that grows, its values.
SWEEPS = (
    ("steps T", LAYER, "steps", (6, 12, 25, 50, 100, 200, 400)),
    ("batch B", LAYER, "batch", (1, 2, 4, 8, 16, 32, 64, 128)),
    ("hidden units H", LAYER, "hidden", (16, 32, 64, 128, 256, 512, 1024)),
    ("vocabulary V", MODEL, "vocabulary", (100, 300, 1000, 3000, 10000, 30000)),
    ("threads", LAYER, "threads", ()),
    ("steps T", MEMORY, "steps", (50, 100, 200, 400, 800)),
)


def measure(rounds: int, seconds: float, longest: int | None) -> list[dict[str, Any]]:
    """Return for each sweep its title, axis, unit, and each side's quartiles at each value."""
    most = fr.get_num_threads()
    panels = []
    for axis, case, field, values in SWEEPS:
        panel: dict[str, Any] = {"title": case.name, "axis": axis, "values": [], "sides": {}}
        for value in (values or range(1, most + 1))[:longest]:
            threads = value if field == "threads" else most
            sized = case if field == "threads" else replace(case, **{field: value})
            effort = {"rounds": rounds, "seconds": seconds}
            run = processes.alone(compare.measure, sized, threads, PEERS, **effort)
            ours = report.spread(run["sides"]["fastrnn"]["value"], run["unit"])
            print(f"{case.name}, {axis} = {value}: {ours}", flush=True)
            panel["unit"] = run["unit"]
            panel["values"].append(value)
            for name, side in run["sides"].items():
                if name != report.ONE_THREAD:  # missing in runs on one
                    panel["sides"].setdefault(name, []).append(side["value"])
        panels.append(panel)
    return panels


def draw(panels: Sequence[dict[str, Any]], path: Path) -> None:
    """Draw a panel for each sweep: medians, and the quartiles as bands."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(12, 7), layout="constrained")
    for axes, panel in zip(figure.subplots(2, 3).flat, panels):
        scale, unit = (1e3, "time in ms") if panel["unit"] == "s" else (1e-6, "memory in MB")
        for name, quartiles in panel["sides"].items():
            low, median, high = [[scale * value for value in q] for q in zip(*quartiles)]
            label = name.replace("torch", report.LIBRARIES["torch"])
            axes.plot(panel["values"], median, marker="o", markersize=3, label=label)
            axes.fill_between(panel["values"], low, high, alpha=0.2)
        axes.set_title(panel["title"], fontsize=9)
        axes.set(xlabel=panel["axis"], ylabel=unit, xscale="log", yscale="log")
        axes.set_xticks(panel["values"], [str(value) for value in panel["values"]], fontsize=7)
        axes.xaxis.minorticks_off()
        axes.grid(alpha=0.3)
        axes.legend(fontsize=8)
    report.save(figure, path)


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure the sweeps and draw them."""
    parser = argparse.ArgumentParser(prog="python -m bench.growth", description=__doc__)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--quick", action="store_true", help="two points a sweep; nothing written")
    parser.add_argument("--draw", action="store_true", help="only draw what was measured before")
    parser.add_argument("--image", type=Path, default=report.DOCS / "growth.svg")
    args = parser.parse_args(arguments)
    file = report.RESULTS / "growth.json"
    if args.quick:
        measure(rounds=1, seconds=0.01, longest=2)
        return
    if not args.draw:
        panels = measure(args.rounds, seconds=0.05, longest=None)
        content = {"environment": compare.environment(), "panels": panels}
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps(content, indent=1) + "\n")
    draw(json.loads(file.read_text())["panels"], args.image)


if __name__ == "__main__":
    main()
