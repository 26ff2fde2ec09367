"""Predict the next symbol of a sequence from all before it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from fastrnn._validation import (
    as_array,
    check_bool,
    check_equal_lengths,
    check_ids,
    check_non_negative_float,
    check_non_negative_int,
    check_positive_int,
    check_seed,
)
from fastrnn.checkpoint import CheckpointError, Sections, first_line, load_checkpoint
from fastrnn.data import CharVocabulary, Padded
from fastrnn.layers.base import Pullback
from fastrnn.layers.dense import Dense
from fastrnn.losses import softmax_cross_entropy
from fastrnn.models.base import Model, model_from, spawn
from fastrnn.models.decoding import draw
from fastrnn.models.encoder import Encoder, HeadStream, read_ahead
from fastrnn.parameters import Parameters, join

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, DTypeLike

    from fastrnn.layers.embedding import Embedding
    from fastrnn.layers.recurrent import State


class LanguageModel(Model):
    r"""Score the next id, given all ids before it.

    .. math:: h_t = f_W(h_{t-1}, E_{i_t}), \qquad y_t = W_{hy} h_t + b_y, \qquad
              p(i_{t+1} \mid i_1 \dots i_t) = \mathrm{softmax}(y_t)

    Parameters
    ----------
    vocabulary_size : int
        Number of symbols V.
    hidden_size : int
        Units H of each recurrent layer.
    num_layers : int
        Recurrent layers, one on top of the other.
    cell : {"rnn", "lstm", "gru"}
    embedding_size : int or None
        Size E of the vector that stands for a symbol; None takes one-hot vectors, E = V.
    dropout : float
        Probability with which outputs of each recurrent layer are dropped in training.
    dtype : {"float32", "float64"}
    seed : int, numpy.random.SeedSequence or None
        Source of the initial parameters and of the dropout masks.
    tie_weights : bool
        True makes the embedding the output's weight too; needs ``embedding_size == hidden_size``.
    options : mapping or None
        Further keyword arguments of the recurrent layers, such as ``{"layer_norm": True}``.

    Attributes
    ----------
    parameters : Parameters
        Of the parts ``encoder`` (an :class:`fastrnn.models.Encoder`) and ``output``.
    config, generators
        As every :class:`fastrnn.models.Model` has them.

    Raises
    ------
    ValueError, TypeError
        If an argument has the wrong type or is out of range.

    References
    ----------
    Mikolov et al., "Recurrent neural network based language model" (2010); dropout as Zaremba et
    al., "Recurrent neural network regularization" (2014); tying as Press and Wolf, "Using the
    output embedding to improve language models" (2017).
    """

    time_first = True

    def __init__(
        self,
        vocabulary_size: int,
        hidden_size: int,
        num_layers: int = 1,
        cell: str = "lstm",
        embedding_size: int | None = None,
        dropout: float = 0.0,
        *,
        dtype: DTypeLike = "float32",
        seed: int | np.random.SeedSequence | None = None,
        tie_weights: bool = False,
        options: Mapping[str, Any] | None = None,
    ) -> None:
        vocabulary_size = check_positive_int("vocabulary_size", vocabulary_size)
        tie_weights = check_bool("tie_weights", tie_weights)
        seeds = spawn(seed, 2)
        shared = {
            "num_layers": num_layers,
            "cell": cell,
            "embedding_size": embedding_size,
            "dropout": dropout,
            "dtype": dtype,
            "options": options,
        }
        self.encoder = Encoder(vocabulary_size, hidden_size, seed=seeds[0], **shared)
        self.config = {
            "vocabulary_size": vocabulary_size,
            **{name: self.encoder.config[name] for name in ("hidden_size", *shared)},
            "tie_weights": tie_weights,
        }
        for name in ("proj_size", "reverse"):
            if value := self.config["options"].get(name):
                raise ValueError(f"options must have no {name} in a language model, got {value}")
        if not tie_weights:
            self.output = Dense(hidden_size, vocabulary_size, dtype=dtype, seed=seeds[1])
        elif embedding_size == hidden_size:
            self.output = _TiedDense(self.encoder.embedding, seed=seeds[1])
        else:
            raise ValueError(
                f"embedding_size must be hidden_size {hidden_size} where weights are tied, "
                f"got {embedding_size}"
            )
        self.parameters = join({"encoder": self.encoder, "output": self.output})
        self.generators = self.encoder.generators

    def __call__(
        self, ids: ArrayLike | Padded, state: State | None = None
    ) -> tuple[np.ndarray, Any]:
        """Return scores and the state after the last step.

        Parameters
        ----------
        ids : array_like of int, shape (T, B) or (T,), or Padded
        state : state of the recurrent layers, or None for zero

        Returns
        -------
        logits : ndarray, shape (T, B, V) or (T, V)
        state : what the next call takes to go on from here

        Raises
        ------
        ValueError, TypeError
            If an id is not in 0..V - 1, or a shape or type is wrong.
        """
        hidden, state = self.encoder(ids, state)
        return self.output(hidden), state

    def vjp(
        self, ids: ArrayLike | Padded, state: State | None = None
    ) -> tuple[np.ndarray, Any, Pullback]:
        """Return what the call returns, and its pullback.

        Returns
        -------
        logits, state
            As from the call, with dropout.
        pullback : callable
            ``d_state = pullback(d_logits, d_state=None)`` adds the parameters' gradients into
            ``gradients`` and returns that of the initial state.

        Raises
        ------
        ValueError, TypeError
            As for a call; the pullback as well.
        """
        hidden, state, encoder_pullback = self.encoder.vjp(ids, state)
        logits, output_pullback = self.output.vjp(hidden, copy=False)
        B = hidden.shape[1] if hidden.ndim == 3 else None

        def adjoint(d_logits: ArrayLike, d_state: Any = None) -> Any:
            if d_state is not None:  # is refused before any gradient is added
                self.encoder.recurrent.check_state("d_state", d_state, B)
            return encoder_pullback(output_pullback(d_logits), d_state)[1]

        return logits, state, Pullback(adjoint)

    def loss(
        self, ids: ArrayLike | Padded, targets: ArrayLike | Padded, state: State | None = None
    ) -> tuple[float, Any]:
        """Return the mean cross-entropy of the next symbols, without dropout.

        Parameters
        ----------
        ids, targets : array_like of int, shape (T, B) or (T,), or both Padded of equal lengths
            ``targets[t]`` is what follows ``ids[t]``.
        state : state of the recurrent layers, or None for zero

        Returns
        -------
        loss : float
            Nats, mean over the predictions.
        state
            After the last step; None where the batch is of whole sequences, that is Padded.

        Raises
        ------
        ValueError, TypeError
            As for a call; if targets are not as many as ids.
        """
        hidden, state = _encode(self.encoder, ids, state)
        rows, targets, valid = self._counted(hidden, ids, targets)
        loss, _ = softmax_cross_entropy(self.output(rows), targets)
        return loss, state if valid is None else None

    def loss_vjp(
        self, ids: ArrayLike | Padded, targets: ArrayLike | Padded, state: State | None = None
    ) -> tuple[float, Any, Pullback]:
        """Return what :meth:`loss` returns, with dropout, and its pullback.

        Returns
        -------
        loss, state
        pullback : callable
            ``pullback()`` adds the gradient of the loss into ``gradients``.

        Raises
        ------
        ValueError, TypeError
            As from :meth:`loss`.
        """
        hidden, state, encoder_pullback = _encode(self.encoder.vjp, ids, state)
        rows, targets, valid = self._counted(hidden, ids, targets)
        logits, output_pullback = self.output.vjp(rows, copy=False)
        loss, d_logits = softmax_cross_entropy(logits, targets)
        shape = hidden.shape

        def adjoint() -> None:
            d_hidden = d_rows = output_pullback(d_logits)
            if valid is not None:
                d_hidden = np.zeros(shape, d_rows.dtype)
                d_hidden[valid] = d_rows
            encoder_pullback(d_hidden)

        return loss, state if valid is None else None, Pullback(adjoint)

    def _counted(
        self, hidden: np.ndarray, ids: ArrayLike | Padded, targets: ArrayLike | Padded
    ) -> tuple[np.ndarray, ArrayLike, np.ndarray | None]:
        """Return the encoder's outputs that count, their targets, and where: None is everywhere."""
        if isinstance(ids, Padded) != isinstance(targets, Padded):
            raise TypeError("ids and targets must both be Padded, or neither")
        if not isinstance(targets, Padded):
            return hidden, targets, None
        check_equal_lengths("targets", targets.lengths, "ids", ids.lengths)
        values, valid = as_array("targets", targets.values), ids.mask
        if values.shape != valid.shape:
            raise ValueError(f"targets must be {valid.shape}, got {values.shape}")
        values = np.where(valid, values, np.zeros((), values.dtype))  # the rest may be anything
        values = check_ids("targets", values, self.config["vocabulary_size"])
        return hidden[valid], values[valid], valid

    def stream(self, batch_size: int = 1) -> LanguageModelStream:
        """Return an object that reads one symbol at a time and keeps the state."""
        return LanguageModelStream(self, batch_size)

    def sample(
        self,
        prompt: ArrayLike,
        length: int,
        *,
        temperature: float = 1.0,
        top_k: int | None = None,
        seed: int | np.random.Generator | None = None,
    ) -> Iterator[int]:
        r"""Continue a prompt, one symbol at a time.

        Parameters
        ----------
        prompt : array_like of int, shape (n,)
            At least one id; read before the first is drawn, and not returned.
        length : int
            Number of ids to draw.
        temperature : float
            Scores are divided by it: below 1 the likely symbols become likelier, 0 always takes the
            likeliest.
        top_k : int or None
            Draw from the `top_k` likeliest symbols only.
        seed : int, numpy.random.Generator or None
            Source of the draws.

        Returns
        -------
        ids : iterator of int
            Each is drawn on demand.

        Raises
        ------
        TypeError, ValueError
            At once, if an argument is wrong; while drawing, if scores are not finite.
        """
        prompt = check_ids("prompt", prompt, self.config["vocabulary_size"])
        if prompt.ndim != 1 or prompt.size == 0:
            raise ValueError(f"prompt must be (n,) with n >= 1, got {prompt.shape}")
        length = check_non_negative_int("length", length)
        temperature = check_non_negative_float("temperature", temperature)
        if top_k is not None:
            top_k = check_positive_int("top_k", top_k)
        generator = check_seed(seed)

        def go_on() -> Iterator[int]:
            stream = self.stream()
            read_ahead(self.encoder, stream, prompt[:-1, None])
            symbol = prompt[-1]
            for _ in range(length):
                symbol = int(draw(stream.step([symbol]), temperature, top_k, generator)[0])
                yield symbol

        return go_on()


