"""From a vector to a sequence: what every model that writes has in common."""

from __future__ import annotations

from abc import abstractmethod
from typing import TYPE_CHECKING, Any

import numpy as np

from fastrnn._validation import (
    check_array,
    check_choice,
    check_ids,
    check_lengths,
    check_positive_int,
    check_probability,
)
from fastrnn.data import Padded
from fastrnn.layers.attention import AdditiveAttention, DotAttention, GeneralAttention
from fastrnn.layers.base import Module, Pullback
from fastrnn.layers.dense import Dense
from fastrnn.layers.dropout import Dropout
from fastrnn.losses import softmax_cross_entropy
from fastrnn.models.base import Model, spawn
from fastrnn.models.decoding import beam_search, greedy, sample
from fastrnn.models.encoder import Encoder
from fastrnn.models.predictor import as_padded
from fastrnn.parameters import join

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import ArrayLike

    from fastrnn.models.decoding import Hypothesis

ATTENTIONS = {
    "dot": DotAttention,
    "general": GeneralAttention,
    "additive": AdditiveAttention,
}


class Decoder(Module):
    r"""Recurrent layers that begin with a vector and write symbols, with attention or without.

    .. math:: h_0 = \tanh(W_0 x + b_0), \qquad h_s = f_W(h_{s-1}, E_{y_{s-1}}), \qquad
              p(y_s \mid y_1 \dots y_{s-1}, x) = \mathrm{softmax}(W_y \tilde h_s + b_y)

    where :math:`\tilde h_s` is :math:`h_s`, or with attention and its context :math:`c_s`
    :math:`\tanh(W_c [c_s; h_s] + b_c)`.

    Parameters
    ----------
    context_size : int
        Width X of the vector.
    vocabulary_size : int
        Number of symbols V.
    hidden_size : int
        Units H of each recurrent layer.
    attention : {"dot", "general", "additive"} or None
    memory_size : int or None
        Width of what attention looks at.
    dropout : float
        Probability with which elements of what is scored, and of the outputs of every recurrent
        layer but the last, are dropped in training.
    seed : int, numpy.random.SeedSequence or None
    **recurrent
        Of :class:`fastrnn.models.Encoder`: ``num_layers``, ``cell``, ``embedding_size``,
        ``input_dropout``, ``embedding_scale``, ``dtype``.

    Attributes
    ----------
    parameters : Parameters
        Of the parts ``initial``, ``recurrent``, ``attention`` (where it has any), ``combine``
        (where there is attention) and ``output``.
    config : dict
        Of the recurrent layers, with ``attention``.
    generators : dict of str to numpy.random.Generator

    Source: Luong, Pham and Manning, "Effective approaches to attention-based neural machine
    translation" (2015), section 3, equations 5 and 6. Their attentional states are not fed back,
    so that the recurrent layers run over all steps in one call.
    """

    def __init__(
        self,
        context_size: int,
        vocabulary_size: int,
        hidden_size: int,
        *,
        attention: str | None = None,
        memory_size: int | None = None,
        dropout: float = 0.0,
        seed: Any = None,
        **recurrent: Any,
    ) -> None:
        if attention is not None:
            check_choice("attention", attention, tuple(ATTENTIONS))
        seeds = spawn(seed, 6)
        self.recurrent = Encoder(
            vocabulary_size,
            hidden_size,
            dropout=dropout,
            output_dropout=0.0,
            seed=seeds[0],
            **recurrent,
        )
        self.config = {**self.recurrent.config, "attention": attention}
        layer, dtype = self.recurrent.recurrent, self.config["dtype"]
        states = len(layer.state_widths)
        width = states * layer.num_layers * layer.hidden_size
        self.initial = Dense(context_size, width, dtype=dtype, seed=seeds[1])
        self.attention = self.combine = None
        if attention is not None:
            memory_size = check_positive_int("memory_size", memory_size)
            self.attention = ATTENTIONS[attention](
                layer.hidden_size, memory_size, dtype=dtype, seed=seeds[2]
            )
            self.combine = Dense(
                memory_size + layer.hidden_size, layer.hidden_size, dtype=dtype, seed=seeds[3]
            )
        self.dropout = Dropout(dropout, seed=seeds[4])
        self.output = Dense(layer.hidden_size, vocabulary_size, dtype=dtype, seed=seeds[5])
        parts = {
            "initial": self.initial,
            "recurrent": self.recurrent,
            "attention": self.attention,
            "combine": self.combine,
            "output": self.output,
        }
        self.parameters = join({name: part for name, part in parts.items() if part is not None})
        self.generators = {**self.recurrent.generators, "scored_dropout": self.dropout.generator}

    def __call__(
        self, ids: Padded, context: np.ndarray, memory: Padded | None = None
    ) -> tuple[np.ndarray, np.ndarray | None]:
        """Return the scores of what follows each symbol, and the weights of attention.

        Parameters
        ----------
        ids : Padded
            (S, B) int, the first of each sequence its beginning mark.
        context : ndarray, shape (B, X)
        memory : Padded or None
            (T, B, memory_size), where there is attention.

        Returns
        -------
        logits : ndarray, shape (S, B, V)
            Zero beyond the ends.
        weights : ndarray or None, shape (S, B, T)
        """
        hidden, _ = self.recurrent(ids, self._as_state(np.tanh(self.initial(context))))
        valid = ids.mask
        weights = None
        rows = hidden[valid]
        if self.attention is not None:
            attended, weights = self.attention(hidden, *memory)
            rows = np.tanh(self.combine(np.concatenate([attended[valid], rows], axis=-1)))
        logits = np.zeros((*valid.shape, self.output.out_features), hidden.dtype)
        logits[valid] = self.output(rows)
        return logits, weights

    def vjp(
        self, ids: Padded, context: np.ndarray, memory: Padded | None = None
    ) -> tuple[np.ndarray, Pullback]:
        """Return the scores of what follows each valid symbol, with dropout, and their pullback.

        Returns
        -------
        logits : ndarray, shape (N, V)
            Of the N valid steps, those of all sequences at the first step first.
        pullback : callable
            ``d_context, d_memory = pullback(d_logits)``; the latter is None without attention.
        """
        initial, initial_pullback = self.initial.vjp(context)
        initial = np.tanh(initial)
        hidden, _, recurrent_pullback = self.recurrent.vjp(ids, self._as_state(initial))
        valid = ids.mask
        rows = hidden[valid]
        if self.attention is not None:
            attended, _, attention_pullback = self.attention.vjp(hidden, *memory)
            joined = np.concatenate([attended[valid], rows], axis=-1)
            rows, combine_pullback = self.combine.vjp(joined, copy=False)
            rows = combined = np.tanh(rows)
        rows, dropout_pullback = self.dropout.vjp(rows)
        logits, output_pullback = self.output.vjp(rows, copy=False)

        def adjoint(d_logits: ArrayLike) -> tuple[np.ndarray, np.ndarray | None]:
            d_rows = dropout_pullback(output_pullback(d_logits))
            d_memory = None
            d_hidden = np.zeros_like(hidden)
            if self.attention is None:
                d_hidden[valid] = d_rows
            else:
                d_joined = combine_pullback(d_rows * (1 - combined * combined))
                width = self.attention.memory_size
                d_attended = np.zeros((*valid.shape, width), hidden.dtype)
                d_attended[valid] = d_joined[:, :width]
                d_hidden[valid] = d_joined[:, width:]
                d_queries, d_memory = attention_pullback(d_attended)
                d_hidden += d_queries
            _, d_state = recurrent_pullback(d_hidden)
            d_initial = self._from_state(d_state) * (1 - initial * initial)
            return initial_pullback(d_initial), d_memory

        return logits, Pullback(adjoint)

    def step(
        self, context: np.ndarray, memory: Padded | None = None, beam_width: int = 1
    ) -> Callable[..., np.ndarray]:
        """Return the step that :mod:`fastrnn.models.decoding` writes with.

        Parameters
        ----------
        context, memory
            As for the call, of B sequences.
        beam_width : int
            Rows of each sequence, which stand together.

        Returns
        -------
        step : callable
            ``logits = step(ids, rows=None)``, of B * `beam_width` rows.
        """
        B = len(context)
        stream = self.recurrent.stream(B * beam_width)
        initial = np.tanh(self.initial(context))
        stream.state = self._as_state(np.repeat(initial, beam_width, axis=0))
        attend = None if self.attention is None else self.attention.over(*memory)

        def step(ids: np.ndarray, rows: np.ndarray | None = None) -> np.ndarray:
            if rows is not None:
                state = stream.state
                pair = isinstance(state, tuple)
                stream.state = tuple(s[:, rows] for s in state) if pair else state[:, rows]
            hidden = stream.step(ids)
            if attend is not None:
                # The rows of a sequence look at one memory: they are its queries.
                queries = hidden.reshape(B, beam_width, -1).swapaxes(0, 1)
                attended = attend(queries)[0].swapaxes(0, 1).reshape(len(hidden), -1)
                hidden = np.tanh(self.combine(np.concatenate([attended, hidden], axis=1)))
            return self.output(hidden)

        return step

    def _as_state(self, initial: np.ndarray) -> Any:
        """Return vectors (B, n * L * H) as a state: n arrays (L, B, H)."""
        layer = self.recurrent.recurrent
        parts = initial.reshape(len(initial), -1, layer.num_layers, layer.hidden_size)
        arrays = [parts[:, k].swapaxes(0, 1) for k in range(parts.shape[1])]
        return tuple(arrays) if len(arrays) > 1 else arrays[0]

    def _from_state(self, state: Any) -> np.ndarray:
        """Return a state as vectors; the inverse of `_as_state`."""
        arrays = state if isinstance(state, tuple) else (state,)
        return np.stack([s.swapaxes(0, 1) for s in arrays], axis=1).reshape(arrays[0].shape[1], -1)


