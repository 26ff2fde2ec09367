"""An ONNX graph that is being written."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
from onnx import helper, numpy_helper

if TYPE_CHECKING:
    from collections.abc import Iterator

OPSET, IR_VERSION = 17, 8  # read by ONNX Runtime from 1.12 on


class Graph:
    """Nodes, constants, inputs and outputs; values are known by their names.

    Parameters
    ----------
    prefix : str
        Names of values begin with it, so that a body and the graph around it share no names.
    """

    def __init__(self, prefix: str = "") -> None:
        self._prefix = prefix
        self._part = ""
        self._nodes: list[onnx.NodeProto] = []
        self._constants: list[onnx.TensorProto] = []
        self._inputs: list[onnx.ValueInfoProto] = []
        self._outputs: list[onnx.ValueInfoProto] = []
        self._last_outputs: list[onnx.ValueInfoProto] = []

    @contextmanager
    def within(self, part: str) -> Iterator[None]:
        """Put the name of a part before those of the constants that are stored in the block."""
        before = self._part
        self._part += part + "."
        try:
            yield
        finally:
            self._part = before

    def input(self, name: str, dtype: Any, shape: list[int | str | None]) -> str:
        """Declare an input; a string or None in `shape` is an axis of any size."""
        self._inputs.append(_declared(self._prefix + name, dtype, shape))
        return self._prefix + name

    def output(
        self,
        name: str,
        value: str,
        dtype: Any,
        shape: list[int | str | None],
        *,
        last: bool = False,
    ) -> None:
        """Declare an output, a value computed so far; `last` puts it after those that are not."""
        name = self._prefix + name
        self._nodes.append(helper.make_node("Identity", [value], [name], name=name))
        outputs = self._last_outputs if last else self._outputs
        outputs.append(_declared(name, dtype, shape))

    def constant(self, name: str, array: np.ndarray) -> str:
        """Store an array; return its name."""
        name = self._prefix + self._part + name
        self._constants.append(numpy_helper.from_array(np.asarray(array, order="C"), name))
        return name

    def array(self, value: Any) -> str:
        """Store an array that needs no name of its own; integers are int64."""
        return self.constant(f"array_{len(self._constants)}", value)

    def node(self, operator: str, inputs: list[str], **attributes: Any) -> str:
        """Append a node with one output, which is returned."""
        return self.nodes(operator, inputs, 1, **attributes)[0]

    def nodes(self, operator: str, inputs: list[str], outputs: int, **attributes: Any) -> list[str]:
        """Append a node with several outputs."""
        # Nodes have names as well: older versions of ONNX Runtime confuse those that have none.
        name = f"{self._prefix}{operator}_{len(self._nodes)}"
        names = [f"{name}_{k}" for k in range(outputs)]
        self._nodes.append(helper.make_node(operator, inputs, names, name=name, **attributes))
        return names

    def body(self) -> Graph:
        """Return a new graph, to be an attribute of the next node of this one."""
        return Graph(f"{self._prefix}step_{len(self._nodes)}.")

    def proto(self, name: str) -> onnx.GraphProto:
        """Return the finished graph."""
        outputs = self._outputs + self._last_outputs
        return helper.make_graph(self._nodes, name, self._inputs, outputs, self._constants)

    def model(self, name: str) -> onnx.ModelProto:
        """Return the finished model, which has been checked."""
        model = helper.make_model(
            self.proto(name),
            producer_name="fastrnn",
            opset_imports=[helper.make_opsetid("", OPSET)],
            ir_version=IR_VERSION,
        )
        onnx.checker.check_model(model, full_check=True)
        return model


def _declared(name: str, dtype: Any, shape: list[int | str | None]) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(
        name, helper.np_dtype_to_tensor_dtype(np.dtype(dtype)), shape
    )
