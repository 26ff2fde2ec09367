"""The applications in ``examples/``, compared with the same networks in PyTorch.

``python -m bench.applications sentiment`` builds the example, checks that both networks have the
same loss, gradients and first steps, and lets both train in turns on the same batches.
``--scores FOLDER`` trains the example to its score with seeds 0, 1 and 2, or reads the scores that
are in the folder; with ``--sides torch`` its twin in PyTorch is trained. All results go to
``bench/results/applications/``, from which ``--write docs/applications.md`` makes the table.
"""

from __future__ import annotations

import argparse
import importlib
import itertools
import json
import runpy
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple
from unittest import mock

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
    scores : dict of str to (str, float or None)
        For each score of the example's report: which is better, "higher" or "lower", and that of a
        program in PyTorch of the same network, the mean of its runs, where there is one.
    options : dict of str to str
        Of the example's command line.
    """

    title: str
    example: str
    epochs: int
    scores: dict[str, tuple[str, float | None]]
    options: dict[str, str] = {}

    @property
    def command(self) -> str:
        """The command that trains the example to its score."""
        options = "".join(f" --{name} {value}" for name, value in self.options.items())
        return f"python examples/{self.example}.py{options}"


def _accuracy(value: float, **more: float) -> dict[str, tuple[str, float | None]]:
    return {n: ("higher", v) for n, v in {"accuracy": value, **more}.items()}


# fmt: off
APPLICATIONS = {
    "shakespeare": Application("characters of Shakespeare", "characters", 5,
                               {"bits_per_character": ("lower", 2.521)},
                               {"set": "tinyshakespeare"}),
    "names": Application("characters of names", "characters", 10,
                         {"nats_per_character": ("lower", 1.958)}, {"set": "names"}),
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
                            {"exact": ("higher", 0.361), "bleu": ("higher", 72.9)},
                            {"read": "whole"}),
    "attention": Application("captions of emoji, with attention", "captions", 40,
                             {"exact": ("higher", None), "bleu": ("higher", None)},
                             {"read": "parts"}),
    "speech": Application("spoken digits", "speech", 20, {"digit_error": ("lower", 0.0080),
                                                          "string_error": ("lower", 0.0317)}),
    "spelling": Application("spelling to sound", "spelling_to_sound", 8,
                            {"phoneme_error": ("lower", 0.0953), "word_error": ("lower", 0.402)}),
    "music": Application("music of Bach", "music", 50, {"nats_per_note": ("lower", 2.386)}),
    "digits": Application("images of digits", "digits", 30, {"nats_per_image": ("lower", None)}),
    "dance": Application("motion of people", "dance", 40, {"nats_per_frame": ("lower", None)}),
    "qa1": Application("questions, one fact", "question_answering", 40, _accuracy(1.0),
                       {"task": "qa1"}),
    "qa6": Application("questions, yes or no", "question_answering", 40, _accuracy(0.912),
                       {"task": "qa6"}),
    "qa15": Application("questions, deduction", "question_answering", 40, _accuracy(0.666),
                        {"task": "qa15"}),
    "gestures": Application("phases of gestures in video", "gestures", 60,
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

Step = Callable[[Any, Any], tuple[float, Any]]  # from a batch and a state to loss and state


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

    def step(batch: Any, state: Any) -> tuple[float, Any]:
        model.zero_gradients()
        loss, state, pullback = model.loss_vjp(*batch, state)
        pullback()
        fr.optim.clip_gradient_norm(model.parameters, clip)
        optimizer.step()
        return loss, state

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
    clip = settings.get("clip")

    def step(batch: Any, state: Any) -> tuple[float, Any]:
        optimizer.zero_grad()
        loss, state = module(*batch, state)
        loss.backward()
        if clip is not None:
            torch.nn.utils.clip_grad_norm_(module.parameters(), clip)
        optimizer.step()
        if scheduler:
            scheduler.step()
        return loss.item(), state

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
    errors: list[float] = []
    states: Any = (None, None)
    for make in itertools.islice(_drawn(batches), CHECKED_STEPS):
        batch = make()
        (loss, own), (expected, other) = ours(batch, states[0]), theirs(batch, states[1])
        states = own, other
        errors.append(abs(loss / expected - 1))
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
    epoch = len(batches.epoch(0) if hasattr(batches, "epoch") else batches)
    return {
        "threads": threads,
        "rounds": rounds,
        "steps": steps,
        "steps_per_epoch": epoch,
        "error": error,
        **{
            name: compare.quartiles(np.multiply(values, epoch / steps))
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
    state = None
    start = time.perf_counter()
    for make in chunk:
        _, state = step(make(), state)
    return time.perf_counter() - start


def fit_twin(model: fr.models.Model, batches: Any, epochs: int, **settings: Any) -> Any:
    """Train a model's twin as ``fr.fit`` trains the model, which gets the twin's parameters."""
    from .twins import twin

    module = twin(model).train()
    step, start = torch_step(module, settings), (time.perf_counter(), time.process_time())
    for number in range(epochs):
        epoch, state = batches.epoch(number) if hasattr(batches, "epoch") else batches, None
        for k in range(len(epoch)):
            _, state = step(epoch[k], state)
    model.load_state_dict(
        {
            name: value.detach().numpy().reshape(model.parameters[name].shape)
            for name, value in module.named_parameters()
        }
    )
    return argparse.Namespace(
        epoch=epochs,
        seconds=time.perf_counter() - start[0],
        processor_seconds=time.process_time() - start[1],
    )


def score(name: str, seed: int, folder: Path, side: str, threads: int = 1) -> dict[str, float]:
    """Return the scores of an example, which is run unless the folder has them.

    Parameters
    ----------
    name : str
        Of `APPLICATIONS`.
    seed : int
    folder : Path
        Of the file ``<name>-<side>-<seed>.json``, and of what the example writes.
    side : {"fastrnn", "torch"}
        What trains: the example as it is, or its twin from the same initial parameters. What is
        trained is scored by the example.
    threads : int
    """
    application = APPLICATIONS[name]
    path = folder / f"{name}-{side}-{seed}.json"
    if not path.exists():
        own = folder / f"{name}-{side}-{seed}"  # for pictures
        options = ["--seed", str(seed), "--json", str(path), "--output", str(own)]
        _, script, *more = application.command.split()
        with ExitStack() as stack:
            stack.enter_context(mock.patch.object(sys, "argv", [script, *more, *options]))
            stack.enter_context(mock.patch.object(sys, "path", [str(EXAMPLES), *sys.path]))
            if side == "torch":
                import torch

                torch.manual_seed(seed)
                stack.enter_context(mock.patch.object(fr, "fit", fit_twin))
                stack.enter_context(mock.patch.object(fr.training, "fit", fit_twin))
            stack.enter_context(use_threads(threads))
            runpy.run_path(str(ROOT / script), run_name="__main__")
    result = json.loads(path.read_text())
    return {key: result[key] for key in application.scores}


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
        better, known = zip(*application.scores.values())
        wanted = f"{', '.join(application.scores).replace('_', ' ')}: {better[0]} is better"
        found = [result.get("scores", {}).get(side, {}) for side in ("fastrnn", "torch")]
        scores = ["; ".join(map(_spread, each.values())) for each in found]
        if not scores[1]:
            scores[1] = "; ".join(f"{value:.4g}" for value in known if value is not None)
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
    sides = ["fastrnn", "torch"]
    add("--sides", nargs="+", choices=sides, default=sides[:1], help="what trains to the score")
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
            scores = result.setdefault("scores", {})
            for side in args.sides:
                folder = args.scores.resolve()
                each = [score(name, seed, folder, side, args.threads) for seed in args.seeds]
                scores[side] = {key: [row[key] for row in each] for key in each[0]}
                print(f"{name} by {side}: {scores[side]}")
        args.results.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(result, indent=1) + "\n")
    if args.write:
        report.rewrite(args.write, {"applications": report.markdown(rows(args.results))})


if __name__ == "__main__":
    main()
