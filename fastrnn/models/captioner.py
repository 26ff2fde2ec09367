"""Describe a vector or a small picture in words: one to many."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from fastrnn._validation import as_array, check_array, check_positive_int, check_probability
from fastrnn.layers.base import Pullback
from fastrnn.models.base import spawn
from fastrnn.models.decoder import Decoder
from fastrnn.models.writer import Writer, check_marks
from fastrnn.parameters import join

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, DTypeLike


class Captioner(Writer):
    """A decoder that starts from the input, through a dense layer.

    Inputs are vectors (B, I), or pictures (B, ...) of I numbers each.

    Parameters
    ----------
    input_size : int
        Numbers I of an input, such as height * width * colours.
    vocabulary_size : int
        Number of symbols V.
    hidden_size : int
        Units H of each recurrent layer.
    num_layers : int
    cell : {"rnn", "lstm", "gru"}
    embedding_size : int or None
        Width of the vectors that stand for symbols; None takes one-hot vectors.
    dropout : float
        Probability with which outputs of the recurrent layers are dropped.
    input_dropout : float
        Probability with which elements of the vectors that stand for symbols are dropped.
    embedding_scale, scheduled_sampling, bos, eos, dtype, seed
        As for :class:`fastrnn.models.Seq2Seq`.

    Attributes
    ----------
    parameters : Parameters
        Of the part ``decoder``, a :class:`fastrnn.models.decoder.Decoder`.
    config, generators
        As every :class:`fastrnn.models.Model` has them.

    Raises
    ------
    ValueError, TypeError
        If an argument has the wrong type or is out of range.

    References
    ----------
    Karpathy and Fei-Fei, "Deep visual-semantic alignments for generating image descriptions"
    (2015), section 3.2, with the input in the initial state.
    """

    def __init__(
        self,
        input_size: int,
        vocabulary_size: int,
        hidden_size: int,
        num_layers: int = 1,
        cell: str = "lstm",
        embedding_size: int | None = None,
        dropout: float = 0.0,
        *,
        input_dropout: float = 0.0,
        embedding_scale: float = 1.0,
        scheduled_sampling: float = 0.0,
        bos: int = 2,
        eos: int = 3,
        dtype: DTypeLike = "float32",
        seed: int | np.random.SeedSequence | None = None,
    ) -> None:
        input_size = check_positive_int("input_size", input_size)
        vocabulary_size = check_positive_int("vocabulary_size", vocabulary_size)
        seeds = spawn(seed, 2)
        shared = {
            "num_layers": num_layers,
            "cell": cell,
            "embedding_size": embedding_size,
            "dropout": dropout,
            "input_dropout": input_dropout,
            "embedding_scale": embedding_scale,
            "dtype": dtype,
        }
        self.decoder = Decoder(input_size, vocabulary_size, hidden_size, **shared, seed=seeds[0])
        self.config = {
            "input_size": input_size,
            "vocabulary_size": vocabulary_size,
            **{name: self.decoder.config[name] for name in ("hidden_size", *shared)},
            "scheduled_sampling": check_probability("scheduled_sampling", scheduled_sampling),
            **check_marks(bos, eos, vocabulary_size),
        }
        self.parameters = join({"decoder": self.decoder})
        self._sampling = seeds[1]
        self.generators = {**self.decoder.generators, "scheduled_sampling": self._sampling}

    def encode(self, inputs: ArrayLike) -> tuple[np.ndarray, None]:
        inputs = as_array("inputs", inputs)
        size, dtype = self.config["input_size"], np.dtype(self.config["dtype"])
        if inputs.ndim > 2:
            if math.prod(inputs.shape[1:]) != size:
                alone = "; picture[None] makes a batch of one" if inputs.size == size else ""
                expected = f"(B, ...) of {size} numbers each"
                raise ValueError(f"inputs must be {expected}, got {inputs.shape}{alone}")
            inputs = inputs.reshape(len(inputs), size)
        inputs = check_array("inputs", inputs, dtype, ("B", size))
        if len(inputs) == 0:
            raise ValueError("inputs must be one vector or picture or more, got none")
        return inputs, None

    def encode_vjp(self, inputs: ArrayLike) -> tuple[np.ndarray, None, Pullback]:
        return *self.encode(inputs), Pullback(lambda d_context, d_memory: None)
