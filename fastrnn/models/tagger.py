"""Read a sequence and give each of its steps a label."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from fastrnn._special import softmax
from fastrnn._validation import check_equal_lengths
from fastrnn.data import Padded
from fastrnn.losses import softmax_cross_entropy
from fastrnn.models.framewise import FramewiseModel
from fastrnn.models.predictor import BATCH_SIZE, as_padded, check_classes, in_batches

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import ArrayLike

    from fastrnn.data.batches import Sequences


class SequenceTagger(FramewiseModel):
    r"""Classify every step of a sequence.

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
        *,
        class_weights: ArrayLike | None = None,
        seed: int | np.random.SeedSequence | None = None,
        **encoder: Any,
    ) -> None:
        classes = check_classes(num_classes, class_weights)
        super().__init__(input_size, hidden_size, classes["num_classes"], seed, encoder)
        self.config |= classes

    def criterion(self, output: Padded, targets: Padded | Sequences) -> tuple[float, np.ndarray]:
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

        Raises
        ------
        ValueError, TypeError
            If there are not as many labels as steps, or one is not an integer from 0 to K - 1.
        """
        scores, lengths = output
        targets = as_padded(targets, "targets")
        check_equal_lengths("targets", targets.lengths, "inputs", lengths)
        valid = output.mask
        mask = None if valid.all() else valid
        return softmax_cross_entropy(scores, targets.values, mask, self.config["class_weights"])

    def predict(self, inputs: Padded | Sequences, batch_size: int = BATCH_SIZE) -> list[np.ndarray]:
        """Return the likeliest class of each step, int64 (T_b,) for each sequence.

        `batch_size` sequences are read together.
        """
        return self._each(inputs, batch_size, lambda scores: scores.argmax(axis=2))

    def predict_proba(
        self, inputs: Padded | Sequences, batch_size: int = BATCH_SIZE
    ) -> list[np.ndarray]:
        """Return the probability of each class at each step, (T_b, K) for each sequence."""
        return self._each(inputs, batch_size, lambda scores: softmax(scores, axis=2))

    def _each(
        self,
        inputs: Padded | Sequences,
        batch_size: int,
        function: Callable[[np.ndarray], np.ndarray],
    ) -> list[np.ndarray]:
        """Return what a function makes of the scores (T, B, K), for each sequence."""
        results = []
        for scores, lengths in in_batches(self, inputs, batch_size):
            values = function(scores)
            results += [values[:length, b].copy() for b, length in enumerate(lengths)]
        return results
