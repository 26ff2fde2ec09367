"""Baselines without a network, for the examples that generate sequences."""

from __future__ import annotations

import numpy as np


def autoregression(train: list[np.ndarray], test: list[np.ndarray], order: int) -> float:
    """Score a Gaussian vector autoregression, fitted by least squares.

    Parameters
    ----------
    train, test : list of ndarray, shapes (T, D)
        What comes before the first element counts as zero.
    order : int
        Elements that the next one is a linear map of, plus Gaussian noise of one covariance.

    Returns
    -------
    nats : float
        Negative log-density of an element of `test`.
    """

    def before(rows: np.ndarray) -> np.ndarray:
        padded = np.pad(rows, ((order, 0), (0, 0)))
        lags = [padded[order - k : len(padded) - k] for k in range(1, order + 1)]
        return np.concatenate([*lags, np.ones((len(rows), 1))], axis=1)

    x, y = np.concatenate([before(rows) for rows in train]), np.concatenate(train)
    weight = np.linalg.lstsq(x, y)[0]
    root = np.linalg.cholesky(np.cov((y - x @ weight).T))
    errors = np.concatenate([rows - before(rows) @ weight for rows in test])
    z = np.linalg.solve(root, errors.T)
    return np.mean(np.sum(z**2 + np.log(2 * np.pi), 0)) / 2 + np.log(np.diag(root)).sum()


def counted_pixels(
    train: np.ndarray, test: np.ndarray, levels: int, neighbours: list, weight: float
) -> float:
    """Score counts of the grey levels at each place, given those of some neighbours.

    Parameters
    ----------
    train, test : ndarray of int, shape (N, H, W)
    levels : int
    neighbours : list of (down, right)
        How far above and to the left of the pixel; with an empty list pixels are independent.
    weight : float
        `weight` times `levels` is the number of images that are added to the counts as a prior, in
        which pixels do not depend on their neighbours.

    Returns
    -------
    nats : float
        Negative log-likelihood of an image of `test`.
    """
    H, W = train.shape[1:]

    def seen(images: np.ndarray) -> tuple:
        padded = np.pad(images, ((0, 0), (1, 0), (1, 0)))
        parts = [padded[:, 1 - down :, 1 - right :][:, :H, :W] for down, right in neighbours]
        return *np.indices((H, W)), sum(levels**k * part for k, part in enumerate(parts))

    counts = np.zeros((H, W, levels ** len(neighbours), levels))
    np.add.at(counts, (*seen(train), train), 1)
    alone = counts.sum(2, keepdims=True) + 1
    counts += weight * alone / alone.mean(-1, keepdims=True)
    return -np.log(counts[*seen(test), test] / counts[seen(test)].sum(-1)).sum() / len(test)
