"""The table of data sets, and loading by name."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fastrnn._validation import check_bool, check_choice
from fastrnn.data.checksums import CHECKSUMS
from fastrnn.data.files import Content, check_content, find, read_content
from fastrnn.data.sets import (
    dialogue,
    motion,
    music,
    names,
    pictures,
    sentiment,
    series,
    speech,
    text,
    translation,
)


@dataclass(frozen=True)
class DataSet:
    """A data set: its files, how to read them, and a made-up sample of the same form."""

    files: tuple[str, ...]
    load: Callable[..., Any]
    sample: Callable[[], Any]


DATASETS = {
    "tinyshakespeare": DataSet(
        ("char_lm/tinyshakespeare.txt",), text.load_tinyshakespeare, text.sample_tinyshakespeare
    ),
    "names": DataSet(("char_lm/names.txt",), text.load_names, text.sample_names),
    "wikitext2": DataSet(
        ("word_lm/wikitext2.valid.txt.gz", "word_lm/wikitext2.test.txt.gz"),
        text.load_wikitext2,
        text.sample_wikitext2,
    ),
    "rt-polarity": DataSet(
        ("sentiment/rt-polarity.pos.txt.gz", "sentiment/rt-polarity.neg.txt.gz"),
        sentiment.load_rt_polarity,
        sentiment.sample_sentiment,
    ),
    "uci-sentences": DataSet(
        tuple(f"sentiment/{part}_labelled.txt" for part in ("amazon_cells", "imdb", "yelp")),
        sentiment.load_uci_sentences,
        sentiment.sample_sentiment,
    ),
    "surnames": DataSet(
        tuple(f"name_classification/names/{language}.txt" for language in names.LANGUAGES),
        names.load_surnames,
        names.sample_surnames,
    ),
    "genders": DataSet(
        tuple(f"name_classification/gender/{gender}.txt" for gender in names.GENDERS),
        names.load_genders,
        names.sample_genders,
    ),
    "eng-fra": DataSet(
        ("translation/eng-fra-5000.tsv",), translation.load_eng_fra, translation.sample_eng_fra
    ),
    "cmudict": DataSet(
        ("translation/cmudict_every4th.tsv.gz",),
        translation.load_cmudict,
        translation.sample_cmudict,
    ),
    "chatterbot": DataSet(
        ("dialogue_qa/chatterbot_english.tsv",),
        dialogue.load_chatterbot,
        dialogue.sample_chatterbot,
    ),
    "babi": DataSet(
        tuple(
            f"dialogue_qa/babi/{task}_{title}_{part}.txt"
            for task, title in dialogue.TASKS.items()
            for part in dialogue.PARTS
        ),
        dialogue.load_babi,
        dialogue.sample_babi,
    ),
    "emoji": DataSet(
        ("image_caption/emoji_captions.npz",), pictures.load_emoji, pictures.sample_emoji
    ),
    "gestures": DataSet(
        ("frame_level/gesture_phase.npz",), motion.load_gestures, motion.sample_gestures
    ),
    "finger-tracks": DataSet(
        ("sequence_classification/finger_tracks.npz",),
        motion.load_finger_tracks,
        motion.sample_finger_tracks,
    ),
    "japanese-vowels": DataSet(
        ("sequence_classification/japanese_vowels.npz",),
        speech.load_japanese_vowels,
        speech.sample_japanese_vowels,
    ),
    "spoken-digits": DataSet(
        ("speech/fsdd_logmel20.npz",), speech.load_spoken_digits, speech.sample_spoken_digits
    ),
    "chorales": DataSet(
        ("music/bach_chorale_melodies.json",), music.load_chorales, music.sample_chorales
    ),
    **{
        name: DataSet((f"time_series/{name}.csv",), loader, series.sample_series)
        for name, loader in {
            "sunspots": series.load_yearly,
            "airline": series.load_airline,
            "co2": series.load_co2,
            "elnino": series.load_elnino,
            "nile": series.load_yearly,
            "lynx": series.load_yearly,
            "solar": series.load_solar,
        }.items()
    },
}


def load(name: str, folder: str | Path | None = None, *, sample: bool = False) -> Any:
    """Return a data set.

    Parameters
    ----------
    name : str
        One of the names of the table in docs/data.md.
    folder : str or Path, optional
        Where its files are; otherwise the folder that ``FASTRNN_DATA`` names.
    sample : bool
        A few made-up examples of the same form instead, for which nothing is read.
    """
    dataset = DATASETS[check_choice("name", name, DATASETS)]
    if check_bool("sample", sample):
        return dataset.sample()
    return dataset.load(*(_content(path, folder) for path in dataset.files))


def _content(path: str, folder: str | Path | None) -> Content:
    folder = folder or os.environ.get("FASTRNN_DATA")
    found = find(path, Path(folder)) if folder else None
    if found is None:
        raise ValueError(f"there is no {path} in {folder}")
    size, sha256 = CHECKSUMS[path]
    return check_content(read_content(found, size), sha256, found)
