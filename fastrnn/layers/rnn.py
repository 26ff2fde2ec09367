"""The simple recurrent layer."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from fastrnn._validation import check_choice
from fastrnn.cells import CELLS
from fastrnn.layers.recurrent import Recurrent, check_options

if TYPE_CHECKING:
    from numpy.typing import DTypeLike


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
        True: input and output are (B, T, ...); the state's layout stays as it is.
    dropout : float
        Probability with which :meth:`vjp` sets outputs of every layer but the last to zero.
    bidirectional : bool
        True: a second set of parameters reads the sequences from their ends; outputs are
        concatenated, and states alternate between the directions.
    dtype : {"float32", "float64"}
    seed : int, numpy.random.Generator or None
        Source of the initial parameters and of all dropout.
    **options
        ``reverse``, ``variational``, ``recurrent_dropout``, ``zoneout``, ``learned_state`` and
        ``init``, which all recurrent layers have: see `Recurrent`.

    Attributes
    ----------
    parameters : Parameters
        For each layer k ``weight_ih_lk`` (H, I), ``weight_hh_lk`` (H, H), ``bias_ih_lk`` and
        ``bias_hh_lk`` (H,), and the same with ``_reverse``. Writable, always in effect.
    generator : numpy.random.Generator
        Draws the dropout; a resumed training run has to restore its state.

    Raises
    ------
    ValueError, TypeError
        If an argument has the wrong type, is out of range or does not exist.

    References
    ----------
    `fastrnn.cells.rnn`; names, shapes and order of arguments are those of ``torch.nn.RNN``.
    """

    _fixed = Recurrent._fixed | {"nonlinearity"}

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
        **options: Any,
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
            dtype=dtype,
            seed=seed,
            **check_options(self, options),
        )
