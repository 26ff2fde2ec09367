"""The choice of a backend."""

import os
import subprocess
import sys

import pytest

import fastrnn as fr
from fastrnn.backends import active_backend


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
    """Return the name of the backend, or the last line of the error."""
    script = f"{code}\nfrom fastrnn import backends\nprint(backends.active_backend().__name__)"
    inherited = {key: value for key, value in os.environ.items() if key != "FASTRNN_BACKEND"}
    run = subprocess.run(
        [sys.executable, "-c", script],
        env=inherited | environment,
        capture_output=True,
        text=True,
        check=False,
    )
    return (run.stdout + run.stderr).strip().splitlines()[-1].removeprefix("fastrnn.backends.")


# Makes the extension look as if it were not built.
ABSENT = "import sys; sys.modules['fastrnn._core.scan'] = None"


def test_the_environment_chooses():
    assert active_in_a_new_process(FASTRNN_BACKEND="reference") == "reference"
    error = active_in_a_new_process(FASTRNN_BACKEND="gpu")
    assert error.startswith("ValueError: FASTRNN_BACKEND must be one of")


def test_a_call_chooses_for_all_that_follow():
    code = "import fastrnn as fr; fr.use_backend('reference')"
    assert active_in_a_new_process(code) == "reference"


def test_without_the_extension_the_reference_is_the_default():
    assert active_in_a_new_process(ABSENT) == "reference"
    error = active_in_a_new_process(ABSENT, FASTRNN_BACKEND="compiled")
    assert error.startswith("ImportError: the compiled backend does not import")
    assert "python -m pip install" in error


@pytest.mark.skipif(
    os.environ.get("FASTRNN_BACKEND") == "reference", reason="the extension may not be built"
)
def test_compiled_is_the_default():
    assert active_in_a_new_process() == "compiled"
