"""The one place that checks arguments: kind, shape, dtype, contiguity, range.

Every function takes the argument's public name first. It returns the value in the form that the
caller needs, or raises an error of the form ``h0 must be (2, 8, 64), got (8, 64)``.
"""

import math
import operator
import sys
from collections.abc import Collection, Iterator, Mapping, Sequence, Sized
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np

try:
    from fastrnn._core.checks import copied_ids, is_plain
except ImportError:  # built without a compiler: the functions below check all arguments

    def is_plain(value: Any, dtype: np.dtype, shape: tuple[int | str | None, ...]) -> bool:
        return False

    def copied_ids(value: Any, upper: int) -> np.ndarray | None:
        return None


LARGEST = sys.float_info.max
SMALLEST = math.ulp(0.0)  # positive number
FLOAT_DTYPES = (np.dtype(np.float32), np.dtype(np.float64))
MOST_BITS = 1024  # Python refuses to print numbers of more than 4300 digits


def check_positive_int(name: str, value: Any) -> int:
    """Return `value` as an int of at least 1; TypeError or ValueError otherwise."""
    return _check_int(name, value, 1, "a positive integer")


def check_non_negative_int(name: str, value: Any) -> int:
    """Return `value` as an int of at least 0; TypeError or ValueError otherwise."""
    return _check_int(name, value, 0, "a non-negative integer")


def _check_int(name: str, value: Any, lowest: int, expected: str) -> int:
    number = None
    if not isinstance(value, (bool, np.bool_)):
        with suppress(TypeError):
            number = operator.index(value)
    if number is None:
        raise TypeError(f"{name} must be {expected}, got {_describe(value)}")
    bits = number.bit_length()
    if bits > MOST_BITS:
        raise ValueError(f"{name} must be {expected} of at most {MOST_BITS} bits, got {bits}")
    if number < lowest:
        raise ValueError(f"{name} must be {expected}, got {number}")
    return number


def check_float(name: str, value: Any) -> float:
    """Return `value` as a finite float; TypeError or ValueError otherwise."""
    return _check_float(name, value, "a finite number", -LARGEST, LARGEST)


def check_positive_float(name: str, value: Any) -> float:
    """Return `value` as a finite float above 0; TypeError or ValueError otherwise."""
    return _check_float(name, value, "a positive number", SMALLEST, LARGEST)


def check_non_negative_float(name: str, value: Any) -> float:
    """Return `value` as a finite float of at least 0; TypeError or ValueError otherwise."""
    return _check_float(name, value, "a non-negative number", 0, LARGEST)


def check_probability(name: str, value: Any) -> float:
    """Return `value` as a float in [0, 1]; TypeError or ValueError otherwise."""
    return _check_float(name, value, "a probability in [0, 1]", 0, 1)


def _check_float(name: str, value: Any, expected: str, lowest: float, highest: float) -> float:
    if type(value) is not float and isinstance(value, (bool, np.bool_, str, bytes)):
        raise TypeError(f"{name} must be {expected}, got {_describe(value)}")
    try:
        number = float(value)
    except OverflowError:
        number = math.inf
    except (TypeError, ValueError):
        raise TypeError(f"{name} must be {expected}, got {_describe(value)}") from None
    if not lowest <= number <= highest:  # nor is NaN
        raise ValueError(f"{name} must be {expected}, got {number}")
    return number


def check_bool(name: str, value: Any) -> bool:
    """Return `value` as a bool; anything but True or False is a TypeError."""
    if not isinstance(value, (bool, np.bool_)):
        raise TypeError(f"{name} must be True or False, got {_describe(value)}")
    return bool(value)


def check_choice(name: str, value: Any, choices: Collection[str]) -> str:
    """Return `value` if it is one of the strings `choices`; ValueError otherwise."""
    if not isinstance(value, str) or value not in choices:
        raise ValueError(f"{name} must be one of {', '.join(map(repr, choices))}, got {value!r}")
    return value


def check_keywords(name: str, value: Any, reserved: Collection[str] = ()) -> dict[str, Any]:
    """Return a mapping from str as a dict, an empty one for None.

    NumPy's scalars become Python's, so that JSON has them.

    Raises
    ------
    TypeError
        If it is not such a mapping.
    ValueError
        If it has one of the keys `reserved`.
    """
    if value is None:
        return {}
    if not isinstance(value, Mapping) or not all(isinstance(key, str) for key in value):
        raise TypeError(f"{name} must be a mapping from str, got {_describe(value)}")
    for key in value:
        if key in reserved:
            expected = f"have none of {', '.join(reserved)}"
            raise ValueError(f"{name} must {expected}, got {key}={value[key]!r:.80}")
    return {key: _plain(part) for key, part in value.items()}


