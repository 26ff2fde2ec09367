"""Named arrays in one flat buffer.

An optimiser, a gradient norm or a checkpoint wants all weights of a model at once; a layer wants
its own by name. Both are served by one allocation: the layers hold named views of it.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import numpy as np

from fastrnn._validation import check_array, check_dtype, check_non_negative_int

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, DTypeLike

    from fastrnn.layers.base import Module

# A cache line, and the width of the widest vector register.
_ALIGNMENT_BYTES = 64
_limit: ContextVar[tuple[int, str] | None] = ContextVar("limit", default=None)


class Parameters(Mapping[str, np.ndarray]):
    """Arrays of one dtype by name, with a gradient for each, in two flat buffers.

    As a mapping it yields writable views, so ``parameters["weight"][...] = 0`` changes the layer.
    ``parameters[name] = value`` copies into the view as well; names cannot be added or removed.

    Parameters
    ----------
    shapes : mapping, or iterable of pairs, of str to tuple of int
        Name and shape of each array, in the order of the buffer.
    dtype : {"float32", "float64"}
        Type of values and gradients, which start as zeros.

    Attributes
    ----------
    flat_values, flat_gradients : ndarray, shape (n,)
        The whole buffers. Every array starts at a multiple of 64 bytes; the padding between them is
        zero in both, so that sums and norms over the buffer are those over the arrays. What is
        assigned is copied in.
    buffers : list of ndarray
        Both buffers, in a list that stays the same object when they move. A stream looks there at
        each step; to look up an attribute would take 0.04 us.
    gradients : mapping of str to ndarray
        Views of ``flat_gradients``, with the names and shapes of the values. The mapping is
        read-only, the arrays are not.
    is_part : bool
        Whether these have been joined with others, in whose buffers they lie.
    frozen : tuple of str
        Names of the arrays that training leaves as they are; see :meth:`freeze`.

    Raises
    ------
    ValueError
        If the dtype is neither float32 nor float64, or the arrays are more than :func:`at_most`
        allows.
    MemoryError
        If there is no memory for them.
    """

    flat_values: np.ndarray
    flat_gradients: np.ndarray

    def __init__(
        self,
        shapes: Mapping[str, tuple[int, ...]] | Iterable[tuple[str, tuple[int, ...]]],
        dtype: DTypeLike,
    ) -> None:
        dtype = check_dtype(dtype)
        self._shapes = _within_limit(shapes.items() if isinstance(shapes, Mapping) else shapes)
        self._parts: list[Parameters] = []
        self.is_part = False
        # Indices of frozen arrays in the joined parameters, which share this set with all their
        # parts, and the index there of the first array here.
        self._frozen: set[int] = set()
        self._first = 0
        self._views: dict[str, np.ndarray] = {}
        self._gradient_views: dict[str, np.ndarray] = {}
        self.buffers: list[np.ndarray] = []
        self.gradients: Mapping[str, np.ndarray] = MappingProxyType(self._gradient_views)
        size = sum(_padded(math.prod(shape), dtype) for shape in self._shapes.values())
        try:
            buffers = aligned_zeros(size, dtype), aligned_zeros(size, dtype)
        except (MemoryError, ValueError, OverflowError):
            name = max(self._shapes, key=lambda name: math.prod(self._shapes[name]))
            found = f"{size:,} of {dtype}, {name} {self._shapes[name]} the largest"
            raise MemoryError(f"parameters must fit into memory, got {found}") from None
        self._bind(*buffers)

    def _bind(self, values: np.ndarray, gradients: np.ndarray) -> None:
        """Use the two buffers as the memory of this object and of its parts; copy nothing."""
        self.__dict__.update(flat_values=values, flat_gradients=gradients)
        self.buffers[:] = values, gradients
        self._gradient_bytes = gradients.view(np.uint8)
        self._views.update(self.views(values))
        self._gradient_views.update(self.views(gradients))
        start, first = 0, self._first
        for part in self._parts:
            stop = start + part.flat_values.size
            part.is_part = True
            part._frozen, part._first = self._frozen, first
            part._bind(values[start:stop], gradients[start:stop])
            start = stop
            first += len(part)

    def __setattr__(self, name: str, value: Any) -> None:
        if name in ("flat_values", "flat_gradients"):  # there are views of them
            buffer = getattr(self, name)
            buffer[...] = check_array(name, value, buffer.dtype, buffer.shape)
        else:
            super().__setattr__(name, value)

    @property
    def dtype(self) -> np.dtype:
        """Type of values and gradients."""
        return self.flat_values.dtype

    def __getitem__(self, name: str) -> np.ndarray:
        return self._views[name]

    def get(self, name: str, default: Any = None) -> Any:
        """Return the parameter, or the default where there is none."""
        return self._views.get(name, default)

    def __setitem__(self, name: str, value: ArrayLike) -> None:
        # Without this, ``parameters[name] *= 2`` would change the array and then raise.
        view = self._views[name]
        view[...] = check_array(name, value, self.dtype, view.shape)

    def __iter__(self) -> Iterator[str]:
        return iter(self._views)

    def __len__(self) -> int:
        return len(self._views)

    def __repr__(self) -> str:
        arrays = ", ".join(f"{name} {view.shape}" for name, view in self._views.items())
        return f"Parameters({arrays}; {self.dtype})"

    def is_within(self, other: Parameters) -> bool:
        """Whether all of these lie in the other's buffer, as those of a part do."""
        first, start = other.flat_values.ctypes.data, self.flat_values.ctypes.data
        return (
            first <= start and start + self.flat_values.nbytes <= first + other.flat_values.nbytes
        )

    def new_buffer(self) -> np.ndarray:
        """Return zeros laid out like ``flat_values``, such as an optimiser's moments."""
        return aligned_zeros(self.flat_values.size, self.dtype)

    def views(self, buffer: np.ndarray) -> dict[str, np.ndarray]:
        """Return the arrays of a buffer that is laid out like ``flat_values``, by name."""
        views = {}
        start = 0
        for name, shape in self._shapes.items():
            size = math.prod(shape)
            views[name] = buffer[start : start + size].reshape(shape)
            start += _padded(size, buffer.dtype)
        return views

    def freeze(self, *names: str) -> None:
        """Exclude arrays, such as pre-trained vectors, from training.

        Optimisers do not change them, not even by weight decay, and the norm for clipping does not
        count their gradients. Pullbacks still add these. What is frozen in joined parameters is
        frozen in their parts, and the other way round. Files do not store it.

        Parameters
        ----------
        *names : str
            Of the arrays; ``layer.parameters.freeze(*layer.parameters)`` freezes a whole layer.

        Raises
        ------
        KeyError
            If there is no such name; nothing is frozen then.
        """
        self._frozen.update(self._places(names))

    def unfreeze(self, *names: str) -> None:
        """Include arrays in training again; arguments and errors are those of :meth:`freeze`.

        Make a new optimiser then. One that has made steps without these arrays takes their
        averages, which are still zero, for those of all its steps, and its first steps would be too
        long.
        """
        self._frozen.difference_update(self._places(names))

    @property
    def frozen(self) -> tuple[str, ...]:
        """Names of the arrays that are frozen, in the order of the buffer."""
        return tuple([name for k, name in enumerate(self, self._first) if k in self._frozen])

    def trainable(self, *buffers: np.ndarray) -> list[tuple[np.ndarray, ...]]:
        """Return the pieces of buffers, laid out like ``flat_values``, that are not frozen."""
        return [piece for _, piece in self.runs({}, *buffers)]

    def runs(
        self, kinds: Mapping[str, Any], *buffers: np.ndarray
    ) -> list[tuple[Any, tuple[np.ndarray, ...]]]:
        """Return the pieces that are not frozen, each with its kind; neighbours of a kind are one.

        Parameters
        ----------
        kinds : mapping of str to Any
            The kinds of arrays by their names; that of all others is None.
        *buffers : ndarray
            Laid out like ``flat_values``.
        """
        if not self._frozen and not kinds:
            return [(None, buffers)]
        pieces: list[tuple[Any, slice]] = []
        stop = 0
        for k, (name, shape) in enumerate(self._shapes.items(), self._first):
            start, stop = stop, stop + _padded(math.prod(shape), self.dtype)
            if k in self._frozen or start == stop:
                continue
            kind = kinds.get(name)
            if pieces and pieces[-1][0] == kind and pieces[-1][1].stop == start:
                start = pieces.pop()[1].start
            pieces.append((kind, slice(start, stop)))
        return [(kind, tuple([b[piece] for b in buffers])) for kind, piece in pieces]

    def check_names(self, names: Iterable[str]) -> None:
        """Refuse names of no array; KeyError."""
        unknown = [str(name) for name in names if not isinstance(name, str) or name not in self]
        if unknown:
            raise KeyError(f"no parameter {', '.join(unknown)}; there are {', '.join(self)}")

    def _places(self, names: tuple[str, ...]) -> list[int]:
        self.check_names(names)
        wanted = set(names)
        return [k for k, name in enumerate(self, self._first) if name in wanted]

    def zero_gradients(self) -> None:
        """Set every gradient to zero."""
        self._gradient_bytes.fill(0)  # takes NumPy half the time that floats take

    def state_dict(self) -> dict[str, np.ndarray]:
        """Return copies of the values by name."""
        return {name: view.copy() for name, view in self._views.items()}

    def load_state_dict(self, state: Mapping[str, ArrayLike]) -> None:
        """Copy values in; everything is checked first, so a refused call changes nothing.

        Parameters
        ----------
        state : mapping of str to array_like
            Exactly the names of this object, each with its shape and a dtype that casts to its own
            under NumPy's ``same_kind`` rule; PyTorch's parameters and bfloat16 tensors too.

        Raises
        ------
        KeyError
            If names are missing or unknown.
        ValueError
            If shapes differ.
        TypeError
            If ``state`` is not a mapping, or its arrays are of the wrong kind and no more is wrong.
            Each of these errors lists all that is wrong with ``state``.
        """
        if not isinstance(state, Mapping):
            raise TypeError(
                f"state must be a mapping of names to arrays, got {type(state).__name__}"
            )
        missing = [name for name in self if name not in state]
        unexpected = [str(name) for name in state if name not in self]
        problems = [f"missing {', '.join(missing)}"] if missing else []
        problems += [f"unexpected {', '.join(unexpected)}"] if unexpected else []
        error: type[Exception] = KeyError if problems else TypeError
        arrays = {}
        for name, view in self._views.items():
            if name in state:
                try:
                    value = _readable(state[name])
                    arrays[name] = check_array(name, value, self.dtype, view.shape)
                except (TypeError, ValueError) as refusal:
                    problems.append(str(refusal))
                    if error is not KeyError and isinstance(refusal, ValueError):
                        error = ValueError
        if problems:
            raise error("state does not fit: " + "; ".join(problems))
        for name, array in arrays.items():
            if np.may_share_memory(array, self.flat_values):  # such as two views to be swapped
                arrays[name] = array.copy()
        for name, array in arrays.items():
            self._views[name][...] = array

    def __copy__(self) -> Parameters:
        return copy.deepcopy(self)  # two objects cannot share parts

    def __getstate__(self) -> dict[str, Any]:
        # Copies of the views would not share memory, so copy.deepcopy and pickle take the buffers.
        return {
            "shapes": self._shapes,
            "parts": self._parts,
            "values": self.flat_values,
            "gradients": self.flat_gradients,
            "frozen": self.frozen,
        }

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__(state["shapes"], state["values"].dtype)
        self._parts = state["parts"]
        self._bind(self.flat_values, self.flat_gradients)
        self.flat_values[:] = state["values"]
        self.flat_gradients[:] = state["gradients"]
        self.freeze(*state["frozen"])


