"""One call of a recurrent module on fastrnn's kernels, as a node of PyTorch's graph."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager, nullcontext, suppress
from functools import lru_cache
from typing import Any, NamedTuple, TypeVar

import numpy as np
import torch
from torch import Tensor
from torch.autograd import forward_ad

from fastrnn.backends import active_backend, reference
from fastrnn.backends.runs import AdjointRun, Weights
from fastrnn.cells import CELLS, CellSpec
from fastrnn.interop.torch.threads import asleep

AnyFunction = TypeVar("AnyFunction", bound=Callable[..., Any])

# Imported now: PyTorch's profiler (`with_stack`) breaks where modules are imported.
active_backend()

_DTYPES = {torch.float32: np.float32, torch.float64: np.float64}
# Other classes of tensors may mean anything by their operations.
_PLAIN = {Tensor, torch.nn.Parameter}


class Stack(NamedTuple):
    """What a module's attributes say: passes, each one direction of one layer, layer by layer."""

    mode: str  # PyTorch's word for the cell
    cell: CellSpec
    directions: int
    passes: int
    names: tuple[str, ...]  # of a pass's weights, in PyTorch's order
    shapes: list[tuple[int, ...]]  # of the weights of all passes
    products: int  # multiplications for a row of the input, over all passes
    widths: tuple[int, ...]  # of the states; the first is that of a pass's output


@lru_cache(maxsize=256)
def stack_of(mode: str, I: int, H: int, bias: bool, layers: int, directions: int, P: int) -> Stack:
    """Return the stack for a module's attributes; P is 0 where there is no projection."""
    cell = CELLS["lstm_projected" if P else mode.lower()]
    rows, width = len(cell.gates) * H, P or H
    shapes: list[tuple[int, ...]] = []
    for layer in range(layers):
        shape = [(rows, directions * width if layer else I), (rows, width)]
        shapes += (shape + [(rows,), (rows,)] * bias + [(P, H)] * (P > 0)) * directions
    names = ("weight_ih", "weight_hh") + ("bias_ih", "bias_hh") * bias + ("weight_hr",) * (P > 0)
    widths = tuple(width if name == "h" else H for name in cell.states)
    products = sum(shape[0] * shape[1] for shape in shapes if len(shape) == 2)
    return Stack(mode, cell, directions, layers * directions, names, shapes, products, widths)


class Call(NamedTuple):
    """All of an ordinary call except its tensors (input, states or None, weights).

    The input is (T, B, I), (B, T, I) or (T, I), packed (N, I), or a cell's (B, I) or (I,). States
    are (passes, B, width), unbatched (passes, width), or a cell's (B, width) or (width,).
    """

    stack: Stack
    dtype: torch.dtype
    leading: tuple[int, ...]  # axes of the input without the last
    state_leading: tuple[int, ...]  # axes of the states without the last
    offsets: np.ndarray  # of the steps in packed rows, see `fastrnn.backends.runs.Run`
    B: int
    batch_first: bool = False
    packed: bool = False
    dropout: float = 0.0

    @property
    def flops(self) -> float:
        """Operations of the products of a forward run."""
        return 2.0 * math.prod(self.leading) * self.stack.products

    def rows(self, sequences: Tensor) -> np.ndarray:
        """Return packed rows (N, width), a view where the tensor is contiguous in time order."""
        array = sequences.numpy(force=True)
        if self.batch_first:
            array = array.swapaxes(0, 1)
        return np.ascontiguousarray(array.reshape(-1, array.shape[-1]))

    def sequences(self, rows: np.ndarray) -> Tensor:
        """Return packed rows as a tensor shaped like the input, a view."""
        if not self.batch_first:
            return torch.from_numpy(rows.reshape(*self.leading, -1))
        return torch.from_numpy(rows.reshape(*self.leading[::-1], -1).swapaxes(0, 1))

    def states(self, tensors: Iterable[Tensor | None]) -> list[np.ndarray | None]:
        """Return states, or gradients of them, as arrays (passes, B, width)."""
        return [
            None
            if t is None
            else np.ascontiguousarray(t.numpy(force=True)).reshape(self.stack.passes, self.B, -1)
            for t in tensors
        ]

    def state_tensors(self, passes: Sequence[tuple[np.ndarray, ...]]) -> list[Tensor]:
        """Return states, given as the arrays (B, width) of each pass, as tensors."""
        joined = passes[0] if len(passes) == 1 else map(np.array, zip(*passes))
        return [torch.from_numpy(array.reshape(*self.state_leading, -1)) for array in joined]

    def by_pass(self, arrays: Sequence[np.ndarray]) -> list[Weights]:
        """Return the weights of all passes, or gradients of them, by pass and name."""
        names = self.stack.names
        return [
            dict(zip(names, arrays[k : k + len(names)])) for k in range(0, len(arrays), len(names))
        ]


