"""Shared parts of the examples: their command line and their reports."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

import fastrnn as fr


def arguments(
    description: str | None, epochs: int | dict[str, int], **options: Any
) -> argparse.Namespace:
    """Read the command line of an example.

    Parameters
    ----------
    description : str or None
        The example's docstring; its first paragraph is the help text. ``python -OO`` leaves it out.
    epochs : int or dict of str to int
        Default of ``--epochs``; with ``--quick`` 1. A dict has one for each choice of ``--set``.
    **options
        More options: ``name=default`` becomes ``--name``, of the default's type; a default of False
        makes a flag, a tuple makes choices of which the first is the default.

    Returns
    -------
    args : argparse.Namespace
        ``data`` (a folder or None), ``epochs``, ``seed``, ``quick``, ``output`` (a folder for what
        is written), ``json`` (a file or None), whose folders exist, and those of `options`.
    """
    parser = argparse.ArgumentParser(
        description=(description or "").partition("\n\n")[0],
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.add_argument("--data", help="folder that has the data; otherwise it is fetched")
    if isinstance(epochs, dict):
        parser.add_argument("--set", choices=epochs, default=next(iter(epochs)), help="data set")
        each = ", ".join(f"{number} for {name}" for name, number in epochs.items())
        parser.add_argument(
            "--epochs", type=int, help=f"default: {each}", default=argparse.SUPPRESS
        )
    else:
        parser.add_argument("--epochs", type=int, default=epochs, help="passes over the data")
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
    elif "epochs" not in args:
        args.epochs = epochs[args.set]
    # What is wrong is said now, not after the training.
    for name, least in (("epochs", 1), ("seed", 0)):
        if getattr(args, name) < least:
            parser.error(f"argument --{name}: must be at least {least}, got {getattr(args, name)}")
    for folder in (args.output, *([args.json.parent] if args.json else [])):
        folder.mkdir(parents=True, exist_ok=True)
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


def held_out(examples: int, test: int | None = None) -> tuple[np.ndarray, np.ndarray]:
    """Draw which of the examples test, a tenth of them unless told; the rest train, in order."""
    order = np.random.RandomState(0).permutation(examples)
    test = round(0.1 * examples) if test is None else test
    return np.sort(order[test:]), order[:test]


def classification_scores(truth: np.ndarray, predicted: np.ndarray) -> dict[str, float]:
    """Return the accuracy and the macro-F1, which is the mean F1 of the classes that occur."""
    hits = [np.sum((truth == k) & (predicted == k)) for k in np.union1d(truth, predicted)]
    sizes = [np.sum(truth == k) + np.sum(predicted == k) for k in np.union1d(truth, predicted)]
    return {
        "accuracy": float((truth == predicted).mean()),
        "macro_f1": float(np.mean(2 * np.array(hits) / sizes)),
    }


def pyplot(path: Path) -> Any:
    """Return Matplotlib's pyplot, or None and say so where it is not installed."""
    try:
        import matplotlib.pyplot
    except ImportError:
        print(f'no {path.name}: Matplotlib is not installed (pip install "fastrnn[examples]")')
        return None
    return matplotlib.pyplot


def picture(path: Path, draw: Callable[[Any], None], **options: Any) -> None:
    """Save what `draw` makes of Matplotlib's axes, where Matplotlib is installed.

    Parameters
    ----------
    path : Path
    draw : callable
        Given what ``matplotlib.pyplot.subplots(**options)`` returns as axes.
    **options
        ``nrows``, ``figsize`` and others.
    """
    plt = pyplot(path)
    if plt is None:
        return
    figure, axes = plt.subplots(layout="constrained", **options)
    draw(axes)
    figure.savefig(path, dpi=150)
    plt.close(figure)
    print(f"wrote {path}")


class Pairs(NamedTuple):
    """Sentences, and what is to be written for them with an end mark, as ids and in words."""

    source: fr.data.Vocabulary
    target: fr.data.Vocabulary
    train: tuple[list[np.ndarray], list[np.ndarray]]
    test: tuple[list[np.ndarray], list[np.ndarray]]
    test_words: dict[tuple[str, ...], list[list[str]]]  # a sentence, and all that is right for it

    def read(self, words: Sequence[str]) -> np.ndarray:
        """Return the ids of a sentence; without words it is an end mark."""
        return self.source.encode(words, eos=not words)


