"""Read a sequence and return a shorter one, learnt without an alignment between the two."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from fastrnn._validation import check_lengths, check_num_classes, check_positive_int, check_step
from fastrnn.data import Padded
from fastrnn.losses import ctc
from fastrnn.models.ctc_decoding import best_path, prefix_beam
from fastrnn.models.encoder import HeadStream
from fastrnn.models.framewise import FramewiseModel
from fastrnn.models.predictor import BATCH_SIZE, as_padded, in_batches

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

    from fastrnn.data.batches import Sequences

BLANK = 0


class CTCRecognizer(FramewiseModel):
    r"""Sequences in, shorter sequences of symbols out: connectionist temporal classification.

    .. math:: h_1 \dots h_T = \mathrm{encoder}(x_1 \dots x_T), \qquad
              p(k \mid t) = \mathrm{softmax}(W h_t + b)_k

    Symbol 0 is the blank: the frame adds no symbol. The output is the symbols of all frames, with
    runs of equal symbols merged into one and then blanks dropped.

    Parameters
    ----------
    input_size : int
        Number of symbols in the input, or width I of the vectors.
    hidden_size : int
        Units H of each recurrent layer and direction.
    num_symbols : int
        Number V of output symbols, the blank included: targets are 1 to V - 1.
    repeat : int
        Frames for each step of the input: every step is read this many times in a row, so that the
        output may be longer than the input.
    stack : int
        Vectors that are concatenated to one frame, which gives a shorter sequence of wider vectors.
        Zeros complete the last frame.
    seed : int, numpy.random.SeedSequence or None
        Source of the initial parameters and of the dropout masks.
    **encoder
        Of :class:`fastrnn.models.Encoder`: ``num_layers``, ``cell``, ``embedding_size``,
        ``bidirectional``, ``dropout``, ``inputs``, ``input_dropout`` and the others.

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

    References
    ----------
    Graves et al., "Connectionist temporal classification: labelling unsegmented sequence data with
    recurrent neural networks" (2006); stacked frames as Sak et al., "Fast and accurate recurrent
    neural network acoustic models for speech recognition" (2015).
    """

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_symbols: int,
        *,
        repeat: int = 1,
        stack: int = 1,
        seed: int | np.random.SeedSequence | None = None,
        **encoder: Any,
    ) -> None:
        num_symbols = check_num_classes("num_symbols", num_symbols)  # the blank and another
        repeat, stack = check_positive_int("repeat", repeat), check_positive_int("stack", stack)
        if stack > 1 and encoder.get("inputs") != "vectors":
            raise ValueError(f"stack must be 1 where inputs are ids, got {stack}")
        input_size = check_positive_int("input_size", input_size)
        super().__init__(input_size * stack, hidden_size, num_symbols, seed, encoder)
        self.config |= {
            "input_size": input_size,
            "num_symbols": num_symbols,
            "repeat": repeat,
            "stack": stack,
        }

    def criterion(self, output: Padded, targets: Padded | Sequences) -> tuple[float, np.ndarray]:
        """Return the loss, see :func:`fastrnn.losses.ctc`, and its gradient.

        Parameters
        ----------
        output : Padded
            Scores (N, B, V).
        targets : Padded, or sequences
            Symbols, int: 1 to V - 1. A target may be empty; it must fit its frames.

        Returns
        -------
        loss : float
            Nats a symbol of a target, mean over the sequences.
        d_scores : ndarray, shape (N, B, V)

        Raises
        ------
        ValueError, TypeError
            If a target is not of such symbols or does not fit, or there are not B of them.
        """
        return ctc(*output, *as_padded(targets, "targets", may_be_empty=True), blank=BLANK)

    def count(self, targets: Padded | Sequences) -> int:
        """Return the number of sequences: each counts the same in the loss."""
        return len(targets.lengths if isinstance(targets, Padded) else targets)

    def predict(
        self,
        inputs: Padded | Sequences,
        batch_size: int = BATCH_SIZE,
        *,
        beam_width: int | None = None,
    ) -> list[np.ndarray]:
        """Return the symbols of each sequence.

        Parameters
        ----------
        inputs : Padded, or sequences
        batch_size : int
            Sequences that are read together.
        beam_width : int or None
            None takes the best symbol of each frame; a number takes the most probable symbols that
            a search with a beam of this many prefixes finds. See
            :mod:`fastrnn.models.ctc_decoding`.

        Returns
        -------
        symbols : list of ndarray of int64, shape (S_b,)

        Raises
        ------
        ValueError, TypeError
            As for a call; if a number is not a positive integer, or scores are not finite.
        """
        if beam_width is not None:
            check_positive_int("beam_width", beam_width)
        symbols: list[np.ndarray] = []
        for scores in in_batches(self, inputs, batch_size):
            if beam_width is None:
                symbols += best_path(*scores, blank=BLANK)
            else:
                symbols += [read[0].symbols for read in prefix_beam(*scores, beam_width, BLANK)]
        return symbols

    def stream(self, batch_size: int = 1) -> CTCRecognizerStream:
        """Return an object that reads a step at a time; a step returns scores (n, B, V).

        Raises
        ------
        ValueError
            If the model is bidirectional: it needs the end of the sequence.
        """
        return CTCRecognizerStream(self, batch_size)

    def _read(self, inputs: Padded | Sequences) -> Padded:
        values, lengths = padded = as_padded(inputs)
        repeat, stack = self.config["repeat"], self.config["stack"]
        if repeat == stack == 1:
            return padded
        values = self.encoder.check_steps(values, self.config["input_size"])
        lengths = repeat * check_lengths(lengths, *values.shape[:2])
        values = np.repeat(values, repeat, axis=0)
        if stack > 1:
            values = _stack(values, lengths, stack)
        return Padded(values, -(-lengths // stack))


class CTCRecognizerStream(HeadStream):
    """A recogniser that reads one step in each call; its ``state`` is the recurrent layers'.

    Parameters
    ----------
    model : CTCRecognizer
    batch_size : int
        Number of sequences B read side by side.
    """

    def __init__(self, model: CTCRecognizer, batch_size: int = 1) -> None:
        super().__init__(model.encoder, model.output, batch_size)
        self._model, self._batch_size = model, batch_size
        self._waiting: list[np.ndarray] = []

    def step(self, inputs: ArrayLike) -> np.ndarray:
        """Read the next ids (B,) or vectors (B, I); return the scores (n, B, V) of complete frames.

        These are ``repeat`` frames; with stacked vectors one after every ``stack`` vectors.
        """
        config = self._model.config
        if config["stack"] > 1:
            dtype = self._model.encoder.recurrent.dtype
            shape = (self._batch_size, config["input_size"])
            inputs = check_step("inputs", inputs, dtype, *shape, copy=True)  # it may wait
            inputs = inputs.reshape(shape)
        scores = []
        for _ in range(config["repeat"]):
            waiting = [*self._waiting, inputs]
            if len(waiting) == config["stack"]:
                scores.append(self._read(waiting))
            else:
                self._waiting = waiting
        return self._scores(scores)

    def finish(self) -> np.ndarray:
        """Return the scores (n, B, V) of the incomplete last frame, if any, padded with zeros."""
        if not self._waiting:
            return self._scores([])
        missing = self._model.config["stack"] - len(self._waiting)
        padding = [np.zeros_like(self._waiting[0])] * missing
        return self._scores([self._read(self._waiting + padding)])

    def reset(self) -> None:
        super().reset()
        self._waiting = []

    def _read(self, frame: list[np.ndarray]) -> np.ndarray:
        scores = super().step(np.concatenate(frame, axis=1) if len(frame) > 1 else frame[0])
        self._waiting = []  # only now: a step that raised has read nothing
        return scores

    def _scores(self, rows: list[np.ndarray]) -> np.ndarray:
        shape = (len(rows), self._batch_size, self._model.config["num_symbols"])
        return np.reshape(rows, shape).astype(self._model.config["dtype"], copy=False)


def _stack(values: np.ndarray, lengths: np.ndarray, stack: int) -> np.ndarray:
    """Return vectors (T, B, I) as (ceil(T / stack), B, stack * I), zeros beyond the lengths."""
    T, B, I = values.shape
    frames = -(-T // stack)
    stacked = np.zeros((frames * stack, B, I), values.dtype)
    valid = Padded(values, lengths).mask
    stacked[:T][valid] = values[valid]
    return stacked.reshape(frames, stack, B, I).swapaxes(1, 2).reshape(frames, B, stack * I)
