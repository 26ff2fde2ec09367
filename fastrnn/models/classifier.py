"""Read a sequence and return one class, or numbers, for all of it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from fastrnn._special import softmax
from fastrnn._validation import check_choice, check_positive_int
from fastrnn.layers.base import Pullback
from fastrnn.layers.dense import Dense
from fastrnn.layers.dropout import Dropout
from fastrnn.layers.pooling import AttentionPooling, LastPooling, MeanPooling
from fastrnn.losses import mean_squared_error, softmax_cross_entropy
from fastrnn.models.base import spawn
from fastrnn.models.encoder import Encoder, HeadStream, check_encoder
from fastrnn.models.predictor import (
    BATCH_SIZE,
    Predictor,
    as_padded,
    as_rows,
    check_classes,
    in_batches,
)
from fastrnn.parameters import join

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

    from fastrnn.data import Padded
    from fastrnn.data.batches import Sequences
    from fastrnn.layers.pooling import Pooling, PoolingStream

POOLINGS = ("last", "mean", "attention")


class PooledModel(Predictor):
    r"""Base of the models that read a sequence and return a vector.

    .. math:: h_1 \dots h_T = \mathrm{encoder}(x_1 \dots x_T), \qquad
              y = W \, \mathrm{pool}(h_1 \dots h_T) + b

    Attributes
    ----------
    parameters : Parameters
        Of the parts ``encoder``, ``pooling`` (where it has any) and ``output``.
    """

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        output_size: int,
        pooling: str,
        seed: int | np.random.SeedSequence | None,
        encoder: dict[str, Any],
    ) -> None:
        check_choice("pooling", pooling, POOLINGS)
        encoder = check_encoder(self, encoder, fixed=("output_dropout",))
        seeds = spawn(seed, 4)
        # Dropout between the recurrent layers and of the pooled vector, not of every step.
        self.encoder = Encoder(
            input_size, hidden_size, **encoder, output_dropout=0.0, seed=seeds[0]
        )
        if pooling == "last" and self.encoder.recurrent.reverse:
            raise ValueError("options must have no reverse where pooling is 'last', got True")
        self.config = {
            **{name: v for name, v in self.encoder.config.items() if name != "output_dropout"},
            "pooling": pooling,
        }
        width, dtype = self.encoder.output_size, self.config["dtype"]
        self.pooling: Pooling
        if pooling == "last":
            self.pooling = LastPooling(width, self.config["bidirectional"], dtype=dtype)
        elif pooling == "mean":
            self.pooling = MeanPooling(width, dtype=dtype)
        else:
            self.pooling = AttentionPooling(width, dtype=dtype, seed=seeds[1])
        self.dropout = Dropout(self.config["dropout"], seed=seeds[2])
        self.output = Dense(width, output_size, dtype=dtype, seed=seeds[3])
        self.parameters = join(
            {"encoder": self.encoder, "pooling": self.pooling, "output": self.output}
        )
        self.generators = {**self.encoder.generators, "pooled_dropout": self.dropout.generator}

    def __call__(self, inputs: Padded | Sequences) -> np.ndarray:
        """Return an output for each sequence.

        Parameters
        ----------
        inputs : Padded, or sequences
            B sequences of ids, int of shape (T_b,), or of vectors (T_b, I); T_b >= 1.

        Returns
        -------
        output : ndarray, shape (B, output size)

        Raises
        ------
        ValueError, TypeError
            If a sequence is empty, has another width or an id without a vector, or is not numbers.
        """
        padded = self._read(inputs)
        return self.output(self.pooling(self.encoder(padded)[0], padded.lengths))

    def _scores(self, inputs: Padded | Sequences, batch_size: int) -> np.ndarray:
        return np.concatenate(list(in_batches(self, inputs, batch_size)))

    def vjp(
        self, inputs: Padded | Sequences, *, input_gradient: bool = True
    ) -> tuple[np.ndarray, Pullback]:
        """Return what the call returns, with dropout, and its pullback.

        ``d_inputs = pullback(d_output)`` adds the parameters' gradients into ``gradients``;
        `d_inputs` is (T, B, I), None where the inputs are ids or without `input_gradient`.
        """
        padded = self._read(inputs)
        hidden, _, encoder_pullback = self.encoder.vjp(padded, input_gradient=input_gradient)
        pooled, pooling_pullback = self.pooling.vjp(hidden, padded.lengths)
        dropped, dropout_pullback = self.dropout.vjp(pooled)
        output, output_pullback = self.output.vjp(dropped, copy=False)

        def adjoint(d_output: ArrayLike) -> np.ndarray | None:
            d_pooled = dropout_pullback(output_pullback(d_output))
            return encoder_pullback(pooling_pullback(d_pooled))[0]

        return output, Pullback(adjoint)

    def _vjp_of_parameters(self, inputs: Padded | Sequences) -> tuple[np.ndarray, Pullback]:
        return self.vjp(inputs, input_gradient=False)

    def stream(self, batch_size: int = 1) -> PooledStream:
        """Return an object that reads a step at a time; it returns the output for all steps so far.

        Raises
        ------
        ValueError
            If the model is bidirectional: it needs the end of the sequence.
        """
        return PooledStream(self.encoder, self.pooling.stream(batch_size), self.output, batch_size)

    def _read(self, inputs: Padded | Sequences) -> Padded:
        return as_padded(inputs)


class PooledStream(HeadStream):
    """A model with pooling that reads one step in each call.

    Its ``state`` is that of the recurrent layers.

    Parameters
    ----------
    encoder : Encoder
    pooling : PoolingStream
    head : callable
        From the pooled vectors (B, output_size) to the result of a step.
    batch_size : int
        Number of sequences B read side by side.
    """

    def __init__(
        self, encoder: Encoder, pooling: PoolingStream, head: Any, batch_size: int = 1
    ) -> None:
        super().__init__(encoder, lambda output: head(pooling.step(output)), batch_size)
        self._pooling = pooling

    def reset(self) -> None:
        super().reset()
        self._pooling.reset()


class SequenceClassifier(PooledModel):
    """Classify sequences.

    Parameters
    ----------
    input_size : int
        Number of symbols V, or width I of the vectors.
    hidden_size : int
        Units H of each recurrent layer and direction.
    num_classes : int
        Number of classes K, 2 at least.
    pooling : {"last", "mean", "attention"}
        What is read of the recurrent layers' outputs: the last step (of each direction its own
        end), their mean, or a mean weighted by learned scores.
    class_weights : array_like or None, shape (K,)
        Weight of each class in the loss, see :func:`fastrnn.losses.softmax_cross_entropy`.
    seed : int, numpy.random.SeedSequence or None
        Source of the initial parameters and of the dropout masks.
    **encoder
        Of :class:`fastrnn.models.Encoder`: ``num_layers``, ``cell``, ``embedding_size``,
        ``bidirectional``, ``inputs``, ``input_dropout``, ``embedding_scale``, ``options``,
        ``dtype``, and ``dropout``, here of what is pooled and between the recurrent layers.

    Attributes
    ----------
    parameters : Parameters
        Of the parts ``encoder``, ``pooling`` (where it has any) and ``output``.
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
        hidden_size: int,
        num_classes: int,
        pooling: str = "last",
        *,
        class_weights: ArrayLike | None = None,
        seed: int | np.random.SeedSequence | None = None,
        **encoder: Any,
    ) -> None:
        classes = check_classes(num_classes, class_weights)
        super().__init__(input_size, hidden_size, classes["num_classes"], pooling, seed, encoder)
        self.config |= classes

    def criterion(self, output: np.ndarray, targets: ArrayLike) -> tuple[float, np.ndarray]:
        """Return the mean cross-entropy in nats of scores (B, K) and labels (B,), int."""
        return softmax_cross_entropy(output, targets, class_weights=self.config["class_weights"])

    def predict(self, inputs: Padded | Sequences, batch_size: int = BATCH_SIZE) -> np.ndarray:
        """Return the likeliest class of each sequence, int64 (B,); `batch_size` at a time."""
        return self._scores(inputs, batch_size).argmax(axis=1)

    def predict_proba(self, inputs: Padded | Sequences, batch_size: int = BATCH_SIZE) -> np.ndarray:
        """Return the probability of each class for each sequence, (B, K)."""
        return softmax(self._scores(inputs, batch_size), axis=1)