def join(parts: Mapping[str, Module]) -> Parameters:
    """Move the parameters of several layers or models into one buffer.

    Each part keeps its names and its ``Parameters`` object, which becomes a slice of the new
    buffer: ``join({"output": dense})["output.weight"]`` and ``dense.parameters["weight"]`` are the
    same memory.

    Parameters
    ----------
    parts : mapping of str to Module
        Parts in the order of the buffer. A part may be joined itself, or have no parameters.

    Returns
    -------
    parameters : Parameters
        Values and gradients of all parts, under the names ``"part.name"``.

    Raises
    ------
    TypeError
        If the parts are not a mapping of str to layers or models.
    ValueError
        If a name contains a dot, the dtypes differ, no part has parameters, or a part is given
        twice or belongs to another joined buffer already (which would lose it).
    """
    if not isinstance(parts, Mapping):
        raise TypeError(f"parts must be a mapping of names to layers, got {type(parts).__name__}")
    members = {name: getattr(module, "parameters", None) for name, module in parts.items()}
    seen: set[int] = set()
    for name, member in members.items():
        if not isinstance(name, str):
            raise TypeError(f"a part's name must be a str, got {name!r}")
        if not isinstance(member, Parameters):
            found = type(parts[name]).__name__
            raise TypeError(f"{name} must be a layer or a model, got {found}")
        if "." in name:
            raise ValueError(f"a part's name must not contain a dot, got {name!r}")
        if member.is_part or id(member) in seen:
            raise ValueError(
                f"{name} already belongs to a model; make another and copy with load_state_dict"
            )
        seen.add(id(member))
    dtypes = {name: member.dtype for name, member in members.items() if len(member)}
    if len(set(dtypes.values())) != 1:
        found = ", ".join(f"{name} {dtype}" for name, dtype in dtypes.items())
        raise ValueError(f"parts must have parameters of one dtype, got {found or 'no parameters'}")
    joined = Parameters(
        {
            f"{name}.{own}": array.shape
            for name, member in members.items()
            for own, array in member.items()
        },
        next(iter(dtypes.values())),
    )
    for name, member in members.items():
        for own, array in member.items():
            joined[f"{name}.{own}"][...] = array
            if member.gradients[own].any():  # zeros that are never written take no memory
                joined.gradients[f"{name}.{own}"][...] = member.gradients[own]
    frozen = [f"{name}.{own}" for name, member in members.items() for own in member.frozen]
    joined._parts = [member for member in members.values() if len(member)]
    joined._bind(joined.flat_values, joined.flat_gradients)
    joined.freeze(*frozen)
    return joined


