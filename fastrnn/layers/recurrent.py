"""Recurrent layers: stacks of one cell, in one or both directions, over batches of sequences."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from fastrnn._validation import (
    as_array,
    check_array,
    check_bool,
    check_choice,
    check_dtype,
    check_ids,
    check_non_negative_int,
    check_positive_int,
    check_probability,
)
from fastrnn.backends import active_backend
from fastrnn.cells import CELLS, CellSpec
from fastrnn.layers.base import Module, Pullback
from fastrnn.layers.dropout import Dropout
from fastrnn.layers.packing import Packing
from fastrnn.parameters import Parameters
from fastrnn.streaming import Stream

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from types import ModuleType

    from numpy.typing import ArrayLike, DTypeLike

    from fastrnn.layers.embedding import Embedding

    State = ArrayLike | tuple[ArrayLike, ArrayLike]


class Pass(NamedTuple):
    """One direction of one layer: what a backend is called with."""

    direction: int  # 0 forwards, 1 backwards in time
    weights: dict[str, np.ndarray]
    gradients: dict[str, np.ndarray]


class Recurrent(Module):
    """What `RNN`, `LSTM` and `GRU` share: everything but the cell."""

    def __init__(
        self,
        cell: CellSpec,
        input_size: int,
        hidden_size: int,
        num_layers: int,
        bias: bool,
        batch_first: bool,
        dropout: float,
        bidirectional: bool,
        proj_size: int,
        dtype: DTypeLike,
        seed: Any,
    ) -> None:
        self.cell = cell
        self.input_size = check_positive_int("input_size", input_size)
        self.hidden_size = check_positive_int("hidden_size", hidden_size)
        self.num_layers = check_positive_int("num_layers", num_layers)
        self.bias = check_bool("bias", bias)
        self.batch_first = check_bool("batch_first", batch_first)
        self.dropout = check_probability("dropout", dropout)
        self.bidirectional = check_bool("bidirectional", bidirectional)
        self.proj_size = check_non_negative_int("proj_size", proj_size)
        if self.proj_size >= self.hidden_size:
            raise ValueError(
                f"proj_size must be less than hidden_size, {self.hidden_size}, got {proj_size}"
            )
        self.dtype = check_dtype(dtype)
        self.generator = np.random.default_rng(seed)
        self._between = Dropout(self.dropout, seed=self.generator)
        self.num_directions = 2 if self.bidirectional else 1
        self.depth = self.num_layers * self.num_directions
        # Width of h, hence of a direction's output; the other states stay hidden_size wide.
        self.output_size = self.proj_size or self.hidden_size
        self.state_widths = tuple(
            self.output_size if name == "h" else self.hidden_size for name in cell.states
        )
        self.parameters = Parameters(self._shapes(), self.dtype)
        bound = 1 / math.sqrt(self.hidden_size)
        for array in self.parameters.values():
            array[...] = self.generator.uniform(-bound, bound, array.shape)
        self._bound_to: np.ndarray | None = None
        self._passes: list[Pass] = []

    def _shapes(self) -> Iterator[tuple[str, tuple[int, ...]]]:
        rows, width = len(self.cell.gates) * self.hidden_size, self.output_size
        for layer in range(self.num_layers):
            inputs = width * self.num_directions if layer else self.input_size
            for direction in range(self.num_directions):
                suffix = _suffix(layer, direction)
                yield "weight_ih" + suffix, (rows, inputs)
                yield "weight_hh" + suffix, (rows, width)
                if self.bias:
                    yield "bias_ih" + suffix, (rows,)
                    yield "bias_hh" + suffix, (rows,)
                if self.proj_size:
                    yield "weight_hr" + suffix, (width, self.hidden_size)

    def passes(self) -> list[Pass]:
        """Return the passes of the stack, layer by layer, with views of the current parameters."""
        # Joining the layer into a model moves its parameters to another buffer.
        if self._bound_to is not self.parameters.flat_values:
            self._passes = [
                Pass(
                    direction,
                    _views(self.parameters, _suffix(layer, direction)),
                    _views(self.gradients, _suffix(layer, direction)),
                )
                for layer in range(self.num_layers)
                for direction in range(self.num_directions)
            ]
            self._bound_to = self.parameters.flat_values
        return self._passes

    def __call__(
        self, x: ArrayLike, state: State | None = None, lengths: ArrayLike | None = None
    ) -> tuple[np.ndarray, Any]:
        """Run the layer for inference; nothing is kept, dropout does nothing.

        Parameters
        ----------
        x : array_like, shape (T, B, I), (B, T, I) if ``batch_first``, or (T, I) for one sequence
            Anything that casts to the layer's dtype under NumPy's ``same_kind`` rule; T >= 1.
        state : array_like or None, shape (num_layers * num_directions, B, H)
            Initial h, for an LSTM the pair (h, c); without B for one sequence. None is zero. h is
            ``proj_size`` wide where there is a projection.
        lengths : sequence of int or None, shape (B,)
            Valid steps of each sequence, 0 to T in any order. What lies beyond is never read.

        Returns
        -------
        output : ndarray, shape (T, B, num_directions * H), laid out like `x`
            h of the last layer at each step, zero beyond a sequence's end. Forward direction first.
        state : ndarray or pair of ndarray, shaped like `state`
            At each sequence's own end.

        Raises
        ------
        ValueError
            For a wrong shape, T = 0, or lengths outside 0..T.
        TypeError
            For complex, object or string arrays, lengths that are no integers, or a state that is
            not a pair where it must be.
        """
        output, final, _ = self._run(x, state, lengths, keep_tape=False)
        return output, final

    def vjp(
        self, x: ArrayLike, state: State | None = None, lengths: ArrayLike | None = None
    ) -> tuple[np.ndarray, Any, Pullback]:
        """Run the layer for training: as a call, with dropout, and with a pullback.

        Parameters
        ----------
        x, state, lengths
            As for a call. The caller may overwrite them, and the results, at once.

        Returns
        -------
        output, state
            As for a call.
        pullback : callable
            ``d_x, d_state = pullback(d_output=None, d_state=None)``, once. Takes gradients shaped
            like `output` and `state` (None, or None in a pair, is zero), adds those of the
            parameters into ``gradients`` and returns those of `x` and the initial state, also where
            that was None. The parameters must still be those of this call.

        Raises
        ------
        ValueError, TypeError
            As for a call; the pullback as well. RuntimeError when it is called again.
        """
        return self._run(x, state, lengths, keep_tape=True)

    def on_ids(
        self,
        ids: ArrayLike,
        embedding: Embedding | None,
        state: State | None = None,
        lengths: ArrayLike | None = None,
    ) -> tuple[np.ndarray, Any]:
        """Run the layer for inference on the vectors of ids, as ``self(embedding(ids), ...)`` does.

        The vectors need not be made: where symbols are fewer than steps, the input product is that
        of the table, of which each step takes a row.

        Parameters
        ----------
        ids : array_like of int, shape (T, B), (B, T) if ``batch_first``, or (T,)
        embedding : Embedding or None
            Gives the vectors, `input_size` wide. None takes one-hot vectors.
        state, lengths
            As for a call.

        Returns
        -------
        output, state
            As for a call.

        Raises
        ------
        ValueError, TypeError
            If an id has no vector, or as for a call.
        """
        output, final, _ = self._run_ids(ids, embedding, state, lengths, keep_tape=False)
        return output, final

    def vjp_on_ids(
        self,
        ids: ArrayLike,
        embedding: Embedding | None,
        state: State | None = None,
        lengths: ArrayLike | None = None,
    ) -> tuple[np.ndarray, Any, Pullback]:
        """Run the layer for training on the vectors of ids; see :meth:`on_ids` and :meth:`vjp`.

        Returns
        -------
        output, state
            As for :meth:`vjp`.
        pullback : callable
            ``None, d_state = pullback(d_output=None, d_state=None)``, once; adds the gradient of
            the embedding into its ``gradients`` too.
        """
        return self._run_ids(ids, embedding, state, lengths, keep_tape=True)

    def stream(self, batch_size: int = 1) -> Stream:
        """Return a `Stream`, which takes one step at a time and keeps its own state.

        Raises
        ------
        ValueError
            If the layer is bidirectional: its output needs the end of the sequence.
        """
        return Stream(self, batch_size)

    def check_state(
        self, argument: str, value: Any, B: int | None, *, copy: bool = False
    ) -> list[np.ndarray | None]:
        """Return a state, or the gradient of one, as its arrays in the cell's order.

        Parameters
        ----------
        argument : {"state", "d_state"}
        value : array_like, pair, or None
            An array that is left out is None in the result.
        B : int or None
            Number of sequences, None for one without its axis.
        copy : bool
            True returns memory of its own.
        """
        if value is None:
            return [None] * len(self.state_widths)
        names = [name + "0" if argument == "state" else "d_" + name for name in self.cell.states]
        if len(names) == 1:
            value = (value,)
        elif not isinstance(value, (tuple, list)) or len(value) != len(names):
            expected = ", ".join(names)
            raise TypeError(f"{argument} must be a pair ({expected}), got {type(value).__name__}")
        leading = (self.depth,) if B is None else (self.depth, B)
        return [
            None if array is None else check_array(name, array, self.dtype, shape, copy=copy)
            for name, array, shape in zip(
                names, value, [(*leading, width) for width in self.state_widths]
            )
        ]

    def _run(self, x: Any, state: Any, lengths: Any, keep_tape: bool) -> tuple[Any, ...]:
        given = as_array("x", x)
        unbatched = given.ndim == 2
        leading = ("T",) if unbatched else ("B", "T") if self.batch_first else ("T", "B")
        x = check_array("x", given, self.dtype, (*leading, self.input_size))
        packing = Packing(x.shape[:-1], self.batch_first, lengths)
        rows = packing.pack(x)
        if keep_tape and np.may_share_memory(rows, given):
            # The tape refers to it, and the caller may overwrite x.
            given, rows = rows, active_backend().empty(rows.shape, self.dtype)
            rows[...] = given
        return self._run_rows(rows, packing, unbatched, state, keep_tape, None)

    def _run_ids(
        self, ids: Any, embedding: Embedding | None, state: Any, lengths: Any, keep_tape: bool
    ) -> tuple[Any, ...]:
        if embedding is not None:
            table = embedding.parameters["weight"]
            check_array("embedding", table, self.dtype, ("V", self.input_size))
        symbols = self.input_size if embedding is None else embedding.num_embeddings
        ids = check_ids("ids", ids, symbols)
        if ids.ndim not in (1, 2):
            raise ValueError(f"ids must be (T, B) or (T,), got {ids.shape}")
        packing = Packing(ids.shape, self.batch_first, lengths)
        rows = packing.pack(ids[..., None]).reshape(-1)
        if keep_tape:
            rows = rows.copy()
        return self._run_rows(rows, packing, ids.ndim == 1, state, keep_tape, embedding)

    def _run_rows(
        self,
        rows: np.ndarray,
        packing: Packing,
        unbatched: bool,
        state: Any,
        keep_tape: bool,
        embedding: Embedding | None,
    ) -> tuple[Any, ...]:
        B = None if unbatched else packing.B
        given_state = self.check_state("state", state, B)
        initial = [
            np.zeros((self.depth, packing.B, width), self.dtype)
            if array is None
            else packing.sort(array)
            for array, width in zip(given_state, self.state_widths)
        ]
        backend = active_backend()
        rows, final, tapes, dropped = self._forward(
            backend, rows, packing.offsets, initial, keep_tape, embedding
        )
        output = packing.unpack(rows)
        final = _as_state([packing.restore(array) for array in final])
        if not keep_tape:
            return output, final, None
        shape = output.shape

        def adjoint(d_output: Any = None, d_state: Any = None) -> tuple[np.ndarray, Any]:
            d_final = self.check_state("d_state", d_state, B)
            d_final = [None if d is None else packing.sort(d) for d in d_final]
            d_rows = None
            if d_output is not None:
                d_rows = packing.pack(check_array("d_output", d_output, self.dtype, shape))
            d_rows, d_initial = self._adjoint(
                backend, tapes, dropped, d_rows, d_final, packing.B, embedding
            )
            d_initial = _as_state([packing.restore(d) for d in d_initial])
            return None if d_rows is None else packing.unpack(d_rows), d_initial

        return output, final, Pullback(adjoint)

    def _forward(
        self,
        backend: ModuleType,
        rows: np.ndarray,
        offsets: np.ndarray,
        initial: list[np.ndarray],
        keep_tape: bool,
        embedding: Embedding | None,
    ) -> tuple[np.ndarray, list[np.ndarray], list[Any], list[Pullback]]:
        """Run all passes over packed rows; see `fastrnn.backends.reference.scan`.

        Returns the output rows, the final states, the passes' tapes, and the pullbacks of dropout
        between the layers where it is in effect.
        """
        final = [np.empty_like(array) for array in initial]
        tapes: list[Any] = []
        dropped: list[Pullback] = []
        P = self.output_size
        for k, (direction, weights, _) in enumerate(self.passes()):
            if direction == 0:
                below, rows = rows, backend.empty((len(rows), self.num_directions * P), self.dtype)
                if k and keep_tape and self.dropout:
                    below, pullback = self._between.vjp(below)
                    dropped.append(pullback)
            if embedding is not None and k < self.num_directions:
                weights = {**weights, "embedding": embedding.parameters["weight"]}
            last, tape = backend.scan(
                self.cell,
                weights,
                below,
                offsets,
                tuple([array[k] for array in initial]),
                rows[:, direction * P : (direction + 1) * P],
                reverse=direction == 1,
                keep_tape=keep_tape,
            )
            tapes.append(tape)
            for array, value in zip(final, last):
                array[k] = value
        return rows, final, tapes, dropped

    def _adjoint(
        self,
        backend: ModuleType,
        tapes: list[Any],
        dropped: list[Pullback],
        d_rows: np.ndarray | None,
        d_final: list[np.ndarray | None],
        B: int,
        embedding: Embedding | None,
    ) -> tuple[np.ndarray | None, list[np.ndarray]]:
        """Run the adjoints of all passes; see `fastrnn.backends.reference.scan_adjoint`."""
        d_initial = [np.empty((self.depth, B, width), self.dtype) for width in self.state_widths]
        P = self.output_size
        d_below = None
        for k, (direction, _, gradients) in reversed(list(enumerate(self.passes()))):
            if embedding is not None and k < self.num_directions:
                gradients = {**gradients, "embedding": embedding.gradients["weight"]}
            d_x, d_first = backend.scan_adjoint(
                tapes.pop(),
                None if d_rows is None else d_rows[:, direction * P : (direction + 1) * P],
                tuple([None if d is None else d[k] for d in d_final]),
                gradients,
            )
            for array, value in zip(d_initial, d_first):
                array[k] = value
            # Both directions read the same rows.
            d_below = d_x if d_below is None or d_x is None else d_below + d_x
            if direction == 0:
                d_rows, d_below = d_below, None
                if dropped:
                    d_rows = dropped.pop()(d_rows)
        return d_rows, d_initial


class RNN(Recurrent):
    r"""Simple (Elman) layer, :math:`h_t = f(W_{ih} x_t + b_{ih} + W_{hh} h_{t-1} + b_{hh})`.

    Parameters
    ----------
    input_size, hidden_size : int
        Widths I of the input and H of the state.
    num_layers : int
        Size of the stack; each layer reads the output of the one below.
    nonlinearity : {"tanh", "relu"}
        The function f.
    bias : bool
        False leaves out both biases.
    batch_first : bool
        True: input and output are (B, T, ...); the state is not.
    dropout : float
        Probability with which :meth:`vjp` sets outputs of every layer but the last to zero.
    bidirectional : bool
        True: a second set of parameters reads the sequences from their ends; outputs are
        concatenated, and states alternate between the directions.
    dtype : {"float32", "float64"}
    seed : int, numpy.random.Generator or None
        Source of the initial parameters, uniform in :math:`\pm 1 / \sqrt{H}`, and of dropout.

    Attributes
    ----------
    parameters : Parameters
        For each layer k ``weight_ih_lk`` (H, I), ``weight_hh_lk`` (H, H), ``bias_ih_lk`` and
        ``bias_hh_lk`` (H,), and the same with ``_reverse``. Writable, always in effect.
    generator : numpy.random.Generator
        Draws the dropout; a resumed training run has to restore its state.

    Source: `fastrnn.cells.rnn`; names, shapes and order of arguments are those of ``torch.nn.RNN``.
    """

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        nonlinearity: str = "tanh",
        bias: bool = True,
        batch_first: bool = False,
        dropout: float = 0.0,
        bidirectional: bool = False,
        *,
        dtype: DTypeLike = "float32",
        seed: Any = None,
    ) -> None:
        self.nonlinearity = check_choice("nonlinearity", nonlinearity, ("tanh", "relu"))
        super().__init__(
            CELLS["rnn_" + nonlinearity],
            input_size,
            hidden_size,
            num_layers,
            bias,
            batch_first,
            dropout,
            bidirectional,
            0,
            dtype,
            seed,
        )


class LSTM(Recurrent):
    """Long short-term memory layer. Its state is the pair (h, c).

    Parameters
    ----------
    input_size, hidden_size, num_layers, bias, batch_first, dropout, bidirectional, dtype, seed
        As for `RNN`.
    proj_size : int
        If not 0, h is multiplied down to this width, less than `hidden_size`; c is not.

    Attributes
    ----------
    parameters : Parameters
        As for `RNN` with 4*H rows, the gates i, f, g, o; ``weight_hh_lk`` is (4*H, P) and
        ``weight_hr_lk`` (P, H) where there is a projection to P.

    Source: `fastrnn.cells.lstm`, ``torch.nn.LSTM``.
    """

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        bias: bool = True,
        batch_first: bool = False,
        dropout: float = 0.0,
        bidirectional: bool = False,
        proj_size: int = 0,
        *,
        dtype: DTypeLike = "float32",
        seed: Any = None,
    ) -> None:
        super().__init__(
            CELLS["lstm_projected" if proj_size else "lstm"],
            input_size,
            hidden_size,
            num_layers,
            bias,
            batch_first,
            dropout,
            bidirectional,
            proj_size,
            dtype,
            seed,
        )


class GRU(Recurrent):
    """Gated recurrent unit layer, with the reset gate applied after the recurrent product.

    Parameters
    ----------
    input_size, hidden_size, num_layers, bias, batch_first, dropout, bidirectional, dtype, seed
        As for `RNN`.

    Attributes
    ----------
    parameters : Parameters
        As for `RNN` with 3*H rows, the gates r, z, n.

    Source: `fastrnn.cells.gru`, ``torch.nn.GRU``.
    """

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        bias: bool = True,
        batch_first: bool = False,
        dropout: float = 0.0,
        bidirectional: bool = False,
        *,
        dtype: DTypeLike = "float32",
        seed: Any = None,
    ) -> None:
        super().__init__(
            CELLS["gru"],
            input_size,
            hidden_size,
            num_layers,
            bias,
            batch_first,
            dropout,
            bidirectional,
            0,
            dtype,
            seed,
        )


def _as_state(arrays: list[np.ndarray]) -> Any:
    """Return a state as the caller knows it: h, or (h, c)."""
    return arrays[0] if len(arrays) == 1 else tuple(arrays)


def _suffix(layer: int, direction: int) -> str:
    return f"_l{layer}" + ("_reverse" if direction else "")


def _views(arrays: Mapping[str, np.ndarray], suffix: str) -> dict[str, np.ndarray]:
    """Return one direction's arrays under the names that cells know, without the suffix."""
    names = ("weight_ih", "weight_hh", "bias_ih", "bias_hh", "weight_hr")
    return {name: arrays[name + suffix] for name in names if name + suffix in arrays}
