"""Fit a model to batches: a short loop, and everything else is a callback."""

from __future__ import annotations

import math
import signal
import threading
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from typing import Any

import numpy as np

from fastrnn._validation import (
    check_non_negative_int,
    check_pair,
    check_positive_float,
    check_positive_int,
)
from fastrnn.data import Batches, Padded
from fastrnn.models.base import Model
from fastrnn.optim import Optimizer, clip_gradient_norm
from fastrnn.training.callbacks import Callback

Batch = tuple[Any, Any]  # inputs and targets
_HISTORY_TYPES = {
    "epoch": int,
    "step": int,
    "learning_rate": float,
    "training_loss": float,
    "validation_loss": float | None,
}


class Trainer:
    """Train a model on batches, epoch after epoch.

    What a model returns as its state is carried from each batch to the next and is None at the
    start of an epoch: back-propagation through time truncated to a batch's length.

    Parameters
    ----------
    model : Model
    optimizer : Optimizer
        Of the model's parameters, or those of a part of it.
    clip : float or None
        Largest norm of all gradients together; None does not clip.
    callbacks : iterable of Callback
        Called in this order. On Ctrl-C and at the end each one is called, even if another raises.

    Attributes
    ----------
    model, optimizer, clip, callbacks
        As given.
    epochs : int
        Epochs that ``fit`` was asked for.
    batches : sequence of (inputs, targets)
        Of the current epoch.
    epoch : int
        Epochs finished.
    position, length : int
        Batches of the current epoch that are done, and all of them; `length` is None before the
        first epoch.
    step : int
        Batches done in all.
    count, loss_sum : int, float
        Targets of the current epoch that counted so far (``model.count``), and their summed loss.
    state
        What the model returned for the last batch, None at the start of an epoch.
    history : list of dict
        A row for each epoch finished: ``epoch``, ``step``, ``learning_rate`` of the last step,
        ``training_loss`` (the model's unit, mean over the epoch's targets while it was trained) and
        ``validation_loss`` (None without validation data).
    seconds, processor_seconds : float
        Spent on training steps by this object, validation and callbacks left out: by the clock, and
        by all threads of the process together.
    stop_reason : str or None
        A callback sets it to end training after the current epoch.
    initial_learning_rate : float
        The optimiser's when this object was made.

    Raises
    ------
    TypeError
        If an argument has the wrong type.
    ValueError
        If `clip` is not positive, or the optimiser is of another model's parameters.
    """

    def __init__(
        self,
        model: Model,
        optimizer: Optimizer,
        *,
        clip: float | None = None,
        callbacks: Iterable[Callback] = (),
    ) -> None:
        check_model(model)
        _check_optimizer(optimizer, model)
        self.model = model
        self.optimizer = optimizer
        self.clip = clip
        self.callbacks = _check_callbacks(callbacks)
        self.epoch = self.position = self.step = self.count = 0
        self.loss_sum = self.seconds = self.processor_seconds = 0.0
        self.state: Any = None
        self.history: list[dict[str, Any]] = []
        self.stop_reason: str | None = None
        self.epochs = 0
        self.batches: Sequence[Batch] = ()
        self.length: int | None = None
        self.initial_learning_rate = optimizer.learning_rate

    @property
    def clip(self) -> float | None:
        """Largest norm of all gradients together, or None; may be set between steps."""
        return self._clip

    @clip.setter
    def clip(self, value: float | None) -> None:
        self._clip = None if value is None else check_positive_float("clip", value)

    @property
    def loss(self) -> float:
        """Mean loss over the targets of the current epoch so far, or of the epoch that is done.

        NaN before the first step.
        """
        if self.count:
            return self.loss_sum / self.count
        return self.history[-1]["training_loss"] if self.history else math.nan

    def __repr__(self) -> str:
        done = f"epoch {self.epoch}, step {self.step}, loss {self.loss:.4g}"
        return f"<Trainer of a {type(self.model).__name__}: {done}>"

    def fit(
        self, batches: Sequence[Batch], epochs: int, validation: Iterable[Batch] | None = None
    ) -> None:
        """Train until `epochs` epochs are finished, those before this call included.

        Ctrl-C is honoured between two batches, where everything is consistent: callbacks hear
        ``on_interrupt``, then KeyboardInterrupt is raised. A second Ctrl-C is immediate.

        Parameters
        ----------
        batches : sequence of (inputs, targets)
            Such as :class:`fastrnn.data.Windows`. Where it has a method ``epoch``, as
            :class:`fastrnn.data.Batches` does, ``batches.epoch(k)`` are the batches of epoch k, 0
            the first. They must be the same each time, or a resumed run would differ.
        epochs : int
        validation : iterable of (inputs, targets) or None
            Scored after every epoch, in order, with the state carried.

        Raises
        ------
        TypeError
            If `batches` is not a sequence of pairs, or `validation` not an iterable of pairs, or an
            iterator that can be read only once while there is more than one epoch to come.
        ValueError
            If there are no batches, none to validate on, none with a target, or not as many as in
            the epoch that was interrupted; if all parameters are frozen; or if the batches are
            :class:`fastrnn.data.Batches` of arrays and the model has time along the first axis of
            an array, not the examples.
        FloatingPointError
            If the loss or the gradients are not finite: the parameters are those before the step.
            At an epoch's end, if the validation loss or a parameter is not.
        KeyboardInterrupt
            After Ctrl-C.
        """
        check_fit(self.model, batches, epochs, validation)
        _check_optimizer(self.optimizer, self.model)  # either may have been set since
        if isinstance(validation, Iterator) and epochs - self.epoch > 1:
            found = type(validation).__name__
            raise TypeError(f"validation must be read after every epoch, got {found}, read once")
        if self.position and self.length not in (None, len(batches)):
            raise ValueError(
                f"batches must be {self.length}, those of the epoch that was interrupted after "
                f"{self.position}, got {len(batches)}"
            )
        self.epochs, self.stop_reason = epochs, None
        # What is not finite is found and explained here; NumPy need not warn of it as well.
        quiet = np.errstate(over="ignore", under="ignore", invalid="ignore")
        with _DeferredInterrupt() as interrupt, quiet:
            self.batches = batches
            begun: list[Callback] = []
            try:
                for callback in self.callbacks:
                    callback.on_train_begin(self)
                    begun.append(callback)
                while self.epoch < self.epochs and self.stop_reason is None:
                    drawn = hasattr(batches, "epoch")
                    self.batches = batches.epoch(self.epoch) if drawn else batches
                    self.length = len(self.batches)
                    self._notify("on_epoch_begin")
                    while self.position < len(self.batches):
                        self._timed_step()
                        self._notify("on_step_end")
                        self._stop_if(interrupt)
                    self._finish_epoch(validation, interrupt)
                    self._notify("on_epoch_end")
                    self._stop_if(interrupt)
            finally:
                self._notify_each("on_train_end", begun)

    def state_dict(self) -> dict[str, dict[str, Any]]:
        """Return all that a run needs to continue to the same bits: sections of arrays and JSON.

        The callbacks need nothing: those of this package look at ``history`` alone.
        """
        states = self.state if isinstance(self.state, tuple) else (self.state,)
        return {
            **self.model.sections(),
            "optimizer": self.optimizer.state_dict(),
            "state": {str(i): np.array(s) for i, s in enumerate(states) if s is not None},
            "progress": {
                "epoch": self.epoch,
                "position": self.position,
                "length": self.length,
                "initial_learning_rate": self.initial_learning_rate,
                "step": self.step,
                "count": self.count,
                "loss_sum": self.loss_sum,
                "history": [dict(row) for row in self.history],
                "frozen": list(self.model.parameters.frozen),
            },
            "generators": {
                name: generator.bit_generator.state
                for name, generator in self.model.generators.items()
            },
        }

    def load_state_dict(self, sections: Mapping[str, Mapping[str, Any]]) -> None:
        """Take over what :meth:`state_dict` returned, from a trainer with the same settings.

        The optimiser goes on with the learning rate that it had there, unless this trainer was made
        with another than that one.

        Raises
        ------
        KeyError, ValueError, TypeError
            If it is of another model or optimiser; nothing has changed then.
        """
        if "progress" not in sections:
            raise ValueError("it has no progress: a Checkpoint saves runs, model.save does not")
        progress = sections["progress"]
        _check_architecture(sections["architecture"], self.model)
        counts = [
            check_non_negative_int(name, progress[name])
            for name in ("epoch", "position", "step", "count")
        ]
        # Older files have none of them.
        length, begun_with = progress.get("length"), progress.get("initial_learning_rate")
        frozen = list(self.model.parameters.frozen)
        if progress.get("frozen", frozen) != frozen:
            wanted, found = (", ".join(n) or "none" for n in (progress["frozen"], frozen))
            raise ValueError(f"frozen parameters must be those of the run, {wanted}, got {found}")
        if length is not None:
            check_non_negative_int("length", length)
        loss_sum, history = float(progress["loss_sum"]), [dict(row) for row in progress["history"]]
        for row in history:
            if not all(isinstance(row[key], _HISTORY_TYPES[key]) for key in _HISTORY_TYPES):
                raise TypeError(f"a row of the history must hold numbers, got {row}")
        states = tuple(sections["state"][str(i)] for i in range(len(sections["state"])))
        before = self.state_dict()
        try:
            self._load_parts(sections)
        except BaseException:
            self._load_parts(before)
            raise
        self.epoch, self.position, self.step, self.count = counts
        self.loss_sum, self.history = loss_sum, history
        self.length = length
        if begun_with not in (None, self.initial_learning_rate):
            self.optimizer.learning_rate = self.initial_learning_rate
        self.state = (states or (None,))[0] if len(states) < 2 else states

    def _load_parts(self, sections: Mapping[str, Mapping[str, Any]]) -> None:
        self.model.load_state_dict(sections["model"])
        self.optimizer.load_state_dict(sections["optimizer"])
        for name, generator in self.model.generators.items():
            generator.bit_generator.state = sections["generators"][name]
        for name in self.model.settable:
            setattr(self.model, name, sections["architecture"]["config"][name])

    def _timed_step(self) -> None:
        seconds, processor_seconds = time.perf_counter(), time.process_time()
        self._train_on(*check_pair("a batch", self.batches[self.position]))
        self.seconds += time.perf_counter() - seconds
        self.processor_seconds += time.process_time() - processor_seconds

    def _train_on(self, inputs: Any, targets: Any) -> None:
        if _is_empty(self.model, targets):
            self.position += 1
            self.step += 1
            return
        self.model.zero_gradients()
        loss, state, pullback = self.model.loss_vjp(inputs, targets, self.state)
        count = self.model.count(targets)
        loss = float(loss)  # which may be NumPy's, in single precision
        self._check_finite(loss, "loss", (inputs, targets))
        pullback()
        limit = np.finfo(np.float64).max if self.clip is None else self.clip
        norm = clip_gradient_norm(self.model.parameters, limit)
        self._check_finite(norm, "gradient norm", (inputs, targets))
        self.optimizer.step()
        self.state = state
        self.loss_sum += loss * count
        self.count += count
        self.position += 1
        self.step += 1

    def _finish_epoch(
        self, validation: Iterable[Batch] | None, interrupt: _DeferredInterrupt
    ) -> None:
        if self.count == 0:
            raise ValueError("there is nothing to train on: no batch has a target")
        validation_loss = None
        if validation is not None:
            validation_loss = evaluate(self.model, self._until(interrupt, validation))
            self._check_finite(validation_loss, "validation loss", validation, in_step=False)
        largest = np.abs(self.model.parameters.flat_values).max()
        self._check_finite(float(largest), "largest parameter", in_step=False)
        self.epoch += 1
        self.history.append(
            {
                "epoch": self.epoch,
                "step": self.step,
                "learning_rate": self.optimizer.scheduled_rate(self.optimizer.steps - 1),
                "training_loss": self.loss,
                "validation_loss": validation_loss,
            }
        )
        self.position = self.count = 0
        self.loss_sum, self.state = 0.0, None

    def _until(self, interrupt: _DeferredInterrupt, batches: Iterable[Batch]) -> Iterator[Batch]:
        for batch in batches:
            self._stop_if(interrupt)
            yield batch

    def _check_finite(
        self, value: float, name: str, made_of: Any = (), *, in_step: bool = True
    ) -> None:
        if math.isfinite(value):
            return
        when = f"step {self.step + 1}" if in_step else f"after step {self.step}"
        found = f"the {name} became {value} in epoch {self.epoch + 1}, {when}"
        dtype = self.model.parameters.dtype
        if not _is_finite(made_of, dtype):
            raise FloatingPointError(
                f"{found}: inputs or targets hold NaN, infinity or what {dtype} has no room for; "
                "leave it out, fill it in or scale it"
            )
        rate = self.optimizer.learning_rate
        clip = "clip the gradients" if self.clip is None else f"clip (now {self.clip:g}) harder"
        raise FloatingPointError(
            f"training diverged: {found}; take a lower learning rate (now {rate:g}) or {clip}"
        )

    def _stop_if(self, interrupt: _DeferredInterrupt) -> None:
        if interrupt.requested:
            self._notify_each("on_interrupt", self.callbacks)
            raise KeyboardInterrupt

    def _notify(self, event: str) -> None:
        for callback in self.callbacks:
            getattr(callback, event)(self)

    def _notify_each(self, event: str, callbacks: Sequence[Callback]) -> None:
        """Call all of them in order, even if one raises; its error follows then."""
        with ExitStack() as stack:
            for callback in reversed(callbacks):
                stack.callback(getattr(callback, event), self)


