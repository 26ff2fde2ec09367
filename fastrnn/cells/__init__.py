"""Recurrent cells: their equations in NumPy, and the registry that everything else goes by."""

from fastrnn.cells.base import CellSpec, Stage
from fastrnn.cells.gru import gru, gru_reset_before
from fastrnn.cells.lstm import lstm, lstm_projected
from fastrnn.cells.lstm_variants import VARIANTS
from fastrnn.cells.rnn import rnn_relu, rnn_tanh

CELLS: dict[str, CellSpec] = {
    cell.name: cell
    for cell in (
        rnn_tanh,
        rnn_relu,
        lstm,
        lstm_projected,
        gru,
        gru_reset_before,
        *VARIANTS,
    )
}

__all__ = ["CELLS", "CellSpec", "Stage"]
