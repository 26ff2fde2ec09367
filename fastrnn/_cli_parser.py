"""The parser of the command ``fastrnn``: its arguments and their help."""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Callable
from typing import Any, NoReturn

from fastrnn._cli_run import DEFAULTS, OPTIMIZERS
from fastrnn._config import MAX_THREADS
from fastrnn._version import __version__
from fastrnn.models.encoder import CELLS

DEFAULT_OUTPUT = "fastrnn-model.safetensors"
SAMPLE_LENGTH, SAMPLE_TEMPERATURE = 500, 0.7
CHECKPOINT_EVERY = 30.0  # seconds


def report(message: str) -> None:
    """Write an error to standard error, in one line."""
    say(f"error: {' '.join(message.splitlines())}")


def say(message: str) -> None:
    """Write a line to standard error, if that is open."""
    if sys.stderr is not None:  # `print` would write to standard output
        print(f"fastrnn: {message}", file=sys.stderr)


def _text_file(name: str) -> str:
    return "/dev/stdin" if name == "-" else name


def _text(argument: str) -> str:
    """Return an argument, decoded as UTF-8 if the locale could not decode its bytes."""
    return argument.encode(errors="surrogateescape").decode(errors="surrogateescape")


class _Parser(argparse.ArgumentParser):
    """A parser whose errors are one line, without the usage."""

    def error(self, message: str) -> NoReturn:
        report(f"{message} (see {self.prog} --help)")
        raise SystemExit(2)


def _whole(lowest: int, highest: float = math.inf) -> Callable[[str], int]:
    """Return the argparse type of whole numbers from `lowest` to `highest`."""
    expected = f"at least {lowest}" if highest == math.inf else f"{lowest} to {highest}"

    def parse(text: str) -> int:
        try:
            number = int(text)
        except ValueError:
            number = lowest - 1
        if not lowest <= number <= highest:
            raise argparse.ArgumentTypeError(
                f"must be a whole number of {expected}, got {text[:40]!r}"
            )
        return number

    return parse


def _number(expected: str, accepts: Callable[[float], bool]) -> Callable[[str], float]:
    """Return the argparse type of finite numbers for which `accepts` is true."""

    def parse(text: str) -> float:
        try:
            number = float(text)
        except ValueError:
            number = math.nan
        if not (math.isfinite(number) and accepts(number)):
            raise argparse.ArgumentTypeError(f"must be {expected}, got {text[:40]!r}")
        return number

    return parse


_POSITIVE = _number("a number above 0", lambda number: number > 0)
_NOT_NEGATIVE = _number("a number of at least 0", lambda number: number >= 0)
_FRACTION = _number("at least 0 and below 1", lambda number: 0 <= number < 1)


def make_parser() -> argparse.ArgumentParser:
    """Return the parser of the command line; ``command`` is the name of the command given."""
    parser = _Parser(
        prog="fastrnn",
        description="Train a recurrent network to write text like yours, one character at a time.",
        epilog=f"A first try, two minutes:\n  fastrnn train && fastrnn sample {DEFAULT_OUTPUT}",
        formatter_class=argparse.RawDescriptionHelpFormatter,  # filled, the command is cut in two
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=f"fastrnn {__version__}")
    commands = parser.add_subparsers(
        title="commands", required=True, dest="command", metavar="COMMAND"
    )
    _add_train(commands)
    _add_sample(commands)
    _add_eval(commands)
    commands.add_parser(
        "config",
        help="show versions, instruction set and threads",
        description="Show versions, the BLAS library, the instruction set and the threads in use.",
        allow_abbrev=False,
    )
    return parser


def _add_train(commands: Any) -> None:
    train = commands.add_parser(
        "train",
        help="train a model on a text file",
        description=(
            "Train a model that predicts the next character of a text. After each epoch (one "
            "reading of the text) it prints how many bits it needs per character: the lower, the "
            "better; English text begins near 5, and reads like words below 2.5. Everything is "
            "saved during training: after Ctrl-C, --resume continues."
        ),
        allow_abbrev=False,
    )
    train.add_argument(
        "file",
        nargs="?",
        type=_text_file,
        metavar="FILE",
        help="the text, in UTF-8, - for standard input; 1 MB is a good size, 100 kB the least that "
        "is fun. Default: the documentation of the Python language, which every Python carries",
    )
    _add_network(train.add_argument_group("the network"))
    _add_training(train.add_argument_group("the training"))
    _add_files(train.add_argument_group("the files"))


def _add_setting(
    group: Any, key: str, kind: Any, metavar: str, text: str, typical: str = ""
) -> None:
    """Add the option of one of `DEFAULTS`.

    The parser's own default is None: a resumed run must know what was asked for and what was not.
    """
    default = DEFAULTS[key]
    notes = [f"default: {default}"] if default is not None else []
    notes += [f"typical: {typical}"] if typical else []
    option = "--" + key.replace("_", "-")
    group.add_argument(option, type=kind, metavar=metavar, help=f"{text} ({'; '.join(notes)})")


