"""The applications in ``examples/`` beside the same networks in PyTorch.

``python -m bench.applications sentiment`` builds the example, checks that both networks have the
same loss, gradients and first steps, and lets both train in turns on the same batches.
``--scores FOLDER`` trains the example to its score with seeds 0, 1 and 2, or reads the scores that
are in the folder. Both go to ``bench/results/applications/``, from where
``--write docs/applications.md`` makes the table.
"""

from __future__ import annotations

import argparse
import importlib
import itertools
import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

import fastrnn as fr
from fastrnn.training.fit import OPTIMIZERS

from . import compare, report
from .peers import use_threads

ROOT = Path(__file__).resolve().parents[1]
EXAMPLES = ROOT / "examples"
RESULTS = report.RESULTS / "applications"
CHECKED_STEPS = 3
TOLERANCE = 1e-9  # of float64, relative


class Application(NamedTuple):
    """An example with the options of a row.

    Attributes
    ----------
    title : str
    example : str
        Module in ``examples/``.
    epochs : int
    scores : dict of str to (str, float)
        For each score of the example's report: which is better, "higher" or "lower", and the one
        of the same network in PyTorch, the mean of its runs.
    options : dict of str to str
        Of the example's command line.
    """

    title: str
    example: str
    epochs: int
    scores: dict[str, tuple[str, float]]
    options: dict[str, str] = {}

    @property
    def command(self) -> str:
        """The command that trains the example to its score."""
        options = "".join(f" --{name} {value}" for name, value in self.options.items())
        return f"python examples/{self.example}.py{options}"


def _accuracy(value: float, **more: float) -> dict[str, tuple[str, float]]:
    return {n: ("higher", v) for n, v in {"accuracy": value, **more}.items()}


# fmt: off
APPLICATIONS = {
    "shakespeare": Application("characters of Shakespeare", "characters", 5,
                               {"bits_per_character": ("lower", 2.521)}, {"text": "shakespeare"}),
    "names": Application("characters of names", "characters", 10,
                         {"nats_per_character": ("lower", 1.958)}, {"text": "names"}),
    "words": Application("words of Wikipedia", "words", 6, {"perplexity": ("lower", 133.9)}),
    "sentiment": Application("sentiment of film reviews", "sentiment", 5, _accuracy(0.755),
                             {"set": "rt-polarity"}),
    "reviews": Application("sentiment of short reviews", "sentiment", 10, _accuracy(0.822),
                           {"set": "uci-sentences"}),
    "surnames": Application("languages of surnames", "names_by_language", 8,
                            _accuracy(0.828, macro_f1=0.440)),
    "translation": Application("translation", "translation", 20,
                               {"bleu": ("higher", 23.6), "token_accuracy": ("higher", 0.653)}),
    "conversation": Application("conversation", "conversation", 10,
                                {"perplexity": ("lower", 41.4)}),
    "captions": Application("captions of emoji", "captions", 40,
                            {"exact": ("higher", 0.361), "bleu": ("higher", 72.9)}),
    "music": Application("music of Bach", "music", 50, {"nats_per_note": ("lower", 2.386)}),
    "qa1": Application("questions, one fact", "question_answering", 40, _accuracy(1.0),
                       {"task": "qa1"}),
    "qa6": Application("questions, yes or no", "question_answering", 40, _accuracy(0.912),
                       {"task": "qa6"}),
    "qa15": Application("questions, deduction", "question_answering", 40, _accuracy(0.666),
                        {"task": "qa15"}),
    "gestures": Application("phases of gestures in video", "gestures", 30,
                            _accuracy(0.603, macro_f1=0.567)),
    "vowels": Application("speakers of vowels", "sequence_labels", 40, _accuracy(0.973),
                          {"set": "japanese-vowels"}),
    "finger": Application("gestures of a finger", "sequence_labels", 10, _accuracy(0.969),
                          {"set": "finger-tracks"}),
    "sunspots": Application("sunspots", "time_series", 200, {"GRU_RMSE": ("lower", 18.76)},
                            {"set": "sunspots"}),
    "airline": Application("airline passengers", "time_series", 300, {"GRU_RMSE": ("lower", 23.48)},
                           {"set": "airline"}),
}
# fmt: on

Step = Callable[[Any], float]  # from a batch to its loss


def build(application: Application, quick: bool = False) -> tuple[Any, Any, dict[str, Any]]:
    """Return an example's model, batches and settings of ``fr.fit``."""
    if str(EXAMPLES) not in sys.path:
        sys.path.insert(0, str(EXAMPLES))  # where they find each other
    example = importlib.import_module(application.example)
    args = argparse.Namespace(
        data=None, epochs=application.epochs, seed=0, quick=quick, **application.options
    )
    return example.build(args, example.load(args))


