"""The recurrent layers of Keras, at inference; see `fastrnn.interop.keras.base`."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any

import numpy as np

from fastrnn import layers
from fastrnn._validation import check_array, check_choice
from fastrnn.cells import CELLS
from fastrnn.interop._cells import final_state, gru_cell, lstm_cell, simple_cell
from fastrnn.interop.keras.base import Layer, Mask, Settings, make_layer
from fastrnn.layers.packing import Packing

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from fastrnn.cells import CellSpec
    from fastrnn.interop.keras.files import Weights
    from fastrnn.layers.base import Module


class Recurrent(Layer, ABC):
    """Base class of the recurrent layers: everything but the cell.

    A masked step keeps the state. Its output is that of the step before, or zero before the first
    valid step; with ``zero_output_for_mask`` the output of every masked step is zero.
    """

    order: tuple[int, ...] = (0,)  # our gates, by their places in the kernels
    states = 1
    two_biases = False
    takes_state = True

    def __init__(self, settings: Settings, weights: Weights) -> None:
        super().__init__(settings)
        self.units = H = settings.size("units")
        self.output_width = H
        self.return_sequences = settings.flag("return_sequences")
        self.sequences = int(self.return_sequences)
        self.return_state = settings.flag("return_state")
        self.stateful = settings.flag("stateful")
        self._kept: list[np.ndarray] = []
        self.go_backwards = settings.flag("go_backwards")
        self.zero_output_for_mask = settings.flag("zero_output_for_mask")
        use_bias = settings.flag("use_bias", True)
        self.functions = self._functions(settings)
        G = len(self.order)
        bias = (2, G * H) if self.two_biases else (G * H,)
        shapes = [(None, G * H), (H, G * H), bias][: 3 if use_bias else 2]
        kernel, recurrent, *bias = weights["cell"].variables(shapes, self.dtype)
        self.input_width = len(kernel)
        self.weights = {"weight_ih": self._ordered(kernel), "weight_hh": self._ordered(recurrent)}
        if use_bias:
            rows = [self._ordered(row) for row in np.atleast_2d(bias[0])]
            self.weights["bias_ih"] = rows[0]
            self.weights["bias_hh"] = rows[1] if len(rows) == 2 else np.zeros_like(rows[0])

    @abstractmethod
    def _functions(self, settings: Settings) -> list[Callable[[np.ndarray], np.ndarray]]:
        """Return the cell's activation functions."""

    @property
    @abstractmethod
    def cell(self) -> CellSpec:
        """The cell with these functions; made for each call, as it cannot be pickled."""

    def _ordered(self, array: np.ndarray) -> np.ndarray:
        """Return (..., gates * units) with our gates in rows."""
        blocks = array.T.reshape(len(self.order), self.units, -1)[list(self.order)]
        return np.ascontiguousarray(blocks.reshape(array.T.shape))

    def widths(self, inputs: Sequence[int | None]) -> tuple[int | None, ...]:
        super().widths(inputs)
        return (self.units,) * (1 + self.return_state * self.states)

    def __call__(
        self, x: np.ndarray, mask: Mask, state: Sequence[np.ndarray] = ()
    ) -> tuple[Any, Any]:
        x = check_array("x", x, self.dtype, ("B", "T", self.input_width))
        steps = mask
        if self.go_backwards:
            x, steps = x[:, ::-1], None if mask is None else mask[:, ::-1]
        lengths = None
        if steps is not None:
            # Valid steps are moved to the front, so that sequences have no gaps.
            order = np.argsort(~steps, axis=1, kind="stable")
            x = np.take_along_axis(x, order[..., None], axis=1)
            lengths = steps.sum(axis=1)
        packing = Packing(x.shape[:2], True, lengths)
        rows = np.ascontiguousarray(packing.pack(x))
        out = np.empty((len(rows), self.units), self.dtype)
        if self._kept and len(self._kept[0]) != packing.B:
            before = f"{len(self._kept[0])} sequences, as before reset_states()"
            raise ValueError(f"x must have {before}, got {packing.B}")
        zero = np.zeros((packing.B, self.units), self.dtype)
        state = state or self._kept or [zero] * self.states
        if len(state) != self.states:
            raise ValueError(f"initial_state must be {self.states} arrays, got {len(state)}")
        first = [
            packing.sort(check_array("initial_state", a, self.dtype, (packing.B, self.units))[None])
            for a in state
        ]
        first = tuple([array[0] for array in first])
        final = final_state(self.cell, self.weights, rows, packing.offsets, first, out)
        final = [packing.restore(array[None])[0] for array in final]
        if self.stateful:
            self._kept = [array.copy() for array in final]
        y, mask = self._output(packing.unpack(out), final[0], mask, steps)
        if self.return_state:
            return (y, *final), (mask, *[None] * self.states)
        return y, mask

    def reset_states(self) -> None:
        self._kept = []

    def own(self, backward: Recurrent | None = None) -> Module:
        """Return the layer, with this one as its other direction."""
        cell = self.cell
        if CELLS.get(cell.name) is not cell:
            raise ValueError(f"layer {self.name!r} must have the usual activations, got others")
        kind, options = _OWN[cell.name]
        layer = kind(
            self.input_width,
            self.units,
            bias="bias_ih" in self.weights,
            batch_first=True,
            bidirectional=backward is not None,
            reverse=self.go_backwards,
            dtype=self.dtype,
            **options,
        )
        directions = {"_l0": self} if backward is None else {"_l0": self, "_l0_reverse": backward}
        layer.load_state_dict(
            {name + end: a for end, one in directions.items() for name, a in one.weights.items()}
        )
        return layer

    def _output(
        self, y: np.ndarray, last: np.ndarray, mask: Mask, steps: Mask
    ) -> tuple[np.ndarray, Mask]:
        """Return h at each step, or the last, as Keras returns it."""
        if not self.return_sequences:
            if steps is not None:
                shown = steps[:, -1] if self.zero_output_for_mask else steps.any(axis=1)
                last = np.where(shown[:, None], last, 0)
            return last, None
        if steps is not None:
            before = np.cumsum(steps, axis=1) - 1
            shown = steps if self.zero_output_for_mask else before >= 0
            y = np.take_along_axis(y, np.maximum(before, 0)[..., None], axis=1)
            y = np.where(shown[..., None], y, 0)
        return y, mask


