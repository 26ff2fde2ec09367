"""How is a word pronounced? Many to many, unaligned.

Data: 28,732 words and their phonemes from the CMU Pronouncing Dictionary, a tenth is for testing.
Network: every letter twice, as a word may have more sounds than letters, vectors of 64, a
bidirectional LSTM of two layers of 128 units, a score for each phoneme and the blank, CTC. Greedy
decoding. The same network in PyTorch has a phoneme error of 0.0953; 0.402 of its words have one.

Run: python examples/spelling_to_sound.py
"""

from __future__ import annotations

from itertools import pairwise
from typing import Any, NamedTuple

from _common import arguments, error_rates, held_out, report

import fastrnn as fr


class Data(NamedTuple):
    """Words and phonemes, their symbols, and which words train and test."""

    words: list[str]
    sounds: list[list[str]]
    letters: fr.data.CharVocabulary
    phonemes: fr.data.Vocabulary
    train: list[int]
    test: list[int]


def load(args: Any) -> Data:
    """Read the dictionary; ``<pad>``, which is 0, is the blank."""
    words, sounds = zip(*fr.data.load("cmudict", args.data, sample=args.quick))
    letters = fr.data.CharVocabulary("".join(words))
    phonemes = fr.data.Vocabulary((p for row in sounds for p in row), specials=["<pad>"])
    train, test = held_out(len(words))
    # Equal neighbours need a frame between them.
    needed = [len(row) + sum(a == b for a, b in pairwise(row)) for row in sounds]
    train = [k for k in train if needed[k] <= 2 * len(words[k])]
    return Data(words, sounds, letters, phonemes, train, test)


def build(args: Any, data: Data) -> tuple[Any, fr.data.Batches, dict[str, Any]]:
    """Return the model, its batches and how it is trained."""
    sizes = {"num_layers": 2, "embedding_size": 64, "bidirectional": True, "dropout": 0.2}
    model = fr.models.CTCRecognizer(
        len(data.letters), 128, len(data.phonemes), cell="lstm", repeat=2, seed=args.seed, **sizes
    )
    inputs = [data.letters.encode(data.words[k]) for k in data.train]
    targets = [data.phonemes.encode(data.sounds[k]) for k in data.train]
    batches = fr.data.Batches(inputs, targets, 64, seed=args.seed)
    schedule = fr.optim.StepDecay(1 + int(0.6 * args.epochs * len(batches)), 0.3)
    return model, batches, {"learning_rate": 2e-3, "clip": 1.0, "schedule": schedule}


def main() -> None:
    """Train, test, and print a few words as they are said."""
    args = arguments(__doc__, epochs=8)
    data = load(args)
    model, batches, settings = build(args, data)
    trainer = fr.fit(model, batches, args.epochs, **settings)
    words = [data.words[k] for k in data.test]
    sounds = [data.sounds[k] for k in data.test]
    heard = model.predict([data.letters.encode(word) for word in words])
    said = [data.phonemes.decode(symbols) for symbols in heard]
    for word, predicted, truth in list(zip(words, said, sounds))[:12]:
        print(f"{word:15} {' '.join(predicted):30} {'' if predicted == truth else ' '.join(truth)}")
    phoneme_error, word_error = error_rates(said, sounds)
    report(args, trainer, phoneme_error=phoneme_error, word_error=word_error)


if __name__ == "__main__":
    main()
