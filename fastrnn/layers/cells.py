"""One step of a recurrent layer as a module: `RNNCell`, `LSTMCell` and `GRUCell`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from fastrnn._validation import as_array, check_array
from fastrnn.layers.base import Module, Pullback
from fastrnn.layers.gru import GRU
from fastrnn.layers.lstm import LSTM
from fastrnn.layers.rnn import RNN

if TYPE_CHECKING:
    from collections.abc import Mapping

    import numpy as np
    from numpy.typing import ArrayLike, DTypeLike

    from fastrnn.layers.recurrent import Recurrent, State


class _OneStep:
    """Names the parameters without ``_l0`` at the end, as there is one layer."""

    def _suffix(self, layer: int, direction: int) -> str:
        return ""


class _RNN(_OneStep, RNN):
    pass


class _LSTM(_OneStep, LSTM):
    pass


class _GRU(_OneStep, GRU):
    pass


class Cell(Module):
    """What `RNNCell`, `LSTMCell` and `GRUCell` share: a layer that is run for one step.

    Parameters
    ----------
    layer : RNN, LSTM or GRU
        Of one layer and direction.
    """

    _fixed = frozenset({"input_size", "hidden_size", "bias", "dtype", "nonlinearity"})

    def __init__(self, layer: Recurrent) -> None:
        self._layer = layer
        self.input_size, self.hidden_size = layer.input_size, layer.hidden_size
        self.bias, self.dtype = layer.bias, layer.dtype
        self.parameters = layer.parameters

    def __call__(self, x: ArrayLike, state: State | None = None) -> Any:
        """Return the state after one step.

        Parameters
        ----------
        x : array_like, shape (B, I), or (I,) for one sequence
        state : array_like, shape (B, H) or (H,), or None
            h, for an LSTM the pair (h, c). None is zero.

        Returns
        -------
        state : ndarray or pair of ndarray, shaped like `state`
            New arrays.

        Raises
        ------
        ValueError, TypeError
            For other shapes or kinds.
        """
        x, state = self._check(x, state)
        return self._own(self._layer(x, state)[1])

    def vjp(self, x: ArrayLike, state: State | None = None) -> tuple[Any, Pullback]:
        """Run one step for training.

        Returns
        -------
        state : ndarray or pair of ndarray
            As for a call.
        pullback : callable
            ``d_x, d_state = pullback(d_state)``, once, with gradients shaped like `state`, of which
            one of a pair may be None; adds those of the parameters into ``gradients``.

        Raises
        ------
        ValueError, TypeError
            As for a call; the pullback as well.
        RuntimeError
            If the pullback is called again.
        """
        x, state = self._check(x, state)
        B = len(x[0]) if x.ndim == 3 else None
        _, after, pullback = self._layer.vjp(x, state)

        def adjoint(d_state: Any) -> tuple[np.ndarray, Any]:
            d_x, d_before = pullback(None, self._layers(self._arrays("d_state", d_state, B)))
            return d_x[0], self._own(d_before)

        return self._own(after), Pullback(adjoint)

    def _check(self, x: Any, state: Any) -> tuple[np.ndarray, Any]:
        """Return the arguments in the form that the layer takes."""
        x = as_array("x", x)
        leading = () if x.ndim == 1 else ("B",)
        x = check_array("x", x, self.dtype, (*leading, self.input_size))
        arrays = self._arrays("state", state, len(x) if x.ndim == 2 else None)
        return x[None], self._layers(arrays)

    def _arrays(self, argument: str, value: Any, B: int | None) -> list[np.ndarray | None]:
        leading = () if B is None else (B,)
        return self._layer.check_arrays(argument, value, leading)

    def _layers(self, arrays: list[np.ndarray | None]) -> Any:
        """Return a layer's state, made of a cell's arrays."""
        arrays = [None if array is None else array[None] for array in arrays]
        return arrays[0] if len(arrays) == 1 else tuple(arrays)

    def _own(self, state: Any) -> Any:
        """Return a cell's state, made of a layer's."""
        return tuple(array[0] for array in state) if isinstance(state, tuple) else state[0]


class RNNCell(Cell):
    """One step of the simple cell: ``h = cell(x, h)``.

    Parameters
    ----------
    input_size, hidden_size, bias, nonlinearity, init, dtype, seed
        As for `RNN`.

    Attributes
    ----------
    parameters : Parameters
        ``weight_ih`` (H, I), ``weight_hh`` (H, H), ``bias_ih`` and ``bias_hh`` (H,).

    Raises
    ------
    ValueError, TypeError
        If an argument has the wrong type or is out of range.

    References
    ----------
    Names, shapes and order of arguments are those of ``torch.nn.RNNCell``.

    Examples
    --------
    >>> import numpy as np
    >>> import fastrnn as fr
    >>> cell = fr.RNNCell(3, 4)
    >>> h = cell(np.ones((2, 3)))
    >>> cell(np.ones((2, 3)), h).shape
    (2, 4)
    """

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        bias: bool = True,
        nonlinearity: str = "tanh",
        *,
        init: str | Mapping[str, str] = "uniform",
        dtype: DTypeLike = "float32",
        seed: Any = None,
    ) -> None:
        self.nonlinearity = nonlinearity
        super().__init__(
            _RNN(input_size, hidden_size, 1, nonlinearity, bias, init=init, dtype=dtype, seed=seed)
        )


class LSTMCell(Cell):
    """One step of the LSTM: ``h, c = cell(x, (h, c))``.

    Parameters
    ----------
    input_size, hidden_size, bias
        As for `RNN`.
    peepholes, coupled, layer_norm, cell_clip, forget_bias
        As for `LSTM`.
    init, dtype, seed
        As for `RNN`.

    Attributes
    ----------
    parameters : Parameters
        Those of one layer of `LSTM`, as ``weight_ih`` and so on.

    Raises
    ------
    ValueError, TypeError
        If an argument has the wrong type or is out of range.

    References
    ----------
    ``torch.nn.LSTMCell``.
    """

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        bias: bool = True,
        *,
        peepholes: bool = False,
        coupled: bool = False,
        layer_norm: bool = False,
        cell_clip: float | None = None,
        forget_bias: float | None = None,
        init: str | Mapping[str, str] = "uniform",
        dtype: DTypeLike = "float32",
        seed: Any = None,
    ) -> None:
        super().__init__(
            _LSTM(
                input_size,
                hidden_size,
                1,
                bias,
                peepholes=peepholes,
                coupled=coupled,
                layer_norm=layer_norm,
                cell_clip=cell_clip,
                forget_bias=forget_bias,
                init=init,
                dtype=dtype,
                seed=seed,
            )
        )


class GRUCell(Cell):
    """One step of the GRU: ``h = cell(x, h)``.

    Parameters
    ----------
    input_size, hidden_size, bias
        As for `RNN`.
    reset_after
        As for `GRU`.
    init, dtype, seed
        As for `RNN`.

    Attributes
    ----------
    parameters : Parameters
        Those of one layer of `GRU`, as ``weight_ih`` and so on.

    Raises
    ------
    ValueError, TypeError
        If an argument has the wrong type or is out of range.

    References
    ----------
    ``torch.nn.GRUCell``.
    """

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        bias: bool = True,
        *,
        reset_after: bool = True,
        init: str | Mapping[str, str] = "uniform",
        dtype: DTypeLike = "float32",
        seed: Any = None,
    ) -> None:
        super().__init__(
            _GRU(
                input_size,
                hidden_size,
                1,
                bias,
                reset_after=reset_after,
                init=init,
                dtype=dtype,
                seed=seed,
            )
        )