def evaluate(model: Model, batches: Iterable[Batch]) -> float:
    """Return a model's mean loss over all targets, with the state carried from batch to batch.

    Parameters
    ----------
    model : Model
    batches : iterable of (inputs, targets)

    Returns
    -------
    loss : float
        In the model's unit; every target counts the same, whatever the size of its batch.

    Raises
    ------
    TypeError
        If a batch is not a pair.
    ValueError
        If there are no targets; as from :meth:`Trainer.fit`.
    """
    if not _is_iterable(batches):
        found = type(batches).__name__
        raise TypeError(f"batches must be pairs of inputs and targets, got {found}")
    check_model(model)
    _check_axes(model, batches)
    total, count, state = 0.0, 0, None
    for batch in batches:
        inputs, targets = check_pair("a batch", batch)
        if _is_empty(model, targets):
            continue
        loss, state = model.loss(inputs, targets, state)
        size = model.count(targets)
        total += float(loss) * size
        count += size
    if count == 0:
        raise ValueError("there is nothing to evaluate: no batch has a target")
    return total / count


def _is_empty(model: Model, targets: Any) -> bool:
    """Return whether a batch has only empty sequences, which models with time first may read."""
    return model.time_first and isinstance(targets, Padded) and model.count(targets) == 0


def check_fit(
    model: Model, batches: Sequence[Batch], epochs: int, validation: Iterable[Batch] | None
) -> None:
    """Refuse what a model cannot be trained on; ValueError or TypeError."""
    check_positive_int("epochs", epochs)
    is_sequence = hasattr(batches, "__len__") and hasattr(batches, "__getitem__")
    if not is_sequence or isinstance(batches, Mapping):
        found = type(batches).__name__
        hint = "; list(batches) is one" if not is_sequence and _is_iterable(batches) else ""
        raise TypeError(f"batches must be a sequence of (inputs, targets), got {found}{hint}")
    if validation is not None:
        _check_validation(validation)
    if len(batches) == 0:
        raise ValueError("there is nothing to train on: batches must not be empty")
    if not model.parameters.trainable(model.parameters.flat_values):
        raise ValueError("there is nothing to train: all parameters of the model are frozen")
    for given in (batches, validation):
        _check_axes(model, given)


