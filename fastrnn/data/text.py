"""Text in, ids out: reading files and numbering their characters."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from fastrnn._validation import check_ids

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

_SHOWN_CHARACTERS = 10


class CharVocabulary:
    """The characters of a text, numbered from 0 in the order of their code points.

    Parameters
    ----------
    text : str
        Any text; each character that occurs in it becomes one symbol.

    Attributes
    ----------
    characters : str
        The sorted, distinct characters: ``characters[i]`` has the id ``i``.

    Raises
    ------
    TypeError
        If the text is no str.
    ValueError
        If the text is empty.
    """

    def __init__(self, text: str) -> None:
        if not isinstance(text, str):
            raise TypeError(f"text must be a str, got {type(text).__name__}")
        if not text:
            raise ValueError("text must not be empty: a vocabulary needs a character at least")
        self.characters = "".join(sorted(set(text)))
        self._codes = _code_points(self.characters)
        # One entry a code point, -1 for those without an id; the last entry stands for all above.
        self._ids = np.full(int(self._codes[-1]) + 2, -1, np.int64)
        self._ids[self._codes] = np.arange(len(self.characters))

    def __len__(self) -> int:
        return len(self.characters)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, CharVocabulary) and other.characters == self.characters

    def __hash__(self) -> int:
        return hash(self.characters)

    def __repr__(self) -> str:
        return f"CharVocabulary({self.characters!r})"

    def encode(self, text: str) -> np.ndarray:
        """Return the ids of a text's characters.

        Parameters
        ----------
        text : str
            May be empty.

        Returns
        -------
        ids : ndarray of int64, shape (len(text),)

        Raises
        ------
        TypeError
            If the text is no str.
        ValueError
            If it has characters without an id; the message lists them.
        """
        if not isinstance(text, str):
            raise TypeError(f"text must be a str, got {type(text).__name__}")
        ids = self._ids[np.minimum(_code_points(text), self._ids.size - 1)]
        if ids.size and ids.min() < 0:
            unknown = sorted({text[place] for place in np.flatnonzero(ids < 0)})
            # As JSON, so that the message stays one line whatever the characters are.
            shown = ", ".join(
                json.dumps(c, ensure_ascii=False) for c in unknown[:_SHOWN_CHARACTERS]
            )
            more = len(unknown) - _SHOWN_CHARACTERS
            raise ValueError(
                f"characters outside the vocabulary of {len(self)}: {shown}"
                f"{f' and {more} more' if more > 0 else ''}"
            )
        return ids

    def decode(self, ids: ArrayLike) -> str:
        """Return the text that a sequence of ids stands for.

        Parameters
        ----------
        ids : array_like of int, shape (n,)

        Raises
        ------
        ValueError
            If an id is not in 0..len(self) - 1.
        """
        codes = self._codes[check_ids("ids", ids, len(self))]
        return codes.tobytes().decode("utf-32-le", "surrogatepass")


def read_text(path: str | Path) -> str:
    r"""Read a text file: UTF-8, a byte-order mark dropped, line ends of any system read as ``\n``.

    Parameters
    ----------
    path : str or Path

    Raises
    ------
    ValueError
        If there is no such file, it cannot be read, is empty or not UTF-8; one line that says
        which.
    """
    try:
        text = Path(path).read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        raise ValueError(f"there is no file {path}") from None
    except OSError as error:
        raise ValueError(f"cannot read {path}: {error.strerror or error}") from None
    except UnicodeDecodeError as error:
        raise ValueError(
            f"{path} is not UTF-8 text (byte {error.start} is 0x{error.object[error.start]:02x}); "
            "save it as UTF-8 and try again"
        ) from None
    if not text:
        raise ValueError(f"{path} is empty; give a file with text in it")
    return text


def python_documentation() -> str:
    """Return the half a million characters on the Python language that every Python carries.

    Raises
    ------
    ValueError
        If this Python was packaged without them.
    """
    try:
        from pydoc_data.topics import topics
    except ImportError:
        raise ValueError(
            "this Python comes without its documentation (pydoc_data); give a text file instead"
        ) from None
    return "\n".join(topics[name] for name in sorted(topics))


def _code_points(text: str) -> np.ndarray:
    """Code points as uint32, shape (len(text),); lone surrogates are characters like any other."""
    return np.frombuffer(text.encode("utf-32-le", "surrogatepass"), "<u4")
