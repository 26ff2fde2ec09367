"""The table of cases that every benchmark uses, with the target of each."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, fields
from typing import Any

KINDS = {
    "stream": "one step that keeps its state",
    "infer": "a layer over whole sequences",
    "fwdbwd": "a layer's output, and the gradients of its input and parameters",
    "lengths": "fwdbwd of sequences of different lengths, padded and packed",
    "train-step": "a language model's loss, gradients, clipping and Adam",
    "ctc": "the CTC loss, and its gradient with respect to the scores",
    "memory": "peak extra memory of fwdbwd",
    "import": "import of the package against that of NumPy and SciPy's BLAS",
}
GATES = {"rnn": 1, "lstm": 4, "gru": 3}


@dataclass(frozen=True)
class Target:
    """A ratio peer / fastrnn to reach with each of these numbers of threads."""

    peer: str
    ratio: float
    threads: tuple[int, ...]


def at(*threads: int, **ratios: float) -> tuple[Target, ...]:
    """Return a target for each peer."""
    return tuple([Target(peer, ratio, threads) for peer, ratio in ratios.items()])


@dataclass(frozen=True)
class Case:
    """One row: what is run, and the sizes; 0 stands for a size that the case does not have.

    Attributes
    ----------
    name : str
        Title of the row.
    kind : str
        One of `KINDS`.
    cell : {"rnn", "lstm", "gru"}
        ``rnn`` is the tanh RNN.
    hidden, layers, input, batch, steps : int
        H, depth of the stack, I (0: as wide as H), B and T.
    longest : int
        Lengths are drawn from 1 to this, and for 0 to T.
    vocabulary, embedding : int
        V and E of a language model; with E = 0 its input is one-hot. V of the CTC loss.
    symbols : int
        S of a target of the CTC loss.
    dtype : {"float32", "float64"}
    targets : tuple of Target
    """

    name: str
    kind: str
    cell: str
    hidden: int = 0
    layers: int = 1
    input: int = 0
    batch: int = 1
    steps: int = 1
    longest: int = 0
    vocabulary: int = 0
    embedding: int = 0
    symbols: int = 0
    dtype: str = "float32"
    targets: tuple[Target, ...] = ()

    @property
    def input_size(self) -> int:
        """Width of what the first layer reads."""
        return self.embedding or self.vocabulary or self.input or self.hidden

    @property
    def trains(self) -> bool:
        """Whether the time of gradients is measured."""
        return self.kind in ("fwdbwd", "train-step")

    @property
    def flops(self) -> int:
        """Floating-point operations of the matrix products in the formulas, one-hot ones included.

        An implementation that looks up rows instead of multiplying does less.
        """
        widths = self.input_size + (2 * self.layers - 1) * self.hidden
        products = self.hidden * (GATES[self.cell] * widths + self.vocabulary)
        return 2 * self.batch * self.steps * products * (3 if self.trains else 1)

    @property
    def ceiling_wanted(self) -> float | None:
        """Share of the speed of a large matrix product to reach, None for no demand."""
        if self.trains and self.hidden >= 256 and self.batch >= 20:
            return 0.88
        return 0.75 if self.trains and (self.hidden, self.batch) == (128, 50) else None

    @property
    def speedup_wanted(self) -> float | None:
        """Time on one thread over time on two to reach, None for no demand."""
        return 1.85 if self.trains and self.batch >= 20 else None

    @property
    def slug(self) -> str:
        """The name as a file's."""
        return re.sub("[^a-z0-9]+", "-", self.name.lower()).strip("-")

    @property
    def spec(self) -> str:
        """The text from which `parse` makes the case again, but for name and targets."""
        sizes = [f"{name}={getattr(self, name)}" for name in SIZES if getattr(self, name)]
        return " ".join([self.kind, self.cell, *sizes])


SIZES = [field.name for field in fields(Case)[3:-1]]

