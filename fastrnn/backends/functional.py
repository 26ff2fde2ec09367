"""Operations without a time axis in NumPy: affine layers, cross-entropy and optimiser steps.

All arrays are contiguous and of one dtype, which the callers have checked.
"""

import math

import numpy as np

# Elements that optimisers update together, so that temporary arrays stay in the cache.
BLOCK = 1024


def affine(x: np.ndarray, weight: np.ndarray, bias: np.ndarray | None) -> np.ndarray:
    """Return x W^T + b (..., outputs) for x (..., inputs), W (outputs, inputs) and b (outputs,)."""
    if x.ndim != 2:  # one product, and not one for each element of the first axis
        rows = x.reshape(-1, x.shape[-1])
        return affine(rows, weight, bias).reshape(*x.shape[:-1], len(weight))
    y = x @ weight.T
    return y if bias is None else y + bias


def affine_adjoint(
    d_y: np.ndarray,
    x: np.ndarray,
    weight: np.ndarray,
    d_weight: np.ndarray,
    d_bias: np.ndarray | None,
) -> np.ndarray:
    """Add the gradients of W and b in `affine` into `d_weight` and `d_bias`; return that of x."""
    d_rows = d_y.reshape(-1, len(weight))
    add_affine(d_rows, x.reshape(-1, x.shape[-1]), d_weight, d_bias)
    return (d_rows @ weight).reshape(x.shape)


def add_affine(
    d_y: np.ndarray, x: np.ndarray, d_weight: np.ndarray, d_bias: np.ndarray | None
) -> None:
    """Add the gradients of W and b in `affine` into `d_weight` and `d_bias`."""
    d_weight += d_y.T @ x
    if d_bias is not None:
        d_bias += d_y.sum(axis=0, dtype=np.float64)  # float32 rounds a million terms to 1 %


@np.errstate(under="ignore")
def softmax_cross_entropy(logits: np.ndarray, ids: np.ndarray) -> tuple[float, np.ndarray]:
    """Return the mean loss of scores (..., V) and ids (...), and its gradient."""
    rows, ids = logits.reshape(-1, logits.shape[-1]), ids.ravel()
    count = len(rows)
    tokens = np.arange(count)
    with np.errstate(over="ignore", invalid="ignore"):  # infinity less infinity is NaN and flows on
        d_rows = rows - rows.max(axis=1, keepdims=True)
    shifted = d_rows[tokens, ids]
    np.exp(d_rows, out=d_rows)
    totals = d_rows.sum(axis=1)
    loss = float(np.subtract(np.log(totals), shifted).mean(dtype=np.float64))
    d_rows /= (totals * count)[:, None]
    d_rows[tokens, ids] -= 1 / count
    return loss, d_rows.reshape(logits.shape)


def norm(x: np.ndarray) -> float:
    """Return the Euclidean norm of a flat buffer, as far as squares are in the range of floats."""
    with np.errstate(over="ignore", invalid="ignore"):
        return math.sqrt(np.dot(x, x))


def sgd(
    values: np.ndarray,
    gradients: np.ndarray,
    momentum_buffer: np.ndarray | None,
    *,
    learning_rate: float,
    momentum: float,
    weight_decay: float,
    nesterov: bool,
) -> None:
    """Make a step of SGD; the values and the momentum, where it is not None, in place.

    ``weight_decay * values`` is added to the gradients.
    """
    for start in range(0, len(values), BLOCK):
        block = slice(start, start + BLOCK)
        value = values[block]
        g = gradients[block]
        if weight_decay > 0:  # 0 times infinity is NaN
            g = g + weight_decay * value
        if momentum_buffer is not None:
            b = momentum_buffer[block]
            b *= momentum
            b += g
            g = g + momentum * b if nesterov else b
        value -= learning_rate * g


def adam(
    values: np.ndarray,
    gradients: np.ndarray,
    exp_avg: np.ndarray,
    exp_avg_sq: np.ndarray,
    *,
    step: int,
    learning_rate: float,
    beta1: float,
    beta2: float,
    eps: float,
    weight_decay: float,
    shrink: float,
) -> None:
    """Make step number `step` >= 1 of Adam; the values and both averages in place.

    ``weight_decay * values`` is added to the gradients; `shrink` multiplies the values, past the
    averages.
    """
    for start in range(0, len(values), BLOCK):
        block = slice(start, start + BLOCK)
        value, m, v = values[block], exp_avg[block], exp_avg_sq[block]
        g = gradients[block] + weight_decay * value
        m *= beta1
        m += g * (1 - beta1)
        v *= beta2
        v += g * g * (1 - beta2)
        root = np.sqrt(v) * (1 / math.sqrt(1 - beta2**step)) + eps
        value *= shrink
        value -= m / root * (learning_rate / (1 - beta1**step))
