"""Sentences that praise or complain."""

from __future__ import annotations

from functools import partial

import numpy as np

from fastrnn.data.dataset import DataSet, File
from fastrnn.data.files import member
from fastrnn.data.sets._samples import OBJECTS, SUBJECTS, sentences
from fastrnn.data.sets._sources import POLARITY, UCI_SENTENCES


def load_rt_polarity(positive: bytes, negative: bytes) -> tuple[list[str], np.ndarray]:
    """Return sentences and labels, 1 the positive ones, which come first."""
    parts = [part.decode().splitlines() for part in (positive, negative)]
    return [line.strip() for part in parts for line in part], np.repeat([1, 0], [*map(len, parts)])


def load_uci_sentences(*parts: bytes) -> tuple[list[str], np.ndarray]:
    """Return sentences and labels, 1 the positive ones."""
    # Not splitlines: two of the sentences have a control character that it takes for a line's end.
    lines = [line for part in parts for line in part.decode().rstrip("\n").split("\n")]
    pairs = [line.rsplit("\t", 1) for line in lines]
    return [text.strip() for text, _ in pairs], np.array([int(label) for _, label in pairs])


def sample_sentiment() -> tuple[list[str], np.ndarray]:
    """Return 40 sentences of praise and 40 of complaint."""
    praise = sentences(40, SUBJECTS, ("loves", "admires", "enjoys"), OBJECTS)
    complaints = sentences(40, SUBJECTS, ("hates", "dreads", "regrets"), OBJECTS, seed=1)
    return praise + complaints, np.repeat([1, 0], 40)


DATASETS = {
    "rt-polarity": DataSet(
        "Sentence polarity v1.0: 5,331 positive and 5,331 negative sentences of film reviews",
        "Pang and Lee, Seeing stars, ACL (2005); the zip is nltk_data's",
        "CC BY 4.0, as nltk_data's package record states",
        tuple(
            File(
                f"sentiment/rt-polarity.{part}.txt.gz",
                (POLARITY,),
                partial(member, name=f"sentence_polarity/rt-polarity.{part}"),
            )
            for part in ("pos", "neg")
        ),
        load_rt_polarity,
        sample_sentiment,
    ),
    "uci-sentences": DataSet(
        "Sentiment labelled sentences: 1,000 each from reviews at Amazon, IMDb and Yelp",
        "Kotzias, Denil, de Freitas and Smyth, From group to individual labels using deep "
        "features, KDD (2015); UCI 331",
        "CC BY 4.0, by the UCI repository",
        tuple(
            File(
                f"sentiment/{part}_labelled.txt",
                (UCI_SENTENCES,),
                partial(member, name=f"sentiment labelled sentences/{part}_labelled.txt"),
            )
            for part in ("amazon_cells", "imdb", "yelp")
        ),
        load_uci_sentences,
        sample_sentiment,
    ),
}
