"""How each library runs a case, with the same weights and the same data.

`SIDES` names the ways of running each kind of case. The first word of a name is the library; if a
library has several ways, the fastest counts. A function of a `Problem` and the number of threads
makes each side, and imports its library.
"""

from __future__ import annotations

import importlib.util
import itertools
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import partial
from typing import Any, NamedTuple

import numpy as np

import fastrnn as fr

from .cases import GATES, Case

CHECKED_STEPS = 5  # of a stream
CLIP = 5.0
# Largest difference of two libraries, relative to an array's largest element.
TOLERANCE = {"float32": 1e-4, "float64": 1e-9}

Arrays = dict[str, np.ndarray]


class Side(NamedTuple):
    """One way of running a case.

    Attributes
    ----------
    call : callable
        What is timed.
    results : callable
        Computes, by name, arrays in which all sides must agree. To be called once, before `call`.
    context : callable
        Returns the context manager inside which both have to run.
    """

    call: Callable[[], object]
    results: Callable[[], Arrays]
    context: Callable[[], AbstractContextManager[object]] = nullcontext


class Problem:
    """Weights and data of a case, from a fixed seed, as arrays that no side may change.

    Attributes
    ----------
    weights : dict of ndarray
        Under the names that PyTorch and this package share.
    x, d_output : ndarray, shapes (T, B, I) and (T, B, H)
        Of a layer; a stream reads ``x[0]``, then the others.
    lengths : ndarray of int, shape (B,)
        Of the sequences, uniform in 1..T (or ``longest``), where the case's kind is ``lengths``;
        ``d_output`` is zero beyond them.
    ids, targets : ndarray of int, shape (T, B)
        Of a language model.
    x, targets : ndarray, shapes (T, B, V) and (S, B)
        Of the CTC loss.
    """

    def __init__(self, case: Case) -> None:
        self.case = case
        generator = np.random.default_rng(0)
        steps = CHECKED_STEPS if case.kind == "stream" else case.steps
        if case.kind == "ctc":
            self.x = generator.standard_normal(
                (steps, case.batch, case.vocabulary), np.dtype(case.dtype)
            )
            self.targets = generator.integers(1, case.vocabulary, (case.symbols, case.batch))
        elif case.vocabulary:
            shape = (2, steps, case.batch)
            self.ids, self.targets = generator.integers(case.vocabulary, size=shape)
            self.weights = self.model().state_dict()
        else:
            dtype = np.dtype(case.dtype)
            rows = (steps, case.batch)
            self.x = generator.standard_normal((*rows, case.input_size), dtype)
            self.d_output = generator.standard_normal((*rows, case.hidden), dtype)
            self.weights = self.layer().state_dict()
            if case.kind == "lengths":
                longest = case.longest or case.steps
                self.lengths = generator.integers(1, longest, size=case.batch, endpoint=True)
                self.d_output[np.arange(steps)[:, None] >= self.lengths] = 0

    def layer(self) -> Any:
        """Return our layer of the case."""
        case, layers = self.case, {"rnn": fr.RNN, "lstm": fr.LSTM, "gru": fr.GRU}
        sizes = (case.input_size, case.hidden, case.layers)
        return layers[case.cell](*sizes, dtype=case.dtype, seed=0)

    def model(self) -> fr.models.LanguageModel:
        """Return our language model of the case."""
        case = self.case
        sizes = (case.vocabulary, case.hidden, case.layers, case.cell, case.embedding or None)
        return fr.models.LanguageModel(*sizes, dtype=case.dtype, seed=0)


# fastrnn, and the same with its NumPy backend.


def _fastrnn_stream(problem: Problem, threads: int) -> Side:
    stream = problem.layer().stream(problem.case.batch)

    def results() -> Arrays:
        return {"output": np.stack([stream.step(x) for x in problem.x])}

    return Side(partial(stream.step, problem.x[0]), results)


def _fastrnn_infer(problem: Problem, threads: int) -> Side:
    layer = problem.layer()
    return Side(partial(layer, problem.x), lambda: {"output": layer(problem.x)[0]})


