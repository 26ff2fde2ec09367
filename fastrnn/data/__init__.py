"""From texts to ids to batches. Nothing here knows a model."""

from fastrnn.data.batches import Batches, Padded, Windows, pad, split
from fastrnn.data.text import CharVocabulary, python_documentation, read_text

__all__ = [
    "Batches",
    "CharVocabulary",
    "Padded",
    "Windows",
    "pad",
    "python_documentation",
    "read_text",
    "split",
]
