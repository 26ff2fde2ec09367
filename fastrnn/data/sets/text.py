"""Texts to model, by character and by word."""

from __future__ import annotations

from fastrnn.data.sets._samples import sentences


def load_tinyshakespeare(content: bytes) -> str:
    """Return the text, a str."""
    return content.decode()


def sample_tinyshakespeare() -> str:
    """Return 300 lines."""
    return "".join(f"{line.capitalize()}.\n" for line in sentences(300))


def load_names(content: bytes) -> list[str]:
    """Return the names in the order of the file."""
    return content.decode().split()


def sample_names() -> list[str]:
    """Return 80 names of three syllables."""
    return [name.replace(" ", "") for name in sentences(80, *[("an", "be", "ci", "do", "lu")] * 3)]


def load_wikitext2(valid: bytes, test: bytes) -> dict[str, str]:
    """Return the two parts that are small, texts of tokens between blanks."""
    return {"valid": valid.decode(), "test": test.decode()}


def sample_wikitext2() -> dict[str, str]:
    """Return texts of 100 and 300 lines."""
    return {
        part: "".join(f" {line} . \n" for line in sentences(count, seed=seed))
        for seed, (part, count) in enumerate({"valid": 100, "test": 300}.items())
    }
