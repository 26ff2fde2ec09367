"""Run models that Keras saved, without Keras."""

from fastrnn.interop.keras.config import load
from fastrnn.interop.keras.model import KerasModel

__all__ = ["KerasModel", "load"]
