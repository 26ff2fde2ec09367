"""Values of an ONNX graph that NumPy code computes with: each operation on them becomes a node.

So the step of a cell need not be written again for ONNX: the one of `fastrnn.cells` is traced.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.lib.mixins import NDArrayOperatorsMixin

if TYPE_CHECKING:
    from fastrnn.interop.onnx.graph import Graph

# Universal function -> operator.
OPERATORS = {
    np.absolute: "Abs",
    np.add: "Add",
    np.exp: "Exp",
    np.maximum: "Max",
    np.minimum: "Min",
    np.multiply: "Mul",
    np.negative: "Neg",
    np.sqrt: "Sqrt",
    np.subtract: "Sub",
    np.tanh: "Tanh",
    np.true_divide: "Div",
}


class Traced(NDArrayOperatorsMixin):
    """A value of any number of rows.

    Parameters
    ----------
    graph : Graph
    name : str
        Of the value in it.
    like : ndarray
        An array of the value's dtype and shape, with 0 for the number of rows; which is also how
        ONNX's Reshape is told to leave an axis as it is.
    """

    def __init__(self, graph: Graph, name: str, like: np.ndarray) -> None:
        self.graph, self.name, self.like = graph, name, like

    def __array_ufunc__(self, ufunc: np.ufunc, method: str, *inputs: Any, **options: Any) -> Any:
        if method != "__call__" or options or ufunc not in OPERATORS:
            return NotImplemented
        names = [self._named(value) for value in inputs]
        like = ufunc(*[value.like if isinstance(value, Traced) else value for value in inputs])
        return self._node(OPERATORS[ufunc], names, like)

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape, the number of rows being 0."""
        return self.like.shape

    def __len__(self) -> int:
        return len(self.like)

    def __getitem__(self, place: int) -> Traced:
        like = self.like[place]  # IndexError beyond the last ends an iteration
        return self._node("Gather", [self.name, self.graph.array(np.int64(place))], like)

    def reshape(self, *shape: int) -> Traced:
        return self._node(
            "Reshape", [self.name, self.graph.array([*shape])], self.like.reshape(shape)
        )

    def swapaxes(self, one: int, other: int) -> Traced:
        axes = np.arange(self.like.ndim)
        axes[[one, other]] = axes[[other, one]]
        return self._node("Transpose", [self.name], self.like.swapaxes(one, other), perm=axes)

    def mean(self, axis: int, keepdims: bool) -> Traced:
        like = self.like.mean(axis=axis, keepdims=keepdims)
        return self._node("ReduceMean", [self.name], like, axes=[axis], keepdims=int(keepdims))

    def clip(self, low: Any, high: Any, out: None = None) -> Traced:
        return self._node("Clip", [self.name, self._named(low), self._named(high)], self.like)

    def _named(self, value: Any) -> str:
        if isinstance(value, Traced):
            return value.name
        return self.graph.array(np.asarray(value, self.like.dtype))

    def _node(self, operator: str, inputs: list[str], like: np.ndarray, **attributes: Any) -> Any:
        return Traced(self.graph, self.graph.node(operator, inputs, **attributes), like)
