"""The operators RNN, LSTM and GRU for the reference evaluator of the onnx package.

Source: https://onnx.ai/onnx/operators/, versions 7, 14 and 22 of the three.
"""

from __future__ import annotations

from abc import abstractmethod
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from onnx.reference.op_run import OpRun

from fastrnn._validation import check_array, check_choice, check_positive_float, check_positive_int
from fastrnn.interop._cells import final_state, gru_cell, lstm_cell, simple_cell
from fastrnn.interop.onnx.activations import bind_activations
from fastrnn.layers.packing import Packing

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from contextlib import AbstractContextManager

    from fastrnn.cells import CellSpec

OLDEST_OPSET = 7
REVERSE = {"forward": (False,), "reverse": (True,), "bidirectional": (False, True)}


class Direction(NamedTuple):
    """What one direction of a node runs."""

    cell: CellSpec
    weights: dict[str, np.ndarray]


class Recurrent(OpRun):
    """Base class of the three operators.

    Attributes are judged when a model is prepared. The weights are put into the order of
    `fastrnn.cells` then as well, where they are initializers, else at every run.
    """

    op_domain = ""
    order: tuple[int, ...]  # our gates, by their places in W, R and B
    default_activations: tuple[str, ...]  # of one direction
    states: tuple[str, ...] = ("h",)

    def __init__(self, onnx_node: Any, run_params: dict[str, Any], schema: Any = None) -> None:
        super().__init__(onnx_node, run_params, schema)
        with self._naming_the_node():
            self._check_attributes(run_params["opsets"][""])
        self._known_weights: tuple[np.ndarray | None, ...] = ()
        self._known_directions: list[Direction] = []

    def _check_attributes(self, opset: int) -> None:
        if opset < OLDEST_OPSET:
            raise ValueError(f"opset must be {OLDEST_OPSET} or newer, got {opset}")
        self._reverse = REVERSE[check_choice("direction", self.direction, REVERSE)]
        for name in ("layout", "input_forget"):
            if getattr(self, name, 0) not in (0, 1):
                raise ValueError(f"{name} must be 0 or 1, got {getattr(self, name)}")
        if self.clip is not None:
            check_positive_float("clip", self.clip)
        D, count = len(self._reverse), len(self.default_activations)
        names = list(self.activations or self.default_activations * D)
        if (D, count, names) == (1, 1, ["Tanh", "Tanh"]):
            names.pop()  # the default in RNN's schema is for two directions
        if len(names) != D * count:
            raise ValueError(f"activations must be {D * count} names, got {len(names)}: {names}")
        alphas, betas = self.activation_alpha or (), self.activation_beta or ()
        functions = bind_activations(names, alphas, betas)
        self._functions = [functions[d * count : (d + 1) * count] for d in range(D)]

    def bind(self, initializers: Mapping[str, np.ndarray]) -> None:
        """Prepare the weights, if they are among a graph's constants (name -> array)."""
        names = [*self.input, *[""] * 5]  # the optional ones may be missing
        names = [names[place] for place in (1, 2, 3, 7)]  # W, R, B, P
        if all(name in initializers or not name for name in names):
            known = tuple(initializers.get(name) for name in names)
            with self._naming_the_node():
                self._known_directions = self._directions(*known)
            self._known_weights = known

    def run(self, *args: Any, **kwargs: Any) -> tuple[Any, ...]:
        """Run the node; see the base class."""
        with self._naming_the_node():
            outputs = super().run(*args, **kwargs)
        # The evaluator stores an output without a name under "", which inputs without one read.
        return tuple(array if name else None for name, array in zip(self.output, outputs))

    def _run(
        self,
        X: np.ndarray,
        W: np.ndarray,
        R: np.ndarray,
        B: np.ndarray | None = None,
        sequence_lens: np.ndarray | None = None,
        initial_h: np.ndarray | None = None,
        initial_c: np.ndarray | None = None,
        P: np.ndarray | None = None,
        **attributes: Any,  # which are attributes of self as well
    ) -> tuple[np.ndarray, ...]:
        directions = self._known_directions
        if [id(array) for array in (W, R, B, P)] != [id(array) for array in self._known_weights]:
            directions = self._directions(W, R, B, P)
        batch_first = self.layout == 1
        leading = ("B", "T") if batch_first else ("T", "B")
        X = check_array("X", X, _dtype_of(W), (*leading, W.shape[2]))
        packing = Packing(X.shape[:2], batch_first, sequence_lens, ("X", "sequence_lens"))
        D, H = len(directions), R.shape[2]
        states = [
            self._initial("initial_" + name, array, (D, packing.B, H), X.dtype)
            for name, array in zip(self.states, (initial_h, initial_c))
        ]
        states = [packing.sort(array) for array in states]
        rows = packing.pack(X)
        out = np.empty((len(rows), D * H), X.dtype)
        for d, (cell, weights) in enumerate(directions):
            first = tuple([array[d] for array in states])
            columns = out[:, d * H : (d + 1) * H]
            run = weights, rows, packing.offsets, first, columns, self._reverse[d]
            for array, value in zip(states, final_state(cell, *run)):
                array[d] = value

        Y = packing.unpack(out).reshape(*X.shape[:2], D, H)
        states = [packing.restore(array) for array in states]
        if batch_first:
            states = [array.swapaxes(0, 1) for array in states]
        else:
            Y = Y.swapaxes(1, 2)
        return tuple(np.ascontiguousarray(array, W.dtype) for array in (Y, *states))

    def _initial(
        self, name: str, array: np.ndarray | None, shape: tuple[int, int, int], dtype: np.dtype
    ) -> np.ndarray:
        """Return an initial state as a new array (D, B, H)."""
        if array is None:
            return np.zeros(shape, dtype)
        if self.layout == 1:
            D, B, H = shape
            return check_array(name, array, dtype, (B, D, H)).swapaxes(0, 1).copy()
        return check_array(name, array, dtype, shape, copy=True)

    def _directions(
        self, W: np.ndarray, R: np.ndarray, B: np.ndarray | None, P: np.ndarray | None
    ) -> list[Direction]:
        """Return what each direction runs, with weights in the order of our gates."""
        D, G = len(self._reverse), len(self.order)
        H, dtype = self.hidden_size, _dtype_of(W)
        if H is None:
            H = check_array("R", R, dtype, (D, None, "hidden_size")).shape[2]
        H = check_positive_int("hidden_size", H)
        R = check_array("R", R, dtype, (D, G * H, H))
        W = check_array("W", W, dtype, (D, G * H, "input_size"))
        if B is not None:
            B = check_array("B", B, dtype, (D, 2 * G * H))
        if P is not None:
            P = check_array("P", P, dtype, (D, 3 * H))

        def ordered(array: np.ndarray) -> np.ndarray:
            blocks = array.reshape(G, H, *array.shape[1:])[list(self.order)]
            return blocks.reshape(array.shape)

        directions = []
        for d in range(D):
            weights = {"weight_ih": ordered(W[d]), "weight_hh": ordered(R[d])}
            if B is not None:
                weights["bias_ih"], weights["bias_hh"] = map(ordered, np.split(B[d], 2))
            if P is not None:
                p_i, p_o, p_f = np.split(P[d], 3)
                weights["peephole"] = np.concatenate((p_i, p_f, p_o))
            directions.append(Direction(self._cell(d, P is not None), weights))
        return directions

    @abstractmethod
    def _cell(self, d: int, peepholes: bool) -> CellSpec:
        """Return the cell of direction d."""

    def _naming_the_node(self) -> AbstractContextManager[None]:
        return _named(f"{self.op_type} node {self.onnx_node.name or list(self.output)}")


