"""From a sequence of vectors to one vector: the last, the mean, or one weighted by attention."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any

import numpy as np

from fastrnn._validation import (
    check_array,
    check_bool,
    check_dtype,
    check_padded,
    check_positive_int,
    check_seed,
    check_step,
)
from fastrnn.layers.base import Module, Pullback
from fastrnn.layers.dense import Dense
from fastrnn.parameters import Parameters, join

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, DTypeLike


class Pooling(Module, ABC):
    """What `LastPooling`, `MeanPooling` and `AttentionPooling` share: their arguments."""

    _fixed = frozenset({"size", "dtype"})

    def __init__(self, size: int, dtype: DTypeLike) -> None:
        self.size = check_positive_int("size", size)
        self.dtype = check_dtype(dtype)
        self.parameters = Parameters({}, self.dtype)

    def __call__(self, x: ArrayLike, lengths: ArrayLike | None = None) -> np.ndarray:
        """Return a vector for each sequence.

        Parameters
        ----------
        x : array_like, shape (T, B, size)
        lengths : array_like of int, shape (B,), optional
            Valid steps of each sequence, each in 1..T; what lies beyond is not read. None: all T.

        Returns
        -------
        pooled : ndarray, shape (B, size)

        Raises
        ------
        ValueError, TypeError
            If a shape or a length is wrong, or `x` does not cast to the layer's dtype.
        """
        return self._pool(*self._check(x, lengths))[0]

    def vjp(self, x: ArrayLike, lengths: ArrayLike | None = None) -> tuple[np.ndarray, Pullback]:
        """Return what the call returns, and its pullback.

        Parameters
        ----------
        x, lengths
            As for the call. `x` must not be modified until the pullback has been called.

        Returns
        -------
        pooled : ndarray, shape (B, size)
        pullback : callable
            ``d_x = pullback(d_pooled)``, zero beyond the sequences' ends.

        Raises
        ------
        ValueError, TypeError
            As for a call; the pullback as well.
        """
        x, lengths = self._check(x, lengths)
        pooled, adjoint = self._pool(x, lengths)
        shape = pooled.shape
        return pooled, Pullback(
            lambda d_pooled: adjoint(check_array("d_pooled", d_pooled, self.dtype, shape))
        )

    @abstractmethod
    def stream(self, batch_size: int) -> PoolingStream:
        """Return an object that pools all it has read, step by step."""

    @abstractmethod
    def _pool(self, x: np.ndarray, lengths: np.ndarray) -> tuple[np.ndarray, Any]:
        """Return the pooled (B, size) and ``d_x = adjoint(d_pooled)``."""

    def _check(self, x: Any, lengths: Any) -> tuple[np.ndarray, np.ndarray]:
        return check_padded("x", x, self.dtype, self.size, lengths)


class LastPooling(Pooling):
    """The last output of each direction.

    That of the forward direction is at the last valid step, that of the backward one at the first.

    Parameters
    ----------
    size : int
        Width of the vectors.
    bidirectional : bool
        Whether the second half of each vector is of the direction that reads from the end.
    dtype : {"float32", "float64"}

    Raises
    ------
    ValueError, TypeError
        If an argument has the wrong type or is out of range.
    """

    def __init__(
        self, size: int, bidirectional: bool = False, *, dtype: DTypeLike = "float32"
    ) -> None:
        super().__init__(size, dtype)
        self.bidirectional = check_bool("bidirectional", bidirectional)
        if self.bidirectional and self.size % 2:
            raise ValueError(f"size must be even for two directions, got {size}")

    def stream(self, batch_size: int) -> PoolingStream:
        if self.bidirectional:
            raise ValueError("a bidirectional last step cannot stream: it needs the sequence's end")
        return PoolingStream(self, batch_size)

    def _pool(self, x: np.ndarray, lengths: np.ndarray) -> tuple[np.ndarray, Any]:
        rows = np.arange(len(lengths))
        forward = self.size // 2 if self.bidirectional else self.size
        pooled = x[lengths - 1, rows]
        pooled[:, forward:] = x[0, :, forward:]

        def adjoint(d_pooled: np.ndarray) -> np.ndarray:
            d_x = np.zeros_like(x)
            d_x[lengths - 1, rows, :forward] = d_pooled[:, :forward]
            d_x[0, :, forward:] = d_pooled[:, forward:]
            return d_x

        return pooled, adjoint


class WeightedPooling(Pooling):
    r"""Mean of the steps, weighted by the softmax of a score of each.

    .. math:: a_t = \frac{e^{s_t}}{\sum_{t'} e^{s_{t'}}}, \qquad y = \sum_t a_t x_t

    Steps are summed in float64: in float32 the sum of 1e5 equal terms has a relative error of 1e-3.
    """

    @abstractmethod
    def scores(self, rows: np.ndarray) -> tuple[np.ndarray, Any]:
        """Return the scores (N,) of vectors (N, size) and ``d_rows = pullback(d_scores)``."""

    def weights(self, x: ArrayLike, lengths: ArrayLike | None = None) -> np.ndarray:
        """Return the weights (T, B) of the steps, which sum to 1 and are 0 beyond the ends."""
        return self._weigh(*self._check(x, lengths))[1]

    def stream(self, batch_size: int) -> PoolingStream:
        return WeightedPoolingStream(self, batch_size)

    def _weigh(self, x: np.ndarray, lengths: np.ndarray) -> tuple[np.ndarray, np.ndarray, Any]:
        valid = np.arange(len(x))[:, None] < lengths
        scores, pullback = self.scores(x[valid])
        weights = np.full(valid.shape, -np.inf, self.dtype)
        weights[valid] = scores
        weights -= weights.max(axis=0)
        with np.errstate(under="ignore"):
            np.exp(weights, out=weights)
            weights /= weights.sum(axis=0, dtype=np.float64)
        weights[~valid] = 0  # also where a score is NaN
        return valid, weights, pullback

    def _pool(self, x: np.ndarray, lengths: np.ndarray) -> tuple[np.ndarray, Any]:
        valid, weights, pullback = self._weigh(x, lengths)
        if not valid.all():
            x = np.where(valid[..., None], x, 0)  # zero times NaN would be NaN
        with np.errstate(under="ignore"):
            pooled = np.einsum("tb,tbi->bi", weights, x, dtype=np.float64).astype(self.dtype)

        def adjoint(d_pooled: np.ndarray) -> np.ndarray:
            d_x = weights[..., None] * d_pooled
            d_weights = np.einsum("bi,tbi->tb", d_pooled, x)
            mean = np.einsum("tb,tb->b", weights, d_weights, dtype=np.float64)
            d_scores = weights * (d_weights - mean.astype(self.dtype))
            d_rows = pullback(d_scores[valid])
            if d_rows is not None:
                d_x[valid] += d_rows
            d_x[~valid] = 0  # zero times NaN is NaN
            return d_x

        return pooled, adjoint


class MeanPooling(WeightedPooling):
    """Mean over the valid steps.

    Parameters
    ----------
    size : int
        Width of the vectors.
    dtype : {"float32", "float64"}

    Raises
    ------
    ValueError, TypeError
        If an argument has the wrong type or is out of range.
    """

    def __init__(self, size: int, *, dtype: DTypeLike = "float32") -> None:
        super().__init__(size, dtype)

    def scores(self, rows: np.ndarray) -> tuple[np.ndarray, Any]:
        return np.zeros(len(rows), self.dtype), lambda d_scores: None


class AttentionPooling(WeightedPooling):
    r"""Mean of the steps, weighted by a learned, additive score.

    .. math:: s_t = v^T \tanh(W x_t + b)

    Parameters
    ----------
    size : int
        Width of the vectors, and of what scores them.
    dtype : {"float32", "float64"}
    seed : int, numpy.random.Generator or None
        Source of the initial parameters, those of :class:`Dense`.

    Attributes
    ----------
    parameters : Parameters
        Of the parts ``hidden`` (:math:`W, b`) and ``score`` (:math:`v`).

    Raises
    ------
    ValueError, TypeError
        If an argument has the wrong type or is out of range.

    References
    ----------
    Bahdanau, Cho and Bengio, "Neural machine translation by jointly learning to align and
    translate" (2015), without a query, as Yang et al., "Hierarchical attention networks for
    document classification" (2016), equations 5 to 7.
    """

    def __init__(self, size: int, *, dtype: DTypeLike = "float32", seed: Any = None) -> None:
        super().__init__(size, dtype)
        generator = check_seed(seed)
        self.hidden = Dense(size, size, dtype=dtype, seed=generator)
        self.score = Dense(size, 1, bias=False, dtype=dtype, seed=generator)
        self.parameters = join({"hidden": self.hidden, "score": self.score})

    def scores(self, rows: np.ndarray) -> tuple[np.ndarray, Any]:
        hidden, hidden_pullback = self.hidden.vjp(rows, copy=False)
        hidden = np.tanh(hidden)
        scores, score_pullback = self.score.vjp(hidden, copy=False)

        def pullback(d_scores: np.ndarray) -> np.ndarray:
            return hidden_pullback(score_pullback(d_scores[:, None]) * (1 - hidden * hidden))

        return scores[:, 0], pullback


class PoolingStream:
    """Pools a sequence that it reads step by step; this one takes the last step.

    Parameters
    ----------
    pooling : Pooling
    batch_size : int
        Number of sequences B read side by side.
    """

    def __init__(self, pooling: Pooling, batch_size: int) -> None:
        self._pooling = pooling
        self._batch_size = check_positive_int("batch_size", batch_size)
        self.reset()

    def step(self, x: ArrayLike) -> np.ndarray:
        """Read the next step `x` (B, size); return the pooled steps so far, (B, size)."""
        return self._check(x)

    def _check(self, x: ArrayLike) -> np.ndarray:
        return check_step("x", x, self._pooling.dtype, self._batch_size, self._pooling.size)

    def reset(self) -> None:
        """Forget what was read."""


class WeightedPoolingStream(PoolingStream):
    """The weighted mean of all steps read so far, of a `WeightedPooling`.

    References
    ----------
    The sums are scaled anew when a score is larger than all before it, as in Milakov and
    Gimelshein, "Online normalizer calculation for softmax" (2018), algorithm 3.
    """

    def reset(self) -> None:
        self._largest = np.full(self._batch_size, -np.inf, self._pooling.dtype)
        self._total = np.zeros(self._batch_size)
        self._sum = np.zeros((self._batch_size, self._pooling.size))

    def step(self, x: ArrayLike) -> np.ndarray:
        x = self._check(x)
        shape, x = x.shape, x.reshape(self._sum.shape)
        scores, _ = self._pooling.scores(x)
        largest = np.maximum(self._largest, scores)
        kept, weight = np.exp(self._largest - largest), np.exp(scores - largest)
        self._largest = largest
        self._total = kept * self._total + weight
        self._sum = kept[:, None] * self._sum + weight[:, None] * x
        return (self._sum / self._total[:, None]).astype(self._pooling.dtype).reshape(shape)
