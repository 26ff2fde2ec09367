"""Translate English into French: a sentence in, a sentence out.

Data: 5,000 pairs of short sentences; a tenth of the English sentences test, with all their
translations, of which any counts. Network: vectors of 128 for the words, a bidirectional GRU of
128 units that reads, a GRU of 256 that writes and attends to all that was read. The same network in
PyTorch predicts 0.653 of the words of a translation from those before, and has a BLEU of 23.6.

Run: python examples/translation.py
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from _common import arguments, bleu, held_out, picture, report, token_accuracy

import fastrnn as fr

tokenize = fr.data.RegexTokenizer(r"\w+['’]?|[^\w\s]", lowercase=True)


class Data(NamedTuple):
    """Vocabularies of both languages, training pairs of ids, and translations of test sentences."""

    english: fr.data.Vocabulary
    french: fr.data.Vocabulary
    sources: list[np.ndarray]
    targets: list[np.ndarray]
    test: dict[tuple[str, ...], list[list[str]]]


def load(args: Any) -> Data:
    """Split the pairs by their English side, so that no tested sentence was trained on."""
    translations: dict[tuple[str, ...], list[list[str]]] = {}
    for source, target, _ in fr.data.load("eng-fra", args.data, sample=args.quick):
        translations.setdefault(tuple(tokenize(source)), []).append(tokenize(target))
    sentences = list(translations)
    train, test = held_out(len(sentences))
    pairs = [(sentences[k], target) for k in train for target in translations[sentences[k]]]
    english = fr.data.Vocabulary(token for source, _ in pairs for token in source)
    french = fr.data.Vocabulary(token for _, target in pairs for token in target)
    sources = [english.encode(source) for source, _ in pairs]
    targets = [french.encode(target, eos=True) for _, target in pairs]
    return Data(
        english, french, sources, targets, {sentences[k]: translations[sentences[k]] for k in test}
    )


def build(args: Any, data: Data) -> tuple[Any, fr.data.Batches, dict[str, Any]]:
    """Return the model, its batches and how it is trained."""
    sizes = len(data.english), len(data.french)
    model = fr.models.Seq2Seq(
        *sizes, 256, embedding_size=128, dropout=0.3, input_dropout=0.3, seed=args.seed
    )
    batches = fr.data.Batches(data.sources, data.targets, 32, seed=args.seed)
    schedule = fr.optim.StepDecay(max(1, int(0.6 * args.epochs * len(batches))), 0.3)
    return model, batches, {"learning_rate": 1e-3, "clip": 1.0, "schedule": schedule}


def main() -> None:
    """Train, translate the test sentences, and draw where the model looks."""
    args = arguments(__doc__, 20)
    data = load(args)
    model, batches, settings = build(args, data)
    trainer = fr.fit(model, batches, args.epochs, **settings)
    sources = [data.english.encode(source) for source in data.test]
    references = list(data.test.values())
    scores = {}
    for name, beam_size in (("beam_", 5), ("", 1)):
        written = [data.french.decode(ids) for ids in model.predict(sources, beam_size=beam_size)]
        exact = np.mean([tokens in own for tokens, own in zip(written, references)])
        found = {**bleu(written, references), "exact": float(exact)}
        scores |= {name + key: value for key, value in found.items()}
    pairs = [(s, data.french.encode(t, eos=True)) for s, own in zip(sources, references) for t in own]
    test = fr.data.Batches(*map(list, zip(*pairs)), 100)
    scores["token_accuracy"] = token_accuracy(model, test, data.french.unk)
    scores["perplexity"] = fr.losses.perplexity(fr.training.evaluate(model, test))
    report(args, trainer, **scores)


if __name__ == "__main__":
    main()