def _plain(value: Any) -> Any:
    if isinstance(value, (tuple, list)):
        return [_plain(part) for part in value]
    return value.item() if isinstance(value, np.generic) else value


def check_text(name: str, value: Any) -> str:
    """Return a str; TypeError otherwise."""
    if not isinstance(value, str):
        raise TypeError(f"{name} must be a str, got {type(value).__name__}")
    return value


def check_path(name: str, value: Any) -> Path:
    """Return a str or a path as a Path; TypeError otherwise."""
    try:
        return Path(value)
    except TypeError:
        raise TypeError(f"{name} must be a str or a Path, got {_describe(value)}") from None


def check_pair(name: str, value: Any) -> tuple[Any, Any]:
    """Return the inputs and the targets of a pair; TypeError if it is not a pair."""
    try:
        inputs, targets = value
    except (TypeError, ValueError):
        size = f" of {len(value)}" if isinstance(value, Sized) else ""
        raise TypeError(
            f"{name} must be a pair (inputs, targets), got {type(value).__name__}{size}; "
            "fastrnn.data.Batches makes pairs of examples, Windows of a long sequence"
        ) from None
    return inputs, targets


def check_dtype(dtype: Any) -> np.dtype:
    """Return the dtype of a layer or model, native float32 or float64; ValueError otherwise."""
    try:
        checked = np.dtype(dtype)
    except TypeError:
        checked = None
    if dtype is None or checked is None or checked not in FLOAT_DTYPES:
        raise ValueError(f"dtype must be float32 or float64, got {dtype!r}")
    return checked


def check_seed(seed: Any) -> np.random.Generator:
    """Return a new generator of this seed, or the generator given; TypeError or ValueError."""
    if isinstance(seed, np.ndarray):
        seed = np.asarray(seed)  # a numpy.matrix would crash the interpreter
    expected = "a non-negative integer, a numpy.random.Generator or None"
    if isinstance(seed, (bool, np.bool_)):
        raise TypeError(f"seed must be {expected}, got {_describe(seed)}")
    try:
        return np.random.default_rng(seed)
    except (TypeError, ValueError) as error:
        raise type(error)(f"seed must be {expected}, got {_describe(seed)}") from None


def check_id(name: str, value: Any, size: int) -> int:
    """Return one id of 0..size - 1 as an int; ValueError or TypeError as from `check_ids`."""
    ids = check_ids(name, value, size)
    if ids.ndim:
        raise ValueError(f"{name} must be one integer, got {ids.shape}")
    return int(ids)


def check_step(
    name: str, value: Any, dtype: np.dtype, B: int, width: int, *, copy: bool = False
) -> np.ndarray:
    """Return a step of a stream of B sequences, (B, width), or (width,) where B is 1."""
    value = as_array(name, value)
    leading = () if B == 1 and value.ndim == 1 else (B,)
    return check_array(name, value, dtype, (*leading, width), copy=copy)


def check_array(
    name: str,
    value: Any,
    dtype: np.dtype,
    shape: tuple[int | str | None, ...],
    *,
    copy: bool = False,
) -> np.ndarray:
    """Return `value` as an aligned, C-contiguous array of `dtype`.

    Parameters
    ----------
    name : str
        The argument's public name.
    value : array_like
        Integers, booleans and floats of any width, byte order and strides: whatever NumPy casts to
        `dtype` under its ``same_kind`` rule. NaN and infinity pass.
    dtype : numpy.dtype
    shape : tuple
        An int is an axis of that size, a str (its symbol in messages) or None an axis of any size.
    copy : bool
        True returns memory of its own; False the caller's own memory where it already fits.

    Raises
    ------
    TypeError
        A complex, object, string or otherwise non-numeric array.
    ValueError
        Another shape, nested lists of unequal lengths, or integers outside the range of `dtype`.
    """
    if not copy and is_plain(value, dtype, shape):
        return value
    array = as_array(name, value)
    found = array.shape
    if array.dtype is not dtype and not np.can_cast(array.dtype, dtype, "same_kind"):
        # Checked first: the shape of a str or of None says little.
        raise TypeError(f"{name} must be castable to {dtype}, got dtype {array.dtype}")
    if found != shape and not _fits(found, shape):
        raise ValueError(f"{name} must be {_format(shape)}, got {_format(found)}")
    if dtype.kind in "iu" and array.dtype not in (dtype, bool) and array.size:
        # NumPy would wrap them around.
        for number in (array.min(), array.max()):
            if not np.iinfo(dtype).min <= int(number) <= np.iinfo(dtype).max:
                raise ValueError(f"{name} must be {dtype}, got {number}")
    if copy:
        return np.array(array, dtype, order="C")
    return np.require(array, dtype, ("C", "A"))


