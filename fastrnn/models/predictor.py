"""Base of the models without a state between batches, whose loss is a function of their output."""

from __future__ import annotations

from abc import abstractmethod
from typing import TYPE_CHECKING, Any

import numpy as np

from fastrnn._validation import (
    as_array,
    check_class_weights,
    check_num_classes,
    check_positive_int,
    check_sequences,
)
from fastrnn.data import Padded, pad
from fastrnn.layers.base import Pullback
from fastrnn.models.base import Model

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import ArrayLike

    from fastrnn.data.batches import Sequences


BATCH_SIZE = 256  # sequences that are predicted together


class Predictor(Model):
    """A model that reads whole examples, and whose loss is a function of its output."""

    @abstractmethod
    def __call__(self, inputs: Any) -> Any:
        """Return the output for a batch of examples."""

    @abstractmethod
    def vjp(self, inputs: Any) -> tuple[Any, Pullback]:
        """Return what the call returns, with dropout, and its pullback.

        ``pullback(d_output)`` adds the parameters' gradients into ``gradients``.
        """

    @abstractmethod
    def criterion(self, output: Any, targets: Any) -> tuple[float, np.ndarray]:
        """Return the mean loss of an output and its gradient with respect to the output."""

    def loss(self, inputs: Any, targets: Any, state: Any = None) -> tuple[float, None]:
        return self.criterion(self(inputs), targets)[0], None

    def loss_vjp(
        self, inputs: Any, targets: Any, state: Any = None
    ) -> tuple[float, None, Pullback]:
        output, pullback = self._vjp_of_parameters(inputs)
        loss, d_output = self.criterion(output, targets)

        def adjoint() -> None:
            pullback(d_output)

        return loss, None, Pullback(adjoint)

    def _vjp_of_parameters(self, inputs: Any) -> tuple[Any, Pullback]:
        """Return what :meth:`vjp` does; its pullback may leave out the gradient of the inputs."""
        return self.vjp(inputs)


def as_padded(
    inputs: Padded | Sequences, name: str = "inputs", *, may_be_empty: bool = False
) -> Padded:
    """Return sequences side by side; an error calls them `name`.

    Raises
    ------
    ValueError
        If there are none, their widths differ, or one is empty that may not be.
    TypeError
        If they are not numbers.
    """
    if not isinstance(inputs, Padded):
        inputs = pad(check_sequences(name, inputs))
    if not may_be_empty:
        _check_not_empty(name, inputs.lengths)
    return inputs


def _check_not_empty(name: str, lengths: ArrayLike) -> None:
    empty = np.flatnonzero(np.equal(lengths, 0))
    if empty.size:
        raise ValueError(
            f"{name}[{empty[0]}] must have at least 1 step, got none (of {len(lengths)} "
            "sequences, in training those of a batch); leave out empty ones"
        )


def in_batches(model: Predictor, inputs: Padded | Sequences, batch_size: int) -> Iterator[Any]:
    """Yield the output of a model for one batch of `batch_size` sequences after the other.

    So the memory needed is that of one batch. An error names a place in its batch.
    """
    batch_size = check_positive_int("batch_size", batch_size)
    if not isinstance(inputs, Padded):
        inputs = check_sequences("inputs", inputs)
        _check_not_empty("inputs", [len(sequence) for sequence in inputs])
        for first in range(0, len(inputs), batch_size):
            yield model(inputs[first : first + batch_size])
        return
    count = len(inputs.lengths)
    if count <= batch_size:
        yield model(inputs)
        return
    values, lengths = map(np.asarray, as_padded(inputs))
    for first in range(0, count, batch_size):
        rows = slice(first, first + batch_size)
        yield model(Padded(values[: lengths[rows].max(), rows], lengths[rows]))


def as_rows(targets: ArrayLike, width: int) -> np.ndarray:
    """Return targets (B, width), which may be (B,) where the width is 1."""
    targets = as_array("targets", targets)
    return targets[:, None] if targets.ndim == width == 1 else targets


def check_classes(num_classes: int, class_weights: ArrayLike | None) -> dict[str, Any]:
    """Return a classifier's part of a config."""
    num_classes = check_num_classes("num_classes", num_classes)
    if class_weights is not None:
        class_weights = check_class_weights("class_weights", class_weights, num_classes).tolist()
    return {"num_classes": num_classes, "class_weights": class_weights}
