"""Long short-term memory."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from fastrnn._validation import check_bool, check_float, check_non_negative_int
from fastrnn.cells import CELLS
from fastrnn.layers.recurrent import Recurrent, check_options

if TYPE_CHECKING:
    from numpy.typing import DTypeLike


class LSTM(Recurrent):
    r"""Long short-term memory layer. Its state is the pair (h, c).

    Parameters
    ----------
    input_size, hidden_size, num_layers, bias, batch_first, dropout, bidirectional
        As for `RNN`.
    proj_size : int
        If not 0, h is projected to this width, which must be below `hidden_size`; c is not.
    peepholes : bool
        True adds :math:`p_i c_{t-1}`, :math:`p_f c_{t-1}` and :math:`p_o c_t` to the arguments of
        the gates.
    coupled : bool
        True makes the forget gate :math:`f = 1 - i`; only i, g and o then have weights.
    layer_norm : bool
        True normalises both products and the cell that h is made of; see
        `fastrnn.cells.lstm_variants`.
    cell_clip : float or None
        Largest absolute value of an element of c; its gradient is zero where it is clipped.
    forget_bias : float or None
        Initial value of the forget gate's bias (the sum of its two); None leaves it to `init`.
    dtype, seed, **options
        As for `RNN`.

    Attributes
    ----------
    parameters : Parameters
        As for `RNN` with 4*H rows, the gates i, f, g, o; ``weight_hh_lk`` is (4*H, P) and
        ``weight_hr_lk`` (P, H) where there is a projection to P. ``peephole_lk`` (3*H,) for i, f
        and o, or (2*H,). With layer norm, ``gain_ih_lk``, ``gain_hh_lk`` and, in place of the two
        biases, ``bias_lk`` (4*H,), for the cell ``gain_c_lk`` and ``bias_c_lk`` (H,). A coupled
        gate makes every 4*H a 3*H.

    Raises
    ------
    ValueError, TypeError
        As for `RNN`; if `forget_bias` is given where there is none: with `coupled`, or without
        biases.

    References
    ----------
    `fastrnn.cells.lstm`, `fastrnn.cells.lstm_variants`, ``torch.nn.LSTM``.
    """

    _fixed = Recurrent._fixed | {"peepholes", "coupled", "layer_norm"}

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
        peepholes: bool = False,
        coupled: bool = False,
        layer_norm: bool = False,
        cell_clip: float | None = None,
        forget_bias: float | None = None,
        dtype: DTypeLike = "float32",
        seed: Any = None,
        **options: Any,
    ) -> None:
        bias = check_bool("bias", bias)
        proj_size = check_non_negative_int("proj_size", proj_size)
        self.peepholes = check_bool("peepholes", peepholes)
        self.coupled = check_bool("coupled", coupled)
        self.layer_norm = check_bool("layer_norm", layer_norm)
        if forget_bias is not None:
            forget_bias = check_float("forget_bias", forget_bias)
            if coupled or not bias:
                raise ValueError(
                    f"forget_bias must be None where the forget gate has no bias, got {forget_bias}"
                )
        name = "lstm_coupled" if coupled else "lstm"
        if layer_norm:
            name += "_normalised"
        elif not coupled and (peepholes or cell_clip is not None):
            name = "lstm_peephole"
        without = [] if peepholes else ["peephole"]
        super().__init__(
            CELLS[name + "_projected" if proj_size else name],
            input_size,
            hidden_size,
            num_layers,
            bias,
            batch_first,
            dropout,
            bidirectional,
            proj_size,
            without=without if bias else [*without, "bias", "bias_c"],
            cell_clip=cell_clip,
            dtype=dtype,
            seed=seed,
            **check_options(self, options),
        )
        if forget_bias is not None:
            f = slice(self.hidden_size, 2 * self.hidden_size)
            for _, weights, _ in self.passes():
                weights["bias" if layer_norm else "bias_ih"][f] = forget_bias
                if not layer_norm:
                    weights["bias_hh"][f] = 0