def _fastrnn_fwdbwd(problem: Problem, threads: int) -> Side:
    layer, lengths = problem.layer(), getattr(problem, "lengths", None)

    def call() -> tuple[np.ndarray, np.ndarray]:
        layer.zero_gradients()
        output, _, pullback = layer.vjp(problem.x, lengths=lengths)
        return output, pullback(problem.d_output)[0]

    def results() -> Arrays:
        output, d_x = call()
        return {"output": output, "d_x": d_x, **layer.gradients}

    return Side(call, results)


def _fastrnn_train_step(problem: Problem, threads: int) -> Side:
    # As fr.Trainer makes a step.
    model, ids, targets = problem.model(), problem.ids, problem.targets
    optimizer = fr.optim.Adam(model.parameters)
    state = None

    def call() -> float:
        nonlocal state
        model.zero_gradients()
        loss, state, pullback = model.loss_vjp(ids, targets, state)
        pullback()
        fr.optim.clip_gradient_norm(model.parameters, CLIP)
        optimizer.step()
        return loss

    return Side(call, lambda: _first_steps(call, lambda: model.gradients))


def _fastrnn_ctc(problem: Problem, threads: int) -> Side:
    call = partial(fr.losses.ctc, problem.x, None, problem.targets)
    return Side(call, lambda: dict(zip(("loss", "d_x"), map(np.asarray, call()))))


def _numpy(maker: Callable[[Problem, int], Side], problem: Problem, threads: int) -> Side:
    """Return our own side on the NumPy backend; a stream chooses its backend when it is made."""
    context = partial(fr.use_backend, "reference")
    with context():
        return maker(problem, threads)._replace(context=context)


def _first_steps(call: Callable[[], float], gradients: Callable[[], Mapping]) -> Arrays:
    """Return the clipped gradients of the first step of training, and three steps' losses."""
    first = call()
    copies = {name: array.copy() for name, array in gradients().items()}
    return {**copies, "losses": np.array([first, call(), call()])}


# PyTorch.


def _torch_layer(problem: Problem) -> Any:
    import torch

    case = problem.case
    layer = {"rnn": torch.nn.RNN, "lstm": torch.nn.LSTM, "gru": torch.nn.GRU}[case.cell]
    return layer(case.input_size, case.hidden, case.layers, dtype=getattr(torch, case.dtype))


def _loaded(module: Any, weights: Arrays) -> Any:
    import torch

    module.load_state_dict({name: torch.tensor(array) for name, array in weights.items()})
    return module


def _torch_stream(problem: Problem, threads: int) -> Side:
    import torch

    layer, state = _loaded(_torch_layer(problem), problem.weights), None

    def step(x: torch.Tensor) -> torch.Tensor:
        nonlocal state
        output, state = layer(x, state)
        return output[0]

    return _torch_stepping(step, torch.tensor(problem.x)[:, None])


def _torch_cell_stream(problem: Problem, threads: int) -> Side:
    import torch

    case, dtype = problem.case, getattr(torch, problem.case.dtype)
    kind = {"rnn": torch.nn.RNNCell, "lstm": torch.nn.LSTMCell, "gru": torch.nn.GRUCell}[case.cell]
    cells: list[Any] = []
    for k in range(case.layers):
        end = f"_l{k}"
        own = {n.removesuffix(end): w for n, w in problem.weights.items() if n.endswith(end)}
        inputs = case.hidden if k else case.input_size
        cells.append(_loaded(kind(inputs, case.hidden, dtype=dtype), own))
    states: list[Any] = [None] * case.layers

    def step(x: torch.Tensor) -> torch.Tensor:
        for k, cell in enumerate(cells):
            states[k] = cell(x, states[k])
            x = states[k][0] if case.cell == "lstm" else states[k]
        return x

    return _torch_stepping(step, torch.tensor(problem.x))


def _torch_stepping(step: Callable[[Any], Any], x: Any) -> Side:
    import torch

    def results() -> Arrays:
        return {"output": torch.stack([step(row) for row in x]).numpy()}

    return Side(partial(step, x[0]), results, torch.inference_mode)