def _check_architecture(saved: Mapping[str, Any], model: Model) -> None:
    """Refuse to go on with another network, whose parameters may have the same shapes."""
    own = model.sections()["architecture"]
    if saved["class"] != own["class"]:
        raise ValueError(f"model must be a {saved['class']}, got a {own['class']}")
    for name, value in saved["config"].items():
        is_same = name not in own["config"] or own["config"][name] == value
        if not is_same and name not in model.settable:
            raise ValueError(f"{name} must be {value!r}, got {own['config'][name]!r}")


def check_model(model: Model) -> None:
    """Refuse anything but a model; TypeError."""
    if not isinstance(model, Model):
        raise TypeError(f"model must be a fastrnn.models.Model, got {type(model).__name__}")


def _check_optimizer(optimizer: Optimizer, model: Model) -> None:
    """Refuse what would not train the model; TypeError or ValueError."""
    if not isinstance(optimizer, Optimizer):
        found = type(optimizer).__name__
        raise TypeError(f"optimizer must be a fastrnn.optim.Optimizer, got {found}")
    if not optimizer.parameters.is_within(model.parameters):
        raise ValueError(
            "optimizer must be of model.parameters, got one of another model's parameters"
        )


def _check_callbacks(callbacks: Iterable[Callback]) -> list[Callback]:
    if not isinstance(callbacks, Iterable):
        found = type(callbacks).__name__
        raise TypeError(f"callbacks must be an iterable of Callback, got {found}; put it in a list")
    callbacks = list(callbacks)
    for callback in callbacks:
        if not isinstance(callback, Callback):
            raise TypeError(f"callbacks must be instances of Callback, got {callback!r:.80}")
    return callbacks


