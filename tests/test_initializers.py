"""How recurrent layers begin."""

import numpy as np
import pytest

import fastrnn as fr

I, H = 5, 24


def gates(array):
    return array.reshape(-1, H, array.shape[1])


def test_uniform_is_pytorchs_and_the_default():
    layer, named = fr.GRU(I, H, seed=1), fr.GRU(I, H, seed=1, init="uniform")
    for name, array in layer.parameters.items():
        np.testing.assert_array_equal(array, named.parameters[name])
        assert np.abs(array).max() <= 1 / np.sqrt(H)
        assert np.abs(array).max() > 0.8 / np.sqrt(H)


def test_orthogonal_makes_each_gate_so():
    layer = fr.LSTM(I, H, proj_size=7, init="orthogonal", peepholes=True, dtype="float64", seed=1)
    for name in ("weight_ih_l0", "weight_hh_l0"):
        for gate in gates(layer.parameters[name]):
            np.testing.assert_allclose(gate.T @ gate, np.eye(gate.shape[1]), atol=1e-12)
    project = layer.parameters["weight_hr_l0"]
    np.testing.assert_allclose(project @ project.T, np.eye(7), atol=1e-12)
    for name in ("bias_ih_l0", "bias_hh_l0", "peephole_l0"):
        assert not layer.parameters[name].any()


def test_orthogonal_matrices_are_drawn_evenly():
    # Without the signs of R, the first element would not change its own.
    firsts = [
        fr.RNN(1, 2, init="orthogonal", seed=seed).parameters["weight_hh_l0"][0, 0]
        for seed in range(40)
    ]
    assert 8 < sum(first > 0 for first in firsts) < 32


@pytest.mark.parametrize("name", ["glorot_uniform", "xavier_uniform"])
def test_glorot(name):
    layer = fr.GRU(I, H, init=name, seed=1)
    bound = np.sqrt(6 / (H + I))
    for gate in gates(layer.parameters["weight_ih_l0"]):
        assert 0.9 * bound < np.abs(gate).max() <= bound


def test_each_kind_has_its_own():
    init = {"weight_ih": "glorot_uniform", "weight_hh": "zeros", "bias": "zeros"}
    layer = fr.LSTM(I, H, 2, proj_size=3, init=init, seed=1)
    assert not layer.parameters["weight_hh_l1"].any()
    assert not layer.parameters["bias_hh_l0"].any()
    assert layer.parameters["weight_ih_l1"].any()
    assert 0 < np.abs(layer.parameters["weight_hr_l0"]).max() <= 1 / np.sqrt(H)


def test_norms_begin_as_the_identity():
    layer = fr.LSTM(I, H, layer_norm=True, seed=1)
    for name in ("gain_ih_l0", "gain_hh_l0", "gain_c_l0"):
        assert (layer.parameters[name] == 1).all()
    for name in ("bias_l0", "bias_c_l0"):
        assert (layer.parameters[name] == 0).all()
    assert "bias_ih_l0" not in layer.parameters
    assert "bias_l0" not in fr.LSTM(I, H, layer_norm=True, bias=False).parameters