class SimpleRNN(Recurrent):
    """h' = f(x W + h U + b)."""

    def _functions(self, settings: Settings) -> list[Callable[[np.ndarray], np.ndarray]]:
        return [settings.activation("activation", "tanh")]

    @property
    def cell(self) -> CellSpec:
        return simple_cell(*self.functions)


class LSTM(Recurrent):
    """Gates i, f, c, o in the kernels."""

    order = (0, 1, 2, 3)
    states = 2

    def _functions(self, settings: Settings) -> list[Callable[[np.ndarray], np.ndarray]]:
        g = settings.activation("activation", "tanh")
        return [settings.activation("recurrent_activation", "sigmoid"), g, g]

    @property
    def cell(self) -> CellSpec:
        return lstm_cell(*self.functions)


class GRU(Recurrent):
    """Gates z, r, h in the kernels; two biases with ``reset_after``."""

    order = (1, 0, 2)

    def _functions(self, settings: Settings) -> list[Callable[[np.ndarray], np.ndarray]]:
        self.two_biases = settings.flag("reset_after", True)
        f = settings.activation("recurrent_activation", "sigmoid")
        return [f, settings.activation("activation", "tanh")]

    @property
    def cell(self) -> CellSpec:
        return gru_cell(*self.functions, self.two_biases)


