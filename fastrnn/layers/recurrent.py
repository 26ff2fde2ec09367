"""Recurrent layers: stacks of one cell, in one or both directions, over batches of sequences."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from fastrnn._validation import (
    as_array,
    check_array,
    check_bool,
    check_dtype,
    check_ids,
    check_non_negative_int,
    check_positive_float,
    check_positive_int,
    check_probability,
    check_seed,
)
from fastrnn.backends import active_backend
from fastrnn.backends.runs import AdjointRun, Extras
from fastrnn.cells import CELLS, CellSpec
from fastrnn.initializers import check_init, initialize
from fastrnn.layers.base import Module, Pullback
from fastrnn.layers.dropout import Dropout
from fastrnn.layers.embedding import Embedding
from fastrnn.layers.packing import Packing, packing_of
from fastrnn.parameters import Parameters
from fastrnn.streaming import Stream

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Mapping
    from types import ModuleType

    from numpy.typing import ArrayLike, DTypeLike

    State = ArrayLike | tuple[ArrayLike, ArrayLike]


MOST_LAYERS = 10_000  # a larger number is a mistake; to make the names alone would take minutes


class Pass(NamedTuple):
    """One direction of one layer: what a backend is called with."""

    direction: int  # 0 forwards, 1 backwards in time
    weights: dict[str, np.ndarray]
    gradients: dict[str, np.ndarray]


class Recurrent(Module):
    r"""What `RNN`, `LSTM` and `GRU` share: everything but the cell.

    Parameters
    ----------
    cell : CellSpec
    input_size, hidden_size, num_layers, bias, batch_first, dropout, bidirectional, proj_size
        As for `LSTM`.
    without : collection of str
        Names of the cell's own parameters that the layer does not have.
    cell_clip : float or None
        Bound of the cell's state, as for `LSTM`; None is no bound.
    dtype, seed
        As for `RNN`.
    reverse : bool
        True runs every sequence from its end to its beginning, as the reverse half of a
        bidirectional layer does; outputs stay at the steps of their inputs, the final state is that
        of step 0. Keras, which calls this ``go_backwards``, returns the outputs in the order in
        which they were made, ``output[::-1]``.
    variational : bool
        True drops the same outputs between layers at every step of a sequence (locked dropout).
    recurrent_dropout : float
        Probability with which :meth:`vjp` sets elements of h to zero where it is multiplied by
        ``weight_hh``, by a mask that is drawn once a sequence; what stays is scaled by
        ``1 / (1 - p)``. The state itself is not touched.
    zoneout : float or pair of float
        Probability with which an element of a state keeps the value it had before the step, drawn
        anew at each step; a pair gives those of h and c. At inference the state is the expected
        one.
    learned_state : bool
        True adds the parameters ``h0`` and ``c0``, (num_layers * num_directions, width), which
        begin as zeros and stand in for a state that is not given.
    init : str or mapping
        How weights begin: ``"uniform"`` (in :math:`\pm 1 / \sqrt{H}`, biases too: PyTorch's),
        ``"orthogonal"``, ``"glorot_uniform"`` alias ``"xavier_uniform"``, or ``"zeros"``, each gate
        alone, with zero biases; or a mapping from ``weight_ih``, ``weight_hh``, ``weight_hr`` and
        ``bias`` to such names, ``"uniform"`` where one is left out.

    Attributes
    ----------
    parameters : Parameters
        As for `RNN`, `LSTM` and `GRU`, and those of ``learned_state``.
    generator : numpy.random.Generator
        Draws the masks of all dropout and zoneout; a resumed training run has to restore its state.
    num_directions, depth : int
        1 or 2, and ``num_layers * num_directions``.
    output_size : int
        Width of h, of each direction: `proj_size` or `hidden_size`.
    state_widths : tuple of int
        Of h and, for an LSTM, c.

    References
    ----------
    See docs/layers.md.
    """

    _fixed = frozenset(
        {"bias", "bidirectional", "cell", "cell_clip", "depth", "dtype", "generator", "hidden_size",
         "input_size", "learned_state", "num_directions", "num_layers", "output_size", "proj_size",
         "reverse", "state_widths"}
    )  # fmt: skip

    # The backend and its replay of calls like the last two, see `_keep_replay`; an object that is
    # another one after each change of an attribute; and the shape of the last output.
    _replay: tuple[ModuleType, Any] | None = None
    _version: object = None
    _last_shape: tuple[int, ...] = ()

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
        proj_size: int = 0,
        *,
        without: Collection[str] = (),
        cell_clip: float | None = None,
        dtype: DTypeLike = "float32",
        seed: Any = None,
        reverse: bool = False,
        variational: bool = False,
        recurrent_dropout: float = 0.0,
        zoneout: float | tuple[float, ...] = 0.0,
        learned_state: bool = False,
        init: str | Mapping[str, str] = "uniform",
    ) -> None:
        self.cell = cell
        self.input_size = check_positive_int("input_size", input_size)
        self.hidden_size = check_positive_int("hidden_size", hidden_size)
        self.num_layers = check_positive_int("num_layers", num_layers)
        if self.num_layers > MOST_LAYERS:
            raise ValueError(f"num_layers must be at most {MOST_LAYERS}, got {num_layers}")
        self.bias = check_bool("bias", bias)
        self.batch_first = batch_first
        self.bidirectional = check_bool("bidirectional", bidirectional)
        self.proj_size = check_non_negative_int("proj_size", proj_size)
        if self.proj_size >= self.hidden_size:
            raise ValueError(
                f"proj_size must be less than hidden_size, {self.hidden_size}, got {proj_size}"
            )
        self.cell_clip = math.inf
        if cell_clip is not None:
            self.cell_clip = check_positive_float("cell_clip", cell_clip)
        self.reverse = check_bool("reverse", reverse)
        if self.reverse and self.bidirectional:
            raise ValueError("reverse must be False where the layer is bidirectional, got True")
        self.variational = variational
        self.zoneout = zoneout
        self.learned_state = check_bool("learned_state", learned_state)
        init = check_init(init)
        self.dtype = check_dtype(dtype)
        self.generator = check_seed(seed)
        self._between = Dropout(check_probability("dropout", dropout), seed=self.generator)
        self._recurrent_dropout = Dropout(
            check_probability("recurrent_dropout", recurrent_dropout), seed=self.generator
        )
        self.num_directions = 2 if self.bidirectional else 1
        self.depth = self.num_layers * self.num_directions
        # Width of h, and so of a direction's output; the other states are hidden_size wide.
        self.output_size = self.proj_size or self.hidden_size
        self.state_widths = tuple(
            self.output_size if name == "h" else self.hidden_size for name in cell.states
        )
        self._state_names = {
            "state": [name + "0" for name in cell.states],
            "d_state": ["d_" + name for name in cell.states],
        }
        self._vectors = {name: size for name, size in cell.vectors if name not in without}
        self.parameters = Parameters(self._shapes(), self.dtype)
        self._bound_to: np.ndarray | None = None
        self._passes: list[Pass] = []
        for _, weights, _ in self.passes():
            for name, array in weights.items():
                self._initialize(name, array, init)

    def _initialize(self, name: str, array: np.ndarray, init: Mapping[str, str]) -> None:
        if name.startswith("gain"):
            array.fill(1)
        elif not (name.startswith("bias") and name in self._vectors):  # those of a norm stay zero
            initialize(array, name, init, self.generator, self.hidden_size)

    def _shapes(self) -> Iterator[tuple[str, tuple[int, ...]]]:
        rows, width = len(self.cell.gates) * self.hidden_size, self.output_size
        # A cell that normalises its products adds its bias after that.
        biases = self.bias and "bias" not in dict(self.cell.vectors)
        for layer in range(self.num_layers):
            inputs = width * self.num_directions if layer else self.input_size
            for direction in range(self.num_directions):
                suffix = self._suffix(layer, direction)
                yield "weight_ih" + suffix, (rows, inputs)
                yield "weight_hh" + suffix, (rows, width)
                if biases:
                    yield "bias_ih" + suffix, (rows,)
                    yield "bias_hh" + suffix, (rows,)
                if self.proj_size:
                    yield "weight_hr" + suffix, (width, self.hidden_size)
                for name, blocks in self._vectors.items():
                    yield name + suffix, (blocks * self.hidden_size,)
        if self.learned_state:
            for name, width in zip(self.cell.states, self.state_widths):
                yield name + "0", (self.depth, width)

    def _suffix(self, layer: int, direction: int) -> str:
        return f"_l{layer}" + ("_reverse" if direction else "")

    def _views(self, arrays: Mapping[str, np.ndarray], suffix: str) -> dict[str, np.ndarray]:
        """Return one direction's arrays under the names that cells know, without the suffix."""
        names = ("weight_ih", "weight_hh", "bias_ih", "bias_hh", "weight_hr", *self._vectors)
        return {name: arrays[name + suffix] for name in names if name + suffix in arrays}

    def __getstate__(self) -> dict[str, Any]:
        # A cell is saved by its name. Copies of the views would not share the parameters' memory.
        own = {"cell": self.cell.name, "_bound_to": None, "_passes": [], "_replay": None}
        return {**self.__dict__, **own}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state, cell=CELLS[state["cell"]])

    def __setattr__(self, name: str, value: Any) -> None:
        if name in ("batch_first", "variational"):
            value = check_bool(name, value)
        elif name == "zoneout":
            value = _check_zoneout(value, self.cell.states)
        super().__setattr__(name, value)
        self._forget_replay()

    def __delattr__(self, name: str) -> None:
        super().__delattr__(name)
        self._forget_replay()

    def _forget_replay(self) -> None:
        """Drop the replay, and one that is being made: they were made for the old values."""
        self.__dict__["_version"] = object()
        self.__dict__["_replay"] = None

    @property
    def dropout(self) -> float:
        """Probability with which outputs between layers are dropped; may be set."""
        return self._between.p

    @dropout.setter
    def dropout(self, p: float) -> None:
        self._between.p = check_probability("dropout", p)

    @property
    def recurrent_dropout(self) -> float:
        """Probability with which elements of h are dropped; may be set."""
        return self._recurrent_dropout.p

    @recurrent_dropout.setter
    def recurrent_dropout(self, p: float) -> None:
        self._recurrent_dropout.p = check_probability("recurrent_dropout", p)

    def passes(self) -> list[Pass]:
        """Return the passes of the stack, layer by layer, with views of the current parameters.

        A stream calls this when it is made, and again when the parameters have moved.
        """
        # To join the layer into a model moves its parameters to another buffer.
        if self._bound_to is not self.parameters.flat_values:
            self._passes = [
                Pass(
                    direction,
                    self._views(self.parameters, self._suffix(layer, direction)),
                    self._views(self.gradients, self._suffix(layer, direction)),
                )
                for layer in range(self.num_layers)
                for direction in range(self.num_directions)
            ]
            self._bound_to = self.parameters.flat_values
        return self._passes

    def __call__(
        self, x: ArrayLike, state: State | None = None, lengths: ArrayLike | None = None
    ) -> tuple[np.ndarray, Any]:
        """Run the layer for inference; no tape is kept, dropout does nothing.

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
            For complex, object or string arrays, lengths that are not integers, or a state that is
            not a pair where it must be.
        """
        kept = self._replay
        if kept is not None and lengths is None:
            backend, replay = kept
            if backend is active_backend():
                again = replay.run(x, state, self.parameters.flat_values)
                if again is not None:
                    return again
        output, final, _ = self._run(x, state, lengths, keep_tape=False, version=self._version)
        return output, final

    def vjp(
        self,
        x: ArrayLike,
        state: State | None = None,
        lengths: ArrayLike | None = None,
        *,
        input_gradient: bool = True,
    ) -> tuple[np.ndarray, Any, Pullback]:
        """Run the layer for training: as a call, with dropout, and with a pullback.

        Parameters
        ----------
        x, state, lengths
            As for a call. The caller may overwrite them, and the results, at once.
        input_gradient : bool
            False leaves out the gradient of `x`, which saves a product as large as the one with
            `x`: the pullback returns None for it.

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
            As for a call; the pullback as well.
        RuntimeError
            If the pullback is called again.
        """
        input_gradient = check_bool("input_gradient", input_gradient)
        return self._run(x, state, lengths, keep_tape=True, input_gradient=input_gradient)

    def on_ids(
        self,
        ids: ArrayLike,
        embedding: Embedding | None,
        state: State | None = None,
        lengths: ArrayLike | None = None,
    ) -> tuple[np.ndarray, Any]:
        """Run the layer for inference on the vectors of ids, as ``self(embedding(ids), ...)`` does.

        The vectors need not be formed: with fewer symbols than steps, the input product of the
        whole table is made once, and each step takes its rows.

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

        Raises
        ------
        ValueError, TypeError
            As from :meth:`on_ids`; the pullback for other shapes or types.
        RuntimeError
            If the pullback is called again.
        """
        return self._run_ids(ids, embedding, state, lengths, keep_tape=True)

    def stream(self, batch_size: int = 1) -> Stream:
        """Return a `Stream`, which takes one step at a time and keeps its own state.

        Raises
        ------
        ValueError
            If the layer is bidirectional or runs in reverse: its output needs the end of the
            sequence.
        MemoryError
            If there is no memory for the states of `batch_size` sequences.
        """
        return Stream(self, batch_size)

    def check_state(self, argument: str, value: Any, B: int | None) -> list[np.ndarray | None]:
        """Return a state, or the gradient of one, as its arrays in the cell's order.

        Parameters
        ----------
        argument : {"state", "d_state"}
        value : array_like, pair, or None
            An array that is left out is None in the result.
        B : int or None
            Number of sequences, None for one without its axis.
        """
        leading = (self.depth,) if B is None else (self.depth, B)
        return self.check_arrays(argument, value, leading)

    def check_arrays(
        self, argument: str, value: Any, leading: tuple[int, ...]
    ) -> list[np.ndarray | None]:
        """Return what `check_state` does, for arrays of the shape (*leading, width)."""
        widths = self.state_widths
        if value is None:
            return [None] * len(widths)
        names = self._state_names[argument]
        if len(names) == 1:
            if isinstance(value, (tuple, list)) and any(part is None for part in value):
                kind = type(value).__name__
                raise TypeError(f"{argument} must be an array {names[0]}, got {kind} with None")
            return [check_array(names[0], value, self.dtype, (*leading, widths[0]))]
        if not isinstance(value, (tuple, list)) or len(value) != len(names):
            expected = ", ".join(names)
            raise TypeError(f"{argument} must be a pair ({expected}), got {type(value).__name__}")
        return [
            None if array is None else check_array(name, array, self.dtype, (*leading, width))
            for name, array, width in zip(names, value, widths)
        ]

    def initial_state(self, B: int) -> list[np.ndarray]:
        """Return the state where none is given: zero, or the learned state.

        New arrays (depth, B, width), in the cell's order.
        """
        state = [np.zeros((self.depth, B, width), self.dtype) for width in self.state_widths]
        if self.learned_state:
            for name, array in zip(self.cell.states, state):
                array[...] = self.parameters[name + "0"][:, None]
        return state

    def extras(self) -> Extras | None:
        """Return the options of a backend's run at inference, for any number of rows, or None."""
        if not any(self.zoneout) and self.cell_clip == math.inf:
            return None
        zoneout = None
        if any(self.zoneout):
            zoneout = tuple(
                np.full((1, width), p, self.dtype)
                for width, p in zip(self.state_widths, self.zoneout)
            )
        return Extras(self.cell_clip, None, zoneout)

    def draw_extras(self, N: int, B: int) -> Extras | None:
        """Return the options of a run in training: new masks for N packed rows, B sequences."""
        extras = self.extras()
        if extras is not None and extras.zoneout is not None:
            zoneout = tuple(
                (self.generator.random((N, width), self.dtype) < p).astype(self.dtype)
                for width, p in zip(self.state_widths, self.zoneout)
            )
            extras = extras._replace(zoneout=zoneout)
        if self._recurrent_dropout.p:
            mask = self._recurrent_dropout.draw((B, self.output_size), self.dtype)
            extras = (extras or Extras())._replace(recurrent_mask=mask)
        return extras

    def _drop(
        self, rows: np.ndarray, packing: Packing
    ) -> tuple[np.ndarray, Callable[[np.ndarray], np.ndarray]]:
        """Return packed rows with the dropout between layers, and its pullback."""
        if not self.variational:
            return self._between.vjp(rows)
        mask = self._between.draw((packing.B, rows.shape[1]), self.dtype)
        factor = mask.take(packing.sequences(), axis=0)
        return rows * factor, lambda d_rows: d_rows * factor

    def _run(
        self,
        x: Any,
        state: Any,
        lengths: Any,
        keep_tape: bool,
        input_gradient: bool = True,
        version: object = None,
    ) -> tuple[Any, ...]:
        given = as_array("x", x)
        unbatched = given.ndim == 2
        leading = ("T",) if unbatched else ("B", "T") if self.batch_first else ("T", "B")
        x = check_array("x", given, self.dtype, (*leading, self.input_size))
        packing = packing_of(x.shape[:-1], self.batch_first, lengths, ("x", "lengths"))
        rows = packing.pack(x)
        if keep_tape and np.may_share_memory(rows, given):
            # The tape keeps the rows, and the caller may overwrite x.
            given, rows = rows, active_backend().empty(rows.shape, self.dtype)
            rows[...] = given
        return self._run_rows(
            rows, packing, unbatched, state, keep_tape, None, input_gradient, version
        )

    def _run_ids(
        self, ids: Any, embedding: Embedding | None, state: Any, lengths: Any, keep_tape: bool
    ) -> tuple[Any, ...]:
        if embedding is not None:
            if not isinstance(embedding, Embedding):
                raise TypeError(f"embedding must be an Embedding, got {type(embedding).__name__}")
            if embedding.dtype != self.dtype:
                raise ValueError(f"embedding must be {self.dtype}, got {embedding.dtype}")
            table = embedding.parameters["weight"]
            check_array("embedding", table, self.dtype, ("V", self.input_size))
        symbols = self.input_size if embedding is None else embedding.num_embeddings
        ids = check_ids("ids", ids, symbols)
        if ids.ndim not in (1, 2):
            raise ValueError(f"ids must be (T, B) or (T,), got {ids.shape}")
        packing = packing_of(ids.shape, self.batch_first, lengths, ("ids", "lengths"))
        rows = packing.pack_ids(ids)
        return self._run_rows(rows, packing, ids.ndim == 1, state, keep_tape, embedding)

    def _run_rows(
        self,
        rows: np.ndarray,
        packing: Packing,
        unbatched: bool,
        state: Any,
        keep_tape: bool,
        embedding: Embedding | None,
        input_gradient: bool = True,
        version: object = None,
    ) -> tuple[Any, ...]:
        B = None if unbatched else packing.B
        given_state = self.check_state("state", state, B)
        initial = [None if array is None else packing.sort(array) for array in given_state]
        missing = [k for k, array in enumerate(given_state) if array is None]
        if missing:
            default = self.initial_state(packing.B)
            for k in missing:
                initial[k] = default[k]
        backend = active_backend()
        rows, final, groups, tapes, dropped = self._forward(
            backend, rows, packing, initial, keep_tape, embedding
        )
        output = packing.unpack(rows)
        final = [packing.restore(array) for array in final]
        if version is not None and packing.is_even:
            self._keep_replay(version, backend, groups, output, final, packing.swaps_axes)
        final = _as_state(final)
        if not keep_tape:
            return output, final, None
        shape = output.shape

        def adjoint(d_output: Any = None, d_state: Any = None) -> tuple[np.ndarray, Any]:
            d_final = d_rows = None
            if d_state is not None:
                checked = self.check_state("d_state", d_state, B)
                d_final = [None if d is None else packing.sort(d) for d in checked]
            if d_output is not None:
                d_rows = packing.pack(check_array("d_output", d_output, self.dtype, shape))
            d_rows, d_initial = self._adjoint(
                backend, tapes, dropped, d_rows, d_final, embedding, input_gradient
            )
            if self.learned_state:
                for k in missing:
                    self.gradients[self.cell.states[k] + "0"][...] += d_initial[k].sum(axis=1)
            d_initial = _as_state([packing.restore(d) for d in d_initial])
            return None if d_rows is None else packing.unpack(d_rows), d_initial

        return output, final, Pullback(adjoint)

    def _forward(
        self,
        backend: ModuleType,
        rows: np.ndarray,
        packing: Packing,
        initial: list[np.ndarray],
        keep_tape: bool,
        embedding: Embedding | None,
    ) -> tuple[Any, ...]:
        """Run all passes over packed rows; see `fastrnn.backends.runs.Run`.

        Returns the output rows, the final states, the runs of each layer if they may be replayed,
        the tapes of the passes, and the pullbacks of the dropout between layers if there is any.
        """
        groups: list[list[Any]] = []
        lasts: list[tuple[np.ndarray, ...]] = []
        tapes: list[Any] = []
        dropped: list[Callable[[np.ndarray], np.ndarray]] = []
        N, width = len(rows), self.num_directions * self.output_size
        for first in range(0, self.depth, self.num_directions):
            runs: list[Any] = []  # a new list, so that the input of the layer below may be freed
            below = rows
            rows = backend.empty((N, width), self.dtype)
            if first and keep_tape and self.dropout:
                below, pullback = self._drop(below, packing)
                dropped.append(pullback)
            for direction, weights, _ in self.passes()[first : first + self.num_directions]:
                if embedding is not None and not first:
                    weights = {**weights, "embedding": embedding.parameters["weight"]}
                runs.append(
                    backend.Run(
                        self.cell,
                        weights,
                        below,
                        packing.offsets,
                        tuple([array[first + direction] for array in initial]),
                        self._half(rows, direction),
                        reverse=self.reverse or direction == 1,
                        keep_tape=keep_tape,
                        extras=self.draw_extras(N, packing.B) if keep_tape else self.extras(),
                    )
                )
            if not keep_tape and rows.nbytes <= backend.MOST_KEPT:  # runs keep their rows alive
                groups.append(runs)
            for last, tape in backend.scans(runs):
                lasts.append(last)
                tapes.append(tape)
        return rows, _stacked(lasts), groups, tapes, dropped

    def _keep_replay(
        self,
        version: object,
        backend: ModuleType,
        groups: list[list[Any]],
        output: np.ndarray,
        final: list[np.ndarray],
        swaps_axes: bool,
    ) -> None:
        """Prepare to repeat calls of this shape, at the second such call in a row.

        Not if another thread has changed the layer since the call read `version`.
        """
        if output.shape != self._last_shape:
            self.__dict__["_last_shape"] = output.shape
            return
        if not groups:
            return
        overridden = any(
            n in self.__dict__ or getattr(type(self), n) is not getattr(Recurrent, n)
            for n in _HOOKS
        )
        if overridden or self.learned_state or output.size == 0:
            return
        x_shape = (*output.shape[:-1], self.input_size)
        state_shapes = tuple([array.shape for array in final])
        values = self.parameters.flat_values
        kept = self._replay
        before = kept[1] if kept is not None and kept[0] is backend else None
        replay = backend.replay(
            groups, values, x_shape, output.shape, state_shapes, swaps_axes, before
        )
        self.__dict__["_replay"] = None if replay is None else (backend, replay)
        if self._version is not version:
            self.__dict__["_replay"] = None

    def _half(self, rows: np.ndarray, direction: int) -> np.ndarray:
        """Return the columns of a layer's rows that belong to one direction."""
        if self.num_directions == 1:
            return rows
        return rows[:, direction * self.output_size : (direction + 1) * self.output_size]

    def _adjoint(
        self,
        backend: ModuleType,
        tapes: list[Any],
        dropped: list[Callable[[np.ndarray], np.ndarray]],
        d_rows: np.ndarray | None,
        d_final: list[np.ndarray | None] | None,
        embedding: Embedding | None,
        input_gradient: bool,
    ) -> tuple[np.ndarray | None, list[np.ndarray]]:
        """Run the adjoints of all passes; see `fastrnn.backends.runs.AdjointRun`."""
        d_firsts: list[tuple[np.ndarray, ...]] = []
        D, d_last = self.num_directions, None
        for first in reversed(range(0, self.depth, D)):
            runs = []
            for direction, _, gradients in self.passes()[first : first + D]:
                if embedding is not None and not first:
                    gradients = {**gradients, "embedding": embedding.gradients["weight"]}
                if d_final is not None:
                    d_last = tuple([None if d is None else d[first + direction] for d in d_final])
                d_out = None if d_rows is None else self._half(d_rows, direction)
                runs.append(AdjointRun(d_out, d_last, gradients, input_gradient or first > 0))
            results = backend.scan_adjoints(tapes[first:], runs)
            del tapes[first:]
            d_firsts[:0] = [d_first for _, d_first in results]
            d_rows = results[0][0]
            if D == 2 and d_rows is not None:  # both read the same rows
                d_rows += results[1][0]
            if dropped:
                d_rows = dropped.pop()(d_rows)
        return d_rows, _stacked(d_firsts)


