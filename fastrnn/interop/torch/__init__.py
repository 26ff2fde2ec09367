"""PyTorch's recurrent modules on fastrnn's kernels.

The classes are subclasses of PyTorch's and change one thing: `forward` of ordinary calls, which are
those with float32 or float64 tensors on the CPU in shapes that fit. All else is PyTorch's own code:
constructors, attributes, ``state_dict``, hooks, copies, pickling, and every other call, with its
errors. Other calls are those

- with tensors of another dtype, device, layout or class, empty ones, and shapes that do not fit;
- of a cell whose step is too small to gain;
- in a graph that is traced or compiled, under autocast, ``torch.func`` transforms, forward-mode
  differentiation and dispatch modes.

PyTorch also computes gradients of gradients (``create_graph=True``).

Between tensors and kernels, only arrays that are not contiguous in time-major order are copied.
"""

from __future__ import annotations

import copy
import logging
from itertools import accumulate
from operator import is_
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor
from torch.nn.utils.rnn import PackedSequence

from fastrnn.interop.torch.scan import Call, eager, not_compiled, ordinary, run, stack_of

__all__ = ["GRU", "LSTM", "RNN", "GRUCell", "LSTMCell", "RNNCell", "accelerate"]

logger = logging.getLogger(__name__)

AnyModule = TypeVar("AnyModule", bound=torch.nn.Module)

# Flops of a step of a cell from which our kernels gain more than the Python around them costs
# (PyTorch's time over ours, without gradients and in training: RNNCell 128, B16, which has two
# thirds of it, 0.99 and 0.90, RNNCell 256, B8 1.3 and 1.0, GRUCell 128, B8 1.3 and 1.35).
FLOPS_A_STEP = 1.5e6


class _Accelerated:
    """What layers and cells share; a mix-in before PyTorch's class."""

    @not_compiled
    def forward(self, input: Any, hx: Any = None) -> Any:  # noqa: A002 - PyTorch's name
        if eager():
            result = self._forward(input, hx)
            if result is not None:
                return result
            given = (input, *hx) if isinstance(hx, (tuple, list)) else (input, hx)
            for proxy in given:
                if isinstance(proxy, torch.fx.Proxy):  # a node of the graph, as PyTorch's modules
                    path = proxy.tracer.path_of_module(self)
                    if path:  # not what is traced itself
                        return proxy.tracer.create_proxy("call_module", path, (input, hx), {})
        return super().forward(input, hx)

    def __prepare_scriptable__(self) -> Any:
        """Return what `torch.jit.script` compiles: PyTorch's module with the same parameters."""
        if type(self) not in _ORIGINALS:
            return self
        module = copy.copy(self)
        module.__class__ = _ORIGINALS[type(self)]
        return module


class _Layer(_Accelerated):
    def _forward(self, sequences: Any, hx: Any) -> Any:
        """Return what `forward` does, or None where the call is not ordinary."""
        packed = sequences if isinstance(sequences, PackedSequence) else None
        x = sequences if packed is None else packed.data
        states = _states(hx, 2 if self.mode == "LSTM" else 1)
        if not isinstance(x, Tensor) or x.is_nested or x.dim() not in (2, 3) or states is None:
            return None
        stack = stack_of(
            self.mode,
            self.input_size,
            self.hidden_size,
            self.bias,
            self.num_layers,
            2 if self.bidirectional else 1,
            self.proj_size,
        )
        dropout = self.dropout if self.training and self.num_layers > 1 else 0.0
        if not isinstance(dropout, (int, float)) or not 0 <= dropout <= 1:  # set afterwards
            return None
        leading = tuple(x.shape[:-1])
        batch_first = False
        if packed is not None:
            if packed.batch_sizes.dtype is not torch.int64 or packed.batch_sizes.dim() != 1:
                return None
            # Lists: after other work each operation of NumPy or PyTorch costs 10 to 20 us.
            sizes = packed.batch_sizes.tolist()
            steps = list(accumulate(sizes, initial=0))
            if not sizes or sizes[-1] < 0 or sizes != sorted(sizes, reverse=True):
                return None
            if leading != (steps[-1],):
                return None
            B, offsets = sizes[0], np.array(steps, np.int64)
            states = [_permuted(t, packed.sorted_indices) for t in states]
        else:
            batch_first = self.batch_first and len(leading) == 2
            T, B = leading[::-1] if batch_first else (*leading, 1)[:2]
            offsets = np.arange(0, T * B + 1, B or 1)
        call = Call(
            stack,
            x.dtype,
            leading,
            (stack.passes, B) if packed or len(leading) == 2 else (stack.passes,),
            offsets,
            B,
            batch_first,
            packed is not None,
            dropout,
        )
        tensors = [x, *states, *self._weights()]
        if not ordinary(call, tensors):
            return None
        output, *state = run(call, tensors)
        if packed is not None:
            output = PackedSequence(output, *packed[1:])
            state = [_permuted(t, packed.unsorted_indices) for t in state]
        return output, tuple(state) if len(state) > 1 else state[0]

    def _weights(self) -> list[Tensor]:
        # Most calls find what the last one found; PyTorch's own check is slower than a small cell.
        parameters, weights = self._parameters, self._flat_weights
        if len(parameters) != len(weights) or not all(map(is_, parameters.values(), weights)):
            self._update_flat_weights()
        return self._flat_weights


