"""Training in one call, for those who need none of the trainer's parts."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING

from fastrnn import optim
from fastrnn._validation import check_bool, check_choice, check_path
from fastrnn.checkpoint import CheckpointError, Sections, first_line, load_checkpoint
from fastrnn.training.callbacks import Callback, ProgressBar
from fastrnn.training.trainer import Batch, Trainer, check_fit, check_model

if TYPE_CHECKING:
    from pathlib import Path

    from fastrnn.models import Model

OPTIMIZERS = {
    "adam": optim.Adam,
    "adamw": optim.AdamW,
    "rmsprop": optim.RMSprop,
    "adagrad": optim.Adagrad,
    "sgd": optim.SGD,
}


def fit(
    model: Model,
    batches: Sequence[Batch],
    epochs: int,
    *,
    learning_rate: float = 1e-3,
    optimizer: str = "adam",
    schedule: Callable[[int], float] | None = None,
    clip: float | None = None,
    validation: Iterable[Batch] | None = None,
    callbacks: Iterable[Callback] = (),
    resume: str | Path | None = None,
    progress: bool = True,
) -> Trainer:
    """Train a model.

    Parameters
    ----------
    model : Model
    batches : sequence of (inputs, targets)
        As for :meth:`Trainer.fit`, such as :class:`fastrnn.data.Batches`.
    epochs : int
        In total, including those of a run that is resumed.
    learning_rate : float
        Where a run is resumed that was begun with another, this one from then on.
    optimizer : {"adam", "adamw", "rmsprop", "adagrad", "sgd"}
        With the defaults of its class in :mod:`fastrnn.optim`; for others make a `Trainer`.
    schedule : callable or None
        From the number of steps made to a factor on the learning rate, such as
        ``fastrnn.optim.StepDecay(...)``; None keeps it.
    clip : float or None
        Largest norm of all gradients together.
    validation : iterable of (inputs, targets) or None
        Scored after every epoch.
    callbacks : iterable of Callback
    resume : str, Path or None
        File that a :class:`fastrnn.training.Checkpoint` among the callbacks has saved in a run with
        the same arguments. That run is continued, to the same bits. None starts a new one.
    progress : bool
        Whether to show a bar, where standard error is a terminal or a notebook's.

    Returns
    -------
    trainer : Trainer
        Done; ``trainer.history`` has the losses, and ``trainer.fit`` trains on.

    Raises
    ------
    ValueError, TypeError
        If an argument is wrong; nothing was trained then.
    CheckpointError
        If there is no such file, or it does not hold a run of this model and optimiser.
    FloatingPointError, KeyboardInterrupt
        As from :meth:`Trainer.fit`.
    """
    check_model(model)
    check_fit(model, batches, epochs, validation)
    if not isinstance(optimizer, str):
        found = type(optimizer).__name__
        raise TypeError(f"optimizer must be a name, got {found}; a fastrnn.Trainer takes one")
    algorithm = OPTIMIZERS[check_choice("optimizer", optimizer, tuple(OPTIMIZERS))]
    bars = [ProgressBar()] if check_bool("progress", progress) else []
    trainer = Trainer(
        model,
        algorithm(model.parameters, learning_rate, schedule=schedule),
        clip=clip,
        callbacks=callbacks,
    )
    trainer.callbacks = [*bars, *trainer.callbacks]
    if resume is not None:
        resume = check_path("resume", resume)
        restore(trainer, load_checkpoint(resume), resume)
    trainer.fit(batches, epochs, validation)
    return trainer


def restore(trainer: Trainer, sections: Sections, path: str | Path) -> None:
    """Put a trainer where the run of a checkpoint's sections was; `path` is for messages."""
    try:
        trainer.load_state_dict(sections)
    except (KeyError, ValueError, TypeError, AttributeError, OverflowError) as error:
        raise not_resumable(path, first_line(error)) from None


def not_resumable(path: str | Path, reason: str) -> CheckpointError:
    """Return the error for a file without a run that fits."""
    return CheckpointError(f"{path} holds no run that could be resumed ({reason})")
