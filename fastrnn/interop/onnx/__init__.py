"""ONNX: run models through the standard backend interface, and export fastrnn's.

``prepare(model).run(inputs)`` runs any model of the operators RNN, LSTM and GRU, and of those that
the onnx package's reference evaluator has. ``export(model, path)`` writes a layer or model.
"""

from fastrnn.interop.onnx.backend import Backend, PreparedModel
from fastrnn.interop.onnx.export import export

is_compatible = Backend.is_compatible
prepare = Backend.prepare
run_model = Backend.run_model
run_node = Backend.run_node
supports_device = Backend.supports_device

__all__ = [
    "Backend",
    "PreparedModel",
    "export",
    "is_compatible",
    "prepare",
    "run_model",
    "run_node",
    "supports_device",
]
