"""Attention: a mean of an encoder's outputs for each query, weighted by how well they match it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from fastrnn._validation import (
    check_array,
    check_dtype,
    check_padded,
    check_positive_float,
    check_positive_int,
    check_seed,
)
from fastrnn.layers.base import Module, Pullback
from fastrnn.layers.dense import Dense
from fastrnn.parameters import Parameters, join

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, DTypeLike

UNITS_AT_ONCE = 2**18  # units of additive attention computed together; at least one sequence's


class Attention(Module, ABC):
    r"""What `DotAttention`, `GeneralAttention` and `AdditiveAttention` share: all but the score.

    .. math:: a_{st} = \frac{e^{f(q_s, m_t)}}{\sum_{t'} e^{f(q_s, m_{t'})}}, \qquad
              c_s = \sum_t a_{st} m_t

    All queries are given at once: if they are the outputs of a decoder, it has already run all of
    its steps, in one call. The context is for layers above the decoder (Luong et al., section 3),
    not for the decoder's next step.
    """

    _fixed = frozenset({"query_size", "memory_size", "dtype"})

    def __init__(self, query_size: int, memory_size: int, dtype: DTypeLike) -> None:
        self.query_size = check_positive_int("query_size", query_size)
        self.memory_size = check_positive_int("memory_size", memory_size)
        self.dtype = check_dtype(dtype)
        self.parameters = Parameters({}, self.dtype)

    def __call__(
        self, queries: ArrayLike, memory: ArrayLike, lengths: ArrayLike | None = None
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return the context of each query, and the weights that it was made with.

        Parameters
        ----------
        queries : array_like, shape (S, B, query_size)
        memory : array_like, shape (T, B, memory_size)
            Such as the outputs of an encoder, T >= 1.
        lengths : array_like of int, shape (B,), optional
            Valid steps of the memory of each sequence, each in 1..T; what lies beyond is not read.
            None: all T.

        Returns
        -------
        context : ndarray, shape (S, B, memory_size)
        weights : ndarray, shape (S, B, T)
            Sum to 1, and are 0 beyond the ends.

        Raises
        ------
        ValueError, TypeError
            If a shape or a length is wrong, or an array does not cast to the layer's dtype.
        """
        return self.over(memory, lengths)(queries)

    def over(
        self, memory: ArrayLike, lengths: ArrayLike | None = None
    ) -> Callable[[ArrayLike], tuple[np.ndarray, np.ndarray]]:
        """Return the call for one memory, for queries that come in several calls.

        What depends on the memory alone is computed here, once.

        Returns
        -------
        attend : callable
            ``context, weights = attend(queries)``.

        Raises
        ------
        ValueError, TypeError
            As for a call; `attend` as well.
        """
        memory, valid = self._check_memory(memory, lengths)
        keys, _ = self.keys(memory)

        def attend(queries: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
            scores, _ = self.scores(self._check_queries(queries, len(memory)), keys)
            weights = _softmax(scores, valid)
            return (weights @ memory).swapaxes(0, 1), weights.swapaxes(0, 1)

        return attend

    def vjp(
        self, queries: ArrayLike, memory: ArrayLike, lengths: ArrayLike | None = None
    ) -> tuple[np.ndarray, np.ndarray, Pullback]:
        """Return what the call returns, and its pullback.

        Parameters
        ----------
        queries, memory, lengths
            As for the call. The caller may overwrite them.

        Returns
        -------
        context, weights
        pullback : callable
            ``d_queries, d_memory = pullback(d_context)``, the latter zero beyond the ends.

        Raises
        ------
        ValueError, TypeError
            As for a call; the pullback as well.
        """
        memory, valid = self._check_memory(memory, lengths)
        queries = self._check_queries(queries, len(memory))
        keys, keys_pullback = self.keys(memory)
        scores, scores_pullback = self.scores(queries, keys)
        weights = _softmax(scores, valid)
        context = (weights @ memory).swapaxes(0, 1)
        shape = context.shape

        def adjoint(d_context: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
            d_context = check_array("d_context", d_context, self.dtype, shape).swapaxes(0, 1)
            d_weights = d_context @ memory.swapaxes(1, 2)
            d_memory = weights.swapaxes(1, 2) @ d_context
            d_scores = weights * (d_weights - (weights * d_weights).sum(axis=2, keepdims=True))
            d_queries, d_keys = scores_pullback(d_scores)
            d_memory += keys_pullback(d_keys)
            d_memory[~valid] = 0  # zero times NaN is NaN
            return d_queries.swapaxes(0, 1), d_memory.swapaxes(0, 1)

        return context, weights.swapaxes(0, 1).copy(), Pullback(adjoint)

    def keys(self, memory: np.ndarray) -> tuple[np.ndarray, Any]:
        """Return the keys (B, T, ...) of a memory (B, T, memory_size), and their pullback."""
        return memory, lambda d_keys: d_keys

    @abstractmethod
    def scores(self, queries: np.ndarray, keys: np.ndarray) -> tuple[np.ndarray, Any]:
        """Return the scores (B, S, T) of queries (B, S, query_size) and keys (B, T, ...).

        Returns
        -------
        scores : ndarray
        pullback : callable
            ``d_queries, d_keys = pullback(d_scores)``.
        """

    def _check_queries(self, queries: Any, B: int) -> np.ndarray:
        queries = check_array("queries", queries, self.dtype, ("S", B, self.query_size))
        return queries.swapaxes(0, 1).copy()

    def _check_memory(self, memory: Any, lengths: Any) -> tuple[np.ndarray, np.ndarray]:
        """Return the memory (B, T, memory_size), zero where it is not valid, and where it is."""
        size = self.memory_size
        memory, lengths = check_padded("memory", memory, self.dtype, size, lengths)
        valid = np.arange(len(memory)) < lengths[:, None]
        memory = memory.swapaxes(0, 1).copy()
        memory[~valid] = 0  # zero times NaN would be NaN
        return memory, valid


class DotAttention(Attention):
    r"""Score by the scaled dot product, :math:`f(q, m) = \gamma \, q^T m`; without parameters.

    Parameters
    ----------
    query_size, memory_size : int
        Width of queries and memory, equal.
    scale : float or None
        The factor :math:`\gamma`; None takes ``memory_size ** -0.5``. With 1, as Luong et al. have
        it, wide vectors soon make scores so large that all weight is on one step and nothing more
        is learnt: ``examples/translation.py`` then has a BLEU of 20 in place of 27.
    dtype : {"float32", "float64"}
    seed
        Ignored; it is there because all attention layers take one.

    Raises
    ------
    ValueError, TypeError
        If an argument has the wrong type or is out of range.

    References
    ----------
    Luong, Pham and Manning, "Effective approaches to attention-based neural machine translation"
    (2015), equation 8, "dot"; the factor as in Vaswani et al., "Attention is all you need" (2017),
    equation 1.
    """

    def __init__(
        self,
        query_size: int,
        memory_size: int,
        scale: float | None = None,
        *,
        dtype: DTypeLike = "float32",
        seed: Any = None,
    ) -> None:
        super().__init__(query_size, memory_size, dtype)
        if query_size != memory_size:
            raise ValueError(
                f"memory_size must be query_size {query_size} in dot attention, got {memory_size}; "
                "general attention takes any"
            )
        self.scale = _check_scale(scale, memory_size)

    def scores(self, queries: np.ndarray, keys: np.ndarray) -> tuple[np.ndarray, Any]:
        return _products(queries, keys, self.scale)


class GeneralAttention(Attention):
    r"""Score by a scaled bilinear form, :math:`f(q, m) = \gamma \, m^T W q`.

    Parameters
    ----------
    query_size, memory_size : int
        Width of queries and memory.
    scale : float or None
        The factor :math:`\gamma`, see `DotAttention`.
    dtype : {"float32", "float64"}
    seed : int, numpy.random.Generator or None
        Source of the initial parameters, those of :class:`Dense`.

    Attributes
    ----------
    parameters : Parameters
        Of the part ``query``, the :class:`Dense` of :math:`W` (memory_size, query_size).

    Raises
    ------
    ValueError, TypeError
        If an argument has the wrong type or is out of range.

    References
    ----------
    As `DotAttention`, "general".
    """

    def __init__(
        self,
        query_size: int,
        memory_size: int,
        scale: float | None = None,
        *,
        dtype: DTypeLike = "float32",
        seed: Any = None,
    ) -> None:
        super().__init__(query_size, memory_size, dtype)
        self.scale = _check_scale(scale, memory_size)
        self.query = Dense(query_size, memory_size, bias=False, dtype=dtype, seed=seed)
        self.parameters = join({"query": self.query})

    def scores(self, queries: np.ndarray, keys: np.ndarray) -> tuple[np.ndarray, Any]:
        projected, query_pullback = self.query.vjp(queries, copy=False)
        scores, products_pullback = _products(projected, keys, self.scale)

        def pullback(d_scores: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
            d_projected, d_keys = products_pullback(d_scores)
            return query_pullback(d_projected), d_keys

        return scores, pullback


class AdditiveAttention(Attention):
    r"""Score by a layer of `size` units, :math:`f(q, m) = v^T \tanh(W q + U m + b)`.

    A query is the decoder's output of the same step, as in the other attentions here; the paper
    takes that of the step before, which would tie the decoder's time loop to the attention.

    Parameters
    ----------
    query_size, memory_size : int
        Width of queries and memory.
    size : int or None
        Units A; None takes `query_size`. Their S * T * B * A outputs are computed twice, a few
        sequences at a time, and not kept.
    dtype : {"float32", "float64"}
    seed : int, numpy.random.Generator or None
        Source of the initial parameters, those of :class:`Dense`.

    Attributes
    ----------
    parameters : Parameters
        Of the parts ``query`` (:math:`W, b`), ``memory`` (:math:`U`) and ``score`` (:math:`v`).

    Raises
    ------
    ValueError, TypeError
        If an argument has the wrong type or is out of range.

    References
    ----------
    Bahdanau, Cho and Bengio, "Neural machine translation by jointly learning to align and
    translate" (2015), appendix A.1.2.
    """

    def __init__(
        self,
        query_size: int,
        memory_size: int,
        size: int | None = None,
        *,
        dtype: DTypeLike = "float32",
        seed: Any = None,
    ) -> None:
        super().__init__(query_size, memory_size, dtype)
        self.size = check_positive_int("size", query_size if size is None else size)
        generator = check_seed(seed)
        self.query = Dense(query_size, self.size, dtype=dtype, seed=generator)
        self.memory = Dense(memory_size, self.size, bias=False, dtype=dtype, seed=generator)
        self.score = Dense(self.size, 1, bias=False, dtype=dtype, seed=generator)
        self.parameters = join({"query": self.query, "memory": self.memory, "score": self.score})

    def keys(self, memory: np.ndarray) -> tuple[np.ndarray, Any]:
        return self.memory.vjp(memory, copy=False)

    def scores(self, queries: np.ndarray, keys: np.ndarray) -> tuple[np.ndarray, Any]:
        projected, query_pullback = self.query.vjp(queries, copy=False)
        (B, S, A), T = projected.shape, keys.shape[1]
        weight = self.score.parameters["weight"][0].copy()
        count = max(1, UNITS_AT_ONCE // max(1, S * T * A))
        parts = [slice(first, first + count) for first in range(0, B, count)]

        def hidden(part: slice) -> np.ndarray:
            sums = projected[part, :, None] + keys[part, None]  # (count, S, T, A)
            return np.tanh(sums, out=sums)

        scores = np.empty((B, S, T), self.dtype)
        for part in parts:
            np.matmul(hidden(part), weight, out=scores[part])

        def pullback(d_scores: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
            d_projected, d_keys = np.empty_like(projected), np.empty_like(keys)
            d_weight = self.score.gradients["weight"][0]
            for part in parts:
                units, d = hidden(part), d_scores[part]
                d_weight += d.reshape(-1) @ units.reshape(-1, A)
                units *= units
                np.subtract(1, units, out=units)
                # Each unit's gradient: summed over keys for the query, over queries for the key.
                np.matmul(d[:, :, None], units, out=d_projected[part, :, None])
                np.matmul(
                    d.swapaxes(1, 2)[:, :, None], units.swapaxes(1, 2), out=d_keys[part, :, None]
                )
            d_projected *= weight
            d_keys *= weight
            return query_pullback(d_projected), d_keys

        return scores, pullback


def _check_scale(scale: float | None, memory_size: int) -> float:
    return memory_size**-0.5 if scale is None else check_positive_float("scale", scale)


def _products(queries: np.ndarray, keys: np.ndarray, scale: float) -> tuple[np.ndarray, Any]:
    """Return ``scale * queries @ keys.T`` of each sequence, and its pullback."""
    scaled = queries * scale

    def pullback(d_scores: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return d_scores @ keys * scale, d_scores.swapaxes(1, 2) @ scaled

    return scaled @ keys.swapaxes(1, 2), pullback


def _softmax(scores: np.ndarray, valid: np.ndarray) -> np.ndarray:
    """Return the softmax over the last axis of scores (B, S, T) where `valid` (B, T), else 0."""
    weights = np.where(valid[:, None], scores, -np.inf)
    weights -= weights.max(axis=2, keepdims=True)
    np.exp(weights, out=weights)
    weights /= weights.sum(axis=2, keepdims=True)
    np.copyto(weights, 0, where=~valid[:, None])  # also where a score is NaN
    return weights