@contextmanager
def at_most(number: int, reason: str) -> Iterator[None]:
    """Context in which parameters of more than `number` elements are refused.

    Parameters
    ----------
    number : int
        Of one `Parameters` object. Too large sizes in a file or on a command line are refused
        before memory is allocated.
    reason : str
        Ends the message: "its sizes ask for more than 100 parameters, `reason`".
    """
    token = _limit.set((number, reason))
    try:
        yield
    finally:
        _limit.reset(token)


def _within_limit(shapes: Iterable[tuple[str, tuple[int, ...]]]) -> dict[str, tuple[int, ...]]:
    """Return the shapes by name; ValueError if :func:`at_most` does not allow so many elements."""
    limit = _limit.get()
    found, total = {}, 0
    for name, shape in shapes:
        # With a negative size arrays would overlap, and a product of NumPy's integers may overflow.
        found[name] = shape = tuple(check_non_negative_int(f"a size of {name}", n) for n in shape)
        total += math.prod(shape)
        if limit is not None and total > limit[0]:
            number, reason = limit
            raise ValueError(f"its sizes ask for more than {number:,} parameters, {reason}")
    return found


def _padded(size: int, dtype: np.dtype) -> int:
    """Round a number of elements up to whole blocks of the alignment."""
    block = _ALIGNMENT_BYTES // dtype.itemsize
    return -(-size // block) * block


def _readable(value: Any) -> Any:
    """Return a tensor of PyTorch's in a form that NumPy reads, anything else as it is."""
    if hasattr(value, "detach"):
        value = value.detach()
        if str(getattr(value, "dtype", "")) == "torch.bfloat16":
            value = value.float()
    return value


def aligned_zeros(size: int, dtype: np.dtype) -> np.ndarray:
    """Return zeros (size,) that start at a multiple of the alignment."""
    raw = np.zeros(size * dtype.itemsize + _ALIGNMENT_BYTES, np.uint8)
    start = -raw.ctypes.data % _ALIGNMENT_BYTES
    return raw[start : start + size * dtype.itemsize].view(dtype)
