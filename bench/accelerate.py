"""A PyTorch training script with one more line: ``python -m bench.accelerate``.

Scripts train as users of PyTorch do, once unchanged and once after ``accelerate(model)``, from the
same weights over the same batches. The two ways take turns, an epoch each; a ratio is the median of
the epochs' ratios. The losses of every step must agree. A third way, whose recurrent layer does
nothing, shows the time of everything else. Writes ``results/accelerate.json`` and fills the table
of ``docs/torch.md``; ``--write`` only fills the table, from the file.
"""

from __future__ import annotations

import argparse
import copy
import json
import time
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence, pad_packed_sequence

import fastrnn as fr

from . import compare, processes, report
from .peers import CLIP, use_threads

TOLERANCE = 1e-4  # of the losses, relative


class Tagger(nn.Module):
    """A bidirectional GRU over packed sentences, a label for each word."""

    words, width, units, labels = 10000, 100, 128, 17
    batch, longest, target = 32, 50, 5.0
    title = "tagger: GRU 128 both ways, packed, B32, lengths 1..50, E100, V10000"

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(self.words, self.width)
        self.recurrent = nn.GRU(self.width, self.units, bidirectional=True, batch_first=True)
        self.output = nn.Linear(2 * self.units, self.labels)

    def loss(self, batch: tuple[Tensor, ...]) -> Tensor:
        """Return the mean loss of a batch of ids, lengths and labels."""
        ids, lengths, targets = batch
        packed = pack_padded_sequence(
            self.embedding(ids), lengths, batch_first=True, enforce_sorted=False
        )
        hidden, _ = pad_packed_sequence(self.recurrent(packed)[0], batch_first=True)
        scores = self.output(hidden).flatten(0, 1)
        return functional.cross_entropy(scores, targets.flatten(), ignore_index=-1)

    def batches(self, count: int) -> list[tuple[Tensor, ...]]:
        """Return drawn batches."""
        drawn = []
        for _ in range(count):
            lengths = torch.randint(1, self.longest + 1, (self.batch,))
            shape = (self.batch, int(lengths.max()))
            targets = torch.randint(self.labels, shape)
            targets[torch.arange(shape[1]) >= lengths[:, None]] = -1
            drawn.append((torch.randint(self.words, shape), lengths, targets))
        return drawn


class SmallTagger(Tagger):
    """A tagger that leaves less to the matrix products."""

    words, width, units, batch = 2000, 64, 64, 8
    title = "tagger: GRU 64 both ways, packed, B8, lengths 1..50, E64, V2000"


class LanguageModel(nn.Module):
    """A GRU of two layers over characters."""

    symbols, units = 65, 128
    batch, steps, target = 50, 50, 2.0
    title = "language model: GRU 2x128, E128, V65, B50 T50"

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(self.symbols, self.units)
        self.recurrent = nn.GRU(self.units, self.units, 2)
        self.output = nn.Linear(self.units, self.symbols)

    def loss(self, batch: tuple[Tensor, ...]) -> Tensor:
        """Return the mean loss of a batch of ids and the ids that follow."""
        ids, targets = batch
        hidden, _ = self.recurrent(self.embedding(ids))
        return functional.cross_entropy(self.output(hidden).flatten(0, 1), targets.flatten())

    def batches(self, count: int) -> list[tuple[Tensor, ...]]:
        """Return drawn batches."""
        ids = torch.randint(self.symbols, (count, self.steps + 1, self.batch))
        return [(x[:-1], x[1:]) for x in ids]


class SmallLanguageModel(LanguageModel):
    """The same model with fewer rows in each product."""

    batch = 10
    title = "language model: GRU 2x128, E128, V65, B10 T50"


SCRIPTS = (Tagger, SmallTagger, LanguageModel, SmallLanguageModel)