def fastrnn_step(model: fr.models.Model, settings: dict[str, Any]) -> Step:
    """Return a step of training, as ``fr.fit`` makes it."""
    make = OPTIMIZERS[settings.get("optimizer", "adam")]
    optimizer = make(
        model.parameters, settings.get("learning_rate", 1e-3), schedule=settings.get("schedule")
    )
    clip = settings.get("clip") or np.finfo(np.float64).max
    state = None

    def step(batch: Any) -> float:
        nonlocal state
        model.zero_gradients()
        loss, state, pullback = model.loss_vjp(*batch, state)
        pullback()
        fr.optim.clip_gradient_norm(model.parameters, clip)
        optimizer.step()
        return loss

    return step


def torch_step(module: Any, settings: dict[str, Any]) -> Step:
    """Return a step of training of a twin, as users of PyTorch make it; its fused Adam is used."""
    import torch

    if settings.get("optimizer", "adam") != "adam":
        raise ValueError(f"optimizer must be 'adam' here, got {settings['optimizer']!r}")
    rate = settings.get("learning_rate", 1e-3)
    optimizer = torch.optim.Adam(module.parameters(), rate, fused=True)
    schedule = settings.get("schedule")
    scheduler = schedule and torch.optim.lr_scheduler.LambdaLR(optimizer, schedule)
    clip, state = settings.get("clip"), None

    def step(batch: Any) -> float:
        nonlocal state
        optimizer.zero_grad()
        loss, state = module(*batch, state)
        loss.backward()
        if clip is not None:
            torch.nn.utils.clip_grad_norm_(module.parameters(), clip)
        optimizer.step()
        if scheduler:
            scheduler.step()
        return loss.item()

    return step


def check(model: fr.models.Model, batches: Sequence[Any], settings: dict[str, Any]) -> float:
    """Train a float64 copy of a model without dropout beside its twin for some steps.

    Returns
    -------
    error : float
        Largest difference of a loss, relative to it, or of a gradient, relative to the largest.

    Raises
    ------
    AssertionError
        If it is above `TOLERANCE`.
    """
    from .twins import twin

    random = {name: 0.0 for name in model.config if "dropout" in name or name.endswith("sampling")}
    plain = type(model)(**{**model.config, **random, "dtype": "float64"})
    plain.load_state_dict(model.state_dict())
    module = twin(plain)
    ours, theirs = fastrnn_step(plain, settings), torch_step(module, settings)
    errors = []
    for make in itertools.islice(_drawn(batches), CHECKED_STEPS):
        batch = make()
        expected = theirs(batch)
        errors.append(abs(ours(batch) / expected - 1))
        largest = np.abs(plain.parameters.flat_gradients).max()
        for name, value in module.named_parameters():
            difference = value.grad.numpy().reshape(plain.gradients[name].shape)
            errors.append(float(np.abs(difference - plain.gradients[name]).max() / largest))
    if not max(errors) <= TOLERANCE:
        raise AssertionError(f"PyTorch's loss or gradients are {max(errors):.1e} from ours")
    return max(errors)


def measure(
    application: Application, *, rounds: int = 15, seconds: float = 1.0, threads: int = 1
) -> dict[str, Any]:
    """Let both sides train in turns on the same batches, after a check that they agree.

    Parameters
    ----------
    application : Application
    rounds : int
        Turns of each side.
    seconds : float
        Length of a turn of PyTorch's, at least one step.
    threads : int
        For both.

    Returns
    -------
    timing : dict
        ``threads``, ``rounds``, ``steps`` of each turn, ``steps_per_epoch``, ``error`` as `check`
        returns it; ``fastrnn`` and ``torch``, seconds of an epoch, as quartiles over the turns;
        ``ratio``, quartiles of PyTorch's over ours.
    """
    from .twins import twin

    model, batches, settings = build(application)
    with use_threads(threads):
        error = check(model, batches, settings)
        module = twin(model).train()
        sides = {
            "fastrnn": fastrnn_step(model, settings),
            "torch": torch_step(module, settings),
        }
        drawn = _drawn(batches)
        warm_up = list(itertools.islice(drawn, 3))
        one = {name: min(_time(step, [make]) for make in warm_up) for name, step in sides.items()}
        steps = max(1, round(seconds / one["torch"]))
        taken: dict[str, list[float]] = {name: [] for name in sides}
        for turn in range(rounds):
            chunk = list(itertools.islice(drawn, steps))
            for name in sorted(sides, reverse=bool(turn % 2)):
                taken[name].append(_time(sides[name], chunk))
    ratio = np.divide(taken["torch"], taken["fastrnn"])
    per_epoch = len(batches) / steps
    return {
        "threads": threads,
        "rounds": rounds,
        "steps": steps,
        "steps_per_epoch": len(batches),
        "error": error,
        **{
            name: compare.quartiles(np.multiply(values, per_epoch))
            for name, values in taken.items()
        },
        "ratio": compare.quartiles(ratio),
    }


