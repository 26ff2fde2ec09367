"""Run models that Keras 3 saved, without Keras."""

from fastrnn.interop.keras.model import KerasModel, load

__all__ = ["KerasModel", "load"]
