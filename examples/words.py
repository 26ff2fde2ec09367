"""Language modelling, words: predict the next word of an article of Wikipedia.

Learnt on the small test part of WikiText-2 (245,569 tokens; words seen three times or more, others
are ``<unk>`` and count as one word) by an LSTM 2x200 whose embedding is its output layer too, and
tested on the validation part. PyTorch reaches a perplexity of 133.9 with the same network; that of
the frequencies of words is 351.6.

Run: python examples/words.py
"""

from __future__ import annotations

from itertools import islice
from typing import Any

import numpy as np
from _common import arguments, report

import fastrnn as fr

FACTORS = (1, 1, 1, 1, 0.5, 0.25)  # on the learning rate, epoch by epoch


def load(args: Any) -> tuple[np.ndarray, np.ndarray, fr.data.Vocabulary]:
    """Return the ids that are learnt, those that are tested, and the vocabulary."""
    parts = fr.data.load("wikitext2", args.data, sample=args.quick)
    tokens = {name: fr.data.words(text.replace("\n", " <eos> ")) for name, text in parts.items()}
    vocabulary = fr.data.Vocabulary(tokens["test"], min_count=3, specials=["<unk>", "<eos>"])
    return vocabulary.encode(tokens["test"]), vocabulary.encode(tokens["valid"]), vocabulary


def build(args: Any, data: tuple) -> tuple[Any, fr.data.Windows, dict[str, Any]]:
    """Return the model, its batches and how it is trained."""
    train, _, vocabulary = data
    model = fr.models.LanguageModel(
        len(vocabulary), 200, 2, embedding_size=200, dropout=0.4, tie_weights=True, seed=args.seed
    )
    table = model.parameters["encoder.embedding.weight"]
    table *= 0.1 / np.abs(table).max()  # uniform in +-0.1, as often for words
    batches = fr.data.Windows(train, batch_size=20, seq_length=35)
    last = len(FACTORS) - 1
    settings = {
        "learning_rate": 2e-3,
        "schedule": lambda step: FACTORS[min(step // len(batches), last)],
        "clip": 1.0,
    }
    return model, batches, settings


def write(model: fr.models.LanguageModel, vocabulary: fr.data.Vocabulary, seed: int) -> str:
    """Return 60 words that the model writes."""
    ids = model.sample(vocabulary.encode(["<eos>"]), 1000, temperature=0.8, seed=seed)
    known = (k for k in ids if k != vocabulary.unk)
    return " ".join(vocabulary.tokens[k] for k in islice(known, 60)).replace("<eos>", "\n")


def main() -> None:
    """Train, write a few lines, score."""
    args = arguments(__doc__, epochs=6)
    data = load(args)
    model, batches, settings = build(args, data)
    trainer = fr.fit(model, batches, args.epochs, **settings)
    _, valid, vocabulary = data
    print(write(model, vocabulary, args.seed))
    loss = fr.training.evaluate(model, fr.data.Windows(valid, 10, 70, keep_rest=True))
    report(args, trainer, perplexity=fr.losses.perplexity(loss))


if __name__ == "__main__":
    main()