# Name of a cell -> the layer of fastrnn that has it, and the layer's arguments.
_OWN: dict[str, tuple[Any, dict[str, Any]]] = {
    "rnn_tanh": (layers.RNN, {}),
    "rnn_relu": (layers.RNN, {"nonlinearity": "relu"}),
    "lstm": (layers.LSTM, {}),
    "gru": (layers.GRU, {}),
    "gru_reset_before": (layers.GRU, {"reset_after": False}),
}
RECURRENT = {"SimpleRNN": SimpleRNN, "LSTM": LSTM, "GRU": GRU}
MERGE = {
    "concat": lambda forward, backward: np.concatenate((forward, backward), axis=-1),
    "sum": np.add,
    "mul": np.multiply,
    "ave": lambda forward, backward: (forward + backward) / 2,
}


class Bidirectional(Layer):
    """Two recurrent layers that read from either end; ``merge_mode`` None returns both outputs."""

    takes_state = True

    def __init__(self, settings: Settings, weights: Weights) -> None:
        super().__init__(settings)
        self.merge_mode = merge_mode = settings.take("merge_mode", "concat")
        if merge_mode is not None:
            check_choice("merge_mode", merge_mode, MERGE)
        forward, backward = settings.take("layer"), settings.take("backward_layer")
        self.forward = make_layer(forward, weights, "forward_layer", RECURRENT)
        if backward is None:
            options = forward["config"]
            backward = forward | {
                "config": options | {"go_backwards": not self.forward.go_backwards}
            }
        self.backward = make_layer(backward, weights, "backward_layer", RECURRENT)
        self.stateful = self.forward.stateful or self.backward.stateful
        for setting in ("return_sequences", "return_state"):
            if getattr(self.forward, setting) != getattr(self.backward, setting):
                raise ValueError(f"{setting} must be the same in both directions")
        if self.forward.go_backwards == self.backward.go_backwards:
            raise ValueError("go_backwards must be different in the two directions")
        for layer in (self.forward, self.backward):
            layer.zero_output_for_mask = layer.return_sequences
        self.sequences = self.forward.sequences * (2 if merge_mode is None else 1)
        self.input_width = self.forward.input_width
        if self.input_width != self.backward.input_width:
            raise ValueError(
                f"backward_layer must take {self.input_width} inputs, "
                f"got {self.backward.input_width}"
            )
        widths = self.forward.output_width, self.backward.output_width
        if merge_mode not in ("concat", None) and widths[0] != widths[1]:
            raise ValueError(f"units must be the same for merge_mode {merge_mode!r}, got {widths}")
        self.output_width = sum(widths) if merge_mode == "concat" else widths[0]

    def reset_states(self) -> None:
        self.forward.reset_states()
        self.backward.reset_states()

    def own(self) -> Module:
        forward, backward = self.forward, self.backward
        if forward.go_backwards:
            raise ValueError(f"layer {self.name!r} must have a forward_layer that reads forward")
        kinds = [
            (one.cell.name, one.functions, {name: a.shape for name, a in one.weights.items()})
            for one in (forward, backward)
        ]
        if kinds[0] != kinds[1]:
            raise ValueError(f"layer {self.name!r} must have two directions of one kind and size")
        return forward.own(backward)

    def widths(self, inputs: Sequence[int | None]) -> tuple[int | None, ...]:
        super().widths(inputs)
        forward, *states = self.forward.widths(inputs)
        backward, *other = self.backward.widths(inputs)
        merged = (forward, backward) if self.merge_mode is None else (self.output_width,)
        return (*merged, *states, *other)

    def __call__(
        self, x: np.ndarray, mask: Mask, state: Sequence[np.ndarray] = ()
    ) -> tuple[Any, Any]:
        half = len(state) // 2
        forward, mask_after = self.forward(x, mask, state[:half])
        backward, _ = self.backward(x, mask, state[half:])
        states: tuple[np.ndarray, ...] = ()
        if self.forward.return_state:
            (forward, *states), (backward, *other) = forward, backward
            mask_after, states = mask_after[0], (*states, *other)
        if self.backward.return_sequences:
            backward = backward[:, ::-1]
        nothing = (None,) * len(states)
        if self.merge_mode is None:
            return (forward, backward, *states), (mask_after, mask_after, *nothing)
        merged = MERGE[self.merge_mode](forward, backward)
        return ((merged, *states), (mask_after, *nothing)) if states else (merged, mask_after)
