"""The gated recurrent unit."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from fastrnn._validation import check_bool
from fastrnn.cells import CELLS
from fastrnn.layers.recurrent import Recurrent, check_options

if TYPE_CHECKING:
    from numpy.typing import DTypeLike


class GRU(Recurrent):
    """Gated recurrent unit layer.

    Parameters
    ----------
    input_size, hidden_size, num_layers, bias, batch_first, dropout, bidirectional
        As for `RNN`.
    reset_after : bool
        True applies the reset gate after the recurrent product, as PyTorch, cuDNN and Keras do;
        False to h before it, as first published.
    dtype, seed, **options
        As for `RNN`.

    Attributes
    ----------
    parameters : Parameters
        As for `RNN` with 3*H rows, the gates r, z, n.

    Raises
    ------
    ValueError, TypeError
        As for `RNN`.

    References
    ----------
    `fastrnn.cells.gru`, ``torch.nn.GRU``.
    """

    _fixed = Recurrent._fixed | {"reset_after"}

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
        reset_after: bool = True,
        dtype: DTypeLike = "float32",
        seed: Any = None,
        **options: Any,
    ) -> None:
        self.reset_after = check_bool("reset_after", reset_after)
        super().__init__(
            CELLS["gru" if reset_after else "gru_reset_before"],
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
