"""Generate sequences of anything: notes, poses, rows of pictures."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from fastrnn._validation import (
    as_array,
    check_bool,
    check_choice,
    check_equal_lengths,
    check_lengths,
    check_non_negative_float,
    check_non_negative_int,
    check_positive_int,
    check_seed,
)
from fastrnn.data import Padded, pad
from fastrnn.layers.base import Pullback
from fastrnn.models.base import Model, spawn
from fastrnn.models.encoder import Encoder, read_ahead
from fastrnn.models.heads import CategoricalHead, Head, MixtureHead
from fastrnn.parameters import join

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, DTypeLike

    from fastrnn.data.batches import Sequences

HEADS = ("categorical", "mixture")


class SequenceGenerator(Model):
    r"""The distribution of each element of a sequence, given all before it.

    .. math:: h_t = f_W(h_{t-1}, e(x_{t-1})), \qquad
              p(x_1 \dots x_T) = \prod_t p(x_t \mid h_t)

    An element is K integers, each with few values (pitch and duration of a note, the grey levels of
    a row of pixels, the keys that are down), or a vector of real numbers (a pose). A start mark is
    read before the first element.

    Parameters
    ----------
    size : int or sequence of int
        For "categorical" the numbers of values :math:`V_1 \dots V_K` of an element's variables, or
        a single int for K = 1; 2 is a variable that is on or off. For "mixture" the width of an
        element.
    hidden_size : int
        Units H of each recurrent layer.
    num_layers : int
    cell : {"rnn", "lstm", "gru"}
    dropout, input_dropout : float
        Probabilities with which outputs of each recurrent layer, and the vectors that the first one
        reads, are dropped in training.
    head : {"categorical", "mixture"}
        What :math:`p(x_t \mid h_t)` is: a softmax for each variable, or a mixture of Gaussians with
        diagonal covariances.
    embedding_size : int or sequence of int
        Width of the vector that stands for a value, for each variable; only for "categorical".
    chained : bool
        Whether a variable also depends on those before it in the element; only for "categorical".
    components : int
        Number of Gaussians; only for "mixture".
    dtype : {"float32", "float64"}
    seed : int, numpy.random.SeedSequence or None
        Source of the initial parameters and of the dropout masks.

    Attributes
    ----------
    parameters : Parameters
        Of the parts ``encoder`` and ``head``.
    config, generators
        As every :class:`fastrnn.models.Model` has them.

    Raises
    ------
    ValueError, TypeError
        If an argument has the wrong type or is out of range.

    References
    ----------
    Graves, "Generating sequences with recurrent neural networks" (2013).
    """

    time_first = True

    def __init__(
        self,
        size: int | Sequence[int],
        hidden_size: int,
        num_layers: int = 1,
        cell: str = "gru",
        dropout: float = 0.0,
        input_dropout: float = 0.0,
        *,
        head: str = "categorical",
        embedding_size: int | Sequence[int] = 16,
        chained: bool = False,
        components: int = 10,
        dtype: DTypeLike = "float32",
        seed: int | np.random.SeedSequence | None = None,
    ) -> None:
        check_choice("head", head, HEADS)
        chained = check_bool("chained", chained)
        components = check_positive_int("components", components)
        if head == "mixture":
            size = input_size = check_positive_int("size", size)
        else:
            size = _check_sizes("size", size, None)
            embedding_size = _check_sizes("embedding_size", embedding_size, len(size))
            input_size = sum(embedding_size)
        seeds = spawn(seed, 2)
        shared = {
            "num_layers": num_layers,
            "cell": cell,
            "dropout": dropout,
            "input_dropout": input_dropout,
            "dtype": dtype,
        }
        self.encoder = Encoder(input_size, hidden_size, inputs="vectors", seed=seeds[1], **shared)
        self.config = {
            "size": size,
            **{name: self.encoder.config[name] for name in ("hidden_size", *shared)},
            "head": head,
            "embedding_size": embedding_size,
            "chained": chained,
            "components": components,
        }
        features = self.encoder.output_size
        own = {"dtype": self.config["dtype"], "seed": seeds[0]}
        self.head: Head
        if head == "mixture":
            self.head = MixtureHead(size, components, features, **own)
        else:
            self.head = CategoricalHead(size, embedding_size, features, chained, **own)
        self.parameters = join({"encoder": self.encoder, "head": self.head})
        self.generators = self.encoder.generators

    def loss(
        self, inputs: ArrayLike | Padded, targets: ArrayLike | Padded, state: None = None
    ) -> tuple[float, None]:
        """Return the mean negative log-likelihood of an element, without dropout.

        Parameters
        ----------
        inputs, targets : array_like, shape (T, B, K), or Padded
            Whole sequences. ``targets[t]`` is predicted from ``inputs[:t]``: both are the same
            sequences, unless those that are read are to be noisy.
        state : None
            Every sequence begins anew.

        Returns
        -------
        loss : float
            Nats, mean over the elements; with "mixture" of a density, which may be below 0.
        state : None

        Raises
        ------
        ValueError, TypeError
            If a shape or value is wrong, or inputs and targets differ in length.
        """
        before, targets = self._check(inputs, targets)
        vectors, _ = self.head.read(before.values)
        features, _ = self.encoder(Padded(vectors, before.lengths))
        return self.head.loss_vjp(features, targets.values, targets.mask)[0], None

    def loss_vjp(
        self, inputs: ArrayLike | Padded, targets: ArrayLike | Padded, state: None = None
    ) -> tuple[float, None, Pullback]:
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
        before, targets = self._check(inputs, targets)
        vectors, read = self.head.read(before.values)
        features, _, encoder = self.encoder.vjp(
            Padded(vectors, before.lengths), input_gradient=read is not None
        )
        loss, head = self.head.loss_vjp(features, targets.values, targets.mask)

        def adjoint() -> None:
            d_vectors, _ = encoder(head())
            if read is not None:
                read(d_vectors)

        return loss, None, Pullback(adjoint)

    def count(self, targets: ArrayLike | Padded) -> int:
        """Return the number of elements, whatever their width."""
        if isinstance(targets, Padded):
            return super().count(targets)
        return int(np.prod(np.shape(targets)[:-1]))

    def log_likelihood(self, sequences: Sequences) -> np.ndarray:
        """Return the logarithm of the probability, or density, of whole sequences.

        Parameters
        ----------
        sequences : sequence of array_like, shapes (T_b, K)

        Returns
        -------
        log_likelihood : ndarray of float64, shape (B,)
            Nats; 0 for an empty sequence.

        Raises
        ------
        ValueError, TypeError
            If there are none, or a shape or value is wrong.
        """
        before, targets = self._check(*[pad(sequences)] * 2)
        vectors, _ = self.head.read(before.values)
        features, _ = self.encoder(Padded(vectors, before.lengths))
        valid = targets.mask
        nats = self.head.log_likelihood(features[valid], targets.values[valid])
        return np.bincount(np.nonzero(valid)[1], nats, minlength=len(targets.lengths))

    def sample(
        self,
        length: int,
        *,
        prompt: ArrayLike | None = None,
        temperature: float = 1.0,
        seed: int | np.random.Generator | None = None,
    ) -> Iterator[np.ndarray]:
        """Draw a sequence, or the continuation of one, an element at a time.

        Parameters
        ----------
        length : int
            Number of elements to draw.
        prompt : array_like, shape (n, K), or None
            Read first and not given back.
        temperature : float
            Scores are divided by it, variances of a mixture are multiplied: below 1 likely elements
            become likelier, 0 takes the likeliest value, or the mean of the likeliest component.
        seed : int, numpy.random.Generator or None
            Source of the draws.

        Returns
        -------
        elements : iterator of ndarray, shape (K,)
            int64, or the model's dtype with "mixture". Each is drawn when it is asked for.

        Raises
        ------
        TypeError, ValueError
            At once, if an argument is wrong; while drawing, if scores are not finite.
        """
        length = check_non_negative_int("length", length)
        given = np.empty((0, self.head.width), self.head.start.dtype)
        if prompt is not None:
            given = as_array("prompt", prompt)
        if given.ndim != 2 or given.shape[1] != self.head.width:
            raise ValueError(f"prompt must be (n, {self.head.width}), got {given.shape}")
        given = np.concatenate([self.head.start[None], self.head.check("prompt", given)])
        temperature = check_non_negative_float("temperature", temperature)
        generator = check_seed(seed)

        def draw() -> Iterator[np.ndarray]:
            stream = self.encoder.stream()
            read_ahead(self.encoder, stream, self.head.read(given[:-1, None])[0])
            element = given[-1]
            for _ in range(length):
                features = stream.step(self.head.read(element[None])[0])
                element = self.head.draw(features[0], temperature, generator)
                yield element.copy()  # the caller may change it, and it is read here next

        return draw()

    def _check(self, inputs: Any, targets: Any) -> tuple[Padded, Padded]:
        """Return what is read, the inputs delayed by one step, and what is predicted."""
        inputs, targets = self._padded("inputs", inputs), self._padded("targets", targets)
        if inputs.values.shape != targets.values.shape:
            raise ValueError(
                f"targets must be {inputs.values.shape}, as inputs, got {targets.values.shape}"
            )
        check_equal_lengths("targets", targets.lengths, "inputs", inputs.lengths)
        start = np.broadcast_to(self.head.start, (1, *inputs.values.shape[1:]))
        return Padded(np.concatenate([start, inputs.values[:-1]]), inputs.lengths), targets

    def _padded(self, name: str, sequences: Any) -> Padded:
        whole = not isinstance(sequences, Padded)
        values = as_array(name, sequences if whole else sequences.values)
        if values.ndim != 3 or values.shape[2] != self.head.width:
            K = self.head.width
            raise ValueError(
                f"{name} must be (T, B, {K}), got {values.shape}; a sequence is (T, {K})"
            )
        T, B, _ = values.shape
        if whole:
            return Padded(self.head.check(name, values), np.full(B, T))
        padded = Padded(values, check_lengths(sequences.lengths, T, B))
        # Elements beyond an end may be anything, and are not checked.
        values = np.where(padded.mask[..., None], values, np.zeros((), values.dtype))
        return Padded(self.head.check(name, values), padded.lengths)


def _check_sizes(name: str, value: Any, number: int | None) -> list[int]:
    """Return a list of `number` sizes, of any length for None; an int stands for equal sizes."""
    if not isinstance(value, (Sequence, np.ndarray)) or isinstance(value, str):
        return [check_positive_int(name, value)] * (1 if number is None else number)
    sizes = [check_positive_int(f"{name}[{k}]", size) for k, size in enumerate(value)]
    if not sizes or number not in (None, len(sizes)):
        expected = "one or more sizes" if number is None else f"{number} sizes"
        raise ValueError(f"{name} must be {expected}, got {value!r}")
    return sizes
