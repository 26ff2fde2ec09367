"""Answer questions on short stories. Sentences in, one of a few answers out.

Data: bAbI tasks of 1,000 questions to train and 1,000 to test, each asked after some simple
sentences. Task ``qa1`` asks where somebody is, which one sentence says, ``qa6`` asks yes or no,
``qa15`` wants two facts put together. Network: a GRU of 64 units reads the words of each sentence
and of the question, another reads the sentences, each beside its product with the question. The
same network in PyTorch answers 1.000 (qa1), 0.912 (qa6) and 0.666 (qa15) of the questions.

Run: python examples/question_answering.py --task qa6
"""

from __future__ import annotations

from itertools import chain
from typing import Any, NamedTuple

import numpy as np
from _common import arguments, report

import fastrnn as fr

TASKS = ("qa1", "qa2", "qa4", "qa6", "qa9", "qa15", "qa20")
Part = tuple[tuple[list[np.ndarray], np.ndarray], np.ndarray]  # (stories, questions), answers


class Data(NamedTuple):
    """Numbered words and answers, and what they make of both parts."""

    words: fr.data.Vocabulary
    answers: fr.data.Vocabulary
    train: Part
    test: Part


def load(args: Any) -> Data:
    """Return numbers for words and answers; a sentence is a row, zeros beyond its end."""
    parts = fr.data.load("babi", args.data, sample=args.quick)[args.task]
    examples = [*parts["train"], *parts["test"]]
    sentences = [*chain(*(told for told, _, _ in examples)), *(asked for _, asked, _ in examples)]
    words = fr.data.Vocabulary(chain(*sentences), specials=("<pad>",))
    answers = fr.data.Vocabulary((answer for _, _, answer in examples), specials=())
    rows = fr.data.pad([words.encode(sentence) for sentence in sentences]).values.T
    *stories, questions = np.split(rows, np.cumsum([len(told) for told, _, _ in examples]))
    labels = answers.encode(answer for _, _, answer in examples)
    cut = len(parts["train"])
    train = (stories[:cut], questions[:cut]), labels[:cut]
    return Data(words, answers, train, ((stories[cut:], questions[cut:]), labels[cut:]))


def build(args: Any, data: Data) -> tuple[Any, fr.data.Batches, dict[str, Any]]:
    """Return the model, its batches and how it is trained."""
    model = fr.models.QuestionAnswerer(
        len(data.words), 64, len(data.answers), embedding_size=32, dropout=0.1, seed=args.seed
    )
    batches = fr.data.Batches(*data.train, 32, seed=args.seed)
    return model, batches, {"learning_rate": 2e-3, "clip": 5.0}


def main() -> None:
    """Train, test, and show some of the test's stories."""
    args = arguments(__doc__, epochs=40, task=TASKS)
    data = load(args)
    model, batches, settings = build(args, data)
    trainer = fr.fit(model, batches, args.epochs, **settings)
    (stories, questions), labels = data.test
    predicted = model.predict((stories, questions))
    for k in range(0, len(labels), -(-len(labels) // 3)):
        told = [" ".join(data.words.decode(row)) + "." for row in stories[k]]
        asked = " ".join(data.words.decode(questions[k]))
        answer, right = (data.answers.tokens[label] for label in (predicted[k], labels[k]))
        print("\n".join(told), f"\n  {asked}? {answer} (right: {right})\n")
    report(args, trainer, accuracy=float((predicted == labels).mean()))


if __name__ == "__main__":
    main()
