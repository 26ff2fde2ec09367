"""The attention layers of Keras, at inference; see `fastrnn.interop.keras.base`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from scipy.special import softmax

from fastrnn._validation import check_array, check_choice
from fastrnn.interop.keras.base import Layer, Mask, Settings

if TYPE_CHECKING:
    from collections.abc import Sequence

    from fastrnn.interop.keras.files import Weights


class Attention(Layer):
    """For each query the mean of the values, weighted by the softmax of the query-key scores.

    Scores are ``scale * q k``; with `score_mode` "concat" ``outer * sum(tanh(scale * (q + k)))``;
    for AdditiveAttention ``sum(scale * tanh(q + k))`` with a scale for each element.
    """

    def __init__(self, settings: Settings, weights: Weights) -> None:
        super().__init__(settings)
        self.additive = settings.kind == "AdditiveAttention"
        mode = "dot" if self.additive else settings.take("score_mode", "dot")
        self.concat = check_choice("score_mode", mode, ("dot", "concat")) == "concat"
        use_scale = settings.flag("use_scale", self.additive)
        scale_shape = (None,) if self.additive else ()
        shapes = [scale_shape] * use_scale + [()] * self.concat
        arrays = weights.variables(shapes, self.dtype) if shapes else []
        self.scale = arrays[0] if use_scale else self.dtype.type(1)
        self.outer = arrays[-1] if self.concat else self.dtype.type(1)
        self.key_width = len(self.scale) if self.additive and use_scale else None

    def widths(self, inputs: Sequence[int | None]) -> tuple[int | None, ...]:
        if len(inputs) not in (2, 3):
            raise ValueError(f"layer {self.name!r} must take 2 or 3 inputs, got {len(inputs)}")
        compared = {inputs[0], inputs[-1], self.key_width} - {None}
        if len(compared) > 1:
            raise ValueError(f"layer {self.name!r} must compare one width, got {sorted(compared)}")
        return (inputs[1],)

    def __call__(self, x: Sequence[np.ndarray], mask: Sequence[Mask]) -> tuple[np.ndarray, Mask]:
        query = check_array("query", x[0], self.dtype, ("B", "T", self.key_width or "width"))
        B, _, width = query.shape
        value = check_array("value", x[1], self.dtype, (B, "S", "width"))
        key = check_array("key", x[-1], self.dtype, (B, value.shape[1], width))
        scores = self._scores(query, key)
        if mask[1] is not None:
            scores = np.where(mask[1][:, None], scores, scores - self.dtype.type(1e9))
        y = softmax(scores, axis=-1) @ value
        if mask[0] is not None:
            y = np.where(mask[0][..., None], y, 0)
        return y, mask[0]

    def _scores(self, query: np.ndarray, key: np.ndarray) -> np.ndarray:
        """Return (B, T, S) for queries (B, T, width) and keys (B, S, width)."""
        if not (self.additive or self.concat):
            return query @ key.transpose(0, 2, 1) * self.scale
        scores = np.empty((*query.shape[:2], key.shape[1]), self.dtype)
        for t in range(query.shape[1]):  # one by one: all (T, S, width) take much memory
            sums = query[:, t, None] + key
            if self.additive:
                scores[:, t] = (self.scale * np.tanh(sums)).sum(axis=-1)
            else:
                scores[:, t] = self.outer * np.tanh(self.scale * sums).sum(axis=-1)
        return scores


ATTENTION = dict.fromkeys(("AdditiveAttention", "Attention"), Attention)
