"""The stored fixtures equal those that their script and PyTorch make today."""

import runpy
from pathlib import Path

import numpy as np
import pytest

FIXTURES = Path(__file__).with_name("fixtures")


@pytest.mark.torch
def test_script_gives_the_stored_fixtures():
    pytest.importorskip("torch")
    script = runpy.run_path(str(FIXTURES / "make_torch_fixtures.py"))
    for cell, (kind, own) in script["CELLS"].items():
        for variant, (options, lengths) in script["VARIANTS"].items():
            made = script["make"](kind, own | options, lengths)
            with np.load(FIXTURES / f"{cell}.{variant}.npz") as stored:
                assert set(stored) == set(made)
                assert str(stored["case"]) == str(made.pop("case"))
                for name, array in made.items():
                    np.testing.assert_allclose(array, stored[name], rtol=1e-9, atol=1e-12)