def check_floats(name: str, value: Any) -> np.ndarray:
    """Return float32 of any shape as it is, and everything else that is real as float64."""
    array = as_array(name, value)
    float32, float64 = FLOAT_DTYPES
    narrow = array.dtype.char == "f"  # in either byte order
    return check_array(name, array, float32 if narrow else float64, array.shape)


def check_num_classes(name: str, value: Any) -> int:
    """Return a number of classes of at least 2: one alone leaves nothing to learn."""
    number = check_positive_int(name, value)
    if number < 2:
        raise ValueError(f"{name} must be at least 2, got {number}")
    return number


def check_class_weights(name: str, value: Any, num_classes: int) -> np.ndarray:
    """Return a weight for each class as float64 (K,), all of them positive and finite."""
    weights = check_array(name, value, np.dtype(np.float64), (num_classes,))
    if not (np.isfinite(weights) & (weights > 0)).all():
        raise ValueError(f"{name} must be positive and finite, got {weights}")
    return weights


def check_quantiles(name: str, value: Any) -> np.ndarray:
    """Return probabilities strictly between 0 and 1 as float64 (Q,), Q >= 1."""
    quantiles = check_array(name, value, np.dtype(np.float64), ("Q",))
    if quantiles.size == 0 or not ((quantiles > 0) & (quantiles < 1)).all():
        raise ValueError(f"{name} must be one or more in (0, 1), got {value}")
    return quantiles


def check_output(name: str, value: Any, dtype: np.dtype, shape: tuple[int, ...]) -> np.ndarray:
    """Return `value`, an array that the callee fills: exactly `dtype` and `shape`, and writable."""
    if not isinstance(value, np.ndarray) or value.dtype != dtype:
        found = value.dtype if isinstance(value, np.ndarray) else type(value).__name__
        raise TypeError(f"{name} must be a {dtype} array, got {found}")
    if value.shape != shape:
        raise ValueError(f"{name} must be {_format(shape)}, got {_format(value.shape)}")
    if not value.flags.writeable:
        raise ValueError(f"{name} must be writable, got a read-only array")
    return value


def check_lengths(
    lengths: Any, T: int, B: int, name: str = "lengths", *, lowest: int = 0
) -> np.ndarray:
    """Return the lengths of `B` sequences in `T` steps as contiguous int64 (B,), in `lowest`..T.

    None is all T. Always a copy, for the reason given at `check_ids`.
    """
    if lengths is None:
        return np.full(B, T, np.int64)
    copied = copied_ids(lengths, T + 1)
    if copied is not None and copied.shape == (B,) and lowest == 0:
        return copied
    array = _as_integers(name, lengths).copy()
    if array.shape != (B,):
        raise ValueError(f"{name} must be ({B},), got {_format(array.shape)}")
    if B and (array.min() < lowest or array.max() > T):
        row = int(np.flatnonzero((array < lowest) | (array > T))[0])
        raise ValueError(f"{name} must be in {lowest}..{T}, got {array[row]} at row {row}")
    return np.require(array, np.int64, ("C", "A"))


def check_padded(
    name: str, value: Any, dtype: np.dtype, width: int, lengths: Any
) -> tuple[np.ndarray, np.ndarray]:
    """Return sequences (T, B, `width`), T >= 1, and their lengths (B,), each in 1..T; None is T."""
    array = check_array(name, value, dtype, ("T", "B", width))
    T, B = array.shape[:2]
    if T == 0:
        raise ValueError(f"{name} must have at least 1 step, got T = 0 in {array.shape}")
    return array, check_lengths(lengths, T, B, lowest=1)


def check_equal_lengths(name: str, lengths: np.ndarray, other: str, expected: np.ndarray) -> None:
    """Refuse sequences that do not end where the others end; ValueError."""
    if not np.array_equal(lengths, expected):
        raise ValueError(f"{name} must be as long as {other}, {expected}, got {lengths}")


