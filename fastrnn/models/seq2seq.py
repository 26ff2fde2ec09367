"""Read a sequence, write another: translation, dialogue, spelling to sound."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from fastrnn._validation import check_bool, check_positive_int, check_probability
from fastrnn.data import Padded
from fastrnn.layers.base import Pullback
from fastrnn.layers.pooling import LastPooling
from fastrnn.models.base import spawn
from fastrnn.models.decoder import Decoder
from fastrnn.models.encoder import Encoder
from fastrnn.models.predictor import as_padded
from fastrnn.models.writer import Writer, check_marks
from fastrnn.parameters import join

if TYPE_CHECKING:
    from numpy.typing import DTypeLike

    from fastrnn.data.batches import Sequences


class Seq2Seq(Writer):
    r"""An encoder, and a decoder that starts from its last output and attends to all outputs.

    .. math:: m_1 \dots m_T = \mathrm{encoder}(x_1 \dots x_T), \qquad
              p(y \mid x) = \mathrm{decoder}(\mathrm{last}(m); m_1 \dots m_T)

    Inputs are sequences of ids, int of shape (T_b,), or of vectors (T_b, I), as
    :class:`fastrnn.data.Padded` or in a list.

    Parameters
    ----------
    source_size : int
        Number of input symbols, or width I of the vectors.
    target_size : int
        Number of output symbols.
    hidden_size : int
        Units H of each recurrent layer. A bidirectional encoder has half of them in each direction.
    num_layers : int
        Of the encoder and of the decoder.
    cell : {"rnn", "lstm", "gru"}
    embedding_size : int or None
        Width of the vectors that stand for symbols, read and written; None takes one-hot vectors.
    dropout : float
        Probability with which outputs of all recurrent layers, except the last of the encoder and
        of the decoder, and the vectors that are scored are dropped.
    attention : {"general", "dot", "additive"} or None
        The decoder's outputs are the queries, see :mod:`fastrnn.layers.attention`.
    bidirectional : bool
        Whether the encoder is.
    inputs : {"ids", "vectors"}
    input_dropout : float
        Probability with which elements of what the first layers read are dropped.
    embedding_scale : float
        Standard deviation of the initial vectors that stand for symbols.
    scheduled_sampling : float
        See :class:`fastrnn.models.writer.Writer`.
    bos, eos : int
        Beginning and end mark of the output; by default those of a
        :class:`fastrnn.data.Vocabulary`.
    dtype : {"float32", "float64"}
    seed : int, numpy.random.SeedSequence or None
        Source of the initial parameters, of dropout and of sampling.

    Attributes
    ----------
    parameters : Parameters
        Of the parts ``encoder`` (an :class:`fastrnn.models.Encoder`) and ``decoder``.
    config, generators
        As every :class:`fastrnn.models.Model` has them.

    Raises
    ------
    ValueError, TypeError
        If an argument has the wrong type or is out of range.

    References
    ----------
    Sutskever, Vinyals and Le, "Sequence to sequence learning with neural networks" (2014); the
    bidirectional encoder and its way into the decoder, Bahdanau, Cho and Bengio, "Neural machine
    translation by jointly learning to align and translate" (2015); attention, see
    :class:`fastrnn.models.decoder.Decoder`.
    """

    def __init__(
        self,
        source_size: int,
        target_size: int,
        hidden_size: int,
        num_layers: int = 1,
        cell: str = "gru",
        embedding_size: int | None = None,
        dropout: float = 0.0,
        *,
        attention: str | None = "general",
        bidirectional: bool = True,
        inputs: str = "ids",
        input_dropout: float = 0.0,
        embedding_scale: float = 1.0,
        scheduled_sampling: float = 0.0,
        bos: int = 2,
        eos: int = 3,
        dtype: DTypeLike = "float32",
        seed: int | np.random.SeedSequence | None = None,
    ) -> None:
        source_size = check_positive_int("source_size", source_size)
        hidden_size = check_positive_int("hidden_size", hidden_size)
        target_size = check_positive_int("target_size", target_size)
        if check_bool("bidirectional", bidirectional) and hidden_size % 2:
            raise ValueError(
                f"hidden_size must be even where the encoder is bidirectional, got {hidden_size}"
            )
        seeds = spawn(seed, 3)
        shared = {
            "num_layers": num_layers,
            "cell": cell,
            "dropout": dropout,
            "input_dropout": input_dropout,
            "embedding_scale": embedding_scale,
            "dtype": dtype,
        }
        self.encoder = Encoder(
            source_size,
            hidden_size // 2 if bidirectional else hidden_size,
            embedding_size=embedding_size if inputs == "ids" else None,
            bidirectional=bidirectional,
            inputs=inputs,
            output_dropout=0.0,
            seed=seeds[0],
            **shared,
        )
        self.decoder = Decoder(
            hidden_size,
            target_size,
            hidden_size,
            embedding_size=embedding_size,
            attention=attention,
            memory_size=None if attention is None else hidden_size,
            seed=seeds[1],
            **shared,
        )
        self.config = {
            "source_size": self.encoder.config["input_size"],
            "target_size": target_size,
            "hidden_size": hidden_size,
            **{name: self.encoder.config[name] for name in (*shared, "bidirectional", "inputs")},
            "embedding_size": self.decoder.config["embedding_size"],
            "attention": attention,
            "scheduled_sampling": check_probability("scheduled_sampling", scheduled_sampling),
            **check_marks(bos, eos, target_size),
        }
        self.last = LastPooling(hidden_size, self.config["bidirectional"], dtype=dtype)
        self.parameters = join({"encoder": self.encoder, "decoder": self.decoder})
        self._sampling = seeds[2]
        self.generators = {
            **{f"encoder_{name}": g for name, g in self.encoder.generators.items()},
            **{f"decoder_{name}": g for name, g in self.decoder.generators.items()},
            "scheduled_sampling": self._sampling,
        }

    def encode(self, inputs: Padded | Sequences) -> tuple[np.ndarray, Padded]:
        padded = as_padded(inputs)
        hidden, _ = self.encoder(padded)
        return self.last(hidden, padded.lengths), Padded(hidden, padded.lengths)

    def encode_vjp(self, inputs: Padded | Sequences) -> tuple[np.ndarray, Padded, Pullback]:
        padded = as_padded(inputs)
        hidden, _, encoder_pullback = self.encoder.vjp(padded, input_gradient=False)
        context, last_pullback = self.last.vjp(hidden, padded.lengths)

        def adjoint(d_context: Any, d_memory: Any = None) -> None:
            d_hidden = last_pullback(d_context)
            if d_memory is not None:
                d_hidden += d_memory
            encoder_pullback(d_hidden)

        return context, Padded(hidden, padded.lengths), Pullback(adjoint)
