"""Texts: read from files, and cut into tokens."""

from __future__ import annotations

import re
from pathlib import Path

from fastrnn._validation import check_bool, check_path, check_text


def read_text(path: str | Path) -> str:
    r"""Read a text file: UTF-8, a byte-order mark dropped, line ends of any system read as ``\n``.

    Parameters
    ----------
    path : str or Path

    Raises
    ------
    ValueError
        If there is no such file, it cannot be read, or it is empty or not UTF-8. The message is one
        line.
    TypeError
        If the path is neither a str nor a Path.
    """
    try:
        text = check_path("path", path).read_text(encoding="utf-8-sig")
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
    """Return the text on the Python language, half a million characters, that comes with Python.

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


def characters(text: str) -> list[str]:
    """Cut a text into its characters."""
    return list(check_text("text", text))


def words(text: str) -> list[str]:
    """Cut a text at white space."""
    return check_text("text", text).split()


class RegexTokenizer:
    r"""Cut a text into all matches of a pattern: ``RegexTokenizer(r"\w+|[^\w\s]")``.

    Parameters
    ----------
    pattern : str
        A regular expression without capturing groups.
    lowercase : bool
        Whether to put the text in lower case first.

    Raises
    ------
    ValueError
        If it is not a regular expression, or has capturing groups.
    TypeError
        If it is not a str.
    """

    def __init__(self, pattern: str, lowercase: bool = False) -> None:
        if not isinstance(pattern, (str, re.Pattern)):
            raise TypeError(f"pattern must be a str, got {type(pattern).__name__}")
        self.pattern, self.lowercase = pattern, check_bool("lowercase", lowercase)
        try:
            self._compiled = re.compile(pattern)
        except re.error as error:
            raise ValueError(
                f"pattern must be a regular expression, got {pattern!r}: {error}"
            ) from None
        if not isinstance(self._compiled.pattern, str):
            raise TypeError(f"pattern must be of str, got {pattern!r}")
        if self._compiled.groups:
            raise ValueError(
                f"pattern must have no capturing groups, got {pattern!r}; write (?:...)"
            )

    def __call__(self, text: str) -> list[str]:
        """Return the matches in their order."""
        text = check_text("text", text)
        return self._compiled.findall(text.lower() if self.lowercase else text)

    def __repr__(self) -> str:
        return f"RegexTokenizer({self.pattern!r}, lowercase={self.lowercase})"