class _Cell(_Accelerated):
    _mode = ""
    _gates = 1

    def _forward(self, x: Any, hx: Any) -> Any:
        """Return what `forward` does, or None where the call is not ordinary."""
        inputs, H = self.input_size, self.hidden_size
        # First of all, since a small step can spare little: operations, both sides times `inputs`.
        if (
            isinstance(x, Tensor)
            and 2.0 * x.numel() * self._gates * H * (inputs + H) < FLOPS_A_STEP * inputs
        ):
            return None
        mode = self._mode or _NONLINEARITIES.get(self.nonlinearity)
        states = _states(hx, 2 if mode == "LSTM" else 1)
        if not isinstance(x, Tensor) or x.dim() not in (1, 2) or mode is None or states is None:
            return None
        own = self._parameters  # a module's attributes are slow; some may be computed
        weights = [own[name] if name in own else getattr(self, name) for name in _CELL_WEIGHTS]
        bias = weights[2] is not None or weights[3] is not None  # self.bias may have been set since
        weights = weights[: 4 if bias else 2]
        stack = stack_of(mode, inputs, H, bias, 1, 1, 0)
        leading = tuple(x.shape[:-1])
        B = leading[0] if leading else 1
        call = Call(stack, x.dtype, leading, leading, np.array([0, B]), B)
        tensors = [x, *states, *weights]
        if not ordinary(call, tensors):
            return None
        h, _, *c = run(call, tensors)  # the output of one step is its h
        return (h, *c) if c else h


class RNN(_Layer, torch.nn.RNN):
    """`torch.nn.RNN` on fastrnn's kernels."""


class LSTM(_Layer, torch.nn.LSTM):
    """`torch.nn.LSTM` on fastrnn's kernels."""


class GRU(_Layer, torch.nn.GRU):
    """`torch.nn.GRU` on fastrnn's kernels."""


class RNNCell(_Cell, torch.nn.RNNCell):
    """`torch.nn.RNNCell` on fastrnn's kernels."""


class LSTMCell(_Cell, torch.nn.LSTMCell):
    """`torch.nn.LSTMCell` on fastrnn's kernels."""

    _mode = "LSTM"
    _gates = 4


class GRUCell(_Cell, torch.nn.GRUCell):
    """`torch.nn.GRUCell` on fastrnn's kernels."""

    _mode = "GRU"
    _gates = 3


_CELL_WEIGHTS = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
_NONLINEARITIES = {"tanh": "RNN_TANH", "relu": "RNN_RELU"}
_ORIGINALS = {ours: ours.__mro__[3] for ours in (RNN, LSTM, GRU, RNNCell, LSTMCell, GRUCell)}
_REPLACEMENTS = {original: ours for ours, original in _ORIGINALS.items()}


def accelerate(module: AnyModule) -> AnyModule:
    """Make every recurrent layer and cell of PyTorch's inside a module run on fastrnn.

    Modules are changed in place, by their class alone: parameters, optimisers made before, hooks
    and references to the modules stay as they are. The logger ``fastrnn.interop.torch`` says what
    was swapped. Subclasses, parametrised layers included, are left alone; it warns of those, and
    where there is no layer at all.

    Parameters
    ----------
    module : torch.nn.Module
        May be such a layer itself.

    Returns
    -------
    module : torch.nn.Module
        The same object.

    Raises
    ------
    TypeError
        If `module` is not a module.

    Examples
    --------
    >>> model = torch.nn.Sequential(torch.nn.Embedding(65, 32), torch.nn.GRU(32, 128, 2))
    >>> accelerate(model)
    Sequential(
      (0): Embedding(65, 32)
      (1): GRU(32, 128, num_layers=2)
    )
    >>> type(model[1])
    <class 'fastrnn.interop.torch.GRU'>
    """
    if not isinstance(module, torch.nn.Module):
        raise TypeError(f"module must be a torch.nn.Module, got {type(module).__name__}")
    swapped, left, found = [], [], False
    for name, part in module.named_modules():
        if type(part) in _REPLACEMENTS:
            part.__class__ = _REPLACEMENTS[type(part)]
            swapped.append(f"{name or 'module'} ({part})")
        elif isinstance(part, tuple(_REPLACEMENTS)) and not isinstance(part, _Accelerated):
            left.append(f"{name or 'module'} ({type(part).__name__})")
        found = found or isinstance(part, tuple(_REPLACEMENTS))
    if swapped:
        logger.info("swapped %s", ", ".join(swapped))
    if left:
        logger.warning("left alone, as subclasses of PyTorch's layers: %s", ", ".join(left))
    if not found:
        logger.warning("found no recurrent layer of torch.nn in %s", type(module).__name__)
    return module


def _states(hx: Any, count: int) -> list[Tensor | None] | None:
    """Return initial states as a list, or None where they are not tensors in PyTorch's form."""
    if hx is None:
        return [None] * count
    states = [hx] if count == 1 else list(hx) if isinstance(hx, (tuple, list)) else []
    return states if len(states) == count and all(isinstance(t, Tensor) for t in states) else None


def _permuted(state: Tensor | None, order: Tensor | None) -> Tensor | None:
    """Return a state with its sequences in another order."""
    return state if state is None or order is None else state.index_select(1, order)