def _torch_infer(problem: Problem, threads: int) -> Side:
    import torch

    layer, x = _loaded(_torch_layer(problem), problem.weights), torch.tensor(problem.x)
    call = partial(layer, x)
    return Side(call, lambda: {"output": call()[0].numpy()}, torch.inference_mode)


def _torch_fwdbwd(
    problem: Problem, threads: int, packed: bool = False, accelerated: bool = False
) -> Side:
    import torch
    from torch.nn.utils import rnn

    layer = _loaded(_torch_layer(problem), problem.weights)
    if accelerated:
        fr.interop.torch.accelerate(layer)
    x, d_output = torch.tensor(problem.x, requires_grad=True), torch.tensor(problem.d_output)
    lengths = torch.tensor(getattr(problem, "lengths", ()), dtype=torch.int64)
    beyond = torch.arange(len(x))[:, None] >= lengths

    def call() -> torch.Tensor:
        layer.zero_grad()
        x.grad = None
        if packed:
            rows = rnn.pack_padded_sequence(x, lengths, enforce_sorted=False)
            output, _ = rnn.pad_packed_sequence(layer(rows)[0], total_length=len(x))
        else:
            output, _ = layer(x)
        output.backward(d_output)
        output = output.detach()
        # A layer without lengths computes outputs after the ends too; nobody reads them.
        return output.masked_fill_(beyond[..., None], 0) if len(lengths) and not packed else output

    def results() -> Arrays:
        return {"output": call().numpy(), "d_x": x.grad.numpy(), **_torch_gradients(layer)}

    return Side(call, results)


def _torch_train_step(problem: Problem, threads: int, fused: bool) -> Side:
    import torch
    from torch.nn import functional

    case = problem.case
    dtype = getattr(torch, case.dtype)
    encoder = torch.nn.ModuleDict({"recurrent": _torch_layer(problem)})
    if case.embedding:
        encoder["embedding"] = torch.nn.Embedding(case.vocabulary, case.embedding, dtype=dtype)
    output = torch.nn.Linear(case.hidden, case.vocabulary, dtype=dtype)
    model = torch.nn.ModuleDict({"encoder": encoder, "output": output})
    _loaded(model, problem.weights)
    # One-hot vectors are rows of the identity: looked up, not computed.
    identity = torch.eye(case.vocabulary, dtype=dtype) if not case.embedding else None
    parameters = list(model.parameters())
    optimizer = torch.optim.Adam(parameters, fused=fused)
    ids, targets = torch.tensor(problem.ids), torch.tensor(problem.targets).flatten()
    state = None

    def call() -> float:
        nonlocal state
        optimizer.zero_grad()
        x = functional.embedding(ids, identity) if identity is not None else encoder.embedding(ids)
        hidden, state = encoder.recurrent(x, state)
        state = tuple([s.detach() for s in state]) if case.cell == "lstm" else state.detach()
        loss = functional.cross_entropy(model.output(hidden).flatten(0, 1), targets)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(parameters, CLIP)
        optimizer.step()
        return loss.item()

    return Side(call, lambda: _first_steps(call, lambda: _torch_gradients(model)))


def _torch_ctc(problem: Problem, threads: int) -> Side:
    import torch
    from torch.nn import functional

    x, targets = torch.tensor(problem.x, requires_grad=True), torch.tensor(problem.targets.T.copy())
    lengths, sizes = [torch.full((x.shape[1],), n) for n in (len(x), targets.shape[1])]

    def call() -> torch.Tensor:
        x.grad = None
        loss = functional.ctc_loss(x.log_softmax(2), targets, lengths, sizes)
        loss.backward()
        return loss.detach()

    return Side(call, lambda: {"loss": call().numpy(), "d_x": x.grad.numpy()})


def _torch_gradients(module: Any) -> Arrays:
    return {name: parameter.grad.numpy() for name, parameter in module.named_parameters()}


