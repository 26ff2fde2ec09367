"""The backend interface of the onnx package: ``prepare(model).run(inputs)``."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import onnx
import onnx.backend.base
import onnx.checker
import onnx.inliner
import onnx.numpy_helper
from onnx.backend.base import namedtupledict
from onnx.reference import ReferenceEvaluator

from fastrnn._validation import check_array
from fastrnn.interop.onnx.operators import GRU, LSTM, RNN, Recurrent

OPERATORS = [RNN, LSTM, GRU]
# Errors that the onnx package raises for a model that its checker has accepted.
DAMAGE = (UnicodeDecodeError, LookupError, AttributeError, AssertionError, ArithmeticError)
# Errors that it raises for arrays that a node cannot take.
REFUSED = (RuntimeError, TypeError, *DAMAGE)


class PreparedModel(onnx.backend.base.BackendRep):
    """A model that is ready to run; made by :meth:`Backend.prepare`.

    Attributes
    ----------
    input_names, output_names : list of str
        The graph's; inputs without those that have a default value.
    """

    def __init__(self, model: onnx.ModelProto) -> None:
        self._evaluator = ReferenceEvaluator(model, new_ops=OPERATORS)
        constants = self._evaluator.rt_inits_
        for node in self._evaluator.rt_nodes_:
            if isinstance(node, Recurrent):
                node.bind(constants)
        self._inputs = {value.name: _declared(value) for value in model.graph.input}
        self.input_names = [name for name in self._inputs if name not in constants]
        self.output_names = [value.name for value in model.graph.output]
        self._outputs = namedtupledict("Outputs", self.output_names)

    def run(self, inputs: Any, **kwargs: Any) -> tuple[Any, ...]:
        """Run the model.

        Parameters
        ----------
        inputs : sequence of array_like, or mapping from names to array_like
            A sequence is in the order of ``input_names``; a mapping may also replace inputs that
            have a default value. One array alone is the only input.

        Returns
        -------
        outputs : tuple
            Also to be read by name, ``outputs["y"]``.

        Raises
        ------
        ValueError
            If inputs are missing, unknown or wrongly shaped, or a node refuses them.
        TypeError
            If an input does not cast to the graph's type.
        """
        if kwargs:
            raise TypeError(f"run has no option {', '.join(kwargs)}")
        if isinstance(inputs, np.ndarray):
            inputs = [inputs]
        if not isinstance(inputs, (Mapping, Sequence)):
            kind = type(inputs).__name__
            raise TypeError(f"inputs must be a sequence or a mapping of arrays, got {kind}")
        if not isinstance(inputs, Mapping):
            if len(inputs) != len(self.input_names):
                expected = f"{len(self.input_names)} arrays ({', '.join(self.input_names)})"
                raise ValueError(f"inputs must be {expected}, got {len(inputs)}")
            inputs = dict(zip(self.input_names, inputs))
        missing = [name for name in self.input_names if name not in inputs]
        unknown = [name for name in inputs if name not in self._inputs]
        if missing or unknown:
            raise ValueError(
                f"inputs must be {', '.join(self.input_names)}; "
                f"missing: {', '.join(missing) or 'none'}, unknown: {', '.join(unknown) or 'none'}"
            )
        feeds = {name: _checked(name, value, self._inputs[name]) for name, value in inputs.items()}
        try:
            return self._outputs(*self._evaluator.run(None, feeds))
        except REFUSED as error:
            raise ValueError(f"model does not run on these inputs: {error!r}") from error


class Backend(onnx.backend.base.Backend):
    """Runs ONNX models on the CPU: RNN, LSTM and GRU by fastrnn, all else by the onnx package.

    References
    ----------
    https://onnx.ai/onnx/api/backend.html
    """

    @classmethod
    def is_compatible(cls, model: onnx.ModelProto, device: str = "CPU", **kwargs: Any) -> bool:
        """Return whether :meth:`prepare` takes the model."""
        try:
            cls.prepare(model, device, **kwargs)
        except ValueError:
            return False
        return True

    @classmethod
    def prepare(cls, model: onnx.ModelProto, device: str = "CPU", **kwargs: Any) -> PreparedModel:
        """Check a model and reorder its weights for the kernels.

        Parameters
        ----------
        model : onnx.ModelProto
            RNN, LSTM and GRU from opset 7 on; a model may be changed afterwards.
        device : str
            ``"CPU"``.

        Returns
        -------
        prepared : PreparedModel
            ``prepared.run(inputs)`` runs it.

        Raises
        ------
        ValueError
            If the model is not valid, or has an operator or attribute that nobody here runs, which
            the message names, or its data are in other files, which ``onnx.load(path)`` reads.
        TypeError
            For an option that does not exist.
        """
        if kwargs:
            raise TypeError(f"prepare has no option {', '.join(kwargs)}")
        if not isinstance(model, onnx.ModelProto):
            kind = type(model).__name__
            raise TypeError(f"model must be an onnx.ModelProto, as of onnx.load(path), got {kind}")
        cls._check_device(device)
        _check_stored(model.graph, *model.functions)
        try:
            onnx.checker.check_model(model)
            return PreparedModel(_as_evaluated(model))
        except (NotImplementedError, RuntimeError) as error:
            raise ValueError(f"model has an operator that cannot be run: {error}") from error
        except (onnx.checker.ValidationError, *DAMAGE) as error:
            raise ValueError(f"model is not valid ONNX: {error!r}") from error

    @classmethod
    def run_model(
        cls, model: onnx.ModelProto, inputs: Any, device: str = "CPU", **kwargs: Any
    ) -> tuple[Any, ...]:
        """Check a model and run it once: :meth:`prepare`, then `PreparedModel.run`."""
        return cls.prepare(model, device, **kwargs).run(inputs)

    @classmethod
    def run_node(
        cls,
        node: onnx.NodeProto,
        inputs: Any,
        device: str = "CPU",
        outputs_info: Sequence[tuple[np.dtype, tuple[int, ...]]] | None = None,
        **kwargs: Any,
    ) -> tuple[Any, ...]:
        """Run one node.

        Parameters
        ----------
        node : onnx.NodeProto
        inputs : sequence of ndarray, or mapping from names to ndarray
            A sequence is in the order of the node's named inputs.
        device : str
            ``"CPU"``.
        outputs_info
            Is not needed.
        **kwargs
            ``opset_version``: int, the newest by default.

        Returns
        -------
        outputs : tuple
            Those of the node that have a name.

        Raises
        ------
        ValueError
            If the node or its inputs are not valid.
        TypeError
            For an option that does not exist.
        """
        cls._check_device(device)
        unknown = [name for name in kwargs if name != "opset_version"]
        if unknown:
            raise TypeError(f"run_node has no option {', '.join(unknown)}")
        try:
            super().run_node(node, inputs, device, outputs_info, **kwargs)
        except onnx.checker.ValidationError as error:
            raise ValueError(f"node is not valid ONNX: {error}") from error
        names = list(dict.fromkeys(name for name in node.input if name))
        outputs = [name for name in node.output if name]
        if not isinstance(inputs, Mapping):
            if len(inputs) != len(names):
                raise ValueError(
                    f"inputs must be {len(names)} arrays ({', '.join(names)}), got {len(inputs)}"
                )
            inputs = dict(zip(names, inputs))
        if set(inputs) != set(names):
            raise ValueError(f"inputs must be {', '.join(names)}, got {', '.join(inputs)}")
        opset = kwargs.get("opset_version", onnx.defs.onnx_opset_version())
        domains = [onnx.helper.make_opsetid(node.domain, opset)]
        function = onnx.helper.make_function("fastrnn", "node", names, outputs, [node], domains)
        _check_stored(function)
        evaluator = ReferenceEvaluator(function, new_ops=OPERATORS)
        try:
            found = evaluator.run(None, dict(inputs), attributes={})
        except REFUSED as error:
            raise ValueError(f"node does not run on these inputs: {error!r}") from error
        return namedtupledict("Outputs", outputs)(*found)

    @classmethod
    def supports_device(cls, device: str) -> bool:
        """Return whether `device` is the CPU."""
        return isinstance(device, str) and device.split(":")[0] == "CPU"

    @classmethod
    def _check_device(cls, device: str) -> None:
        if not cls.supports_device(device):
            raise ValueError(f"device must be 'CPU', got {device!r}")


def _as_evaluated(model: onnx.ModelProto) -> onnx.ModelProto:
    """Return a model rewritten for the evaluator; the one given stays as it is.

    The evaluator does not know "ai.onnx" as the standard domain's name, runs a loop without a
    condition not once, and would run the nodes of local functions without our operators.
    """
    if any(map(_is_alias, _imports(model))):
        model = _copy(model)
        for opset in filter(_is_alias, _imports(model)):
            opset.domain = ""
    if model.functions:
        model = onnx.inliner.inline_local_functions(model)
    if any(map(_is_without_condition, _nodes(model.graph))):
        model = _copy(model)
        always = onnx.numpy_helper.from_array(np.array(True), "fastrnn.always")
        model.graph.initializer.append(always)
        for node in filter(_is_without_condition, _nodes(model.graph)):
            node.input[1] = always.name
    return model


def _copy(model: onnx.ModelProto) -> onnx.ModelProto:
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    return copy


def _imports(model: onnx.ModelProto) -> Iterator[onnx.OperatorSetIdProto]:
    for owner in (model, *model.functions):
        yield from owner.opset_import


def _is_alias(opset: onnx.OperatorSetIdProto) -> bool:
    return opset.domain == "ai.onnx"


def _graphs(graph: onnx.GraphProto | onnx.FunctionProto) -> Iterator[Any]:
    """Yield a graph and those within its nodes."""
    yield graph
    for node in graph.node:
        for attribute in node.attribute:
            for inner in (attribute.g, *attribute.graphs):
                yield from _graphs(inner)


def _nodes(graph: onnx.GraphProto) -> Iterator[onnx.NodeProto]:
    """Yield all nodes, those of graphs within nodes too."""
    for one in _graphs(graph):
        yield from one.node


def _check_stored(*owners: onnx.GraphProto | onnx.FunctionProto) -> None:
    """Refuse tensors that are in other files.

    A model does not say where it was read from: the onnx package would look for them in the folder
    that the process happens to be in, and read what a stranger's model names there.
    """
    for graph in (graph for owner in owners for graph in _graphs(owner)):
        attributes = [attribute for node in graph.node for attribute in node.attribute]
        tensors = [tensor for a in attributes for tensor in (a.t, *a.tensors)]
        sparse = [tensor for a in attributes for tensor in (a.sparse_tensor, *a.sparse_tensors)]
        if isinstance(graph, onnx.GraphProto):  # functions have no initializers
            tensors += graph.initializer
            sparse += graph.sparse_initializer
        tensors += [part for tensor in sparse for part in (tensor.values, tensor.indices)]
        for tensor in tensors:
            if tensor.data_location == onnx.TensorProto.EXTERNAL:
                places = [entry.value for entry in tensor.external_data if entry.key == "location"]
                raise ValueError(
                    f"tensor {tensor.name!r} must be in the model, as onnx.load(path) puts it, "
                    f"got one in the file {', '.join(places)!r:.80}"
                )


def _is_without_condition(node: onnx.NodeProto) -> bool:
    return node.op_type == "Loop" and not node.domain and list(node.input[1:2]) == [""]


def _declared(
    value: onnx.ValueInfoProto,
) -> tuple[np.dtype, tuple[int | str | None, ...] | None] | None:
    """Return dtype and shape of a graph's input; None for a shape, or for both, that may be any."""
    if not value.type.HasField("tensor_type"):
        return None  # a sequence or an optional, which the evaluator takes as they are
    tensor = value.type.tensor_type
    if tensor.elem_type not in onnx.helper.get_all_tensor_dtypes():
        raise ValueError(f"{value.name} must have an element type of ONNX, got {tensor.elem_type}")
    shape = None
    if tensor.HasField("shape"):
        shape = tuple([_size(dim) for dim in tensor.shape.dim])
    return onnx.helper.tensor_dtype_to_np_dtype(tensor.elem_type), shape


def _size(dim: onnx.TensorShapeProto.Dimension) -> int | str | None:
    """Return the size of an axis, or None or its symbol where it may be any; some write that -1."""
    if dim.HasField("dim_value"):
        return dim.dim_value if dim.dim_value >= 0 else None
    return dim.dim_param or None


def _checked(
    name: str, value: Any, declared: tuple[np.dtype, tuple[int | str | None, ...] | None] | None
) -> Any:
    """Return an input as its graph declares it."""
    if declared is None:
        return value
    dtype, shape = declared
    return check_array(name, value, dtype, np.shape(value) if shape is None else shape)
