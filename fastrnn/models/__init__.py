"""Models: a network with a loss for each shape of a task."""

from fastrnn.models.base import Model, load
from fastrnn.models.encoder import Encoder
from fastrnn.models.language_model import LanguageModel, LanguageModelStream

__all__ = ["Encoder", "LanguageModel", "LanguageModelStream", "Model", "load"]