# ONNX Runtime.


def _onnx_session(problem: Problem, threads: int) -> Any:
    """Return a session of the stack; a stream's takes h0, c0, h1 and so on and returns the next.

    Source: https://onnx.ai/onnx/operators/onnx__LSTM.html and its neighbours RNN and GRU.
    """
    import onnxruntime
    from onnx import TensorProto, helper, numpy_helper

    case, H = problem.case, problem.case.hidden
    op = case.cell.upper()
    # Where ONNX's gates i, o, f, c and z, r, h stand in our order.
    order = {"RNN": [0], "LSTM": [0, 3, 1, 2], "GRU": [1, 0, 2]}[op]
    options = {"hidden_size": H} | ({"linear_before_reset": 1} if op == "GRU" else {})
    state = "hc" if op == "LSTM" else "h"
    node, value = helper.make_node, helper.make_tensor_value_info
    nodes, constants, inputs, outputs = [], [], [("x", case.input_size)], []

    def constant(name: str, array: np.ndarray) -> str:
        constants.append(numpy_helper.from_array(array, name))
        return name

    def weight(name: str, k: int) -> np.ndarray:
        rows = problem.weights[f"{name}_l{k}"]
        return rows.reshape(GATES[case.cell], H, -1)[order].reshape(1, GATES[case.cell] * H, -1)

    below = "x"
    for k in range(case.layers):
        bias = np.concatenate([weight("bias_ih", k), weight("bias_hh", k)], axis=1)[..., 0]
        own = [
            constant(f"W{k}", weight("weight_ih", k)),
            constant(f"R{k}", weight("weight_hh", k)),
            constant(f"B{k}", bias),
        ]
        if case.kind == "stream":  # of one step h (1, B, H) is the layer's output as well
            before, after = [[f"{s}{k}{end}" for s in state] for end in ("", "_next")]
            inputs += [(name, H) for name in before]
            outputs += [(name, H) for name in after]
            nodes.append(node(op, [below, *own, "", *before], ["", *after], **options))
            below = after[0]
        else:  # (T, directions, B, H) without its directions
            axis = constant(f"axis{k}", np.array([1]))
            nodes.append(node(op, [below, *own], [f"wide{k}"], **options))
            nodes.append(node("Squeeze", [f"wide{k}", axis], [below := f"y{k}"]))
    inputs, outputs = [
        [value(name, TensorProto.FLOAT, (None, case.batch, width)) for name, width in ends]
        for ends in (inputs, outputs or [(below, H)])
    ]
    graph = helper.make_graph(nodes, "stack", inputs, outputs, constants)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    settings = onnxruntime.SessionOptions()
    settings.intra_op_num_threads, settings.inter_op_num_threads = threads, 1
    settings.execution_mode = onnxruntime.ExecutionMode.ORT_SEQUENTIAL
    settings.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL
    return onnxruntime.InferenceSession(
        model.SerializeToString(), settings, providers=["CPUExecutionProvider"]
    )


def _onnx_infer(problem: Problem, threads: int) -> Side:
    session = _onnx_session(problem, threads)
    call = partial(session.run, None, {"x": problem.x})
    return Side(call, lambda: {"output": call()[0]})


def _onnx_stream(problem: Problem, threads: int) -> Side:
    """Two bindings take turns, each reading the states that the other has written.

    That is faster than ``session.run`` at every size: nothing is looked up, allocated or copied.
    """
    from onnxruntime import OrtValue

    session, case = _onnx_session(problem, threads), problem.case
    names = [value.name for value in session.get_inputs()[1:]]
    # On the CPU an OrtValue is the NumPy array's own memory.
    x = problem.x[:1].copy()
    shape = (1, case.batch, case.hidden)
    states = [{name: np.zeros(shape, np.float32) for name in names} for _ in range(2)]
    bindings = []
    for before, after in (states, states[::-1]):
        binding = session.io_binding()
        for name, array in {"x": x, **before}.items():
            binding.bind_ortvalue_input(name, OrtValue.ortvalue_from_numpy(array))
        for name, array in after.items():
            binding.bind_ortvalue_output(f"{name}_next", OrtValue.ortvalue_from_numpy(array))
        bindings.append(binding)
    turns = itertools.cycle(bindings)

    def step() -> None:
        session.run_with_iobinding(next(turns))

    def results() -> Arrays:
        rows = []
        for row, (_, after) in zip(problem.x, itertools.cycle([states, states[::-1]])):
            x[0] = row
            step()
            rows.append(after[f"h{case.layers - 1}"][0].copy())
        return {"output": np.stack(rows)}

    return Side(step, results)


