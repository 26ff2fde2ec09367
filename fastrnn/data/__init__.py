"""From texts to ids to batches, and public data sets by name. Nothing here knows a model."""

from fastrnn.data.batches import Batches, Padded, Windows, pad, split
from fastrnn.data.registry import info, load, names
from fastrnn.data.text import RegexTokenizer, characters, python_documentation, read_text, words
from fastrnn.data.vocabulary import CharVocabulary, Vocabulary

__all__ = [
    "Batches",
    "CharVocabulary",
    "Padded",
    "RegexTokenizer",
    "Vocabulary",
    "Windows",
    "characters",
    "info",
    "load",
    "names",
    "pad",
    "python_documentation",
    "read_text",
    "split",
    "words",
]
