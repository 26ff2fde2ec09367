"""Modules of PyTorch with their accelerated copies, and checks that both behave alike."""

import copy

import numpy as np
import pytest
import torch
from torch.nn.utils import rnn

from fastrnn.interop import torch as ours

MARKS = [
    pytest.mark.torch,
    pytest.mark.filterwarnings("ignore:LSTM with projections is not supported with oneDNN"),
]
LAYERS = {
    "RNN_TANH": (torch.nn.RNN, {}),
    "RNN_RELU": (torch.nn.RNN, {"nonlinearity": "relu"}),
    "LSTM": (torch.nn.LSTM, {}),
    "LSTM_PROJECTED": (torch.nn.LSTM, {"proj_size": 2}),
    "GRU": (torch.nn.GRU, {}),
}
CELLS = {
    "RNN_TANH": (torch.nn.RNNCell, {}),
    "RNN_RELU": (torch.nn.RNNCell, {"nonlinearity": "relu"}),
    "LSTM": (torch.nn.LSTMCell, {}),
    "GRU": (torch.nn.GRUCell, {}),
}
CLASSES = [
    (torch.nn.RNN, ours.RNN),
    (torch.nn.LSTM, ours.LSTM),
    (torch.nn.GRU, ours.GRU),
    (torch.nn.RNNCell, ours.RNNCell),
    (torch.nn.LSTMCell, ours.LSTMCell),
    (torch.nn.GRUCell, ours.GRUCell),
]
# Of any output or gradient, relative to the largest element expected.
TOLERANCES = {torch.float64: 1e-10, torch.float32: 1e-4}

layer_kinds = pytest.mark.parametrize("kind", LAYERS)
cell_kinds = pytest.mark.parametrize("kind", CELLS)


def pair(kind, *sizes, table=LAYERS, **options):
    """Return a module of PyTorch's and its accelerated copy."""
    torch.manual_seed(0)
    original, own = table[kind]
    theirs = original(*sizes, **({"dtype": torch.float64} | own | options))
    return theirs, ours.accelerate(copy.deepcopy(theirs))


def tensors(result):
    """Return all tensors in what a module returns or is given."""
    if isinstance(result, rnn.PackedSequence):
        return [result.data]
    if isinstance(result, torch.Tensor):
        return [result]
    return [t for part in result for t in tensors(part)] if result is not None else []


def assert_same(actual, expected):
    assert len(actual) == len(expected)
    for a, b in zip(actual, expected):
        if a is None or b is None:
            assert a is b
            continue
        assert a.shape == b.shape
        assert a.dtype == b.dtype
        a, b, limit = a.numpy(force=True), b.numpy(force=True), TOLERANCES[b.dtype]
        assert np.max(np.abs(a - b), initial=0) <= limit * np.max(np.abs(b), initial=1)


def uses_kernels(result):
    return {type(t.grad_fn).__name__ for t in tensors(result)} >= {"_ScanBackward"}


def run(module, arguments, seed=1):
    """Return outputs, and gradients of every leaf, for random gradients of the outputs."""
    torch.manual_seed(seed)
    result = module(*arguments)
    outputs = tensors(result)
    leaves = [t for t in tensors(arguments) if t.requires_grad] + list(module.parameters())
    generator = torch.Generator().manual_seed(2)
    d_outputs = [torch.randn(t.shape, generator=generator, dtype=t.dtype) for t in outputs]
    gradients = torch.autograd.grad(outputs, leaves, d_outputs, allow_unused=True)
    return result, gradients


def assert_alike(theirs, accelerated, arguments):
    """Compare outputs and all gradients of one call, which must run on the kernels."""
    expected, d_expected = run(theirs, arguments)
    actual, d_actual = run(accelerated, arguments)
    assert uses_kernels(actual) or any(
        "Select" in type(t.grad_fn).__name__ for t in tensors(actual)
    )
    assert_same(tensors(actual), tensors(expected))
    assert_same(d_actual, d_expected)
