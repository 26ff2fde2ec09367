"""Base of all models: a network with a loss, which can be trained, saved and loaded."""

from __future__ import annotations

from abc import ABC, abstractmethod
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from fastrnn._validation import check_non_negative_int
from fastrnn.checkpoint import (
    CheckpointError,
    Sections,
    first_line,
    load_checkpoint,
    save_checkpoint,
    with_sections,
)
from fastrnn.data import Padded
from fastrnn.layers.base import Module, Pullback
from fastrnn.parameters import at_most

if TYPE_CHECKING:
    from collections.abc import Mapping


class Model(Module, ABC):
    """A network with a loss over batches of (inputs, targets).

    :func:`load` finds the class by its name.

    Attributes
    ----------
    config : dict
        The constructor's arguments except the seed, as JSON types: ``type(model)(**model.config)``
        has the same shapes.
    generators : dict of str to numpy.random.Generator
        The sources of all randomness in training; a resumed run restores their states.
    settable : tuple of str
        Class attribute: the names in `config` of attributes that may be set during training.
    time_first : bool
        Class attribute: True if the first axis of an input array is time, as for the recurrent
        layers; for all other models it is the examples.
    """

    settable: ClassVar[tuple[str, ...]] = ()
    time_first: ClassVar[bool] = False
    config: dict[str, Any]
    generators: Mapping[str, np.random.Generator]
    _classes: ClassVar[dict[str, type[Model]]] = {}

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        known = Model._classes.get(cls.__name__)
        if known is not None and _is_ours(known) and not _is_ours(cls):
            raise TypeError(
                f"a model must not be called {cls.__name__}, as one of fastrnn is: files know "
                "models by their names"
            )
        Model._classes[cls.__name__] = cls

    @abstractmethod
    def loss(self, inputs: Any, targets: Any, state: Any = None) -> tuple[float, Any]:
        """Return the mean loss over the targets that count, without dropout, and a state.

        The next batch continues from the state; a model without one returns None.
        """

    @abstractmethod
    def loss_vjp(self, inputs: Any, targets: Any, state: Any = None) -> tuple[float, Any, Pullback]:
        """Return what :meth:`loss` returns, with dropout, and its pullback.

        ``pullback()`` adds the gradient of the loss into ``gradients``.
        """

    def count(self, targets: Any) -> int:
        """Return the number of targets that count: the weight of a batch in a mean of losses."""
        if isinstance(targets, Padded):
            return int(np.sum(targets.lengths))
        # A list, a tuple or an array of objects may be of sequences of any lengths.
        if isinstance(targets, (list, tuple)):
            return sum(map(self.count, targets))
        array = np.asarray(targets)  # np.size of a tensor would be its method
        return sum(map(self.count, targets)) if array.dtype == object else array.size

    def sections(self) -> Sections:
        """Return the sections of a checkpoint from which :func:`load` makes this model again."""
        return {
            "architecture": {"class": type(self).__name__, "config": self.config},
            "model": self.state_dict(),
        }

    def save(self, path: str | Path, **sections: Mapping[str, Any]) -> None:
        """Write the model to a file that :func:`load` reads.

        Parameters
        ----------
        path : str or Path
            Of a safetensors file, written atomically.
        **sections
            Further sections, such as ``vocabulary=vocabulary.state()``: mappings from names to
            arrays or JSON values.

        Raises
        ------
        OSError
            If the file cannot be written; the one before is still there.
        TypeError, ValueError
            As from :func:`fastrnn.training.save_checkpoint`; if a section has the name of one of
            :meth:`sections`, or a parameter is not finite, which `load` would refuse.
        """
        if not np.isfinite(self.parameters.flat_values).all():
            raise ValueError("parameters must be finite to be saved, got NaN or infinity")
        save_checkpoint(path, with_sections(self.sections(), sections))


def _is_ours(cls: type[Model]) -> bool:
    return cls.__module__.partition(".")[0] == __name__.partition(".")[0]


def load(path: str | Path) -> tuple[Model, Sections]:
    """Read a model from a file that :meth:`Model.save` or a checkpoint of training wrote.

    Returns
    -------
    model : Model
    sections : dict of str to dict
        All sections of the file.

    Raises
    ------
    fastrnn.training.CheckpointError
        If the file is not one, or its parts do not fit each other. The message is one line.
    """
    sections = load_checkpoint(path)
    return model_from(sections, path), sections


def model_from(sections: Sections, path: str | Path) -> Model:
    """Return the model of a checkpoint's sections; `path` is for messages."""
    try:
        weights = sections["model"]
        name, config = sections["architecture"]["class"], sections["architecture"]["config"]
        if name not in Model._classes:
            raise ValueError(f"its class {name!r} is not known here")
        held = sum(array.size for array in weights.values())
        with at_most(held, "as many as it holds"):
            model = Model._classes[name](**config)
        model.load_state_dict(weights)
    except (ValueError, TypeError, KeyError, AttributeError, OverflowError) as error:
        raise CheckpointError(f"{path} holds no usable model ({first_line(error)})") from None
    if not np.isfinite(model.parameters.flat_values).all():
        raise CheckpointError(f"{path} holds parameters that are not finite; train the model again")
    return model


def spawn(
    seed: int | np.random.SeedSequence | np.random.Generator | None, number: int
) -> list[np.random.Generator]:
    """Return independent generators for the parts of a model."""
    if not isinstance(seed, (np.random.SeedSequence, np.random.Generator)):
        seed = None if seed is None else check_non_negative_int("seed", seed)
        seed = np.random.SeedSequence(seed)
    children = seed.spawn(number)
    return [np.random.default_rng(child) for child in children]
