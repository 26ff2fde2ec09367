"""fastrnn inside other libraries; each module is imported, with its library, at its first use."""

import importlib.util
from types import ModuleType

# Module -> the package that it imports, and that package's common name. The extra has the name of
# the module.
_NEEDS = {
    "keras": ("h5py", "h5py"),
    "onnx": ("onnx", "onnx"),
    "sklearn": ("sklearn", "scikit-learn"),
    "torch": ("torch", "PyTorch"),
}

__all__ = list(_NEEDS)


def __getattr__(name: str) -> ModuleType:
    if name not in _NEEDS:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    try:
        return importlib.import_module(f".{name}", __name__)
    except ModuleNotFoundError as error:
        raise ImportError(
            f"fastrnn.interop.{name} needs {_NEEDS[name][1]} ({error}): "
            f"python -m pip install 'fastrnn[{name}]'"
        ) from error


def __dir__() -> list[str]:
    # `help` and similar tools import every name that is listed.
    usable = [name for name, (needed, _) in _NEEDS.items() if importlib.util.find_spec(needed)]
    return sorted({*globals(), *usable})
