"""Questions on short stories, and small talk."""

from __future__ import annotations

import re
from itertools import pairwise, product
from pathlib import PurePosixPath

import numpy as np

from fastrnn.data.dataset import DataSet, File
from fastrnn.data.files import members, needed
from fastrnn.data.sets._sources import BABI, CHATTERBOT

TASKS = {
    "qa1": "single-supporting-fact",
    "qa2": "two-supporting-facts",
    "qa4": "two-arg-relations",
    "qa6": "yes-no-questions",
    "qa9": "simple-negation",
    "qa15": "basic-deduction",
    "qa20": "agents-motivations",
}
PARTS = ("train", "test")

Story = tuple[list[list[str]], list[str], str]


def load_babi(*contents: bytes) -> dict[str, dict[str, list[Story]]]:
    """Return the stories of each task and part."""
    content = iter(contents)
    return {task: {part: _stories(next(content).decode()) for part in PARTS} for task in TASKS}


def _stories(text: str) -> list[Story]:
    """Cut a file into questions, each with the sentences told before it.

    A line is a number, which is 1 where a story begins, and a sentence, or a question with its
    answer and the numbers of the sentences that tell it.
    """
    stories, told = [], []
    for line in text.splitlines():
        number, _, rest = line.partition(" ")
        sentence, *answer = rest.split("\t")
        if number == "1":
            told = []
        words = re.findall(r"\w+", sentence.lower())
        if answer:
            stories.append((list(told), words, answer[0]))
        else:
            told.append(words)
    return stories


def sample_babi() -> dict[str, dict[str, list[Story]]]:
    """Return 40 stories of the first kind for each task and part."""
    generator = np.random.default_rng(0)
    people, places = ("mary", "john", "sandra"), ("hallway", "garden", "office")

    def story() -> Story:
        moves = [(generator.choice(people), generator.choice(places)) for _ in range(3)]
        who, _ = moves[generator.integers(3)]
        told = [f"{person} went to the {place}".split() for person, place in moves]
        return told, ["where", "is", str(who)], str(dict(moves)[who])

    return {task: {part: [story() for _ in range(40)] for part in PARTS} for task in TASKS}


def load_chatterbot(content: bytes) -> list[tuple[str, str, str]]:
    """Return triples of a topic, an utterance and a reply."""
    return [tuple(line.split("\t")) for line in content.decode().splitlines()]


def sample_chatterbot() -> list[tuple[str, str, str]]:
    """Return 15 pairs."""
    verbs, things = ("like", "know", "want"), ("music", "books", "cats", "tea", "trains")
    return [
        (thing, f"Do you {verb} {thing}?", f"Yes, I {verb} {thing}.")
        for verb, thing in product(verbs, things)
    ]


def make_chatterbot(wheel: bytes) -> bytes:
    """Cut conversations into pairs of an utterance and what was said next."""
    yaml = needed("yaml", "reading chatterbot's conversations")
    lines = []
    for name, content in members(wheel, "/data/english/", ".yml").items():
        topic = PurePosixPath(name).stem
        for conversation in yaml.safe_load(content)["conversations"]:
            turns = [" ".join(str(turn).split()) for turn in conversation]
            lines += [f"{topic}\t{said}\t{reply}\n" for said, reply in pairwise(turns)]
    return "".join(lines).encode()


DATASETS = {
    "babi": DataSet(
        "bAbI tasks 1, 2, 4, 6, 9, 15 and 20, version 1.1: 1,000 questions of each to train, "
        "1,000 to test",
        "Weston et al., Towards AI-complete question answering (2015), by way of "
        "https://github.com/iamtrask/Grokking-Deep-Learning",
        "CC BY 3.0",
        tuple(
            File(
                f"dialogue_qa/babi/{task}_{title}_{part}.txt",
                (f"{BABI}/{task}_{title}_{part}.txt",),
            )
            for task, title in TASKS.items()
            for part in PARTS
        ),
        load_babi,
        sample_babi,
    ),
    "chatterbot": DataSet(
        "2,393 pairs of utterance and reply on many topics, some more than once",
        "Cox, chatterbot-corpus 1.3.2, https://github.com/gunthercox/chatterbot-corpus",
        "BSD-3-Clause",
        (File("dialogue_qa/chatterbot_english.tsv", (CHATTERBOT,), make_chatterbot),),
        load_chatterbot,
        sample_chatterbot,
    ),
}