# Methods that a replay does not call. If one of them is overridden, calls are never replayed.
_HOOKS = ("check_state", "extras", "initial_state", "passes")

# Arguments that the constructors of all recurrent layers pass on to `Recurrent`.
OPTIONS = ("reverse", "variational", "recurrent_dropout", "zoneout", "learned_state", "init")


def check_options(layer: Recurrent, options: dict[str, Any]) -> dict[str, Any]:
    """Return the options given to a layer's constructor; TypeError for an unknown name."""
    for name in options:
        if name not in OPTIONS:
            raise TypeError(
                f"{type(layer).__name__} has no argument {name!r}; "
                f"besides those in its signature it takes {', '.join(OPTIONS)}"
            )
    return options


def _check_zoneout(value: Any, states: tuple[str, ...]) -> tuple[float, ...]:
    """Return the probability of each state."""
    if not isinstance(value, (tuple, list)):
        return (check_probability("zoneout", value),) * len(states)
    if len(value) != len(states):
        pair = "a probability or a pair, of h and of c"
        expected = pair if len(states) > 1 else "a probability"
        raise ValueError(f"zoneout must be {expected}, got {value!r:.80}")
    return tuple(check_probability(f"zoneout of {n}", p) for n, p in zip(states, value))


def _stacked(states: list[tuple[np.ndarray, ...]]) -> list[np.ndarray]:
    """Return the states of all passes, each (B, width), as arrays (passes, B, width)."""
    if len(states) == 1:
        return [array[None] for array in states[0]]
    return [np.array(arrays) for arrays in zip(*states)]


def _as_state(arrays: list[np.ndarray]) -> Any:
    """Return a state in the form that callers see: h, or (h, c)."""
    return arrays[0] if len(arrays) == 1 else tuple(arrays)
