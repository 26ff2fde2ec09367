"""Losses: each returns the mean over what counts and its gradient.

A mask says what counts. What it leaves out is not read, so padding may hold anything, and gets a
gradient of zero.
"""

from fastrnn.losses.cross_entropy import bits_per_token, perplexity, softmax_cross_entropy
from fastrnn.losses.squared_error import mean_squared_error

__all__ = ["bits_per_token", "mean_squared_error", "perplexity", "softmax_cross_entropy"]
