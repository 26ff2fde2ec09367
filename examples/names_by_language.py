"""Which language is a surname from? Many to one: characters in, one of 18 classes out.

Data: 18,012 surnames of 18 languages, a line that repeats within a language taken once; a tenth is
for testing. Half of them are Russian, few are Vietnamese, so the macro-F1, in which each language
counts the same, stands beside the accuracy. Network: vectors of 32 for the characters, a GRU of 128
units, 18 scores from its last state. The same network in PyTorch has an accuracy of 0.828 and a
macro-F1 of 0.440.

Run: python examples/names_by_language.py
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from _common import arguments, classification_scores, held_out, report

import fastrnn as fr


class Data(NamedTuple):
    """Ids of the characters of each name, its label, and which ones train and test."""

    vocabulary: fr.data.CharVocabulary
    languages: list[str]
    names: list[str]
    labels: np.ndarray
    train: np.ndarray
    test: np.ndarray


def load(args: Any) -> Data:
    """Take each name of a language once."""
    names, labels, languages = fr.data.load("surnames", args.data, sample=args.quick)
    pairs = list(dict.fromkeys(zip(names, labels.tolist())))
    names, labels = [name for name, _ in pairs], np.array([label for _, label in pairs])
    vocabulary = fr.data.CharVocabulary("".join(names))
    return Data(vocabulary, languages, names, labels, *held_out(len(names)))


def build(args: Any, data: Data) -> tuple[Any, fr.data.Batches, dict[str, Any]]:
    """Return the model, its batches and how it is trained."""
    model = fr.models.SequenceClassifier(
        len(data.vocabulary),
        128,
        len(data.languages),
        embedding_size=32,
        dropout=0.2,
        seed=args.seed,
    )
    inputs = [data.vocabulary.encode(data.names[k]) for k in data.train]
    batches = fr.data.Batches(inputs, data.labels[data.train], 64, seed=args.seed)
    # The last three tenths of the epochs at a fifth of the rate.
    decay = fr.optim.StepDecay(max(1, round(0.7 * args.epochs)) * len(batches), 0.2)
    return model, batches, {"learning_rate": 2e-3, "clip": 5.0, "schedule": decay}


def main() -> None:
    """Train, test, and guess the languages of a few of the test's names."""
    args = arguments(__doc__, epochs=8)
    data = load(args)
    model, batches, settings = build(args, data)
    trainer = fr.fit(model, batches, args.epochs, **settings)
    tested = [data.vocabulary.encode(data.names[k]) for k in data.test]
    probabilities = model.predict_proba(tested)
    for k, row in zip(data.test[:8], probabilities):
        guesses = [f"{data.languages[c]} {row[c]:.2f}" for c in np.argsort(-row)[:3]]
        print(f"{data.names[k]:>14} ({data.languages[data.labels[k]]}): {', '.join(guesses)}")
    scores = classification_scores(data.labels[data.test], probabilities.argmax(axis=1))
    report(args, trainer, **scores)


if __name__ == "__main__":
    main()
