"""Pairs of sequences: English and French, spelling and sound."""

from __future__ import annotations

from itertools import product

from fastrnn.data.dataset import DataSet, File
from fastrnn.data.files import member
from fastrnn.data.sets._sources import CMUDICT, ENG_FRA


def load_eng_fra(content: bytes) -> list[tuple[str, str, str]]:
    """Return triples of an English sentence, a French one and their attribution."""
    return [tuple(line.split("\t")) for line in content.decode().rstrip("\n").split("\n")]


def sample_eng_fra() -> list[tuple[str, str, str]]:
    """Return 48 pairs."""
    subjects = (("I", "Je"), ("We", "Nous"), ("You", "Vous"), ("They", "Ils"))
    verbs = (("dance", "dans"), ("sing", "chant"), ("work", "travaill"))
    ends = {"Je": "e", "Nous": "ons", "Vous": "ez", "Ils": "ent"}
    adverbs = (("", ""), (" well", " bien"), (" here", " ici"), (" today", " aujourd'hui"))
    return [
        (f"{i} {verb}{how}.", f"{je} {verbe}{ends[je]}{comment}.", "made up")
        for (i, je), (verb, verbe), (how, comment) in product(subjects, verbs, adverbs)
    ]


def load_cmudict(content: bytes) -> list[tuple[str, list[str]]]:
    """Return pairs of a word and its phonemes."""
    pairs = (line.split("\t") for line in content.decode().splitlines())
    return [(word, phonemes.split()) for word, phonemes in pairs]


def sample_cmudict() -> list[tuple[str, list[str]]]:
    """Return 75 words of a few regular sounds."""
    sounds = {"b": "B", "d": "D", "k": "K", "n": "N", "sh": "SH"}
    vowels = {"a": "AE", "e": "EH", "oo": "UW"}
    return [
        (a + b + c, [sounds[a], vowels[b], sounds[c]])
        for a, b, c in product(sounds, vowels, sounds)
    ]


def make_cmudict(archive: bytes) -> bytes:
    """Return every fourth word of letters, its first pronunciation without the stress."""
    entries = []
    for line in member(archive, "cmudict/cmudict").decode().splitlines():
        word, number, *phonemes = line.split()
        if number == "1" and word.isalpha() and 2 <= len(word) <= 14:
            sounds = " ".join(phoneme.rstrip("012") for phoneme in phonemes)
            entries.append(f"{word.lower()}\t{sounds}\n")
    return "".join(entries[::4]).encode()


DATASETS = {
    "eng-fra": DataSet(
        "5,000 short sentences in English and French, each with its attribution",
        "Tatoeba (https://tatoeba.org), by way of "
        "https://github.com/NJUxlj/seq2seq-attention-translation",
        "CC BY 2.0 FR; the third column is the attribution that it asks for",
        (File("translation/eng-fra-5000.tsv", (ENG_FRA,)),),
        load_eng_fra,
        sample_eng_fra,
    ),
    "cmudict": DataSet(
        "28,732 English words and their phonemes: every fourth of those of 2 to 14 letters",
        "The Carnegie Mellon Pronouncing Dictionary 0.7a, Carnegie Mellon University (2008); the "
        "zip is nltk_data's",
        "BSD-like, acknowledgement asked; Copyright (C) 1993-2008 Carnegie Mellon University",
        (File("translation/cmudict_every4th.tsv.gz", (CMUDICT,), make_cmudict),),
        load_cmudict,
        sample_cmudict,
    ),
}
