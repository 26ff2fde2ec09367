"""What happens around the training loop: reports, early stopping, saving.

No callback keeps what a resumed run would lack: they look at the trainer's ``history``, which is
part of the checkpoint.
"""

from __future__ import annotations

import csv
import io
import json
import math
import os
import sys
import time
import warnings
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from tqdm import tqdm

from fastrnn._files import write_atomically
from fastrnn._validation import (
    check_keywords,
    check_non_negative_float,
    check_path,
    check_positive_float,
    check_positive_int,
)
from fastrnn.checkpoint import (
    CheckpointError,
    load_checkpoint,
    save_checkpoint,
    with_sections,
)
from fastrnn.losses import bits_per_token

if TYPE_CHECKING:
    from fastrnn.training.trainer import Trainer

_HISTORY_COLUMNS = (
    "epoch",
    "step",
    "learning_rate",
    "training_loss",
    "validation_loss",
    "training_bits",
    "validation_bits",
)


class Callback:
    """Does nothing at every event; override the ones of interest."""

    def on_train_begin(self, trainer: Trainer) -> None:
        """Before the first step of this process."""

    def on_epoch_begin(self, trainer: Trainer) -> None:
        """Before the first step of an epoch, or where a resumed run enters it."""

    def on_step_end(self, trainer: Trainer) -> None:
        """After an update of the parameters."""

    def on_epoch_end(self, trainer: Trainer) -> None:
        """After validation; ``trainer.history[-1]`` is the epoch's row."""

    def on_interrupt(self, trainer: Trainer) -> None:
        """After Ctrl-C, between two steps; KeyboardInterrupt follows."""

    def on_train_end(self, trainer: Trainer) -> None:
        """At the very end, after an error too, where ``on_train_begin`` has returned."""


class ProgressBar(Callback):
    """A bar on standard error: batches, loss and time left.

    Nothing is shown where standard error is neither a terminal nor a notebook's.

    Parameters
    ----------
    unit : str or None
        Name of a symbol, if the loss is the nats of one: it is shown in bits as well.
    """

    def __init__(self, unit: str | None = None) -> None:
        self.unit = unit

    def on_train_begin(self, trainer: Trainer) -> None:
        self._bar = tqdm(
            initial=trainer.step,
            unit=" batches",
            disable=not _is_watched(sys.stderr),
            leave=False,
        )

    def on_epoch_begin(self, trainer: Trainer) -> None:
        # Counted anew: the batches of an epoch may be more or fewer than the object that makes them
        # says.
        left = (trainer.epochs - trainer.epoch) * len(trainer.batches) - trainer.position
        self._bar.total = trainer.step + left
        self._bar.set_description(f"epoch {trainer.epoch + 1}/{trainer.epochs}", refresh=False)

    def on_step_end(self, trainer: Trainer) -> None:
        # tqdm draws ten times a second; only then is the text made.
        if self._bar.update():
            text = f"loss {trainer.loss:.3f}"
            if self.unit is not None:
                text += f" = {_shown(trainer.loss, self.unit)}"
            self._bar.set_postfix_str(text, refresh=False)

    def on_train_end(self, trainer: Trainer) -> None:
        self._bar.close()


def _is_watched(stream: object) -> bool:
    """Return whether the stream is shown at once: on a terminal or in a notebook."""
    is_terminal = hasattr(stream, "isatty") and stream.isatty()
    return is_terminal or type(stream).__module__.startswith("ipykernel.")


