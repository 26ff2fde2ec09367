"""The runtimes that run ONNX files in the tests."""

import onnx

from fastrnn.interop import onnx as fronnx


def runtimes(path):
    """Yield functions feeds -> outputs by name: ours, and ONNX Runtime where it is installed."""
    model = onnx.load(path)
    operators = {node.op_type for node in model.graph.node}
    if "Scan" not in operators or [int(n) for n in onnx.__version__.split(".")[:2]] >= [1, 22]:
        yield fronnx.prepare(model).run
    try:
        import onnxruntime
    except ImportError:
        return
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    yield lambda feeds: dict(zip(names, session.run(None, feeds)))
