"""What the examples share: their command line, and how they report."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import fastrnn as fr


def arguments(description: str, epochs: int, **options: Any) -> argparse.Namespace:
    """Read the command line of an example.

    Parameters
    ----------
    description : str
        The example's docstring; its first paragraph is the help text.
    epochs : int
        Default of ``--epochs``; with ``--quick`` 1.
    **options
        More options: ``name=default`` becomes ``--name``, of the default's type; a default of False
        makes a flag, a tuple makes choices of which the first is the default.

    Returns
    -------
    args : argparse.Namespace
        ``data`` (a folder or None), ``epochs``, ``seed``, ``quick``, ``output`` (a folder for what
        is written, which exists), ``json`` (a file or None) and those of `options`.
    """
    parser = argparse.ArgumentParser(
        description=description.partition("\n\n")[0],
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.add_argument("--data", help="folder that has the data; otherwise it is fetched")
    parser.add_argument("--epochs", type=int, default=epochs)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--output", type=Path, default=Path(), help="folder for what is written")
    parser.add_argument("--json", type=Path, help="file to write the scores to")
    parser.add_argument("--quick", action="store_true", help="an epoch on a few made-up examples")
    for name, default in options.items():
        if default is False:
            parser.add_argument(f"--{name}", action="store_true")
        elif isinstance(default, tuple):
            parser.add_argument(f"--{name}", choices=default, default=default[0])
        else:
            parser.add_argument(f"--{name}", type=type(default), default=default)
    args = parser.parse_args()
    if args.quick:
        args.epochs = 1
    args.output.mkdir(parents=True, exist_ok=True)
    return args


def report(args: argparse.Namespace, trainer: fr.Trainer, **scores: float) -> None:
    """Print the scores and the time of training; write them where ``--json`` says."""
    shown = ", ".join(f"{name.replace('_', ' ')} {value:.4g}" for name, value in scores.items())
    print(f"{shown} after {trainer.epoch} epochs, {trainer.seconds:.1f} s of training")
    if args.json:
        result = {
            "seed": args.seed,
            "epochs": trainer.epoch,
            "seconds": trainer.seconds,
            "processor_seconds": trainer.processor_seconds,
            "threads": fr.get_num_threads(),
            **scores,
        }
        args.json.write_text(json.dumps(result) + "\n", encoding="utf-8")
