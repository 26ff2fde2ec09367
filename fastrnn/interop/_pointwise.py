"""Pointwise functions for files of Keras and ONNX; not lambdas, so that models can be pickled."""

import numpy as np


def relu(x: np.ndarray) -> np.ndarray:
    """Return max(0, x)."""
    return np.maximum(x, 0)


def leaky_relu(x: np.ndarray, alpha: float) -> np.ndarray:
    """Return x, below 0 alpha x."""
    return np.where(x >= 0, x, alpha * x)


def elu(x: np.ndarray, alpha: float = 1.0) -> np.ndarray:
    """Return x, below 0 alpha (e^x - 1)."""
    return np.where(x >= 0, x, alpha * np.expm1(np.minimum(x, 0)))


def hard_sigmoid(x: np.ndarray, alpha: float, beta: float) -> np.ndarray:
    """Return alpha x + beta, at least 0 and at most 1."""
    return np.clip(alpha * x + beta, 0, 1)


def softsign(x: np.ndarray) -> np.ndarray:
    """Return x / (1 + |x|)."""
    return x / (1 + np.abs(x))


def softplus(x: np.ndarray) -> np.ndarray:
    """Return log(1 + e^x)."""
    return np.logaddexp(x, 0)
