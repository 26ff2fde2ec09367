"""fastrnn inside other libraries; each module imports its library when it is first touched."""

import importlib
from types import ModuleType

# Module -> what has to be installed for it. Its extra has the module's name.
_NEEDS = {"keras": "h5py", "onnx": "onnx", "sklearn": "scikit-learn", "torch": "PyTorch"}

__all__ = list(_NEEDS)


def __getattr__(name: str) -> ModuleType:
    if name not in _NEEDS:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    try:
        return importlib.import_module(f".{name}", __name__)
    except ModuleNotFoundError as error:
        raise ImportError(
            f"fastrnn.interop.{name} needs {_NEEDS[name]} ({error}): "
            f"python -m pip install 'fastrnn[{name}]'"
        ) from error


def __dir__() -> list[str]:
    return sorted({*globals(), *_NEEDS})