class LanguageModelStream(HeadStream):
    """A language model that reads one symbol a call.

    Parameters
    ----------
    model : LanguageModel
    batch_size : int
        Number of sequences B read side by side.
    """

    def __init__(self, model: LanguageModel, batch_size: int = 1) -> None:
        super().__init__(model.encoder, model.output, batch_size)

    def step(self, inputs: ArrayLike) -> np.ndarray:
        """Return the scores (B, V) of what follows the symbols `inputs` (B,), int."""
        return super().step(inputs)


def _encode(encode: Callable[..., Any], ids: ArrayLike | Padded, state: Any) -> Any:
    """Return ``encode(ids, state)``; the error says so where batches differ in size.

    In training the state comes from the batch before, of which the layers know nothing.
    """
    try:
        return encode(ids, state)
    except ValueError:
        found = getattr(ids.values if isinstance(ids, Padded) else ids, "shape", ())
        expected = getattr(state[0] if isinstance(state, tuple) else state, "shape", ())
        if len(found) == 2 and len(expected) == 3 and found[1] != expected[1]:
            raise ValueError(
                f"ids must be of {expected[1]} sequences, those of the state or of the batch that "
                f"they go on from, got {found[1]}; sequences that stand alone are Padded"
            ) from None
        raise


def load_language_model(path: str | Path) -> tuple[LanguageModel, CharVocabulary]:
    """Read the model and the vocabulary of a file that ``fastrnn train`` wrote.

    Parameters
    ----------
    path : str or Path
        Also of ``model.save(path, vocabulary=vocabulary.state())``.

    Returns
    -------
    model : LanguageModel
    vocabulary : CharVocabulary

    Raises
    ------
    CheckpointError
        If the file is not one, or its parts do not fit each other. The message is one line.
    """
    return language_model_from(load_checkpoint(path), path)


