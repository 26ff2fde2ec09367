"""Texts to model, by character and by word."""

from __future__ import annotations

from fastrnn.data.dataset import DataSet, File
from fastrnn.data.sets._samples import sentences
from fastrnn.data.sets._sources import NAMES, TINYSHAKESPEARE, WIKITEXT


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


DATASETS = {
    "tinyshakespeare": DataSet(
        "Tiny Shakespeare: 40,000 lines of plays, 1,115,394 characters, 65 symbols",
        "Karpathy, char-rnn (2015), https://github.com/karpathy/char-rnn",
        "text in the public domain, repository MIT",
        (File("char_lm/tinyshakespeare.txt", (TINYSHAKESPEARE,)),),
        load_tinyshakespeare,
        sample_tinyshakespeare,
    ),
    "names": DataSet(
        "32,033 first names of the United States",
        "Karpathy, makemore (2022), https://github.com/karpathy/makemore, from ssa.gov",
        "MIT (repository); the names are a work of the US government",
        (File("char_lm/names.txt", (NAMES,)),),
        load_names,
        sample_names,
    ),
    "wikitext2": DataSet(
        "WikiText-2, validation and test parts: 217,646 and 245,569 tokens, ends of lines counted",
        "Merity, Xiong, Bradbury and Socher, Pointer sentinel mixture models (2016)",
        "CC BY-SA 3.0 (Wikipedia's authors)",
        tuple(
            File(f"word_lm/wikitext2.{part}.txt.gz", (WIKITEXT[part],))
            for part in ("valid", "test")
        ),
        load_wikitext2,
        sample_wikitext2,
    ),
}
