"""From texts to ids to batches. Nothing here knows a model."""

from fastrnn.data.batches import Windows, split
from fastrnn.data.text import CharVocabulary, python_documentation, read_text

__all__ = ["CharVocabulary", "Windows", "python_documentation", "read_text", "split"]