class SequenceRegressor(PooledModel):
    """Map each sequence to one number or more.

    Parameters
    ----------
    input_size, hidden_size
        As for :class:`SequenceClassifier`.
    output_size : int
        Numbers D for each sequence.
    pooling, seed, **encoder
        As for :class:`SequenceClassifier`.

    Attributes
    ----------
    parameters, config, generators
        As for :class:`SequenceClassifier`.

    Raises
    ------
    ValueError, TypeError
        As for :class:`SequenceClassifier`.
    """

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        output_size: int = 1,
        pooling: str = "last",
        *,
        seed: int | np.random.SeedSequence | None = None,
        **encoder: Any,
    ) -> None:
        output_size = check_positive_int("output_size", output_size)
        super().__init__(input_size, hidden_size, output_size, pooling, seed, encoder)
        self.config |= {"output_size": output_size}

    def criterion(self, output: np.ndarray, targets: ArrayLike) -> tuple[float, np.ndarray]:
        """Return the mean squared error of (B, D) and targets (B, D), or (B,) where D is 1."""
        return mean_squared_error(output, as_rows(targets, self.config["output_size"]))

    def predict(self, inputs: Padded | Sequences, batch_size: int = BATCH_SIZE) -> np.ndarray:
        """Return the numbers for each sequence, (B, D); `batch_size` sequences at a time."""
        return self._scores(inputs, batch_size)
