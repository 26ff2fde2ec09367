"""Texts and ids: the characters of a text, or its tokens, numbered."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from numbers import Real
from typing import TYPE_CHECKING

import numpy as np

from fastrnn._validation import check_bool, check_ids, check_positive_int, check_text

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

_SHOWN = 10


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
        If the text is not a str.
    ValueError
        If the text is empty.
    """

    def __init__(self, text: str) -> None:
        if not check_text("text", text):
            raise ValueError("text must not be empty: a vocabulary needs at least one character")
        self.characters = "".join(sorted(set(text)))
        self._codes = _code_points(self.characters)
        # An id for each code point, -1 for none; the last entry stands for all higher code points.
        self._ids = np.full(int(self._codes[-1]) + 2, -1, np.int64)
        self._ids[self._codes] = np.arange(len(self.characters))

    def __len__(self) -> int:
        return len(self.characters)

    def __iter__(self) -> Iterator[str]:
        return iter(self.characters)

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
            If the text is not a str.
        ValueError
            If it has characters without an id; the message lists them.
        """
        ids = self._ids[np.minimum(_code_points(check_text("text", text)), self._ids.size - 1)]
        if ids.size and ids.min() < 0:
            unknown = {text[place] for place in np.flatnonzero(ids < 0)}
            raise _unknown_error("characters", unknown, len(self))
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

    def state(self) -> dict[str, str]:
        """Return what a model file keeps: JSON values."""
        return {"characters": self.characters}

    @classmethod
    def from_state(cls, state: Mapping[str, str]) -> CharVocabulary:
        """Return the vocabulary of a :meth:`state`; ValueError if it is not such a state."""
        try:
            vocabulary = cls(state["characters"])
        except (KeyError, TypeError):
            raise ValueError("state must be one that CharVocabulary.state() returned") from None
        if vocabulary.characters != state["characters"]:
            raise ValueError("state must have distinct characters, by their code points")
        return vocabulary


class Vocabulary:
    """Tokens numbered by how often they occur, after some special ones.

    Parameters
    ----------
    tokens : iterable of str, or Counter
        The tokens of a text, each as often as it occurs, or their counts.
    min_count : int
        Tokens that occur less often get no id.
    specials : sequence of str
        Some of ``<pad>`` (beyond the end of a sequence), ``<unk>`` (an unknown token), ``<bos>``
        and ``<eos>`` (beginning and end of a sequence). Their ids are 0, 1, ... in the order given.

    Attributes
    ----------
    tokens : tuple of str
        ``tokens[i]`` has the id ``i``: the special ones, then by falling count, those of equal
        count in the order of their code points.
    pad, unk, bos, eos : int or None
        Ids of the special tokens; None for those left out.

    Raises
    ------
    TypeError
        If the tokens are a str (give a tokeniser's list), one of them is not a str or a count not
        a number, or the special tokens are no sequence.
    ValueError
        If a special token is another or comes twice, or there is no token at all.
    """

    SPECIALS = ("<pad>", "<unk>", "<bos>", "<eos>")

    def __init__(
        self,
        tokens: Iterable[str] | Mapping[str, int],
        *,
        min_count: int = 1,
        specials: Sequence[str] = SPECIALS,
    ) -> None:
        min_count = check_positive_int("min_count", min_count)
        tokens = _check_tokens(tokens)
        if not isinstance(specials, Iterable):
            raise TypeError(f"specials must be some of {self.SPECIALS}, got {specials!r:.80}")
        specials = tuple(specials)
        try:
            counts = Counter(tokens)
        except TypeError as error:  # such as a list of lists
            raise TypeError(f"tokens must be an iterable of str: {error}") from None
        for token, count in counts.items():
            if not isinstance(count, Real):
                raise TypeError(f"tokens must have integer counts, got {count!r:.80} of {token!r}")
        counted = [token for token, count in counts.items() if count >= min_count]
        for token in counted:
            if not isinstance(token, str):
                raise TypeError(f"tokens must be an iterable of str, got {token!r} in it")
        ordered = sorted(
            (token for token in counted if token not in specials),
            key=lambda token: (-counts[token], token),
        )
        self._number((*specials, *ordered), specials)

    def _number(self, tokens: tuple[str, ...], specials: tuple[str, ...]) -> None:
        for token in specials:
            if specials.count(token) > 1 or token not in self.SPECIALS:
                raise ValueError(f"specials must be some of {self.SPECIALS}, got {specials}")
        if not tokens:
            raise ValueError("tokens must be at least one, got none")
        self.tokens, self.specials = tokens, specials
        self._ids = {token: k for k, token in enumerate(tokens)}
        self.pad, self.unk, self.bos, self.eos = map(self._special, self.SPECIALS)

    def _special(self, token: str) -> int | None:
        return self._ids[token] if token in self.specials else None

    def __len__(self) -> int:
        return len(self.tokens)

    def __iter__(self) -> Iterator[str]:
        return iter(self.tokens)

    def __contains__(self, token: object) -> bool:
        return token in self._ids

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Vocabulary) and (other.tokens, other.specials) == (
            self.tokens,
            self.specials,
        )

    def __hash__(self) -> int:
        return hash(self.tokens)

    def __repr__(self) -> str:
        return f"<Vocabulary of {len(self)} tokens, {len(self.specials)} of them special>"

    def encode(self, tokens: Iterable[str], bos: bool = False, eos: bool = False) -> np.ndarray:
        """Return the ids of tokens.

        Parameters
        ----------
        tokens : iterable of str
            May be empty.
        bos, eos : bool
            Whether ``<bos>`` stands before them and ``<eos>`` after them.

        Returns
        -------
        ids : ndarray of int64, shape (n,)
            Unknown tokens are ``<unk>``.

        Raises
        ------
        TypeError
            If the tokens are a str, or one of them is not a str, or `bos` or `eos` is not a bool.
        ValueError
            If there are unknown tokens and no ``<unk>``, the message lists them; if ``<bos>`` or
            ``<eos>`` is asked for and has no id.
        """
        bos, eos = check_bool("bos", bos), check_bool("eos", eos)
        tokens = list(_check_tokens(tokens))
        try:
            ids = [self._ids.get(token, self.unk) for token in tokens]
        except TypeError as error:
            raise TypeError(f"tokens must be an iterable of str: {error}") from None
        if self.unk in ids:
            strange = [token for token in tokens if not isinstance(token, str)]
            if strange and self.unk is not None:
                raise TypeError(f"tokens must be an iterable of str, got {strange[0]!r} in it")
        if None in ids:
            raise _unknown_error("tokens", set(tokens) - self._ids.keys(), len(self))
        return np.array([*self._mark("bos", bos), *ids, *self._mark("eos", eos)], np.int64)

    def _mark(self, name: str, wanted: bool) -> list[int]:
        mark = getattr(self, name) if wanted else None
        if wanted and mark is None:
            raise ValueError(f"{name} must be False: <{name}> is none of {self.specials}")
        return [mark] if wanted else []

    def decode(self, ids: ArrayLike) -> list[str]:
        """Return the tokens that ids stand for, ``<pad>``, ``<bos>`` and ``<eos>`` left out.

        Parameters
        ----------
        ids : array_like of int, shape (n,)

        Raises
        ------
        ValueError
            If an id is not in 0..len(self) - 1.
        """
        dropped = {self.pad, self.bos, self.eos}
        ids = check_ids("ids", ids, len(self)).ravel().tolist()
        return [self.tokens[k] for k in ids if k not in dropped]

    def state(self) -> dict[str, list[str]]:
        """Return what a model file keeps: JSON values."""
        return {"tokens": list(self.tokens), "specials": list(self.specials)}

    @classmethod
    def from_state(cls, state: Mapping[str, Sequence[str]]) -> Vocabulary:
        """Return the vocabulary of a :meth:`state`; ValueError if it is not such a state."""
        try:
            tokens, specials = (tuple(_check_tokens(state[key])) for key in ("tokens", "specials"))
        except (KeyError, TypeError):
            raise ValueError("state must be one that Vocabulary.state() returned") from None
        strings = all(isinstance(token, str) for token in tokens)
        if not strings or len(set(tokens)) != len(tokens) or tokens[: len(specials)] != specials:
            raise ValueError("state must have distinct tokens of str, the special ones first")
        vocabulary = cls.__new__(cls)
        vocabulary._number(tokens, specials)
        return vocabulary


def _code_points(text: str) -> np.ndarray:
    """Code points as uint32, shape (len(text),); lone surrogates are characters like any other."""
    return np.frombuffer(text.encode("utf-32-le", "surrogatepass"), "<u4")


def _check_tokens(tokens: Iterable[str]) -> Iterable[str]:
    if isinstance(tokens, (str, bytes)) or not isinstance(tokens, Iterable):
        raise TypeError(
            f"tokens must be an iterable of str, got {type(tokens).__name__}; "
            "a tokeniser makes a list of it"
        )
    return tokens


def _unknown_error(kind: str, unknown: set[str], size: int) -> ValueError:
    # JSON keeps the message on one line whatever the tokens are. Sorted as str, since tokens of
    # other types may be among them.
    ordered = sorted(unknown, key=str)[:_SHOWN]
    shown = [json.dumps(token, ensure_ascii=False, default=repr) for token in ordered]
    more = f" and {len(unknown) - _SHOWN} more" if len(unknown) > _SHOWN else ""
    return ValueError(f"{kind} outside the vocabulary of {size}: {', '.join(shown)}{more}")
