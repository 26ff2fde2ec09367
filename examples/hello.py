"""Learn to spell "hello": the example of CS231n, lecture 10 (recurrent neural networks).

The vocabulary is [h, e, l, o]; each character goes in as a one-hot vector. At every step the
network is to give the next character the highest score: "e" after "h", "l" after "e", "l" after "l"
and "o" after the second "l". The last two ask for memory, since the input is the same. Three hidden
units suffice, as in the lecture.

Run: python examples/hello.py
"""

from __future__ import annotations

import argparse

import numpy as np

import fastrnn as fr

VOCABULARY = "helo"
TEXT = "hello"
HIDDEN_SIZE = 3
STEPS = 300
CELLS = {"tanh RNN": fr.RNN, "LSTM": fr.LSTM, "GRU": fr.GRU}


def train(cell: type, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Learn the word with one kind of cell.

    Parameters
    ----------
    cell : type
        ``fr.RNN``, ``fr.LSTM`` or ``fr.GRU``.
    seed : int
        Source of the initial parameters.

    Returns
    -------
    hidden : ndarray, shape (4, HIDDEN_SIZE)
        Hidden state after each character of "hell".
    scores : ndarray, shape (4, 4)
        Score of each character of the vocabulary as the next one.
    """
    ids = np.array([VOCABULARY.index(character) for character in TEXT])
    x, targets = np.eye(len(VOCABULARY))[ids[:-1]], ids[1:]

    recurrent = cell(len(VOCABULARY), HIDDEN_SIZE, seed=seed)
    output = fr.Dense(HIDDEN_SIZE, len(VOCABULARY), seed=seed + 1)
    parameters = fr.parameters.join({"recurrent": recurrent, "output": output})
    optimizer = fr.optim.Adam(parameters, learning_rate=0.1)

    for _ in range(STEPS):
        parameters.zero_gradients()
        hidden, _, recurrent_pullback = recurrent.vjp(x)
        scores, output_pullback = output.vjp(hidden)
        _, d_scores = fr.losses.softmax_cross_entropy(scores, targets)
        recurrent_pullback(output_pullback(d_scores))
        optimizer.step()

    hidden, _ = recurrent(x)
    return hidden, output(hidden)


def main() -> dict[str, str]:
    """Print every step of every cell; return the four characters that each predicts."""
    predictions = {}
    for name, cell in CELLS.items():
        hidden, scores = train(cell)
        predictions[name] = "".join(VOCABULARY[i] for i in scores.argmax(axis=1))
        print(f"\n{name}\ninput  hidden state{' ' * 13}scores of h, e, l, o{' ' * 10}next")
        for character, h, y, following in zip(TEXT, hidden, scores, predictions[name]):
            state = "".join(f"{value:8.2f}" for value in h)
            row = "".join(f"{value:7.1f}" for value in y)
            print(f"{character}    {state}   {row}     {following}")
    return predictions


if __name__ == "__main__":
    argparse.ArgumentParser(description=(__doc__ or "").partition("\n\n")[0]).parse_args()
    main()
