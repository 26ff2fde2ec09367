"""Names, with their language or gender."""

from __future__ import annotations

from functools import partial

import numpy as np

from fastrnn.data.dataset import DataSet, File
from fastrnn.data.files import member
from fastrnn.data.sets._samples import sentences
from fastrnn.data.sets._sources import GENDER_NAMES, SURNAMES

LANGUAGES = (
    "Arabic", "Chinese", "Czech", "Dutch", "English", "French", "German", "Greek", "Irish",
    "Italian", "Japanese", "Korean", "Polish", "Portuguese", "Russian", "Scottish", "Spanish",
    "Vietnamese",
)  # fmt: skip
GENDERS = ("female", "male")

Names = tuple[list[str], np.ndarray, list[str]]


def load_surnames(*parts: bytes) -> Names:
    """Return names, labels and the languages in the order of the alphabet."""
    return _labelled(parts, LANGUAGES)


def load_genders(*parts: bytes) -> Names:
    """Return names, labels and the two genders."""
    return _labelled(parts, GENDERS)


def _labelled(parts: tuple[bytes, ...], classes: tuple[str, ...]) -> Names:
    lines = [[line.strip() for line in part.decode().split("\n")] for part in parts]
    names = [[line for line in part if line] for part in lines]
    labels = np.repeat(np.arange(len(classes)), [len(part) for part in names])
    return [name for part in names for name in part], labels, list(classes)


def sample_surnames() -> Names:
    """Return 80 names of two languages."""
    return _sample({"Italian": ("ni", "lla", "tti"), "Russian": ("ov", "ko", "sky")})


def sample_genders() -> Names:
    """Return 80 names."""
    return _sample({"female": ("a", "ia", "ette"), "male": ("o", "ert", "us")})


def _sample(endings: dict[str, tuple[str, ...]]) -> Names:
    parts = [
        "\n".join(sentences(40, ("Mar", "Ros", "Tel", "Bon"), ("a", "i", "in"), ends, seed=seed))
        for seed, ends in enumerate(endings.values())
    ]
    return _labelled(tuple(part.replace(" ", "").encode() for part in parts), tuple(endings))


DATASETS = {
    "surnames": DataSet(
        "20,050 surnames of 18 languages, some lines more than once",
        "Robertson, practical-pytorch (2017), https://github.com/spro/practical-pytorch",
        "MIT (repository)",
        tuple(
            File(f"name_classification/names/{language}.txt", (f"{SURNAMES}/{language}.txt",))
            for language in LANGUAGES
        ),
        load_surnames,
        sample_surnames,
    ),
    "genders": DataSet(
        "5,001 female and 2,943 male first names, English",
        "Kantrowitz and Ross, Names Corpus 1.3 (1994); the zip is nltk_data's",
        "free to use with credit, to redistribute with its README",
        tuple(
            File(
                f"name_classification/gender/{gender}.txt",
                (GENDER_NAMES,),
                partial(member, name=f"names/{gender}.txt"),
            )
            for gender in GENDERS
        ),
        load_genders,
        sample_genders,
    ),
}
