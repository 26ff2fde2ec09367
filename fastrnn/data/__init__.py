"""From texts to ids to batches, and public data sets by name. Nothing here knows a model."""

from fastrnn.data.batches import Batches, Padded, Windows, pad, split
from fastrnn.data.registry import load
from fastrnn.data.text import (
    CharVocabulary,
    RegexTokenizer,
    Vocabulary,
    characters,
    python_documentation,
    read_text,
    words,
)

__all__ = [
    "Batches",
    "CharVocabulary",
    "Padded",
    "RegexTokenizer",
    "Vocabulary",
    "Windows",
    "characters",
    "load",
    "pad",
    "python_documentation",
    "read_text",
    "split",
    "words",
]