class RNN(Recurrent):
    """The simple cell."""

    order = (0,)
    default_activations = ("Tanh",)

    def _cell(self, d: int, peepholes: bool) -> CellSpec:
        return simple_cell(*self._functions[d], clip=self.clip)


class GRU(Recurrent):
    """The gated recurrent unit; gates z, r, h in the file."""

    order = (1, 0, 2)
    default_activations = ("Sigmoid", "Tanh")

    def _cell(self, d: int, peepholes: bool) -> CellSpec:
        return gru_cell(*self._functions[d], bool(self.linear_before_reset), self.clip)


class LSTM(Recurrent):
    """The long short-term memory; gates i, o, f, c in the file."""

    order = (0, 2, 3, 1)
    default_activations = ("Sigmoid", "Tanh", "Tanh")
    states = ("h", "c")

    def _cell(self, d: int, peepholes: bool) -> CellSpec:
        return lstm_cell(*self._functions[d], self.clip, peepholes, bool(self.input_forget))


@contextmanager
def _named(node: str) -> Iterator[None]:
    """Put the node before the messages of errors that leave the block."""
    try:
        yield
    except (ValueError, TypeError) as error:
        # The evaluator hides a TypeError of ours behind one of its own.
        cause = error.__cause__ if isinstance(error.__cause__, TypeError) else error
        kind = TypeError if isinstance(error, TypeError) else ValueError
        raise kind(f"{node}: {cause}") from error


def _dtype_of(array: np.ndarray) -> np.dtype:
    """Return the dtype to compute in: half precision runs in float32."""
    return np.dtype(np.float64 if array.dtype == np.float64 else np.float32)