def check_sequences(name: str, value: Any) -> list[np.ndarray]:
    """Return sequences of numbers as arrays, all (T_b,) or all (T_b, I) of one width I, T_b >= 0.

    The sequences of an array, or of a table that NumPy converts to one, are its rows.

    Raises
    ------
    TypeError
        If one is not of numbers.
    ValueError
        If there are none, or one has another shape than the first.
    """
    if hasattr(value, "__array__"):  # to iterate over a data frame gives the names of its columns
        value = as_array(name, value)
    try:
        value = list(value)  # an iterator can be read only once
    except TypeError:
        raise TypeError(f"{name} must be sequences of numbers, got {_describe(value)}") from None
    arrays = [as_array(f"{name}[{k}]", sequence) for k, sequence in enumerate(value)]
    if not arrays:
        raise ValueError(f"{name} must be one sequence or more, got none")
    width = arrays[0].shape[1:]
    expected = _format(("T", *width)) if arrays[0].ndim in (1, 2) else "(T,) or (T, I)"
    for k, (array, sequence) in enumerate(zip(arrays, value)):
        check_numbers(f"{name}[{k}]", array)
        if array.ndim not in (1, 2) or array.shape[1:] != width:
            alone = "" if array.ndim else "; put a single sequence into a list"
            raise ValueError(f"{name}[{k}] must be {expected}, got {_format(array.shape)}{alone}")
        if array.size == 0 and not isinstance(sequence, np.ndarray):
            arrays[k] = array.astype(np.int64)  # NumPy calls an empty list a float array
    return arrays


def check_numbers(name: str, array: np.ndarray) -> None:
    """Refuse an array that is not of real numbers; TypeError."""
    if array.dtype.kind not in "biuf":
        strings = array.dtype.kind in "US"
        hint = "; make numbers of strings, as a Vocabulary does of words" if strings else ""
        raise TypeError(f"{name} must be of numbers, got dtype {array.dtype}{hint}")


def check_ids(name: str, ids: Any, upper: int) -> np.ndarray:
    """Return a copy of ids of any shape as C-contiguous int64, each in 0..`upper` - 1.

    The core computes addresses from ids while it does not hold the GIL, when another thread may
    write to the caller's array.
    """
    copied = copied_ids(ids, upper)
    if copied is not None:
        return copied
    array = _as_integers(name, ids).copy()
    if array.size and (array.min() < 0 or array.max() >= upper):
        place = tuple(np.argwhere((array < 0) | (array >= upper))[0].tolist())
        where = f" at {_format(place)}" if place else ""
        raise ValueError(f"{name} must be in 0..{upper - 1}, got {array[place]}{where}")
    return np.require(array, np.int64, ("C", "A"))


def _as_integers(name: str, value: Any) -> np.ndarray:
    array = as_array(name, value)
    if array.size == 0 and not isinstance(value, np.ndarray):
        array = array.astype(np.int64)  # NumPy calls an empty list a float array
    if array.dtype.kind not in "iu":
        raise TypeError(f"{name} must be integers, got dtype {array.dtype}")
    return array


def as_array(name: str, value: Any) -> np.ndarray:
    """Return `value` as an array of any shape and dtype; TypeError or ValueError if it is none."""
    if type(value) is np.ndarray:
        return value
    if isinstance(value, np.ma.MaskedArray) and np.ma.is_masked(value):
        number = np.ma.count_masked(value)
        raise ValueError(
            f"{name} must have no masked elements, got {number}; lengths say what counts"
        )
    try:
        array = np.asarray(value)
    except ValueError:
        found = "lists of unequal lengths"
        if type(value) not in (list, tuple):  # such as Padded
            found = f"{type(value).__name__}, as a batch has of a list; np.array(...) of it is one"
        raise ValueError(f"{name} must be an array, got {found}") from None
    except (RuntimeError, TypeError) as error:  # such as PyTorch's, for a tensor in a graph
        kind = type(value).__name__
        raise TypeError(f"{name} must be an array, got {kind}: {error}") from error
    if array.dtype.kind == "O" and isinstance(value, Iterator):  # such as what a model samples
        raise TypeError(f"{name} must be an array, got {type(value).__name__}; list(...) reads it")
    return array


def _fits(found: tuple[int, ...], shape: Sequence[int | str | None]) -> bool:
    if len(found) != len(shape):
        return False
    for size, expected in zip(found, shape):
        if size != expected and not (expected is None or isinstance(expected, str)):
            return False
    return True


def _format(shape: Sequence[int | str | None]) -> str:
    """``(T, B, 65)``: a shape as its tuple, symbols bare and None as ``any``."""
    sizes = ["any" if size is None else str(size) for size in shape]
    return f"({sizes[0]},)" if len(sizes) == 1 else f"({', '.join(sizes)})"


def _describe(value: Any) -> str:
    return f"{type(value).__name__} {value!r}"[:80]