def split_pairs(
    pairs: list[tuple[str, str]],
    tokens: fr.data.RegexTokenizer,
    min_count: int = 1,
    repeated: bool = True,
) -> Pairs:
    """Cut pairs of sentences into tokens, and let a tenth of the different first ones test.

    Tokens that the training pairs have less often than `min_count` times are unknown; without
    `repeated`, pairs of the same tokens count once.
    """
    cut = [(tuple(tokens(a)), tuple(tokens(b))) for a, b in pairs]
    answers: dict[tuple[str, ...], list[tuple[str, ...]]] = {}
    for first, second in cut if repeated else dict.fromkeys(cut):
        answers.setdefault(first, []).append(second)
    sentences = list(answers)
    parts = [
        [(sentences[k], answer) for k in part for answer in answers[sentences[k]]]
        for part in held_out(len(sentences))
    ]
    source, target = (
        fr.data.Vocabulary((word for row in side for word in row), min_count=min_count)
        for side in zip(*parts[0])
    )
    words = {a: [list(b) for b in answers[a]] for a, _ in parts[1]}
    data = Pairs(source, target, ([], []), ([], []), words)
    for part, (inputs, targets) in zip(parts, (data.train, data.test)):
        inputs += [data.read(first) for first, _ in part]
        targets += [target.encode(second, eos=True) for _, second in part]
    return data


def predicted_scores(model: Any, batches: fr.data.Batches, unk: int) -> dict[str, float]:
    """Return how well each target is predicted from the true ones before it.

    Returns
    -------
    scores : dict
        ``token_accuracy``, the share of targets with the highest score, where an unknown one,
        `unk`, counts as missed; ``perplexity`` of a target.
    """
    hits = total = 0
    for inputs, targets in batches:
        hit = model(inputs, targets).argmax(axis=2) == targets.values
        hits += (hit & targets.mask & (targets.values != unk)).sum()
        total += targets.lengths.sum()
    perplexity = fr.losses.perplexity(fr.training.evaluate(model, batches))
    return {"token_accuracy": float(hits / total), "perplexity": perplexity}


def written_scores(
    written: list[list[str]], references: list[list[list[str]]], name: str = ""
) -> dict[str, float]:
    """Return how well sequences of tokens were written, against one reference or more each.

    Returns
    -------
    scores : dict
        ``exact``, the share that is one of its references, and ``bleu`` (0 to 100) where sacrebleu
        is installed; `name` stands before both.
    """
    exact = np.mean([tokens in own for tokens, own in zip(written, references)])
    scores = {f"{name}exact": float(exact)}
    try:
        import sacrebleu
    except ImportError:
        if not name:  # said once
            print('no BLEU: sacrebleu is not installed (pip install "fastrnn[examples]")')
        return scores
    most = max(map(len, references))
    streams = [
        [" ".join(own[k]) if k < len(own) else None for own in references] for k in range(most)
    ]
    hypotheses = [" ".join(tokens) for tokens in written]
    found = sacrebleu.corpus_bleu(hypotheses, streams, tokenize="none", force=True)
    return {**scores, f"{name}bleu": found.score}


def error_rates(predicted: Sequence[Sequence[Any]], truth: Sequence[Sequence[Any]]) -> list[float]:
    """Return how many edits turn the predicted sequences into the true ones, and how many differ.

    Returns
    -------
    symbol_error : float
        Insertions, deletions and substitutions for each symbol of the true sequences.
    sequence_error : float
        Share of the sequences with an edit.
    """
    edits = np.array([edit_distance(*pair) for pair in zip(predicted, truth, strict=True)])
    return [float(edits.sum() / sum(map(len, truth))), float((edits > 0).mean())]


def edit_distance(a: Sequence[Any], b: Sequence[Any]) -> int:
    """Return the least number of insertions, deletions and substitutions that make `b` of `a`.

    Source: Wagner and Fischer, "The string-to-string correction problem" (1974).
    """
    row = list(range(len(b) + 1))  # from what was read of a to each beginning of b
    for i, symbol in enumerate(a):
        above, row = row, [i + 1]
        for j, other in enumerate(b):
            row.append(min(above[j] + (symbol != other), above[j + 1] + 1, row[j] + 1))
    return row[-1]