def _drawn(batches: Sequence[Any]) -> Iterator[Callable[[], Any]]:
    """Yield what makes each batch of each epoch, without end."""
    for number in itertools.count():
        epoch = batches.epoch(number) if hasattr(batches, "epoch") else batches
        yield from (partial(epoch.__getitem__, k) for k in range(len(epoch)))


def _time(step: Step, chunk: Iterable[Callable[[], Any]]) -> float:
    """Return the seconds of the steps over some batches, which are made meanwhile."""
    start = time.perf_counter()
    for make in chunk:
        step(make())
    return time.perf_counter() - start


def score(name: str, seeds: Iterable[int], folder: Path) -> dict[str, list[float]]:
    """Return an example's scores by seed, from the folder where it has been run before.

    Parameters
    ----------
    name : str
        Of `APPLICATIONS`.
    seeds : iterable of int
    folder : Path
        Of the files ``<name>-<seed>.json``, and of what the example writes.
    """
    application = APPLICATIONS[name]
    found: dict[str, list[float]] = {key: [] for key in application.scores}
    for seed in seeds:
        path = folder / f"{name}-{seed}.json"
        if not path.exists():
            _, *script = application.command.split()
            more = ["--seed", str(seed), "--json", str(path), "--output", str(folder)]
            done = [sys.executable, *script, *more]
            subprocess.run(done, cwd=ROOT, check=True, stdout=subprocess.DEVNULL)
        result = json.loads(path.read_text())
        for key, values in found.items():
            values.append(result[key])
    return found


def rows(folder: Path) -> Iterator[report.Row]:
    """Yield the rows of the table, heading first."""
    yield "application", "score", "fastrnn", "PyTorch", "an epoch", "PyTorch's", "ratio", "command"
    for name, application in APPLICATIONS.items():
        path = folder / f"{name}.json"
        result = json.loads(path.read_text()) if path.exists() else {}
        timing = result.get("timing")
        seconds = ["", "", ""]
        if timing:
            low, ratio, high = [f"{value:.3g}" for value in timing["ratio"]]
            seconds = [report.spread(timing[side], "s") for side in ("fastrnn", "torch")]
            seconds.append(f"{ratio} ({low} to {high})")
        directions, theirs = zip(*application.scores.values())
        wanted = f"{', '.join(application.scores).replace('_', ' ')}: {directions[0]} is better"
        ours = [_spread(values) for values in result.get("scores", {}).values()]
        scores = ["; ".join(ours), "; ".join(f"{value:.4g}" for value in theirs)]
        if result:
            yield application.title, wanted, *scores, *seconds, f"`{application.command}`"


def _spread(values: Sequence[float]) -> str:
    return f"{np.mean(values):.4g} ({min(values):.4g} to {max(values):.4g})"


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, write ``results/applications/<name>.json``, and the table."""
    parser = argparse.ArgumentParser(
        prog="python -m bench.applications", description=(__doc__ or "").partition("\n\n")[0]
    )
    add = parser.add_argument
    add("names", nargs="*", metavar="NAME", help=", ".join(APPLICATIONS))
    add("--threads", type=int, default=1, metavar="N")
    add("--rounds", type=int, default=15, metavar="N", help="0 measures no time")
    add("--seconds", type=float, default=1.0, help="of a turn of PyTorch's")
    add("--scores", type=Path, metavar="FOLDER", help="train to the score, or take what is there")
    add("--seeds", type=int, nargs="+", default=[0, 1, 2])
    add("--results", type=Path, default=RESULTS, metavar="FOLDER")
    add("--write", type=Path, metavar="DOCUMENT", help="put the table in its marked place")
    args = parser.parse_args(arguments)
    for name in args.names:
        if name not in APPLICATIONS:
            parser.error(f"NAME must be one of {', '.join(APPLICATIONS)}, got {name}")
        path = args.results / f"{name}.json"
        result = json.loads(path.read_text()) if path.exists() else {}
        if args.rounds:
            effort = {"rounds": args.rounds, "seconds": args.seconds, "threads": args.threads}
            result["environment"] = compare.environment()
            result["timing"] = timing = measure(APPLICATIONS[name], **effort)
            shown = [report.spread(timing[side], "s") for side in ("fastrnn", "torch")]
            print(f"{name}: {shown[0]} an epoch, PyTorch {shown[1]}, {timing['ratio'][1]:.2f}x")
        if args.scores:
            result["scores"] = score(name, args.seeds, args.scores.resolve())
            print(f"{name}: {result['scores']}")
        args.results.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(result, indent=1) + "\n")
    if args.write:
        report.rewrite(args.write, {"applications": report.markdown(rows(args.results))})


if __name__ == "__main__":
    main()