class EpochReport(Callback):
    """A line on standard output after every epoch.

    Parameters
    ----------
    unit : str or None
        Name of the symbol that the loss, in nats, is for, such as ``"char"``: it is shown in bits.
        None shows the loss as it is.
    """

    def __init__(self, unit: str | None = None) -> None:
        self.unit = unit

    def on_epoch_begin(self, trainer: Trainer) -> None:
        self._start, self._seconds = time.perf_counter(), 0.0
        self._before, self._symbols = trainer.count, 0

    def on_step_end(self, trainer: Trainer) -> None:
        self._seconds = time.perf_counter() - self._start
        self._symbols = trainer.count - self._before

    def on_epoch_end(self, trainer: Trainer) -> None:
        row = trainer.history[-1]
        line = f"epoch {row['epoch']}/{trainer.epochs}: "
        line += f"training {_shown(row['training_loss'], self.unit)}"
        if row["validation_loss"] is not None:
            line += f", validation {_shown(row['validation_loss'], self.unit)}"
        if self._seconds:
            line += f", {self._symbols / self._seconds:,.0f} {self.unit or 'target'}s/s"
        with tqdm.external_write_mode():  # keeps a bar on the same terminal whole
            print(line, flush=True)


class EarlyStopping(Callback):
    """Stop when the validation loss (the training loss, without validation) no longer falls.

    Parameters
    ----------
    patience : int
        Epochs without a new best after which training stops.
    min_delta : float
        Nats by which a new best must be lower.

    Raises
    ------
    ValueError, TypeError
        If an argument has the wrong type or is out of range.
    """

    # The first epoch that counts, and the epoch at which this object has stopped training.
    _first = _stopped_at = 0

    def __init__(self, patience: int = 3, min_delta: float = 0.0) -> None:
        self.patience = check_positive_int("patience", patience)
        self.min_delta = check_non_negative_float("min_delta", min_delta)

    def on_train_begin(self, trainer: Trainer) -> None:
        # To train on after a stop starts the patience anew; a resumed run may have stopped before.
        self._first = trainer.epoch if trainer.epoch == self._stopped_at else 0
        self._judge(trainer)

    def on_epoch_end(self, trainer: Trainer) -> None:
        self._judge(trainer)

    def _judge(self, trainer: Trainer) -> None:
        best, best_epoch = math.inf, self._first
        for row in trainer.history[self._first :]:
            if score(row) < best - self.min_delta:
                best, best_epoch = score(row), row["epoch"]
        if trainer.epoch - best_epoch >= self.patience:
            self._stopped_at = trainer.epoch
            trainer.stop_reason = (
                f"no better epoch than {best_epoch} in {trainer.epoch - best_epoch} epochs"
            )


class ReduceOnPlateau(Callback):
    """Lower the learning rate when the validation loss no longer falls; as `EarlyStopping` judges.

    It belongs before a `Checkpoint` in the list of callbacks: the other way round, the file is
    written with the rate before the reduction, and a run resumed from it does without.

    Parameters
    ----------
    factor : float
        On the optimiser's learning rate, between 0 and 1.
    patience : int
        Epochs without a new best, and since the last reduction, after which it is applied.
    min_delta : float
        Nats by which a new best must be lower.

    Raises
    ------
    ValueError, TypeError
        If an argument has the wrong type or is out of range.

    References
    ----------
    ``torch.optim.lr_scheduler.ReduceLROnPlateau``, whose `patience` is one less.
    """

    def __init__(self, factor: float = 0.1, patience: int = 3, min_delta: float = 0.0) -> None:
        self.factor = check_positive_float("factor", factor)
        if self.factor >= 1:
            raise ValueError(f"factor must be in (0, 1), got {self.factor}")
        self.patience = check_positive_int("patience", patience)
        self.min_delta = check_non_negative_float("min_delta", min_delta)

    def on_epoch_end(self, trainer: Trainer) -> None:
        best, waited = math.inf, 0
        for row in trainer.history:  # all of it, for a resumed run
            waited = waited % self.patience + 1
            if score(row) < best - self.min_delta:
                best, waited = score(row), 0
        if waited == self.patience:
            trainer.optimizer.learning_rate *= self.factor


