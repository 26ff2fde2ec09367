"""Pairs of sequences: English and French, spelling and sound."""

from __future__ import annotations

from itertools import product


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
        (
            f"{i} {verb}{how}.",
            f"{je} {verbe[:-1] if ends[je] else verbe}{ends[je]}{comment}.",
            "made up",
        )
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