def language_model_from(
    sections: Sections, path: str | Path
) -> tuple[LanguageModel, CharVocabulary]:
    """Return the model and the vocabulary of a file's sections; `path` is for messages."""
    model = model_from(sections, path)
    if not isinstance(model, LanguageModel):
        raise CheckpointError(f"{path} holds a {type(model).__name__}, not a LanguageModel")
    try:
        vocabulary = CharVocabulary.from_state(sections["vocabulary"])
    except (ValueError, KeyError) as error:
        raise CheckpointError(f"{path} holds no usable vocabulary ({first_line(error)})") from None
    if len(vocabulary) != model.config["vocabulary_size"]:
        raise CheckpointError(f"{path} holds a vocabulary that is not its model's")
    return model, vocabulary


class _TiedDense(Dense):
    """A dense layer whose weight is that of an embedding."""

    def __init__(self, embedding: Embedding, *, seed: np.random.Generator) -> None:
        self.embedding = embedding
        self.in_features, self.out_features = embedding.embedding_dim, embedding.num_embeddings
        self.bias, self.dtype = True, embedding.dtype
        self.parameters = Parameters({"bias": (self.out_features,)}, self.dtype)
        # An embedding's standard normal rows would give scores of size sqrt(H); those of a dense
        # layer suit both uses.
        bound = self.in_features**-0.5
        weight = embedding.parameters["weight"]
        weight[...] = seed.uniform(-bound, bound, weight.shape)

    def _weight_owner(self) -> Parameters:
        return self.embedding.parameters
