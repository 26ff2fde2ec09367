"""The cases of the tests of recurrent layers: a layer for each cell, and random calls of it."""

from functools import partial
from typing import Any, NamedTuple

import numpy as np

import fastrnn as fr

# Cell -> constructor of the layer that runs it.
LAYERS = {
    "rnn_tanh": fr.RNN,
    "rnn_relu": partial(fr.RNN, nonlinearity="relu"),
    "lstm": fr.LSTM,
    "lstm_projected": partial(fr.LSTM, proj_size=2),
    "gru": fr.GRU,
    "gru_reset_before": partial(fr.GRU, reset_after=False),
    "lstm_peephole": partial(fr.LSTM, peepholes=True),
    "lstm_peephole_projected": partial(fr.LSTM, peepholes=True, proj_size=2),
    "lstm_coupled": partial(fr.LSTM, coupled=True),
    "lstm_coupled_projected": partial(fr.LSTM, coupled=True, peepholes=True, proj_size=2),
    "lstm_normalised": partial(fr.LSTM, layer_norm=True),
    "lstm_normalised_projected": partial(fr.LSTM, layer_norm=True, peepholes=True, proj_size=2),
    "lstm_coupled_normalised": partial(fr.LSTM, coupled=True, layer_norm=True),
    "lstm_coupled_normalised_projected": partial(
        fr.LSTM, coupled=True, layer_norm=True, peepholes=True, proj_size=2
    ),
}


class Call(NamedTuple):
    """Arguments of a layer and of its pullback."""

    x: np.ndarray
    state: Any
    lengths: list[int] | None
    d_output: np.ndarray
    d_state: Any


def as_tuple(state: Any) -> tuple[np.ndarray, ...]:
    """Return a layer's state as a tuple, also where it is h alone."""
    return state if isinstance(state, tuple) else (state,)


def as_state(arrays: Any) -> Any:
    """Return arrays as a layer's state: h alone, or a tuple."""
    arrays = tuple(arrays)
    return arrays if len(arrays) > 1 else arrays[0]


def random_call(layer: Any, T: int, B: int, lengths: Any = None, seed: int = 0) -> Call:
    """Return a call with a non-zero initial state; its numbers are exact in float32."""
    rng = np.random.default_rng(seed)

    def normal(*shape: int) -> np.ndarray:
        return rng.standard_normal(shape).astype(np.float32).astype(layer.dtype)

    def state() -> Any:
        return as_state(normal(layer.depth, B, width) for width in layer.state_widths)

    leading = (B, T) if layer.batch_first else (T, B)
    x = normal(*leading, layer.input_size)
    d_output = normal(*leading, layer.num_directions * layer.output_size)
    return Call(x, state(), lengths, d_output, state())


def run(layer: Any, call: Call) -> dict[str, np.ndarray]:
    """Return everything that a call and its pullback compute, by name."""
    layer.zero_gradients()
    output, final, pullback = layer.vjp(call.x, call.state, call.lengths)
    d_x, d_state = pullback(call.d_output, call.d_state)
    states = {f"state {k}": array for k, array in enumerate(as_tuple(final))}
    d_states = {f"d_state {k}": array for k, array in enumerate(as_tuple(d_state))}
    gradients = {name: array.copy() for name, array in layer.gradients.items()}
    return {"output": output, "d_x": d_x, **states, **d_states, **gradients}