def _is_iterable(batches: Any) -> bool:
    """Return whether batches can be read one by one, which the keys of a mapping are not."""
    can = isinstance(batches, Iterable) or hasattr(batches, "__getitem__")
    return can and not isinstance(batches, Mapping)


def _check_validation(validation: Any) -> None:
    """Refuse, before an epoch is trained, what it could not be scored on."""
    if not _is_iterable(validation):
        found = type(validation).__name__
        raise TypeError(f"validation must be batches, pairs of inputs and targets, got {found}")
    if hasattr(validation, "__len__") and len(validation) == 0:
        raise ValueError("there is nothing to validate on: validation must not be empty")
    if isinstance(validation, (list, tuple)):
        for batch in validation:
            check_pair("a batch", batch)


def _is_finite(data: Any, dtype: np.dtype) -> bool:
    """Return whether all numbers of a batch, or of several, are finite in a model's dtype."""
    if isinstance(data, Padded):
        data = np.asarray(data.values)[data.mask]
    if isinstance(data, Sequence) and not isinstance(data, str):
        return all(_is_finite(part, dtype) for part in data)
    array = np.asarray(data)
    return array.dtype.kind != "f" or bool(np.isfinite(array.astype(dtype)).all())


def _check_axes(model: Model, batches: Any) -> None:
    """Refuse batches of arrays that the model would silently read transposed; ValueError."""
    if not (model.time_first and isinstance(batches, Batches)):
        return
    for name in ("inputs", "targets"):
        if isinstance(getattr(batches, name), np.ndarray):
            raise ValueError(
                f"{name} of Batches must be a list of sequences for a {type(model).__name__}, "
                "which reads arrays with time first, got an array; list(array) is one"
            )


class _DeferredInterrupt:
    """Turn the first Ctrl-C into a request, so that no step is left half done."""

    def __init__(self) -> None:
        self.requested = False
        # Only the main thread gets signals; a handler that is not Python's own is left alone.
        self._ours = (
            threading.current_thread() is threading.main_thread()
            and signal.getsignal(signal.SIGINT) is signal.default_int_handler
        )

    def __enter__(self) -> _DeferredInterrupt:
        if self._ours:
            signal.signal(signal.SIGINT, self._request)
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if self._ours:
            signal.signal(signal.SIGINT, signal.default_int_handler)
        if self.requested and kind is None:  # it came after the last check
            raise KeyboardInterrupt

    def _request(self, number: int, frame: object) -> None:
        self.requested = True
        signal.signal(signal.SIGINT, signal.default_int_handler)