class RestoreBest(Callback):
    """Leave the model with the parameters of its best epoch when training ends.

    The best epoch has the lowest validation loss (training loss, without validation). If a resumed
    run had it before, its parameters are read from the `best_path` of the run's `Checkpoint`;
    without one there is a warning, and only the epochs that follow count.
    """

    _loss: float = math.inf
    _values: Mapping[str, np.ndarray] | None = None

    def on_train_begin(self, trainer: Trainer) -> None:
        best = min(trainer.history, key=score, default=None)
        if best is None:
            self._loss, self._values = math.inf, None
        elif self._values is None or self._loss != score(best):  # not kept by an earlier `fit`
            self._values = _parameters_of(best, trainer)
            self._loss = math.inf if self._values is None else score(best)

    def on_epoch_end(self, trainer: Trainer) -> None:
        loss = score(trainer.history[-1])
        if loss < self._loss:
            self._loss, self._values = loss, trainer.model.state_dict()

    def on_train_end(self, trainer: Trainer) -> None:
        if self._values is not None:
            trainer.model.load_state_dict(self._values)


def _parameters_of(best: Mapping[str, Any], trainer: Trainer) -> Mapping[str, np.ndarray] | None:
    """Return the parameters after the best epoch so far; warn and return None if they are lost."""
    if best is trainer.history[-1] and not trainer.position:
        return trainer.model.state_dict()
    for callback in trainer.callbacks:
        if isinstance(callback, Checkpoint) and callback.best_path is not None:
            with suppress(CheckpointError):
                sections = load_checkpoint(callback.best_path)
                if sections.get("progress", {}).get("history", [])[-1:] == [best]:
                    return sections["model"]
    warnings.warn(
        f"the parameters of epoch {best['epoch']}, the best so far, are not known to RestoreBest, "
        "which takes later ones: a Checkpoint with a best_path keeps them for a resumed run",
        RuntimeWarning,
        stacklevel=4,
    )
    return None


class Checkpoint(Callback):
    """Save the run: the last state, and the one with the lowest validation loss.

    Put it after callbacks that change the run at an epoch's end, such as the learning rate: what
    they do after it is not in the file.

    Parameters
    ----------
    path : str or Path
        The last state. It is written before the first step (after it, if the file exists already),
        every few seconds, after every epoch and on Ctrl-C.
    best_path : str or Path or None
        The state after the best epoch so far, by validation loss (training loss, without
        validation).
    every_seconds : float
        Shortest time between two saves within an epoch; 0 saves after every step.
    sections : mapping of str to mapping
        Further sections of the file, such as the vocabulary; see :meth:`fastrnn.models.Model.save`.

    Raises
    ------
    ValueError, TypeError
        If an argument has the wrong type or is out of range, or both paths are of one file; before
        the first step, if a section has the name of one of :meth:`Trainer.state_dict`.
    """

    def __init__(
        self,
        path: str | Path,
        best_path: str | Path | None = None,
        *,
        every_seconds: float = 30.0,
        sections: Mapping[str, Mapping[str, Any]] | None = None,
    ) -> None:
        self.path = check_path("path", path)
        self.best_path = None if best_path is None else check_path("best_path", best_path)
        if best_path is not None and os.path.realpath(path) == os.path.realpath(best_path):
            raise ValueError(f"best_path must be another file than path, got {best_path}")
        self.every_seconds = check_non_negative_float("every_seconds", every_seconds)
        self.sections = check_keywords("sections", sections)

    def on_train_begin(self, trainer: Trainer) -> None:
        # Errors in saving show now, not after the first hour. But a call that fails at its first
        # step must not overwrite the file of an earlier run.
        if trainer.step or not self.path.exists():
            self._save(trainer, self.path)
            return
        with_sections(trainer.state_dict(), self.sections)
        # Rewrites the file as it is, to see that it can be written. A path that is not a file, such
        # as a device, is refused without being read.
        write_atomically(self.path, self.path.read_bytes() if self.path.is_file() else b"")
        self._saved_at = -math.inf

    def on_step_end(self, trainer: Trainer) -> None:
        if time.monotonic() - self._saved_at >= self.every_seconds:
            self._save(trainer, self.path)

    def on_epoch_end(self, trainer: Trainer) -> None:
        # The best first: if the process is killed in between, the resumed run repeats the epoch's
        # end.
        *earlier, last = (score(row) for row in trainer.history)
        if self.best_path is not None and last < min(earlier, default=math.inf):
            self._save(trainer, self.best_path)
        self._save(trainer, self.path)

    def on_interrupt(self, trainer: Trainer) -> None:
        self._save(trainer, self.path)

    def _save(self, trainer: Trainer, path: Path) -> None:
        save_checkpoint(path, with_sections(trainer.state_dict(), self.sections))
        self._saved_at = time.monotonic()


