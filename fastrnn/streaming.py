"""Inference one time step at a time, with a state that is kept between the steps."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from fastrnn._validation import check_output, check_positive_int, check_step
from fastrnn.backends import active_backend
from fastrnn.parameters import aligned_zeros

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

    from fastrnn.layers.recurrent import Recurrent


class Stream:
    """A recurrent layer fed step by step; made by ``layer.stream()``.

    Parameters
    ----------
    layer : Recurrent
        Its parameters are read at each step, so a change takes effect with the next one.
    batch_size : int
        Number of sequences B that run side by side.

    Raises
    ------
    ValueError
        If the layer is bidirectional or runs in reverse: its output needs the end of the sequence.
    MemoryError
        If there is no memory for the states of `batch_size` sequences.

    Examples
    --------
    >>> import numpy as np
    >>> import fastrnn as fr
    >>> stream = fr.GRU(3, 4).stream()
    >>> stream.step(np.ones(3)).shape
    (4,)
    """

    def __init__(self, layer: Recurrent, batch_size: int = 1) -> None:
        if layer.bidirectional:
            raise ValueError(
                "a bidirectional layer cannot stream: its output needs the end of the sequence"
            )
        if layer.reverse:
            raise ValueError("a layer in reverse cannot stream: it begins with the last step")
        self.layer = layer
        self.batch_size = check_positive_int("batch_size", batch_size)
        try:
            states = tuple(map(_aligned, layer.initial_state(self.batch_size)))
        except (MemoryError, ValueError):  # the latter where no array can be so large
            raise MemoryError(
                f"batch_size must be as many sequences as fit into memory, got {batch_size}"
            ) from None
        self._stepper = active_backend().Stepper(
            layer.cell.name,
            lambda: [weights for _, weights, _ in layer.passes()],
            layer.parameters.buffers,
            states,
            # Not a method: it would make a reference cycle, and a stream's memory would be freed
            # only by the garbage collector.
            partial(_check, layer, self.batch_size),
            layer.extras(),
        )
        # Replaces the method below, whose Python frame would take as long as a small step.
        self.step = self._stepper.step

    def reset(self) -> None:
        """Set the state to zero, or to the layer's learned state.

        If another thread was in a step when the process forked, the child has to call this, or set
        the state, before it uses the stream.
        """
        self.state = None

    @property
    def state(self) -> Any:
        """The layer's state (num_layers, B, H), for an LSTM a pair; a copy.

        It can be set: None is the state of a new stream; with ``batch_size=1`` the axis B may be
        left out. While another thread is in a step, it can be neither read nor set: RuntimeError.
        """
        state = self._stepper.copy_states()
        return state[0] if len(state) == 1 else state

    @state.setter
    def state(self, value: Any) -> None:
        layer, B = self.layer, self.batch_size
        is_pair = len(layer.state_widths) > 1 and isinstance(value, (tuple, list))
        try:
            axes = [np.ndim(part) for part in (value if is_pair else [value])]
        except ValueError:  # no arrays; the check says so
            axes = []
        alone = B == 1 and 2 in axes
        checked = layer.check_state("state", value, None if alone else B)
        values = [
            default if array is None else array.reshape(default.shape)
            for array, default in zip(checked, layer.initial_state(B))
        ]
        self._stepper.set_states(tuple(values))

    def __reduce_ex__(self, protocol: Any) -> Any:
        # A copy would step the same states.
        raise TypeError("a stream cannot be copied or pickled; make another and set its state")

    def step(self, x: ArrayLike, out: np.ndarray | None = None) -> np.ndarray:
        """Advance every sequence by one step.

        Parameters
        ----------
        x : array_like, shape (B, I), or (I,) for ``batch_size=1``
        out : ndarray or None, shape (B, H) or (H,), the layer's dtype
            Where to write the output. None gives a new array, or an earlier one that is no longer
            referenced.

        Returns
        -------
        y : ndarray, shape (B, H) or (H,) as `x`
            h of the last layer (``proj_size`` wide where there is a projection); `out` if given.
            Later steps do not write to it while it, or a view of it, is referenced.

        Raises
        ------
        ValueError, TypeError
            If `x` or `out` has another shape or dtype; the state is then unchanged.
        RuntimeError
            If another thread is in a step of this stream, or reads or sets its state.
        """
        return self._stepper.step(x, out)


def _check(layer: Recurrent, B: int, x: Any, out: Any) -> tuple[np.ndarray, np.ndarray | None]:
    """Return the arguments of a step as contiguous arrays of the layer's dtype."""
    rows = check_step("x", x, layer.dtype, B, layer.input_size)
    if out is not None:
        check_output("out", out, layer.dtype, (*rows.shape[:-1], layer.output_size))
    return rows, out


def _aligned(array: np.ndarray) -> np.ndarray:
    """Return a copy that begins at a cache line: each step reads and writes it."""
    copy = aligned_zeros(array.size, array.dtype).reshape(array.shape)
    copy[...] = array
    return copy
