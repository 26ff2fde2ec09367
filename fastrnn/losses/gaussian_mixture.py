"""Negative log-likelihood of a mixture of Gaussians: the loss of mixture density networks."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from fastrnn._special import log_softmax, logsumexp
from fastrnn._validation import check_array, check_floats
from fastrnn.losses._masks import check_mask, refuse_nothing, unmask

if TYPE_CHECKING:
    from numpy.typing import ArrayLike


def gaussian_mixture_nll(
    outputs: ArrayLike, targets: ArrayLike, mask: ArrayLike | None = None
) -> tuple[float, np.ndarray]:
    r"""Negative log-density of points under mixtures of Gaussians with diagonal covariances.

    .. math:: L = -\frac{1}{N} \sum_n \log \sum_m \pi_{nm} \prod_d
                  \mathcal{N}(t_{nd} \mid \mu_{nmd}, \sigma_{nmd}^2), \qquad
              \pi_n = \mathrm{softmax}(a_n), \quad \sigma_{nmd} = e^{s_{nmd}}

    With :math:`z = (t - \mu) / \sigma` and the share :math:`\gamma_{nm}` of component m in the
    density of point n:

    .. math:: N \frac{\partial L}{\partial a_{nm}} = \pi_{nm} - \gamma_{nm}, \quad
              N \frac{\partial L}{\partial \mu_{nmd}} = -\gamma_{nm} \frac{z_{nmd}}{\sigma_{nmd}},
              \quad N \frac{\partial L}{\partial s_{nmd}} = \gamma_{nm} (1 - z_{nmd}^2)

    Parameters
    ----------
    outputs : array_like, shape (..., M, 1 + 2*D)
        Of each component: its score :math:`a`, its mean :math:`\mu` (D,) and the logarithms
        :math:`s` (D,) of its standard deviations. float32 or taken as float64. NaN gives NaN.
    targets : array_like, shape (..., D)
        Points :math:`t`, cast to the type of the outputs.
    mask : array_like of bool, shape (...), optional
        True where a point counts. Default: all do.

    Returns
    -------
    loss : float
        Nats, mean over the N points that count; a density, so below 0 where it is high. Infinite
        where no component has a density that floats can hold, with a gradient of NaN.
    d_outputs : ndarray, shape and dtype of `outputs`
        Gradient of that mean.

    Raises
    ------
    ValueError
        If a shape is wrong or nothing counts.
    TypeError
        If an array is not of real numbers or the mask not boolean.

    References
    ----------
    Bishop, "Mixture density networks" (1994), equations 22 to 25 and 29 to 38; of recurrent
    networks: Graves, "Generating sequences with recurrent neural networks" (2013).
    """
    outputs = check_floats("outputs", outputs)
    if outputs.ndim < 2 or outputs.size == 0 or outputs.shape[-1] < 3 or outputs.shape[-1] % 2 == 0:
        raise ValueError(
            f"outputs must be (..., M, 1 + 2*D) with M, D >= 1 and at least one point, "
            f"got {outputs.shape}"
        )
    points, D = outputs.shape[:-2], outputs.shape[-1] // 2
    targets = check_array("targets", targets, outputs.dtype, (*points, D))
    mask = check_mask(mask, points)
    if mask is None:
        rows, t = outputs.reshape(-1, *outputs.shape[-2:]), targets.reshape(-1, 1, D)
    else:
        rows, t = outputs[mask], targets[mask][:, None]
    refuse_nothing(len(rows), "point")
    # A density may well be zero; where those of all components are, the gradient is NaN.
    with np.errstate(over="ignore", under="ignore", invalid="ignore"):
        log_weights, inverse, z, joint = _terms(rows, t)
        log_density = logsumexp(joint, axis=-1, keepdims=True)
        share = np.exp(joint - log_density)[..., None] / len(rows)
        far = share == 0  # zero times infinity would be NaN
        z, inverse = np.where(far, 0, z), np.where(far, 0, inverse)
        d_rows = np.concatenate(
            [
                np.exp(log_weights)[..., None] / len(rows) - share,
                -share * z * inverse,
                share * (1 - np.square(z)),
            ],
            axis=-1,
        )
    return float(-log_density.mean(dtype=np.float64)), unmask(d_rows, mask, outputs)


def log_densities(outputs: np.ndarray, targets: np.ndarray) -> np.ndarray:
    """Return the logarithm of each point's density: outputs (N, M, 1 + 2*D), targets (N, D)."""
    with np.errstate(over="ignore", under="ignore", invalid="ignore"):
        return logsumexp(_terms(outputs, targets[:, None])[-1], axis=-1)


def _terms(rows: np.ndarray, t: np.ndarray) -> tuple[np.ndarray, ...]:
    """Return log weights (N, M), inverse deviations, z (N, M, D) and log densities times weights.

    Of rows (N, M, 1 + 2*D) and points (N, 1, D).
    """
    D = t.shape[-1]
    log_weights = log_softmax(rows[..., 0], axis=-1)
    inverse = np.exp(-rows[..., 1 + D :])
    z = (t - rows[..., 1 : 1 + D]) * inverse
    constant = 0.5 * D * math.log(2 * math.pi)
    joint = log_weights - rows[..., 1 + D :].sum(-1) - 0.5 * np.square(z).sum(-1) - constant
    return log_weights, inverse, z, joint
