"""Read a sequence and give each of its steps a label."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from scipy.special import softmax

from fastrnn.data import Padded
from fastrnn.layers.base import Pullback
from fastrnn.layers.dense import Dense
from fastrnn.losses import softmax_cross_entropy
from fastrnn.models.base import spawn
from fastrnn.models.encoder import Encoder, HeadStream
from fastrnn.models.predictor import Predictor, as_padded, check_classes
from fastrnn.parameters import join

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import ArrayLike


class SequenceTagger(Predictor):
    r"""Sequences in, scores of classes out at every step.

    .. math:: h_1 \dots h_T = \mathrm{encoder}(x_1 \dots x_T), \qquad y_t = W h_t + b

    Parameters
    ----------
    input_size, hidden_size, num_classes, class_weights, seed, **encoder
        As for :class:`fastrnn.models.SequenceClassifier`; ``dropout`` is of every step's output.

    Attributes
    ----------
    parameters : Parameters
        Of the parts ``encoder`` and ``output``.
    config, generators
        As every :class:`fastrnn.models.Model` has them.
    """

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_classes: int,
        *,
        class_weights: ArrayLike | None = None,
        seed: int | np.random.SeedSequence | None = None,
        **encoder: Any,
    ) -> None:
        classes = check_classes(num_classes, class_weights)
        seeds = spawn(seed, 2)
        self.encoder = Encoder(input_size, hidden_size, **encoder, seed=seeds[0])
        self.config = {**self.encoder.config, **classes}
        width, dtype = self.encoder.output_size, self.config["dtype"]
        self.output = Dense(width, self.config["num_classes"], dtype=dtype, seed=seeds[1])
        self.parameters = join({"encoder": self.encoder, "output": self.output})
        self.generators = self.encoder.generators

    def __call__(self, inputs: Padded | Sequence[ArrayLike]) -> Padded:
        """Return scores for each step.

        Parameters
        ----------
        inputs : Padded, or sequences
            B sequences of ids, int of shape (T_b,), or of vectors (T_b, I); T_b >= 1.

        Returns
        -------
        scores : Padded
            Of shape (T, B, K), with the lengths of the inputs.

        Raises
        ------
        ValueError, TypeError
            If a sequence is empty, has another width or an id without a vector, or is not numbers.
        """
        padded = as_padded(inputs)
        return Padded(self.output(self.encoder(padded)[0]), padded.lengths)

    def vjp(self, inputs: Padded | Sequence[ArrayLike]) -> tuple[Padded, Pullback]:
        padded = as_padded(inputs)
        hidden, _, encoder_pullback = self.encoder.vjp(padded)
        scores, output_pullback = self.output.vjp(hidden, copy=False)

        def adjoint(d_scores: ArrayLike) -> None:
            encoder_pullback(output_pullback(d_scores))

        return Padded(scores, padded.lengths), Pullback(adjoint)

    def criterion(
        self, output: Padded, targets: Padded | Sequence[ArrayLike]
    ) -> tuple[float, np.ndarray]:
        """Return the mean cross-entropy of all steps, and its gradient with respect to the scores.

        Parameters
        ----------
        output : Padded
            Scores (T, B, K).
        targets : Padded, or sequences
            Labels, int: one for each step of each sequence.

        Returns
        -------
        loss : float
            Nats, mean over the valid steps; padding is not read.
        d_scores : ndarray, shape (T, B, K)
        """
        scores, lengths = output
        targets = as_padded(targets)
        if not np.array_equal(targets.lengths, lengths):
            raise ValueError(
                "targets must have a label for each step: lengths must be "
                f"{np.asarray(lengths).tolist()}, got {np.asarray(targets.lengths).tolist()}"
            )
        valid = np.arange(len(scores))[:, None] < lengths
        mask = None if valid.all() else valid
        return softmax_cross_entropy(scores, targets.values, mask, self.config["class_weights"])

    def predict(self, inputs: Padded | Sequence[ArrayLike]) -> list[np.ndarray]:
        """Return the likeliest class of each step, int64 (T_b,) for each sequence."""
        return [scores.argmax(axis=1) for scores in self._each(inputs)]

    def predict_proba(self, inputs: Padded | Sequence[ArrayLike]) -> list[np.ndarray]:
        """Return the probability of each class at each step, (T_b, K) for each sequence."""
        return [softmax(scores, axis=1) for scores in self._each(inputs)]

    def stream(self, batch_size: int = 1) -> HeadStream:
        """Return an object that reads a step at a time; a step returns its scores (B, K).

        Raises
        ------
        ValueError
            If the model is bidirectional: it needs the end of the sequence.
        """
        return HeadStream(self.encoder, self.output, batch_size)

    def _each(self, inputs: Padded | Sequence[ArrayLike]) -> list[np.ndarray]:
        scores, lengths = self(inputs)
        return [scores[:length, b] for b, length in enumerate(lengths)]
