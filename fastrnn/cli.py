"""The command ``fastrnn``: train a character language model, sample from it, score texts."""

from __future__ import annotations

import argparse
import math
import os
import shlex
import sys
from collections.abc import Sequence
from typing import Any

import numpy as np

from fastrnn._cli_parser import (
    CHECKPOINT_EVERY,
    SAMPLE_LENGTH,
    SAMPLE_TEMPERATURE,
    make_parser,
    report,
    say,
)
from fastrnn._cli_run import DEFAULTS, SCORING_STEPS, Run, RunFiles
from fastrnn._config import get_num_threads, show_config
from fastrnn.backends import active_backend
from fastrnn.data import CharVocabulary, Windows, python_documentation, read_text
from fastrnn.losses import bits_per_token, perplexity
from fastrnn.models import LanguageModel
from fastrnn.models.language_model import load_language_model
from fastrnn.training import callbacks as cb
from fastrnn.training.trainer import evaluate

EXIT_CLOSED, EXIT_ERROR, EXIT_INTERRUPTED = 1, 2, 130


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line.

    Parameters
    ----------
    argv : sequence of str or None
        Arguments without the program's name; None takes those of the process.

    Returns
    -------
    exit_code : int
        0; 2 after an error, reported as one line on standard error; 130 after Ctrl-C; 1 where
        standard output was closed, as by ``| head``.
    """
    try:
        for stream in (sys.stdout, sys.stderr):
            # A terminal that cannot show a character of the text gets an escape, not an exception.
            if hasattr(stream, "reconfigure"):
                stream.reconfigure(errors="backslashreplace")
        try:
            args = make_parser().parse_args(argv)
            # Scores that are not finite raise an error of ours; NumPy need not warn as well.
            with np.errstate(over="ignore", invalid="ignore"):
                return COMMANDS[args.command](args)
        finally:
            print(end="", flush=True)  # raises here, and not at exit, if the reader has left
    except KeyboardInterrupt:
        say("interrupted")
        return EXIT_INTERRUPTED
    except BrokenPipeError:
        # The reader, such as `head`, has left. Without this, Python would complain again at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return EXIT_CLOSED
    except MemoryError:
        report("not enough memory; take a smaller hidden size, batch size or sequence length")
    except OSError as error:
        report(f"{error.strerror}: {error.filename}" if error.filename else str(error))
    except (ValueError, OverflowError, FloatingPointError, ImportError) as error:
        report(str(error))
    return EXIT_ERROR


def _train(args: argparse.Namespace) -> int:
    files = RunFiles.beside(args.output)
    text = python_documentation() if args.file is None else read_text(args.file)
    _protect(args, files)
    given = {key: getattr(args, key) for key in DEFAULTS if getattr(args, key) is not None}
    run = Run(text, files, given, resume=args.resume)
    callbacks = [cb.HistoryFile(files.history), cb.EpochReport("char"), cb.ProgressBar("char")]
    if args.plot:
        callbacks.append(cb.LearningCurve(files.curve, "char"))
    if run.settings["patience"] is not None:
        callbacks.append(cb.EarlyStopping(run.settings["patience"]))
    if args.force:  # files left from another run would look like this one's
        for path in files[1:]:
            path.unlink(missing_ok=True)
    _introduce(run, text, args.resume)
    try:
        run.fit(callbacks, checkpoint_every=args.checkpoint_every)
    except KeyboardInterrupt:
        again = ["fastrnn", "train", *([args.file] if args.file else []), "--output", args.output]
        again += ["--plot"] if args.plot else []
        if args.checkpoint_every != CHECKPOINT_EVERY:
            again += ["--checkpoint-every", f"{args.checkpoint_every:g}"]
        say(f"interrupted; to go on: {shlex.join([*again, '--resume'])}")
        return EXIT_INTERRUPTED
    _conclude(run)
    return 0


def _protect(args: argparse.Namespace, files: RunFiles) -> None:
    """Refuse an output that would overwrite a file, or that cannot be a file; ValueError."""
    for path in files:
        if args.file is not None and path.exists() and path.samefile(args.file):
            raise ValueError(f"training would overwrite the text {path}; take another --output")
        if path.is_dir():
            raise ValueError(f"{path} is a folder; take another --output, such as {path / 'model'}")
    if args.force or (args.resume and files.last.exists()):
        return
    for path in files if args.plot else files[:-1]:
        if path.exists() or path.is_symlink():
            raise ValueError(
                f"{path} exists; continue its run with --resume, take another --output, or "
                "overwrite it with --force"
            )


def _introduce(run: Run, text: str, resumed: bool) -> None:
    settings, trainer = run.settings, run.trainer
    print(
        f"{len(text):,} characters, {len(run.vocabulary)} different; {settings['num_layers']} x "
        f"{settings['cell']} of {settings['hidden_size']}, "
        f"{sum(map(np.size, run.model.parameters.values())):,} parameters; "
        f"{len(run.windows):,} steps an epoch; "
        f"{active_backend().__name__.rpartition('.')[2]} backend, threads: {get_num_threads()}"
    )
    if trainer.step:
        print(f"going on after epoch {trainer.epoch}, step {trainer.position} of {run.files.last}")
    elif resumed:
        print(f"nothing was trained in {run.files.last} yet: starting")
    if trainer.epoch >= settings["epochs"]:
        print("all its epochs are done; a higher --epochs trains on")
    print(end="", flush=True)


def _conclude(run: Run) -> None:
    if run.trainer.stop_reason:
        print(f"stopped early: {run.trainer.stop_reason}")
    print(f"\n--- a sample at temperature {SAMPLE_TEMPERATURE} " + "-" * 40)
    _write_sample(
        run.model,
        run.vocabulary,
        _first_character(run.vocabulary),
        length=SAMPLE_LENGTH,
        temperature=SAMPLE_TEMPERATURE,
        seed=run.settings["seed"],
    )
    print("-" * 69)
    print(f"saved {run.files.last}")
    if run.validation:
        best = min(run.trainer.history, key=cb.score)
        bits = bits_per_token(best["validation_loss"])
        where = f": {run.files.best}" if run.files.best.exists() else ""  # may be moved
        print(f"best validation, {bits:.3f} bits/char in epoch {best['epoch']}{where}")
    print(f"more samples: {shlex.join(['fastrnn', 'sample', str(run.files.last)])}")


def _sample(args: argparse.Namespace) -> int:
    model, vocabulary = load_language_model(args.model)
    prompt = args.prompt or _first_character(vocabulary)
    try:
        vocabulary.encode(prompt)
    except ValueError as error:
        raise ValueError(f"the prompt has {error}; use characters of the model's text") from None
    if args.prompt:
        print(prompt, end="", flush=True)
    _write_sample(
        model,
        vocabulary,
        prompt,
        length=args.length,
        temperature=args.temperature,
        top_k=args.top_k,
        seed=args.seed,
    )
    return 0


def _write_sample(
    model: LanguageModel, vocabulary: CharVocabulary, prompt: str, **choices: Any
) -> None:
    for symbol in model.sample(vocabulary.encode(prompt), **choices):
        print(vocabulary.characters[symbol], end="", flush=True)
    print()


def _first_character(vocabulary: CharVocabulary) -> str:
    """Return the prompt of a sample without one: a new line, if the text has lines."""
    return "\n" if "\n" in vocabulary.characters else vocabulary.characters[0]


def _eval(args: argparse.Namespace) -> int:
    model, vocabulary = load_language_model(args.model)
    text = read_text(args.file)
    try:
        ids = vocabulary.encode(text)
    except ValueError as error:
        raise ValueError(f"{args.file} has {error}; the model cannot score it") from None
    nats = evaluate(model, Windows(ids, 1, SCORING_STEPS, keep_rest=True))
    if not math.isfinite(nats):
        raise ValueError(f"the scores of {args.model} are not finite; train it again")
    print(
        f"{bits_per_token(nats):.4f} bits/char ({nats:.4f} nats, perplexity "
        f"{perplexity(nats):.3f}) over {ids.size - 1:,} predictions"
    )
    return 0


def _config(args: argparse.Namespace) -> int:
    show_config()
    return 0


COMMANDS = {"train": _train, "sample": _sample, "eval": _eval, "config": _config}
