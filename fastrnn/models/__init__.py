"""Models, one file for each shape of problem."""

from fastrnn.models.language_model import LanguageModel

__all__ = ["LanguageModel"]
