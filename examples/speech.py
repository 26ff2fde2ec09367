"""Which digits does a voice say, one after the other? Many to many, unaligned.

Data: 3,000 recordings of single digits by six speakers, joined without gaps to strings of three to
five; the strings for training are drawn anew every epoch, the first five of each digit and speaker
are for testing. Network: three frames of 20 log-mel energies side by side, a bidirectional GRU of
two layers of 96 units, eleven scores, CTC: never told where a digit begins. Greedy decoding. The
same network in PyTorch has a digit error of 0.0080 and 0.0317 of the strings wrong.

Run: python examples/speech.py
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from _common import arguments, error_rates, picture, report
from _voices import draw_voice

import fastrnn as fr


class Strings(NamedTuple):
    """Recordings, (T, 20) each, of which strings of digits are made: others in every epoch."""

    features: list[np.ndarray]
    digits: np.ndarray
    speakers: np.ndarray
    seed: int

    def draw(self, *orders: int) -> tuple[list[np.ndarray], list[np.ndarray]]:
        """Join each speaker's recordings, in random orders one after the other, to strings."""
        pieces = []
        for speaker in np.unique(self.speakers):
            own = np.flatnonzero(self.speakers == speaker)
            row = np.concatenate([np.random.RandomState(k).permutation(own) for k in orders])
            ends = np.cumsum(np.resize([3, 4, 5], len(row)))
            pieces += np.split(row, ends[ends < len(row)])
        features = [np.concatenate([self.features[k] for k in piece]) for piece in pieces]
        return features, [self.digits[piece] + 1 for piece in pieces]  # 0 is the blank

    def epoch(self, number: int) -> Any:
        """Return the batches of an epoch."""
        return fr.data.Batches(*self.draw(100 + number), 16, seed=self.seed).epoch(number)


def load(args: Any) -> list[Strings]:
    """Return training and test recordings, scaled by the training part."""
    x, digits, speakers, indices = fr.data.load("spoken-digits", args.data, sample=args.quick)
    parts = np.flatnonzero(indices >= 5), np.flatnonzero(indices < 5)
    rows, names = np.concatenate([x[k] for k in parts[0]]), np.array(speakers)
    x = [(recording - rows.mean(axis=0)) / rows.std(axis=0) for recording in x]
    return [Strings([x[k] for k in own], digits[own], names[own], args.seed) for own in parts]


def build(args: Any, data: list[Strings]) -> tuple[Any, Strings, dict[str, Any]]:
    """Return the model, its batches and how it is trained."""
    sizes = {"num_layers": 2, "bidirectional": True, "dropout": 0.3, "stack": 3}
    model = fr.models.CTCRecognizer(20, 96, 11, inputs="vectors", seed=args.seed, **sizes)
    schedule = fr.optim.StepDecay(1 + int(0.7 * args.epochs * len(data[0].epoch(0))), 0.3)
    return model, data[0], {"learning_rate": 2e-3, "clip": 1.0, "schedule": schedule}


def main() -> None:
    """Train, test, and draw what is heard when in a string."""
    args = arguments(__doc__, epochs=20)
    data = load(args)
    model, batches, settings = build(args, data)
    trainer = fr.fit(model, batches, args.epochs, **settings)
    voices, said = data[1].draw(*range(5))
    heard = model.predict(voices)
    title = f"said {said[2] - 1}, heard {heard[2] - 1}"
    drawn = voices[2], model(voices[2:3]).values[:, 0], 0.03, title
    picture(args.output / "speech.png", lambda axes: draw_voice(axes, *drawn), nrows=2, sharex=True)
    digit_error, string_error = error_rates(heard, said)
    report(args, trainer, digit_error=digit_error, string_error=string_error)


if __name__ == "__main__":
    main()
