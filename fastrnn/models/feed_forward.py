"""Vectors in, a class or numbers out: dense layers without memory."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np

from fastrnn._special import softmax
from fastrnn._validation import (
    check_array,
    check_choice,
    check_class_weights,
    check_dtype,
    check_num_classes,
    check_positive_int,
    check_probability,
)
from fastrnn.layers.base import Pullback
from fastrnn.layers.dense import Dense
from fastrnn.layers.dropout import Dropout
from fastrnn.losses import mean_squared_error, softmax_cross_entropy
from fastrnn.models.base import spawn
from fastrnn.models.predictor import Predictor, as_rows
from fastrnn.parameters import join

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, DTypeLike

# Each function, and its derivative by its own output.
ACTIVATIONS = {
    "relu": (lambda z: np.maximum(z, 0), lambda y: y > 0),
    "tanh": (np.tanh, lambda y: 1 - y * y),
}
LOSSES = ("cross_entropy", "squared_error")


class FeedForward(Predictor):
    r"""Dense layers with a function between them.

    .. math:: h_k = f(W_k h_{k-1} + b_k), \qquad y = W_n h_{n-1} + b_n, \qquad h_0 = x

    Parameters
    ----------
    input_size : int
        Width I of the vectors.
    output_size : int
        Number of classes K, 2 at least, or of numbers.
    hidden_sizes : sequence of int
        Units of each hidden layer; none leaves an affine model.
    loss : {"cross_entropy", "squared_error"}
        Of classes, or of numbers.
    activation : {"relu", "tanh"}
        The function f.
    dropout : float
        Probability with which units of each hidden layer are dropped in training.
    class_weights : array_like or None, shape (K,)
        Weight of each class in the cross-entropy, see
        :func:`fastrnn.losses.softmax_cross_entropy`.
    dtype : {"float32", "float64"}
    seed : int, numpy.random.SeedSequence or None
        Source of the initial parameters and of the dropout masks.

    Attributes
    ----------
    parameters : Parameters
        Of the parts ``dense0``, ``dense1``, ...
    config, generators
        As every :class:`fastrnn.models.Model` has them.

    Raises
    ------
    ValueError, TypeError
        If an argument has the wrong type or is out of range.
    """

    def __init__(
        self,
        input_size: int,
        output_size: int,
        hidden_sizes: Sequence[int] = (64,),
        loss: str = "cross_entropy",
        activation: str = "relu",
        *,
        dropout: float = 0.0,
        class_weights: ArrayLike | None = None,
        dtype: DTypeLike = "float32",
        seed: int | np.random.SeedSequence | None = None,
    ) -> None:
        check_choice("loss", loss, LOSSES)
        if loss == "cross_entropy":
            output_size = check_num_classes("output_size", output_size)
        if class_weights is not None:
            if loss != "cross_entropy":
                raise ValueError(
                    f"class_weights must be None where loss is {loss!r}, got {class_weights!r:.80}"
                )
            class_weights = check_class_weights(
                "class_weights", class_weights, output_size
            ).tolist()
        if isinstance(hidden_sizes, np.ndarray):
            hidden_sizes = hidden_sizes.tolist()
        if not isinstance(hidden_sizes, Sequence):
            raise TypeError(
                f"hidden_sizes must be a sequence of int, got {type(hidden_sizes).__name__}"
            )
        self.config = {
            "input_size": check_positive_int("input_size", input_size),
            "output_size": check_positive_int("output_size", output_size),
            "hidden_sizes": [
                check_positive_int(f"hidden_sizes[{k}]", size)
                for k, size in enumerate(hidden_sizes)
            ],
            "loss": loss,
            "activation": check_choice("activation", activation, tuple(ACTIVATIONS)),
            "dropout": check_probability("dropout", dropout),
            "class_weights": class_weights,
            "dtype": check_dtype(dtype).name,
        }
        config = self.config
        sizes = [config["input_size"], *config["hidden_sizes"], config["output_size"]]
        seeds = spawn(seed, len(sizes))
        self.layers = [
            Dense(below, above, dtype=config["dtype"], seed=seeds[k])
            for k, (below, above) in enumerate(pairwise(sizes))
        ]
        self.dropout = Dropout(config["dropout"], seed=seeds[-1])
        self.parameters = join({f"dense{k}": layer for k, layer in enumerate(self.layers)})
        self.generators = {"dropout": self.dropout.generator}

    def __call__(self, inputs: ArrayLike) -> np.ndarray:
        """Return the output (B, K) for vectors (B, I).

        Raises
        ------
        ValueError, TypeError
            If the inputs have another shape or do not cast to the model's dtype.
        """
        function, _ = ACTIVATIONS[self.config["activation"]]
        x = self._read(inputs)
        for layer in self.layers[:-1]:
            x = function(layer(x))
        return self.layers[-1](x)

    def vjp(self, inputs: ArrayLike) -> tuple[np.ndarray, Pullback]:
        function, derivative = ACTIVATIONS[self.config["activation"]]
        x = np.array(self._read(inputs))
        kept = []
        for layer in self.layers[:-1]:
            z, dense_pullback = layer.vjp(x, copy=False)
            y = function(z)
            x, dropout_pullback = self.dropout.vjp(y)
            kept.append((dense_pullback, y, dropout_pullback))
        output, output_pullback = self.layers[-1].vjp(x, copy=False)

        def adjoint(d_output: ArrayLike) -> None:
            d_x = output_pullback(d_output)
            for dense_pullback, y, dropout_pullback in reversed(kept):
                d_x = dense_pullback(dropout_pullback(d_x) * derivative(y))

        return output, Pullback(adjoint)

    def criterion(self, output: np.ndarray, targets: ArrayLike) -> tuple[float, np.ndarray]:
        """Return the mean loss of the output (B, K), and its gradient.

        Cross-entropy is in nats and takes labels (B,), int; the squared error takes (B, K), or (B,)
        where K is 1.
        """
        if self.config["loss"] == "squared_error":
            return mean_squared_error(output, as_rows(targets, self.config["output_size"]))
        return softmax_cross_entropy(output, targets, class_weights=self.config["class_weights"])

    def predict(self, inputs: ArrayLike) -> np.ndarray:
        """Return the likeliest class of each vector, int64 (B,), or its numbers (B, K)."""
        output = self(inputs)
        return output.argmax(axis=1) if self.config["loss"] == "cross_entropy" else output

    def predict_proba(self, inputs: ArrayLike) -> np.ndarray:
        """Return the probability of each class for each vector, (B, K).

        Raises
        ------
        ValueError
            If the model is one of numbers.
        """
        if self.config["loss"] != "cross_entropy":
            raise ValueError("a model of numbers has no probabilities; predict returns the numbers")
        return softmax(self(inputs), axis=1)

    def _read(self, inputs: ArrayLike) -> np.ndarray:
        size, dtype = self.config["input_size"], np.dtype(self.config["dtype"])
        return check_array("inputs", inputs, dtype, ("B", size))