class Remembered(torch.autograd.Function):
    """Outputs and gradients that are there already."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, output: Tensor, gradients: list[Tensor], *_: Tensor) -> Tensor:
        ctx.gradients = gradients
        return output.detach()

    @staticmethod
    def backward(ctx: Any, d_output: Tensor) -> tuple[Tensor | None, ...]:
        d_x, *d_weights = ctx.gradients
        return (d_x, None, None, *d_weights)


class Nothing(nn.GRU):
    """A layer that takes no time: of all that it should compute it returns one fixed value."""

    def forward(self, x: Any, hx: Any = None) -> tuple[Any, None]:
        rows = x.data if isinstance(x, PackedSequence) else x
        memory = self.__dict__.setdefault("memory", {})
        if rows.shape not in memory:
            width = self.hidden_size * (2 if self.bidirectional else 1)
            output = torch.full((*rows.shape[:-1], width), 1e-2)
            gradients = [torch.full_like(t, 1e-4) for t in (rows, *self.parameters())]
            memory[rows.shape] = output, gradients
        output = Remembered.apply(rows, *memory[rows.shape], *self.parameters())
        return output if rows is x else PackedSequence(output, *x[1:]), None


def train(model: Any, optimizer: torch.optim.Optimizer, batches: list[Any]) -> list[float]:
    """Train for one epoch; return the losses of its steps."""
    losses = []
    for batch in batches:
        optimizer.zero_grad()
        loss = model.loss(batch)
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), CLIP)
        optimizer.step()
        losses.append(loss.item())
    return losses


def measure(script: Any, threads: int, epochs: int, steps: int) -> dict[str, Any]:
    """Train all ways in turns, after an epoch that warms up; return times and losses.

    Raises
    ------
    AssertionError
        If a step's losses differ by more than `TOLERANCE`.
    """
    torch.manual_seed(0)
    original = script()
    accelerated = fr.interop.torch.accelerate(copy.deepcopy(original))
    rest = copy.deepcopy(original)
    rest.recurrent.__class__ = Nothing
    models = {"PyTorch": original, "accelerate": accelerated, "no layer": rest}
    sides = [(n, m, torch.optim.Adam(m.parameters(), lr=1e-3)) for n, m in models.items()]
    seconds: dict[str, list[float]] = {name: [] for name in models}
    losses: dict[str, list[float]] = {name: [] for name in models}
    batches = original.batches(steps)
    with use_threads(threads):
        for _ in range(1 + epochs):
            for name, model, optimizer in sides:
                time.sleep(compare.SETTLE_SECONDS)
                start = time.perf_counter()
                losses[name] += train(model, optimizer, batches)
                seconds[name].append(time.perf_counter() - start)
    difference = np.max(np.abs(np.divide(losses["accelerate"], losses["PyTorch"]) - 1))
    if not difference <= TOLERANCE:
        raise AssertionError(f"{script.title}: losses differ by {difference:.1e}")
    times = {name: np.array(values[1:]) for name, values in seconds.items()}
    ratios = times["PyTorch"] / times["accelerate"]
    return {
        "script": script.title,
        "target": script.target,
        "threads": threads,
        "epochs": epochs,
        "steps": steps,
        "seconds": {name: compare.quartiles(values) for name, values in times.items()},
        "ratio": compare.quartiles(ratios),
        "most": float(np.median(times["PyTorch"] / times["no layer"])),
        "losses": [losses["PyTorch"][0], losses["PyTorch"][-1]],
        "difference": float(difference),
    }


def table(rows: Sequence[dict[str, Any]]) -> Iterator[report.Row]:
    """Yield the rows of the table, heading first."""
    yield (
        *("script", "threads", "PyTorch, an epoch", "accelerate", "ratio", "target"),
        *("with a layer that takes no time", "losses within"),
    )
    for row in rows:
        low, median, high = row["ratio"]
        verdict = "reached" if median >= row["target"] else "**not reached**"
        yield (
            row["script"],
            str(row["threads"]),
            *[report.spread(row["seconds"][name], "s") for name in ("PyTorch", "accelerate")],
            f"{median:.2f} ({low:.2f} to {high:.2f})",
            f"{row['target']:g}x: {verdict}",
            f"{row['most']:.1f}",
            f"{row['difference']:.0e}",
        )


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, and write the table."""
    parser = argparse.ArgumentParser(prog="python -m bench.accelerate", description=__doc__)
    parser.add_argument("--threads", type=int, nargs="+", default=[fr.get_num_threads()])
    parser.add_argument("--epochs", type=int, default=7, help="measured ones of each side")
    parser.add_argument("--steps", type=int, default=15, help="batches in an epoch")
    parser.add_argument("--quick", action="store_true", help="one short epoch; nothing written")
    parser.add_argument("--write", action="store_true", help="only write what was measured before")
    args = parser.parse_args(arguments)
    file = report.RESULTS / "accelerate.json"
    if args.quick:
        args.epochs, args.steps = 1, 2
    if not args.write:
        rows = []
        for script in SCRIPTS:
            for threads in args.threads:
                rows.append(processes.alone(measure, script, threads, args.epochs, args.steps))
                print(" | ".join(list(table(rows))[-1]), flush=True)
        if args.quick:
            return
        content = {"environment": compare.environment(), "rows": rows}
        file.write_text(json.dumps(content, indent=1) + "\n")
    content = json.loads(file.read_text())
    texts = {
        "accelerate": report.markdown(table(content["rows"])),
        "environment": report.describe(content["environment"]),
    }
    report.rewrite(report.DOCS / "torch.md", texts)


if __name__ == "__main__":
    main()
