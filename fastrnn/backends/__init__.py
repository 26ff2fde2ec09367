"""Backends: what runs the time loop, affine layers, losses and Adam; both modules export the same.

The environment variable ``FASTRNN_BACKEND`` chooses one; without it the compiled one runs where its
extension imports, and the NumPy reference, with a warning, where it does not.
"""

import importlib
import os
import warnings
from pathlib import Path
from types import ModuleType

from fastrnn._validation import check_choice

BACKENDS = ("reference", "compiled")

_active: ModuleType | None = None


def active_backend() -> ModuleType:
    """Return the backend module that calls use from now on."""
    global _active
    if _active is None:
        _active = _default()
    return _active


class use_backend:  # noqa: N801 - called like a function, as numpy.errstate
    """Make calls that follow use another backend; as a context manager, those inside the block.

    The choice is the whole process's. A pullback runs on the backend that its `vjp` ran on.

    Parameters
    ----------
    name : {"reference", "compiled"}

    Raises
    ------
    ValueError
        If there is no backend of this name.
    ImportError
        If it is ``"compiled"`` and the extension is not built.

    Examples
    --------
    >>> with use_backend("reference"):
    ...     active_backend().__name__
    'fastrnn.backends.reference'
    """

    def __init__(self, name: str) -> None:
        global _active
        module = _load(check_choice("backend", name, BACKENDS))
        self._previous = _active
        _active = module

    def __enter__(self) -> "use_backend":
        return self

    def __exit__(self, *exception: object) -> None:
        global _active
        _active = self._previous


def _default() -> ModuleType:
    name = os.environ.get("FASTRNN_BACKEND")
    if name:
        return _load(check_choice("FASTRNN_BACKEND", name, BACKENDS))
    try:
        return _load("compiled")
    except ImportError as error:
        warnings.warn(
            f"{error}; NumPy runs in its place, many times slower "
            "(FASTRNN_BACKEND=reference chooses it without this warning)",
            RuntimeWarning,
            stacklevel=3,
        )
        return _load("reference")


def _load(name: str) -> ModuleType:
    try:
        return importlib.import_module(f".{name}", __name__)
    except ImportError as error:
        raise ImportError(f"the {name} backend does not import ({error}); {_remedy()}") from error


def _remedy() -> str:
    """Return what the user can do so that the extension imports."""
    folder = Path(__file__).resolve().parents[2]
    if (folder / "setup.py").exists():
        return (
            f"{folder} holds the sources: start Python in another folder, where it finds the "
            "installed package, or build the extension here with `python -m pip install -e .`"
        )
    return "build it with `python -m pip install .` in the sources, with a C compiler"
