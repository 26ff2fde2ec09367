"""Answer what is said: small talk.

Data: 1,256 different pairs of an utterance and a reply; a tenth of the utterances is for testing.
Network: vectors of 128 for the words, a bidirectional GRU of 128 units that reads, a GRU of 256
that writes and attends to all that was read. The same network in PyTorch has a perplexity of 28.0
per word of the replies to utterances that it has not seen, and predicts 0.274 of those words.

Run: python examples/conversation.py --chat
"""

from __future__ import annotations

from contextlib import suppress
from typing import Any

from _common import Pairs, arguments, predicted_scores, report, split_pairs

import fastrnn as fr

words_and_marks = fr.data.RegexTokenizer(r"[\w']+|[^\w\s]", lowercase=True)
SAID = ("Hello", "What is your favorite movie?", "Who are you?", "Do you like music?")


def load(args: Any) -> Pairs:
    """Split the different pairs by their utterance; words that occur once are unknown."""
    triples = fr.data.load("chatterbot", args.data, sample=args.quick)
    pairs = [(said, reply) for _, said, reply in triples]
    return split_pairs(pairs, words_and_marks, min_count=2, repeated=False)


def build(args: Any, data: Pairs) -> tuple[Any, fr.data.Batches, dict[str, Any]]:
    """Return the model, its batches and how it is trained."""
    sizes = len(data.source), len(data.target)
    model = fr.models.Seq2Seq(
        *sizes, 256, embedding_size=128, dropout=0.4, input_dropout=0.4, seed=args.seed
    )
    batches = fr.data.Batches(*data.train, 32, seed=args.seed)
    return model, batches, {"learning_rate": 1e-3, "clip": 1.0}


def answer(model: Any, data: Pairs, text: str) -> str:
    """Return the likeliest reply of known words."""
    said = data.read(words_and_marks(text))
    (reply,) = model.predict([said], beam_width=5, exclude=[data.target.unk])
    return " ".join(data.target.decode(reply))


def main() -> None:
    """Train, test, and answer: a few utterances, or with ``--chat`` yours until an empty one."""
    args = arguments(__doc__, epochs=10, chat=False)
    data = load(args)
    model, batches, settings = build(args, data)
    trainer = fr.fit(model, batches, args.epochs, **settings)
    test = fr.data.Batches(*data.test, 100)
    report(args, trainer, **predicted_scores(model, test, data.target.unk))
    if args.chat:
        with suppress(EOFError):
            for text in iter(lambda: input("you: "), ""):
                print("it:", answer(model, data, text))
    else:
        for text in SAID:
            print(f"you: {text}\nit: {answer(model, data, text)}")


if __name__ == "__main__":
    main()
