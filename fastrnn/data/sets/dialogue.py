"""Questions on short stories, and small talk."""

from __future__ import annotations

import re
from itertools import product

import numpy as np

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