# The input is as wide as H where a row names no width. Where two numbers of threads are given, the
# ratio holds for both.
# fmt: off
CASES = (
    Case("stream step LSTM 32", "stream", "lstm", 32, targets=at(1, onnxruntime=8, torch=40)),
    Case("stream step GRU 64", "stream", "gru", 64, targets=at(1, onnxruntime=6, torch=40)),
    Case("stream step LSTM 128", "stream", "lstm", 128, targets=at(1, onnxruntime=2.5, torch=40)),
    Case("stream step LSTM 256", "stream", "lstm", 256, targets=at(1, onnxruntime=1.3)),
    Case("stream step LSTM 512", "stream", "lstm", 512, targets=at(1, onnxruntime=1.1)),
    Case("stream step LSTM 256, B8", "stream", "lstm", 256, batch=8),
    Case("infer tanh RNN 100, B1 T25", "infer", "rnn", 100, steps=25,
         targets=at(1, 2, onnxruntime=3)),
    Case("infer LSTM 256, B1 T100", "infer", "lstm", 256, steps=100,
         targets=at(1, 2, onnxruntime=1.2, torch=1.8)),
    Case("infer GRU 1024, B1 T50", "infer", "gru", 1024, steps=50,
         targets=at(1, 2, onnxruntime=1.1)),
    Case("infer LSTM 256, B4 T5", "infer", "lstm", 256, batch=4, steps=5),
    Case("fwd+bwd LSTM 2x128, I65, B50 T50", "fwdbwd", "lstm", 128, layers=2, input=65,
         batch=50, steps=50, targets=at(2, torch=1.7)),
    Case("fwd+bwd LSTM 256, B32 T100", "fwdbwd", "lstm", 256, batch=32, steps=100,
         targets=at(2, torch=1.25)),
    Case("fwd+bwd LSTM 2x650, B20 T35", "fwdbwd", "lstm", 650, layers=2, batch=20, steps=35,
         targets=at(2, torch=1.05)),
    Case("fwd+bwd GRU 512, B64 T100", "fwdbwd", "gru", 512, batch=64, steps=100,
         targets=at(2, torch=1.6)),
    Case("fwd+bwd tanh RNN 256, B32 T100", "fwdbwd", "rnn", 256, batch=32, steps=100,
         targets=at(2, torch=2.2)),
    Case("fwd+bwd LSTM 64, B1 T200", "fwdbwd", "lstm", 64, steps=200, targets=at(1, 2, torch=4)),
    Case("fwd+bwd GRU 96, B4 T50", "fwdbwd", "gru", 96, batch=4, steps=50,
         targets=at(1, 2, torch=4)),
    Case("training step min-char-rnn (tanh 100, B1 T25, V65)", "train-step", "rnn", 100,
         steps=25, vocabulary=65, targets=at(1, 2, torch=15)),
    Case("training step char-rnn LSTM 2x128, E128, B50 T50, V65", "train-step", "lstm", 128,
         layers=2, batch=50, steps=50, vocabulary=65, embedding=128, targets=at(2, torch=1.5)),
    Case("training step char-rnn GRU 2x128, E128, B50 T50, V65", "train-step", "gru", 128,
         layers=2, batch=50, steps=50, vocabulary=65, embedding=128, targets=at(2, torch=2.5)),
    Case("training step LSTM 2x200, B20 T20, V10000", "train-step", "lstm", 200, layers=2,
         batch=20, steps=20, vocabulary=10000, embedding=200, targets=at(2, torch=1.5)),
    Case("fwd+bwd float64 LSTM 256, B32 T100", "fwdbwd", "lstm", 256, batch=32, steps=100,
         dtype="float64", targets=at(2, torch=1.3)),
    Case("CTC loss of words, B64 T20 S8, V40", "ctc", "rnn", batch=64, steps=20, vocabulary=40,
         symbols=8, targets=at(1, 2, torch=1)),
    Case("CTC loss of strings, B16 T100 S20, V30", "ctc", "rnn", batch=16, steps=100,
         vocabulary=30, symbols=20, targets=at(1, 2, torch=1)),
    # At most 0.7 of PyTorch's memory.
    Case("peak extra memory of fwd+bwd LSTM 256, B32 T400", "memory", "lstm", 256, batch=32,
         steps=400, targets=at(1, 2, torch=1 / 0.7)),
    # At most 1.3 times as long.
    Case("import", "import", "rnn", 1, targets=at(1, 2, numpy=1 / 1.3)),
)
# fmt: on


def parse(spec: str) -> Case:
    """Return the case of a text such as ``"fwdbwd lstm hidden=300 layers=2 batch=16 steps=80"``.

    Raises
    ------
    ValueError
        If it does not start with a kind and a cell, or says anything else but sizes of a case.
    """
    kind, _, rest = spec.partition(" ")
    cell, *sizes = rest.split() or [""]
    if kind not in KINDS or cell not in GATES:
        raise ValueError(
            f"a case must start with one of {', '.join(KINDS)} and one of {', '.join(GATES)}, "
            f"got {spec!r}"
        )
    values: dict[str, Any] = {}
    for size in sizes:
        name, _, value = size.partition("=")
        if name == "dtype" and value in ("float32", "float64"):
            values[name] = value
        elif name in SIZES[:-1] and value.isdecimal():
            values[name] = int(value)
        else:
            raise ValueError(f"sizes must be {'=n, '.join(SIZES)}=float32 or float64, got {size!r}")
    needed = {"train-step": ("hidden", "vocabulary"), "ctc": ("vocabulary", "symbols")}
    needed = needed.get(kind, ("hidden",))
    if not all(values.get(name) for name in needed):
        raise ValueError(f"a case of {kind} must say {' and '.join(needed)}, got {spec!r}")
    return Case(spec, kind, cell, **values)


def select(words: Iterable[str]) -> list[Case]:
    """Return the cases of the table that have one of the words in their names, all for none.

    Raises
    ------
    ValueError
        If a word is in no name.
    """
    words = [word.lower() for word in words]
    for word in words:
        if not any(word in case.name.lower() for case in CASES):
            raise ValueError(f"a case's name must have {word!r} in it, got none that does")
    return [case for case in CASES if not words or any(w in case.name.lower() for w in words)]