class HistoryFile(Callback):
    """Write the whole history after every epoch, so that it always fits the checkpoint.

    Parameters
    ----------
    path : str or Path
        With ``.json`` a list of objects, else a table of comma-separated values: the columns of
        :attr:`Trainer.history`, with what callbacks before this one have added, and the losses in
        bits.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = check_path("path", path)

    def on_train_begin(self, trainer: Trainer) -> None:
        self._write(trainer)

    def on_epoch_end(self, trainer: Trainer) -> None:
        self._write(trainer)

    def _write(self, trainer: Trainer) -> None:
        rows = [
            {
                **row,
                "training_bits": bits_per_token(row["training_loss"]),
                "validation_bits": None
                if row["validation_loss"] is None
                else bits_per_token(row["validation_loss"]),
            }
            for row in trainer.history
        ]
        if self.path.suffix == ".json":
            text = json.dumps(rows, indent=1) + "\n"
        else:
            file = io.StringIO()
            columns = dict.fromkeys([*_HISTORY_COLUMNS, *(name for row in rows for name in row)])
            writer = csv.DictWriter(file, columns, lineterminator="\n")
            writer.writeheader()
            writer.writerows(rows)
            text = file.getvalue()
        write_atomically(self.path, text.encode())


class LearningCurve(Callback):
    """Draw the losses of all epochs into a PNG file after every epoch. Needs Matplotlib.

    Parameters
    ----------
    path : str or Path
    unit : str or None
        As for `EpochReport`.

    Raises
    ------
    ImportError
        If Matplotlib is not installed; the message says how to get it.
    """

    def __init__(self, path: str | Path, unit: str | None = None) -> None:
        try:
            from matplotlib.figure import Figure
        except ImportError:
            raise ImportError(
                "a learning curve needs Matplotlib: python -m pip install 'fastrnn[plot]'"
            ) from None
        self._figure_class = Figure
        self.path = check_path("path", path)
        self.unit = unit

    def on_train_begin(self, trainer: Trainer) -> None:
        if trainer.history:
            self._draw(trainer)

    def on_epoch_end(self, trainer: Trainer) -> None:
        self._draw(trainer)

    def _draw(self, trainer: Trainer) -> None:
        # A Figure of its own, without pyplot: no window, no global state.
        figure = self._figure_class(figsize=(6, 4), layout="constrained")
        axes = figure.subplots()
        scaled = float if self.unit is None else bits_per_token
        for name in ("training", "validation"):
            points = [
                (row["epoch"], scaled(row[f"{name}_loss"]))
                for row in trainer.history
                if row[f"{name}_loss"] is not None
            ]
            axes.plot(*zip(*points, strict=True), marker=".", label=name)
        axes.set(xlabel="epoch", ylabel="loss" if self.unit is None else f"bits/{self.unit}")
        axes.xaxis.get_major_locator().set_params(integer=True)
        axes.legend()
        axes.grid(alpha=0.3)
        image = io.BytesIO()
        figure.savefig(image, format="png", dpi=150)
        write_atomically(self.path, image.getvalue())


def _shown(loss: float, unit: str | None) -> str:
    return f"loss {loss:.4g}" if unit is None else f"{bits_per_token(loss):.3f} bits/{unit}"


def score(row: Mapping[str, Any]) -> float:
    """Return an epoch's validation loss, or without one its training loss, nats."""
    loss = row["validation_loss"]
    return row["training_loss"] if loss is None else loss
