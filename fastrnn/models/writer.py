"""Base of the models that read an input and write a sequence."""

from __future__ import annotations

from abc import abstractmethod
from typing import TYPE_CHECKING, Any

import numpy as np

from fastrnn._validation import (
    check_array,
    check_id,
    check_ids,
    check_lengths,
    check_positive_int,
    check_probability,
)
from fastrnn.data import Padded
from fastrnn.layers.base import Pullback
from fastrnn.losses import softmax_cross_entropy
from fastrnn.models.base import Model
from fastrnn.models.decoding import (
    beam_search,
    check_beam_width,
    check_length_penalty,
    greedy,
    sample,
)
from fastrnn.models.predictor import as_padded

if TYPE_CHECKING:
    from collections.abc import Sequence

    from fastrnn.data.batches import Sequences
    from fastrnn.models.decoder import Decoder
    from fastrnn.models.decoding import Hypothesis


class Writer(Model):
    """Base of the models that read an input and write a sequence.

    A target is the ids of a sequence with its end mark, without a beginning mark:
    ``vocabulary.encode(tokens, eos=True)``. In training the decoder predicts each symbol from the
    true symbols before it (teacher forcing), all steps in one call. With scheduled sampling, some
    of them are replaced by the model's own likeliest symbols. These come from a first run over the
    true symbols, so that the second run is one call too.

    Attributes
    ----------
    decoder : Decoder
    scheduled_sampling : float
        Probability with which a symbol is replaced; may be set during training.

    References
    ----------
    Bengio et al., "Scheduled sampling for sequence prediction with recurrent neural networks"
    (2015); in two runs as Duckworth et al., "Parallel scheduled sampling" (2019).
    """

    settable = ("scheduled_sampling",)
    decoder: Decoder
    _sampling: np.random.Generator

    @abstractmethod
    def encode(self, inputs: Any) -> tuple[np.ndarray, Padded | None]:
        """Return the vectors (B, X) that the decoder starts from, and the memory for attention."""

    @abstractmethod
    def encode_vjp(self, inputs: Any) -> tuple[np.ndarray, Padded | None, Pullback]:
        """Return what :meth:`encode` returns, with dropout; ``pullback(d_context, d_memory)``."""

    @property
    def scheduled_sampling(self) -> float:
        """Probability with which the decoder reads its own symbol in place of the true one."""
        return self.config["scheduled_sampling"]

    @scheduled_sampling.setter
    def scheduled_sampling(self, probability: float) -> None:
        self.config["scheduled_sampling"] = check_probability("scheduled_sampling", probability)

    def __call__(self, inputs: Any, targets: Padded | Sequences) -> np.ndarray:
        """Return the scores of each target, given those before it.

        Parameters
        ----------
        inputs
            Of B examples; see the model.
        targets : Padded, or sequences
            B sequences of ids with their end marks.

        Returns
        -------
        logits : ndarray, shape (S, B, V)
            Zero beyond the ends.

        Raises
        ------
        ValueError, TypeError
            If a sequence is empty, an id unknown or a width wrong.
        """
        return self._forced(inputs, targets)[0]

    def attention_weights(self, inputs: Any, targets: Padded | Sequences) -> np.ndarray | None:
        """Return the weights of attention (S, B, T): of each target, over the steps of its input.

        The weights of a target sum to 1. None for a model without attention.
        """
        return self._forced(inputs, targets)[1]

    def _forced(self, inputs: Any, targets: Any) -> tuple[np.ndarray, np.ndarray | None]:
        """Return the scores of the targets, and the weights of attention."""
        context, memory = self.encode(inputs)
        targets = self._check(targets, len(context))
        return self.decoder(self._shifted(targets), context, memory)

    def loss(
        self, inputs: Any, targets: Padded | Sequences, state: Any = None
    ) -> tuple[float, None]:
        """Return the mean cross-entropy of the targets in nats, without dropout and sampling."""
        context, memory = self.encode(inputs)
        targets = self._check(targets, len(context))
        logits, _ = self.decoder.rows(self._shifted(targets), context, memory)
        return softmax_cross_entropy(logits, targets.values[targets.mask])[0], None

    def loss_vjp(
        self, inputs: Any, targets: Padded | Sequences, state: Any = None
    ) -> tuple[float, None, Pullback]:
        context, memory, encoder_pullback = self.encode_vjp(inputs)
        targets = self._check(targets, len(context))
        ids = self._shifted(targets)
        if self.scheduled_sampling:
            own = Padded(np.zeros_like(ids.values), ids.lengths)
            own.values[ids.mask] = self.decoder.rows(ids, context, memory)[0].argmax(axis=1)
            replaced = self._sampling.random(ids.values.shape) < self.scheduled_sampling
            ids = Padded(np.where(replaced, self._shifted(own).values, ids.values), ids.lengths)
        logits, decoder_pullback = self.decoder.vjp(ids, context, memory)
        loss, d_logits = softmax_cross_entropy(logits, targets.values[targets.mask])

        def adjoint() -> None:
            encoder_pullback(*decoder_pullback(d_logits))

        return loss, None, Pullback(adjoint)

    def predict(
        self,
        inputs: Any,
        *,
        beam_width: int = 1,
        length_penalty: float = 1.0,
        max_length: int = 50,
        exclude: Sequence[int] = (),
    ) -> list[np.ndarray]:
        """Return the likeliest sequence that is found for each input.

        Parameters
        ----------
        inputs
            Of B examples; see the model.
        beam_width : int
            Hypotheses that are kept for each sequence; 1 takes the likeliest symbol each time.
        length_penalty : float
            As for :func:`fastrnn.models.decoding.beam_search`.
        max_length : int
            Symbols after which a sequence ends without an end mark.
        exclude : sequence of int
            Symbols that are never written, such as ``vocabulary.unk``.

        Returns
        -------
        sequences : list of ndarray of int64, shapes (n,)
            Without the end mark.

        Raises
        ------
        ValueError, TypeError
            As for a call; if a number is out of range, `exclude` holds the end mark or anything
            that is not a symbol, or scores are not finite.
        """
        if check_beam_width(beam_width) != 1:
            found = self.beam_search(
                inputs,
                beam_width=beam_width,
                length_penalty=length_penalty,
                max_length=max_length,
                exclude=exclude,
            )
            return [hypotheses[0].ids for hypotheses in found]
        max_length = check_positive_int("max_length", max_length)
        check_length_penalty(length_penalty, max_length)  # though greedy decoding has none
        return greedy(*self._start(inputs, exclude), max_length)

    def beam_search(
        self,
        inputs: Any,
        *,
        beam_width: int = 5,
        length_penalty: float = 1.0,
        max_length: int = 50,
        exclude: Sequence[int] = (),
    ) -> list[list[Hypothesis]]:
        """Return the best hypotheses for each input, the best first; see :meth:`predict`."""
        beam_width = check_beam_width(beam_width)
        return beam_search(
            *self._start(inputs, exclude, beam_width),
            max_length,
            beam_width=beam_width,
            length_penalty=length_penalty,
        )

    def sample(
        self,
        inputs: Any,
        *,
        temperature: float = 1.0,
        top_k: int | None = None,
        max_length: int = 50,
        exclude: Sequence[int] = (),
        seed: int | np.random.Generator | None = None,
    ) -> list[np.ndarray]:
        """Draw a sequence for each input; see :func:`fastrnn.models.decoding.sample`."""
        start = self._start(inputs, exclude)
        return sample(*start, max_length, temperature=temperature, top_k=top_k, seed=seed)

    def _start(self, inputs: Any, exclude: Any, beam_width: int = 1) -> tuple[Any, np.ndarray, int]:
        """Return the first arguments of decoding: the step, the first symbols and the end mark."""
        exclude = check_ids("exclude", exclude, self.decoder.output.out_features)
        if self.config["eos"] in exclude:
            raise ValueError(
                f"exclude must not have the end mark {self.config['eos']}, got {exclude.tolist()}"
            )
        context, memory = self.encode(inputs)
        scores = self.decoder.step(context, memory, beam_width)

        def step(ids: np.ndarray, rows: np.ndarray | None = None) -> np.ndarray:
            logits = scores(ids, rows)
            logits[:, exclude] = -np.inf
            return logits

        return step, np.full(len(context), self.config["bos"]), self.config["eos"]

    def _check(self, targets: Any, B: int) -> Padded:
        """Return targets of valid ids, zeros beyond their ends."""
        targets = as_padded(targets, "targets")
        values = check_array("targets", targets.values, np.dtype(np.int64), ("S", B))
        lengths = check_lengths(targets.lengths, *values.shape)
        values = np.where(Padded(values, lengths).mask, values, 0)
        return Padded(check_ids("targets", values, self.decoder.output.out_features), lengths)

    def _shifted(self, targets: Padded) -> Padded:
        """Return what the decoder reads: the beginning mark, then all targets but the last."""
        ids = np.empty_like(targets.values)
        ids[0], ids[1:] = self.config["bos"], targets.values[:-1]
        return Padded(ids, targets.lengths)


def check_marks(bos: int, eos: int, vocabulary_size: int) -> dict[str, int]:
    """Return the part of a config that says which ids begin and end a sequence."""
    return {
        name: check_id(name, mark, vocabulary_size) for name, mark in (("bos", bos), ("eos", eos))
    }
