"""Base of the models that return scores for each frame of a sequence."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from fastrnn.data import Padded
from fastrnn.layers.base import Pullback
from fastrnn.layers.dense import Dense
from fastrnn.models.base import spawn
from fastrnn.models.encoder import Encoder, HeadStream, check_encoder
from fastrnn.models.predictor import Predictor, as_padded
from fastrnn.parameters import join

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import ArrayLike

    from fastrnn.data.batches import Sequences


class FramewiseModel(Predictor):
    r"""A model that reads a sequence and returns a vector for each frame.

    .. math:: h_1 \dots h_T = \mathrm{encoder}(x_1 \dots x_T), \qquad y_t = W h_t + b

    Attributes
    ----------
    parameters : Parameters
        Of the parts ``encoder`` and ``output``.
    """

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        output_size: int,
        seed: int | np.random.SeedSequence | None,
        encoder: dict[str, Any],
    ) -> None:
        seeds = spawn(seed, 2)
        self.encoder = Encoder(
            input_size, hidden_size, **check_encoder(self, encoder), seed=seeds[0]
        )
        self.config = self.encoder.config
        width, dtype = self.encoder.output_size, self.config["dtype"]
        self.output = Dense(width, output_size, dtype=dtype, seed=seeds[1])
        self.parameters = join({"encoder": self.encoder, "output": self.output})
        self.generators = self.encoder.generators

    def __call__(self, inputs: Padded | Sequences) -> Padded:
        """Return scores for each frame.

        Parameters
        ----------
        inputs : Padded, or sequences
            B sequences of ids, int of shape (T_b,), or of vectors (T_b, I); T_b >= 1.

        Returns
        -------
        scores : Padded
            Of shape (frames, B, output size), with the sequences' numbers of frames: T_b, unless
            the model says otherwise.

        Raises
        ------
        ValueError, TypeError
            If a sequence is empty, has another width or an id without a vector, or is not numbers.
        """
        frames = self._read(inputs)
        return Padded(self.output(self.encoder(frames)[0]), frames.lengths)

    def vjp(self, inputs: Padded | Sequences) -> tuple[Padded, Pullback]:
        frames = self._read(inputs)
        hidden, _, encoder_pullback = self.encoder.vjp(frames, input_gradient=False)
        scores, output_pullback = self.output.vjp(hidden, copy=False)

        def adjoint(d_scores: ArrayLike) -> None:
            encoder_pullback(output_pullback(d_scores))

        return Padded(scores, frames.lengths), Pullback(adjoint)

    def stream(self, batch_size: int = 1) -> HeadStream:
        """Return an object that reads a step at a time; a step returns its scores (B, K).

        Raises
        ------
        ValueError
            If the model is bidirectional: it needs the end of the sequence.
        """
        return HeadStream(self.encoder, self.output, batch_size)

    def _read(self, inputs: Padded | Sequences) -> Padded:
        """Return what the encoder reads."""
        return as_padded(inputs)
