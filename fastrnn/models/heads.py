"""Heads of a generator: from elements to the recurrent layers, and from these to the next element.

A head turns elements into the vectors that the recurrent layers read, and their output into a
distribution of the next element. It computes the loss of that distribution and draws from it.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from fastrnn._special import log_softmax
from fastrnn._validation import check_array, check_ids
from fastrnn.layers.base import Module, Pullback
from fastrnn.layers.dense import Dense
from fastrnn.layers.embedding import Embedding
from fastrnn.losses import gaussian_mixture_nll, joint_cross_entropy
from fastrnn.losses.gaussian_mixture import log_densities
from fastrnn.models.base import spawn
from fastrnn.models.decoding import check_finite, draw
from fastrnn.parameters import join

if TYPE_CHECKING:
    from numpy.typing import DTypeLike


class Head(Module):
    """From elements to vectors, and from features to a distribution of elements.

    Attributes
    ----------
    width : int
        Numbers K of an element.
    input_size : int
        Width I of the vector that stands for an element.
    start : ndarray, shape (K,)
        What is read before the first element.
    """

    width: int
    input_size: int
    start: np.ndarray

    @abstractmethod
    def check(self, name: str, elements: Any) -> np.ndarray:
        """Return checked elements (..., K); TypeError or ValueError."""

    @abstractmethod
    def read(self, elements: np.ndarray) -> tuple[np.ndarray, Pullback | None]:
        """Return vectors (..., I) of elements (..., K), or of :attr:`start`, and their pullback.

        ``pullback(d_vectors)`` adds the parameters' gradients; None where there are none.
        """

    @abstractmethod
    def loss_vjp(
        self, features: np.ndarray, elements: np.ndarray, mask: np.ndarray | None
    ) -> tuple[float, Pullback]:
        """Return the negative log-likelihood of elements (..., K) and its pullback.

        Nats, mean over the elements of which the mask (...) is True. ``d_features = pullback()``
        adds the parameters' gradients.
        """

    @abstractmethod
    def log_likelihood(self, features: np.ndarray, elements: np.ndarray) -> np.ndarray:
        """Return the log-likelihood in nats of each of elements (N, K), given features (N, H)."""

    @abstractmethod
    def draw(
        self, features: np.ndarray, temperature: float, generator: np.random.Generator
    ) -> np.ndarray:
        """Return an element (K,) drawn given features (H,)."""


class CategoricalHead(Head):
    r"""K variables, each with a softmax over values of its own.

    .. math:: p(x \mid h) = \prod_k \mathrm{softmax}\Big(W_k h + b_k + \sum_{j < k} U_{jk, x_j}
              \Big)_{x_k}

    Without the last term (`chained` False) the variables do not depend on each other given h.

    Parameters
    ----------
    sizes, embedding_sizes : sequence of int
        Numbers of values, and widths of the vectors that are read, of the K variables.
    features : int
        Width of the features that the distribution depends on.
    chained : bool
    dtype : {"float32", "float64"}
    seed : numpy.random.Generator

    References
    ----------
    The chain: Bengio and Bengio, "Modeling high-dimensional discrete data with multi-layer neural
    networks" (2000), here without a hidden layer.
    """

    def __init__(
        self,
        sizes: Sequence[int],
        embedding_sizes: Sequence[int],
        features: int,
        chained: bool,
        *,
        dtype: DTypeLike,
        seed: np.random.Generator,
    ) -> None:
        self.sizes, self.width, self.input_size = sizes, len(sizes), sum(embedding_sizes)
        self.start = np.array(sizes)  # one beyond the values: a row of its own in each table
        self._ends = np.cumsum(sizes)
        seeds = spawn(seed, self.width + 1)
        self.embeddings = [
            Embedding(size + 1, width, dtype=dtype, seed=own)
            for size, width, own in zip(sizes, embedding_sizes, seeds)
        ]
        self.output = Dense(features, sum(sizes), dtype=dtype, seed=seeds[-1])
        # The value of each variable adds to the scores of all variables after it.
        self.links = [
            Embedding(size, int(self._ends[-1] - end), dtype=dtype)
            for size, end in zip(sizes[:-1], self._ends)
            if chained
        ]
        for link in self.links:
            link.parameters["weight"][...] = 0
        self.parameters = join(
            {
                **{f"embedding{k}": part for k, part in enumerate(self.embeddings)},
                "output": self.output,
                **{f"link{k}": part for k, part in enumerate(self.links)},
            }
        )

    def check(self, name: str, elements: Any) -> np.ndarray:
        ids = check_ids(name, elements, max(self.sizes))
        for k, size in enumerate(self.sizes):
            check_ids(f"{name}[..., {k}]", ids[..., k], size)
        return ids

    def read(self, elements: np.ndarray) -> tuple[np.ndarray, Pullback | None]:
        parts = [part.vjp(elements[..., k]) for k, part in enumerate(self.embeddings)]
        vectors, pullbacks = zip(*parts)
        cuts = np.cumsum([part.embedding_dim for part in self.embeddings])[:-1]

        def adjoint(d_vectors: np.ndarray) -> None:
            for pullback, d_part in zip(pullbacks, np.split(d_vectors, cuts, axis=-1)):
                pullback(d_part)

        return np.concatenate(vectors, axis=-1), Pullback(adjoint)

    def loss_vjp(
        self, features: np.ndarray, elements: np.ndarray, mask: np.ndarray | None
    ) -> tuple[float, Pullback]:
        logits, output_pullback = self.output.vjp(features, copy=False)
        pullbacks = self._add_links(logits, elements)
        loss, d_logits = joint_cross_entropy(logits, elements, self.sizes, mask)

        def adjoint() -> np.ndarray:
            for end, pullback in zip(self._ends, pullbacks):
                pullback(d_logits[..., end:])
            return output_pullback(d_logits)

        return loss, Pullback(adjoint)

    def log_likelihood(self, features: np.ndarray, elements: np.ndarray) -> np.ndarray:
        logits = self.output(features)
        self._add_links(logits, elements)
        nats, rows = np.zeros(len(logits)), np.arange(len(logits))
        for k, scores in enumerate(np.split(logits, self._ends[:-1], axis=1)):
            nats += log_softmax(scores, axis=1)[rows, elements[:, k]]
        return nats

    def _add_links(self, logits: np.ndarray, elements: np.ndarray) -> list[Pullback]:
        """Add the links' scores in place, and return the links' pullbacks."""
        pullbacks = []
        for k, (link, end) in enumerate(zip(self.links, self._ends)):
            scores, pullback = link.vjp(elements[..., k])
            logits[..., end:] += scores
            pullbacks.append(pullback)
        return pullbacks

    def draw(
        self, features: np.ndarray, temperature: float, generator: np.random.Generator
    ) -> np.ndarray:
        logits = self.output(features)
        element = np.empty(self.width, np.int64)
        for k, (size, end) in enumerate(zip(self.sizes, self._ends)):
            element[k] = draw(logits[None, end - size : end], temperature, None, generator)[0]
            if k < len(self.links):
                logits[end:] += self.links[k](element[k])
        return element


class MixtureHead(Head):
    """Numbers under a mixture of Gaussians; see :func:`fastrnn.losses.gaussian_mixture_nll`.

    Parameters
    ----------
    width : int
        Numbers D of an element.
    components : int
        Gaussians M.
    features : int
        Width of the features that the distribution depends on.
    dtype : {"float32", "float64"}
    seed : numpy.random.Generator
    """

    def __init__(
        self,
        width: int,
        components: int,
        features: int,
        *,
        dtype: DTypeLike,
        seed: np.random.Generator,
    ) -> None:
        self.width = self.input_size = width
        self._shape = (components, 1 + 2 * width)
        self.output = Dense(features, components * (1 + 2 * width), dtype=dtype, seed=seed)
        self.start = np.zeros(width, self.output.dtype)
        self.parameters = join({"output": self.output})

    def check(self, name: str, elements: Any) -> np.ndarray:
        shape = (*np.shape(elements)[:-1], self.width)
        return check_array(name, elements, self.output.dtype, shape)

    def read(self, elements: np.ndarray) -> tuple[np.ndarray, Pullback | None]:
        return elements, None

    def loss_vjp(
        self, features: np.ndarray, elements: np.ndarray, mask: np.ndarray | None
    ) -> tuple[float, Pullback]:
        flat, output_pullback = self.output.vjp(features, copy=False)
        outputs = flat.reshape(*flat.shape[:-1], *self._shape)
        loss, d_outputs = gaussian_mixture_nll(outputs, elements, mask)
        return loss, Pullback(lambda: output_pullback(d_outputs.reshape(flat.shape)))

    def log_likelihood(self, features: np.ndarray, elements: np.ndarray) -> np.ndarray:
        return log_densities(self.output(features).reshape(-1, *self._shape), elements)

    def draw(
        self, features: np.ndarray, temperature: float, generator: np.random.Generator
    ) -> np.ndarray:
        outputs = self.output(features).reshape(self._shape)
        check_finite(outputs)
        component = outputs[draw(outputs[None, :, 0], temperature, None, generator)[0]]
        means, scales = component[1 : 1 + self.width], np.exp(component[1 + self.width :])
        # Both the choice of a component and its variance, as Ha and Eck, "A neural representation
        # of sketch drawings" (2017), equation 8.
        noise = generator.standard_normal(self.width) * np.sqrt(temperature)
        return (means + scales * noise).astype(self.output.dtype)
