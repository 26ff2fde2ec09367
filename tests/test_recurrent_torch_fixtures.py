"""Recurrent layers against PyTorch's numbers; see fixtures/make_torch_fixtures.py."""

import json
from pathlib import Path

import numpy as np
import pytest
from cases import as_state, as_tuple
from tolerances import TOLERANCES, assert_close

import fastrnn as fr

FIXTURES = sorted(Path(__file__).with_name("fixtures").glob("*.npz"))


def test_there_are_fixtures():
    assert len(FIXTURES) == 25


@pytest.mark.parametrize("path", FIXTURES, ids=lambda path: path.stem)
def test_outputs_and_gradients(backend, path, dtype):
    with np.load(path) as file:
        arrays = dict(file)
    case = json.loads(str(arrays["case"]))
    make = getattr(fr, case["class"])
    layer = make(arrays["x"].shape[2], **case["options"], dtype=dtype)
    values = {
        name.removeprefix("value."): array
        for name, array in arrays.items()
        if name.startswith("value.")
    }
    layer.load_state_dict(values)
    assert list(layer.parameters) == list(values)  # the order, too

    states = layer.cell.states
    output, final, pullback = layer.vjp(
        arrays["x"], as_state(arrays[name + "0"] for name in states), case["lengths"]
    )
    d_x, d_initial = pullback(arrays["d_output"], as_state(arrays["d_" + name] for name in states))

    results = {"output": output, "d_x": d_x}
    results |= dict(zip(states, as_tuple(final)))
    results |= {f"d_{name}0": array for name, array in zip(states, as_tuple(d_initial))}
    results |= {f"gradient.{name}": array for name, array in layer.gradients.items()}
    for name, array in results.items():
        assert array.dtype == dtype
        assert_close(array, arrays[name], TOLERANCES[dtype], name)