class _Run:
    """A forward run on the active backend: its outputs, and once their adjoint.

    Parameters
    ----------
    call : Call
    tensors : sequence of (Tensor or None)
    keep_tape : bool
    masks : list of Tensor
        What dropout multiplies the rows between layers with. Empty: drawn, by PyTorch.
    """

    def __init__(
        self, call: Call, tensors: Sequence[Tensor | None], keep_tape: bool, masks: list[Tensor]
    ) -> None:
        self.call, self.masks, self.tapes = call, masks, []
        self.backend = active_backend()
        stack, dtype = call.stack, _DTYPES[call.dtype]
        P, first_weight = stack.widths[0], 1 + len(stack.widths)
        rows = call.rows(tensors[0])
        if call.dropout and not masks:
            shape = len(rows), stack.directions * P
            for _ in range(stack.passes // stack.directions - 1):
                ones = torch.ones(shape, dtype=call.dtype, device="cpu")
                masks.append(torch.nn.functional.dropout(ones, call.dropout))
        initial = [
            np.zeros((stack.passes, call.B, width), dtype) if array is None else array
            for array, width in zip(call.states(tensors[1:first_weight]), stack.widths)
        ]
        arrays = [np.ascontiguousarray(t.numpy(force=True)) for t in tensors[first_weight:]]
        final = []
        by_pass = call.by_pass(arrays)
        with self._threads(call.flops) as most_threads:
            for first in range(0, stack.passes, stack.directions):
                below, rows = rows, self.backend.empty((len(rows), stack.directions * P), dtype)
                if first and call.dropout:
                    below *= masks[first // stack.directions - 1].numpy()
                results = self.backend.scans(
                    [
                        self.backend.Run(
                            stack.cell,
                            by_pass[first + direction],
                            below,
                            call.offsets,
                            tuple([array[first + direction] for array in initial]),
                            rows[:, direction * P : (direction + 1) * P],
                            reverse=direction == 1,
                            keep_tape=keep_tape,
                        )
                        for direction in range(stack.directions)
                    ],
                    most_threads,
                )
                final += [last for last, _ in results]
                self.tapes.append([tape for _, tape in results])
        self.outputs = (call.sequences(rows), *call.state_tensors(final))

    def _threads(self, flops: float) -> AbstractContextManager[int | None]:
        # NumPy's BLAS has threads of its own, and warns of a parallel region.
        return nullcontext() if self.backend is reference else asleep(flops)

    def adjoint(
        self, d_outputs: Sequence[Tensor | None], needed: Sequence[bool]
    ) -> list[Tensor | None]:
        """Return the gradients of all tensors, given those of the outputs; None is zero.

        Gradients that are not needed are None.
        """
        call, stack = self.call, self.call.stack
        P = stack.widths[0]
        d_rows = None if d_outputs[0] is None else call.rows(d_outputs[0])
        d_final = call.states(d_outputs[1:])
        d_weights = [self.backend.empty(shape, _DTYPES[call.dtype]) for shape in stack.shapes]
        for array in d_weights:
            array.fill(0)
        by_pass = call.by_pass(d_weights)
        d_initial: list[tuple[np.ndarray, ...]] = []
        with self._threads(2 * call.flops) as most_threads:
            for first in reversed(range(0, stack.passes, stack.directions)):
                results = self.backend.scan_adjoints(
                    self.tapes.pop(),
                    [
                        AdjointRun(
                            None
                            if d_rows is None
                            else d_rows[:, direction * P : (direction + 1) * P],
                            tuple([None if d is None else d[first + direction] for d in d_final]),
                            by_pass[first + direction],
                            first > 0 or needed[0],
                        )
                        for direction in range(stack.directions)
                    ],
                    most_threads,
                )
                d_initial = [d for _, d in results] + d_initial
                d_rows = results[0][0]
                if stack.directions == 2 and d_rows is not None:  # both read the same rows
                    d_rows += results[1][0]
                if first and call.dropout:
                    d_rows *= self.masks[first // stack.directions - 1].numpy()
        first_weight = 1 + len(stack.widths)
        d_states: list[Tensor | None] = [None] * len(stack.widths)
        if any(needed[1:first_weight]):
            d_states = call.state_tensors(d_initial)
        d_x = None if d_rows is None else call.sequences(d_rows)
        gradients = [d_x, *d_states, *map(torch.from_numpy, d_weights)]
        return [d if need else None for d, need in zip(gradients, needed)]


def _torch_outputs(
    call: Call, tensors: Sequence[Tensor | None], masks: list[Tensor]
) -> tuple[Tensor, ...]:
    """Return the outputs of a `_Run` from PyTorch's operators, layer by layer for the masks."""
    stack = call.stack
    operator = getattr(torch, stack.mode.lower())
    x, first_weight = tensors[0], 1 + len(stack.widths)
    sizes = torch.from_numpy(np.diff(call.offsets))
    if call.batch_first:
        x = x.transpose(0, 1)
    x = x.reshape((-1, x.shape[-1]) if call.packed else (len(sizes), call.B, x.shape[-1]))
    states = [
        x.new_zeros(stack.passes, call.B, width)
        if t is None
        else t.reshape(stack.passes, call.B, -1)
        for t, width in zip(tensors[1:first_weight], stack.widths)
    ]
    final = []
    for layer in range(stack.passes // stack.directions):
        if masks and layer:
            x = x * masks[layer - 1].reshape(x.shape)
        passes = slice(layer * stack.directions, (layer + 1) * stack.directions)
        count = stack.directions * len(stack.names)
        start = first_weight + layer * count
        hx = [state[passes] for state in states]
        x, *last = operator(
            x,
            *([sizes] if call.packed else []),
            hx if stack.mode == "LSTM" else hx[0],
            tensors[start : start + count],
            "bias_ih" in stack.names,
            1,
            0.0,
            False,
            stack.directions == 2,
            *([] if call.packed else [False]),
        )
        final.append(last)
    if call.batch_first:
        x = x.transpose(0, 1)
    states = [torch.cat(parts).reshape(*call.state_leading, -1) for parts in zip(*final)]
    return (x.reshape(*call.leading, -1), *states)


def not_compiled(function: AnyFunction) -> AnyFunction:
    """Let `torch.compile` call a function, and all that it calls, as it is.

    The compiler leaves layers out of its graphs, and calls them and their backward pass, but would
    go on compiling inside, where it finds PyTorch's operators (see `eager`). As part of a graph
    they are traced, like PyTorch's. Without these names, which PyTorch has since 2.7 and calls its
    own, compiled models keep PyTorch's layers.
    """
    with suppress(AttributeError, TypeError):
        frames = torch._C._dynamo.eval_frame
        skip = frames._FrameAction.SKIP
        strategy = frames._FrameExecStrategy(skip, skip)
        frames.set_code_exec_strategy(function.__code__, strategy)
    return function


class _Scan(torch.autograd.Function):
    """A `_Run` in PyTorch's graph."""

    @staticmethod
    def forward(ctx: Any, call: Call, *tensors: Tensor | None) -> tuple[Tensor, ...]:
        ctx.set_materialize_grads(False)
        # Without None: tools that draw a graph ask each for its size.
        ctx.save_for_backward(*[t for t in tensors if t is not None])
        ctx.given = [t is not None for t in tensors]
        keep_tape = not _saves_elsewhere()
        once = _Run(call, tensors, keep_tape, masks=[])
        # Detached: a tensor that is changed in place may come to depend on this node.
        read = [t if t is None or type(t) is torch.nn.Parameter else t.detach() for t in tensors]
        ctx.call, ctx.masks, ctx.runs = call, once.masks, [(once, read)] if keep_tape else []
        outputs, once.outputs = once.outputs, ()  # the graph must not own what owns the graph
        return outputs

    @staticmethod
    @not_compiled
    def backward(ctx: Any, *d_outputs: Tensor | None) -> tuple[Tensor | None, ...]:
        saved = iter(ctx.saved_tensors)
        tensors = [next(saved) if given else None for given in ctx.given]
        if all(d is None for d in d_outputs):
            return (None,) * (1 + len(tensors))
        if torch.is_grad_enabled() or not all(map(_is_plain, d_outputs)) or not eager():
            return (None, *_torch_adjoint(ctx.call, tensors, ctx.masks, d_outputs))
        once, read = ctx.runs.pop() if ctx.runs else (None, ())
        # A retained graph is walked again, while a tape can be used once. Or a hook has moved what
        # was saved out of the memory that the tape refers to.
        if once is None or not all(map(_are_alike, tensors, read)):
            once = _Run(ctx.call, tensors, keep_tape=True, masks=ctx.masks)
        return (None, *once.adjoint(d_outputs, ctx.needs_input_grad[1:]))


def _saves_elsewhere() -> bool:
    """Return whether hooks store what a graph saves elsewhere, to save memory, as checkpoints do.

    PyTorch tells since version 2.8.
    """
    hooks = getattr(torch._C._autograd, "_top_saved_tensors_default_hooks", None)
    return hooks is not None and hooks(True) is not None


def _are_alike(saved: Tensor | None, read: Tensor | None) -> bool:
    """Return whether a saved tensor holds the same values as the one that was read."""
    if saved is read:
        return True
    return saved.data_ptr() == read.data_ptr() or torch.equal(saved, read)


def _is_plain(d_output: Tensor | None) -> bool:
    """Return whether a gradient is one array, and not a batch of gradients."""
    if d_output is None:
        return True
    return type(d_output) in _PLAIN and not torch._C._functorch.is_legacy_batchedtensor(d_output)


def _torch_adjoint(
    call: Call,
    tensors: Sequence[Tensor | None],
    masks: list[Tensor],
    d_outputs: Sequence[Tensor | None],
) -> list[Tensor | None]:
    """Return the gradients of all tensors from PyTorch's operators.

    PyTorch can differentiate them further where gradients are enabled.
    """
    create_graph = torch.is_grad_enabled()
    with torch.enable_grad(), torch.autocast("cpu", enabled=False):
        # Aliases have gradients of their own, even if one tensor comes twice or depends on another.
        aliases = [None if t is None else t.view_as(t) for t in tensors]
        wanted = [t for t in aliases if t is not None and t.requires_grad]
        used = [
            (output, d)
            for output, d in zip(_torch_outputs(call, aliases, masks), d_outputs)
            if d is not None
        ]
        outputs, d_outputs = zip(*used)
        gradients = torch.autograd.grad(
            outputs, wanted, d_outputs, create_graph=create_graph, allow_unused=True
        )
    remaining = iter(gradients)
    return [None if t is None or not t.requires_grad else next(remaining) for t in aliases]


def run(call: Call, tensors: Sequence[Tensor | None]) -> tuple[Tensor, ...]:
    """Return the outputs of an ordinary call, in PyTorch's graph where one is recorded.

    Parameters
    ----------
    call : Call
    tensors : sequence of (Tensor or None)
        Input, states and weights; see `ordinary`.

    Returns
    -------
    output, *states : Tensor
        Shaped as `Call` says.
    """
    if torch.is_grad_enabled() and any(t is not None and t.requires_grad for t in tensors):
        return _Scan.apply(call, *tensors)
    return _Run(call, tensors, keep_tape=False, masks=[]).outputs


def eager() -> bool:
    """Return whether operations run at once and as written: nothing traces or transforms them."""
    return not (
        torch.compiler.is_compiling()
        or torch.jit.is_tracing()
        or torch._C._is_any_autocast_enabled()
        or torch._C._are_functorch_transforms_active()
        or torch._C._len_torch_dispatch_stack()
        or forward_ad._current_level >= 0
    )


def ordinary(call: Call, tensors: Sequence[Tensor | None]) -> bool:
    """Return whether the kernels can take the tensors as they are."""
    stack, dtype = call.stack, call.dtype
    inputs = stack.shapes[0][1]
    shapes = [(*call.leading, inputs), *[(*call.state_leading, width) for width in stack.widths]]
    shapes += stack.shapes
    if dtype not in _DTYPES or len(tensors) != len(shapes) or 0 in (*shapes[0], *stack.widths):
        return False
    records = torch.is_grad_enabled()
    for k, (t, shape) in enumerate(zip(tensors, shapes)):
        if t is None and k <= len(stack.widths):  # a state
            continue
        if not (
            type(t) in _PLAIN
            and t.dtype is dtype
            and t.is_cpu
            and t.layout is torch.strided
            and t.shape == shape
            and not (records and t.is_inference())  # a graph may not keep it
        ):
            return False
    return True