class Writer(Model):
    """What models share that read an input and write a sequence: training, and writing.

    A target is the ids of a sequence with its end mark, without a beginning mark:
    ``vocabulary.encode(tokens, eos=True)``. In training the decoder reads the true symbols before
    each that it is to predict (teacher forcing), all steps in one call. With scheduled sampling,
    some of them are replaced by the model's own likeliest ones, those of a first pass over the true
    symbols, so that the second pass is one call too.

    Attributes
    ----------
    decoder : Decoder
    scheduled_sampling : float
        Probability with which a symbol is replaced; may be set while training goes on.

    Source: Bengio et al., "Scheduled sampling for sequence prediction with recurrent neural
    networks" (2015); in two passes as Duckworth et al., "Parallel scheduled sampling" (2019).
    """

    decoder: Decoder
    _sampling: np.random.Generator

    @abstractmethod
    def encode(self, inputs: Any) -> tuple[np.ndarray, Padded | None]:
        """Return what the decoder begins with, (B, X), and what attention looks at."""

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

    def __call__(self, inputs: Any, targets: Padded | Sequence[ArrayLike]) -> np.ndarray:
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
        return self._forced(inputs, targets)[1]

    def attention_weights(
        self, inputs: Any, targets: Padded | Sequence[ArrayLike]
    ) -> np.ndarray | None:
        """Return how much each target looked at each step of its input, (S, B, T), to be plotted.

        The weights of a target sum to 1. None for a model without attention.
        """
        return self._forced(inputs, targets)[2]

    def _forced(self, inputs: Any, targets: Any) -> tuple[Padded, np.ndarray, np.ndarray | None]:
        """Return the checked targets, their scores, and the weights of attention."""
        context, memory = self.encode(inputs)
        targets = self._check(targets, len(context))
        return targets, *self.decoder(self._shifted(targets), context, memory)

    def loss(
        self, inputs: Any, targets: Padded | Sequence[ArrayLike], state: Any = None
    ) -> tuple[float, None]:
        """Return the mean cross-entropy of the targets in nats, without dropout and sampling."""
        targets, logits, _ = self._forced(inputs, targets)
        return softmax_cross_entropy(logits, targets.values, targets.mask)[0], None

    def loss_vjp(
        self, inputs: Any, targets: Padded | Sequence[ArrayLike], state: Any = None
    ) -> tuple[float, None, Pullback]:
        context, memory, encoder_pullback = self.encode_vjp(inputs)
        targets = self._check(targets, len(context))
        ids = self._shifted(targets)
        if self.scheduled_sampling:
            own = Padded(self.decoder(ids, context, memory)[0].argmax(axis=2), targets.lengths)
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
        """Write the likeliest sequence for each input that is found.

        Parameters
        ----------
        inputs
            Of B examples, which are written side by side; see the model.
        beam_width : int
            Hypotheses that are kept of each sequence; 1 takes the likeliest symbol each time.
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
        """
        if beam_width != 1:
            found = self.beam_search(
                inputs,
                beam_width=beam_width,
                length_penalty=length_penalty,
                max_length=max_length,
                exclude=exclude,
            )
            return [hypotheses[0].ids for hypotheses in found]
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
        beam_width = check_positive_int("beam_width", beam_width)
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
        """Return what decoding begins with: the step, the first symbols and the end mark."""
        exclude = check_ids("exclude", exclude, self.decoder.output.out_features)
        if self.config["eos"] in exclude:
            raise ValueError(f"exclude must not have the end mark, {self.config['eos']}, in it")
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
        name: int(check_ids(name, mark, vocabulary_size))
        for name, mark in (("bos", bos), ("eos", eos))
    }
