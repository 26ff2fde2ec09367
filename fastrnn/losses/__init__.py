"""Losses: each returns the mean over what counts and its gradient.

A mask says which elements count. Others are not read, so that padding may hold anything, and their
gradient is zero.
"""

from fastrnn.losses.class_weights import balanced_class_weights
from fastrnn.losses.cross_entropy import bits_per_token, perplexity, softmax_cross_entropy
from fastrnn.losses.ctc import ctc
from fastrnn.losses.gaussian_mixture import gaussian_mixture_nll
from fastrnn.losses.joint_cross_entropy import joint_cross_entropy
from fastrnn.losses.pinball import pinball
from fastrnn.losses.squared_error import mean_squared_error

__all__ = [
    "balanced_class_weights",
    "bits_per_token",
    "ctc",
    "gaussian_mixture_nll",
    "joint_cross_entropy",
    "mean_squared_error",
    "perplexity",
    "pinball",
    "softmax_cross_entropy",
]
