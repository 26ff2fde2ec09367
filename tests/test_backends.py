"""The choice of a backend."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import fastrnn as fr
from fastrnn.backends import active_backend
from fastrnn.backends.runs import AdjointRun


def test_as_a_context_manager_it_is_restored():
    before = active_backend()
    with fr.use_backend("reference"):
        assert active_backend().__name__ == "fastrnn.backends.reference"
        with pytest.raises(ValueError, match="backend must be one of 'reference', 'compiled'"):
            fr.use_backend("gpu")
        with pytest.raises(KeyError), fr.use_backend("reference"):
            raise KeyError
        assert active_backend().__name__ == "fastrnn.backends.reference"
    assert active_backend() is before


def active_in_a_new_process(code="", **environment):
    """Return the name of the backend, or the error; and what was said on the way."""
    script = f"{code}\nfrom fastrnn import backends\nprint(backends.active_backend().__name__)"
    inherited = {key: value for key, value in os.environ.items() if key != "FASTRNN_BACKEND"}
    run = subprocess.run(
        [sys.executable, "-c", script],
        env=inherited | environment,
        capture_output=True,
        text=True,
        check=False,
    )
    result = (run.stdout or run.stderr).strip().splitlines()[-1]
    return result.removeprefix("fastrnn.backends."), run.stderr


# Makes the extension look as if it were not built.
ABSENT = "import sys; sys.modules['fastrnn._core.scan'] = None"


def test_the_environment_chooses():
    assert active_in_a_new_process(ABSENT, FASTRNN_BACKEND="reference") == ("reference", "")
    error, _ = active_in_a_new_process(FASTRNN_BACKEND="gpu")
    assert error.startswith("ValueError: FASTRNN_BACKEND must be one of")


def test_a_call_chooses_for_all_that_follow():
    code = "import fastrnn as fr; fr.use_backend('reference')"
    assert active_in_a_new_process(code) == ("reference", "")


def test_without_the_extension_the_reference_runs_with_a_warning():
    name, warning = active_in_a_new_process(ABSENT)
    assert name == "reference"
    assert "RuntimeWarning: the compiled backend does not import" in warning
    assert "NumPy runs in its place" in warning
    error, _ = active_in_a_new_process(ABSENT, FASTRNN_BACKEND="compiled")
    assert error.startswith("ImportError: the compiled backend does not import")
    assert "python -m pip install" in error


def test_in_the_folder_of_the_sources_the_error_says_so(tmp_path):
    package = Path(fr.__file__).parent
    ignore = shutil.ignore_patterns("*.so", "__pycache__")
    shutil.copytree(package, tmp_path / "fastrnn", ignore=ignore)
    (tmp_path / "setup.py").touch()
    code = f"import sys; sys.path.insert(0, {str(tmp_path)!r})"
    name, warning = active_in_a_new_process(code)
    assert name == "reference"
    assert f"{tmp_path} holds the sources: start Python in another folder" in warning


@pytest.mark.skipif(
    os.environ.get("FASTRNN_BACKEND") == "reference", reason="the extension may not be built"
)
def test_compiled_is_the_default():
    assert active_in_a_new_process() == ("compiled", "")


LAYERS = {
    "RNN": lambda: fr.RNN(24, 96, bidirectional=True, seed=0),
    "LSTM": lambda: fr.LSTM(24, 64, bidirectional=True, proj_size=20, seed=0),
    "normalised LSTM": lambda: fr.LSTM(24, 48, bidirectional=True, layer_norm=True, seed=0),
    "GRU": lambda: fr.GRU(24, 64, bidirectional=True, reset_after=False, seed=0),
}


@pytest.mark.usefixtures("backend")
@pytest.mark.parametrize("make", LAYERS.values(), ids=LAYERS)
@pytest.mark.parametrize("B", [1, 9])
@pytest.mark.parametrize("threads", [1, 2, 3])
def test_runs_at_the_same_time_are_those_one_after_the_other(set_threads, make, B, threads):
    layer, rng = make(), np.random.default_rng(1)
    sizes = np.sort(rng.integers(1, B + 1, 30))[::-1]
    sizes[0] = B
    offsets = np.concatenate([[0], np.cumsum(sizes)])
    x = rng.standard_normal((offsets[-1], 24)).astype("float32")
    state = tuple(
        [rng.standard_normal((B, width)).astype("float32") for width in layer.state_widths]
    )
    d_out = rng.standard_normal((offsets[-1], 2 * layer.output_size)).astype("float32")
    implementation = active_backend()

    def results(together):
        layer.zero_gradients()
        out = np.zeros_like(d_out)
        halves = [slice(k * layer.output_size, (k + 1) * layer.output_size) for k in (0, 1)]
        runs = [
            implementation.Run(
                layer.cell, weights, x, offsets, state, out[:, halves[k]], k == 1, keep_tape=True
            )
            for k, weights, _ in layer.passes()
        ]
        given = [
            AdjointRun(d_out[:, halves[k]], state if k else None, gradients)
            for k, (_, _, gradients) in enumerate(layer.passes())
        ]
        if together:
            finals, tapes = zip(*implementation.scans(runs))
            adjoints = implementation.scan_adjoints(list(tapes), given)
        else:
            finals, tapes = zip(*[implementation.scans([run])[0] for run in runs])
            adjoints = [implementation.scan_adjoints([t], [g])[0] for t, g in zip(tapes, given)]
        arrays = [out, layer.parameters.flat_gradients.copy()]
        for final, (d_x, d_initial) in zip(finals, adjoints):
            arrays += [*final, d_x, *d_initial]
        return arrays

    set_threads(1)
    expected = results(together=False)
    set_threads(threads)
    actual = results(together=True)
    for a, b in zip(actual, expected, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-4)
        if threads == 2:  # one for each
            np.testing.assert_array_equal(a, b)
