"""Weights that PyTorch saved as safetensors, without PyTorch."""

from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file
from tolerances import TOLERANCES, assert_close

import fastrnn as fr

FIXTURES = Path(__file__).parents[1] / "fixtures" / "safetensors"


def test_lstm_of_torch(backend):
    layer = fr.LSTM(4, 3, num_layers=2, bidirectional=True, proj_size=2)
    layer.load_state_dict(load_file(FIXTURES / "lstm.safetensors"))
    with np.load(FIXTURES / "lstm.npz") as stored:
        output, (h, c) = layer(stored["x"])
        for name, array in {"output": output, "h": h, "c": c}.items():
            assert_close(array, stored[name], TOLERANCES["float32"], name)


def test_weights_of_another_layer_change_nothing():
    layer = fr.LSTM(4, 3, num_layers=2, bidirectional=True, seed=0)
    before = layer.state_dict()
    with pytest.raises(KeyError, match="weight_hr_l0"):
        layer.load_state_dict(load_file(FIXTURES / "lstm.safetensors"))
    for name, array in layer.state_dict().items():
        np.testing.assert_array_equal(array, before[name])