SIDES: dict[str, dict[str, Callable[[Problem, int], Side]]] = {
    "stream": {
        "fastrnn": _fastrnn_stream,
        "numpy": partial(_numpy, _fastrnn_stream),
        "torch layer": _torch_stream,
        "torch cell": _torch_cell_stream,
        "onnxruntime": _onnx_stream,
    },
    "infer": {
        "fastrnn": _fastrnn_infer,
        "numpy": partial(_numpy, _fastrnn_infer),
        "torch": _torch_infer,
        "onnxruntime": _onnx_infer,
    },
    "fwdbwd": {
        "fastrnn": _fastrnn_fwdbwd,
        "numpy": partial(_numpy, _fastrnn_fwdbwd),
        "torch": _torch_fwdbwd,
    },
    "lengths": {
        "fastrnn": _fastrnn_fwdbwd,
        "numpy": partial(_numpy, _fastrnn_fwdbwd),
        "fastrnn accelerate": partial(_torch_fwdbwd, packed=True, accelerated=True),
        "torch packed": partial(_torch_fwdbwd, packed=True),
        "torch padded": _torch_fwdbwd,
    },
    "ctc": {
        "fastrnn": _fastrnn_ctc,
        "numpy": partial(_numpy, _fastrnn_ctc),
        "torch": _torch_ctc,
    },
    "train-step": {
        "fastrnn": _fastrnn_train_step,
        "numpy": partial(_numpy, _fastrnn_train_step),
        "torch Adam": partial(_torch_train_step, fused=False),
        "torch fused Adam": partial(_torch_train_step, fused=True),
    },
}


def side_names(case: Case, peers: Iterable[str]) -> list[str]:
    """Return the ways of running a case that belong to `peers` and can run here, ours first."""
    names = SIDES["fwdbwd" if case.kind == "memory" else case.kind]
    peers = {peer for peer in peers if importlib.util.find_spec(peer)}
    if case.dtype == "float64" or not importlib.util.find_spec("onnx"):
        peers -= {"onnxruntime"}  # it has no recurrent operators for float64
    return [name for name in names if name.split()[0] in {"fastrnn", *peers}]


@contextmanager
def use_threads(number: int) -> Iterator[None]:
    """Let every library that is loaded compute on this many threads."""
    from threadpoolctl import threadpool_limits

    settings = [(fr.set_num_threads, fr.get_num_threads())]
    if torch := sys.modules.get("torch"):
        settings.append((torch.set_num_threads, torch.get_num_threads()))
    for setting, _ in settings:
        setting(number)
    try:
        with threadpool_limits(number, user_api="blas"):
            yield
    finally:
        for setting, before in settings:
            setting(before)


def check(case: Case, sides: Mapping[str, Side]) -> None:
    """Raise AssertionError unless all sides compute what ``"fastrnn"`` does; once for a side."""
    computed = {}
    for name, side in sides.items():
        with side.context():
            computed[name] = side.results()
    ours = computed.pop("fastrnn")
    for name, theirs in computed.items():
        if ours.keys() != theirs.keys():
            raise AssertionError(f"{name} must compute {sorted(ours)}, got {sorted(theirs)}")
        for array, value in theirs.items():
            error = np.abs(value - ours[array]).max() / np.abs(ours[array]).max()
            if not error <= TOLERANCE[case.dtype]:
                raise AssertionError(f"{case.name}: {array} of {name} is {error:.1e} from ours")