def _add_network(group: Any) -> None:
    group.add_argument(
        "--cell",
        choices=CELLS,
        help="what a unit does at a step: a plain tanh, or with gates that let it remember longer "
        f"(default: {DEFAULTS['cell']}; gru is as good and cheaper, rnn the simplest)",
    )
    _add_setting(group, "hidden_size", _whole(1), "N", "units a layer: its memory", "64 to 512")
    _add_setting(group, "num_layers", _whole(1), "N", "layers on top of each other", "1 to 3")
    _add_setting(
        group,
        "embedding_size",
        _whole(0),
        "N",
        "numbers that stand for a character at the input; 0 gives each an input of its own",
        "16 to 128",
    )
    _add_setting(
        group,
        "dropout",
        _FRACTION,
        "P",
        "share of units switched off at random in training, against learning a short text by heart",
        "0 to 0.5",
    )


def _add_training(group: Any) -> None:
    _add_setting(
        group,
        "seq_length",
        _whole(1),
        "N",
        "characters read before each update: how far back causes are looked for",
        "25 to 200",
    )
    _add_setting(
        group,
        "batch_size",
        _whole(1),
        "N",
        "places of the text read side by side; fewer learn more from a short text, more are faster",
        "10 to 100",
    )
    _add_setting(group, "epochs", _whole(1), "N", "times the whole text is read", "5 to 50")
    _add_setting(
        group,
        "learning_rate",
        _POSITIVE,
        "X",
        "size of a step; lower it if the loss jumps",
        "0.0005 to 0.005 with adam",
    )
    group.add_argument(
        "--optimizer",
        choices=tuple(OPTIMIZERS),
        help=f"how gradients become steps (default: {DEFAULTS['optimizer']})",
    )
    _add_setting(
        group,
        "clip",
        _NOT_NEGATIVE,
        "X",
        "largest length of the gradient, against sudden jumps; 0 does not limit it",
        "1 to 5",
    )
    _add_setting(
        group,
        "validation_fraction",
        _FRACTION,
        "P",
        "share of the text, at its end, that is kept back to measure on; 0 measures nothing",
        "0.05 to 0.2",
    )
    group.add_argument(
        "--patience",
        type=_whole(1),
        metavar="N",
        help="stop after N epochs without a better one (default: never; typical: 3)",
    )
    _add_setting(
        group, "seed", _whole(0), "N", "start of the random numbers: the same seed, the same run"
    )
    group.add_argument(
        "--threads",
        type=_whole(1, MAX_THREADS),
        metavar="N",
        help="processor cores to use (default: FASTRNN_NUM_THREADS, OMP_NUM_THREADS, or all)",
    )


def _add_files(group: Any) -> None:
    group.add_argument(
        "--output",
        default=DEFAULT_OUTPUT,
        metavar="MODEL",
        help="where the model is saved; beside it, with these in place of MODEL's suffix, "
        ".best.safetensors (the best epoch, by the validation text) and .history.csv "
        "(default: %(default)s)",
    )
    existing = group.add_mutually_exclusive_group()
    existing.add_argument(
        "--resume",
        action="store_true",
        help="continue the run saved in --output, with its settings; --epochs may be raised, "
        "--patience and --threads be others",
    )
    existing.add_argument(
        "--force", action="store_true", help="overwrite what another run has saved there"
    )
    group.add_argument(
        "--checkpoint-every",
        type=_NOT_NEGATIVE,
        default=CHECKPOINT_EVERY,
        metavar="SECONDS",
        help="save about this often within an epoch, and after each (default: %(default)g; 0: at "
        "every step)",
    )
    group.add_argument(
        "--plot",
        action="store_true",
        help="draw the learning curve into .curve.png beside MODEL (needs Matplotlib)",
    )


def _add_sample(commands: Any) -> None:
    sample = commands.add_parser(
        "sample",
        help="let a model write",
        description="Write text with a trained model, one character after the other.",
        allow_abbrev=False,
    )
    sample.add_argument("model", metavar="MODEL", help="a file that fastrnn train saved")
    sample.add_argument(
        "--length",
        type=_whole(0),
        default=SAMPLE_LENGTH,
        metavar="N",
        help=f"characters (default: {SAMPLE_LENGTH})",
    )
    sample.add_argument(
        "--temperature",
        type=_NOT_NEGATIVE,
        default=SAMPLE_TEMPERATURE,
        metavar="X",
        help="how daring: 0 always takes the likeliest character, 1 draws as the model believes, "
        f"more is wilder (default: {SAMPLE_TEMPERATURE}; typical: 0.5 to 1)",
    )
    sample.add_argument(
        "--top-k",
        type=_whole(1),
        metavar="K",
        help="draw from the K likeliest characters only (default: from all; typical: 5 to 20)",
    )
    sample.add_argument(
        "--prompt",
        type=_text,
        metavar="TEXT",
        help="the beginning, to be continued (default: a new line, where the text has lines)",
    )
    sample.add_argument(
        "--seed",
        type=_whole(0),
        metavar="N",
        help="start of the random numbers; the same seed writes the same (default: a new one)",
    )


def _add_eval(commands: Any) -> None:
    score = commands.add_parser(
        "eval",
        help="score a text with a model",
        description="Measure how well a model predicts a text: bits per character, the lower the "
        "better. The text is read once, from its beginning to its end.",
        allow_abbrev=False,
    )
    score.add_argument("model", metavar="MODEL", help="a file that fastrnn train saved")
    score.add_argument(
        "file", type=_text_file, metavar="FILE", help="the text, in UTF-8, - for standard input"
    )
