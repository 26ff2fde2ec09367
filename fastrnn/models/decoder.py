"""From a vector to scores of a sequence: recurrent layers, with or without attention."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from fastrnn._validation import check_choice, check_positive_int
from fastrnn.data import Padded
from fastrnn.layers.attention import AdditiveAttention, DotAttention, GeneralAttention
from fastrnn.layers.base import Module, Pullback
from fastrnn.layers.dense import Dense
from fastrnn.layers.dropout import Dropout
from fastrnn.models.base import spawn
from fastrnn.models.encoder import Encoder
from fastrnn.parameters import join

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import ArrayLike

ATTENTIONS = {
    "dot": DotAttention,
    "general": GeneralAttention,
    "additive": AdditiveAttention,
}


class Decoder(Module):
    r"""Recurrent layers that start from a vector and write symbols, with or without attention.

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
        Width of the memory that attention looks at.
    dropout : float
        Probability with which elements of the outputs of all recurrent layers but the last, and of
        the vectors :math:`\tilde h_s`, are dropped in training.
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

    References
    ----------
    Luong, Pham and Manning, "Effective approaches to attention-based neural machine translation"
    (2015), section 3, equations 5 and 6. Their attentional states are not fed back, so that the
    recurrent layers run over all steps in one call.
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
        rows, weights = self.rows(ids, context, memory)
        logits = np.zeros((*ids.values.shape, rows.shape[1]), rows.dtype)
        logits[ids.mask] = rows
        return logits, weights

    def rows(
        self, ids: Padded, context: np.ndarray, memory: Padded | None = None
    ) -> tuple[np.ndarray, np.ndarray | None]:
        """Return what the call returns, but of the N valid steps alone, in the order of `vjp`."""
        hidden, _ = self.recurrent(ids, self._as_state(np.tanh(self.initial(context))))
        valid = ids.mask
        weights = None
        rows = hidden[valid]
        if self.attention is not None:
            attended, weights = self.attention(hidden, *memory)
            rows = np.tanh(self.combine(np.concatenate([attended[valid], rows], axis=-1)))
        return self.output(rows), weights

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
        """Return the step that the functions of :mod:`fastrnn.models.decoding` call.

        Parameters
        ----------
        context, memory
            As for the call, of B sequences.
        beam_width : int
            Rows of each sequence; they are adjacent.

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
                # All rows of a sequence attend to one memory: they are its queries.
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
