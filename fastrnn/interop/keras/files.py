"""Reading the files of Keras; nothing in a file is trusted, and nothing is written to disk.

A ``.keras`` file is a zip archive of ``metadata.json``, ``config.json`` and ``model.weights.h5``; a
``.weights.h5`` file is the last of these alone. The HDF5 file has a group for each layer.
"""

from __future__ import annotations

import io
import json
import os
import zipfile
import zlib
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import h5py
import numpy as np

from fastrnn._files import read_members
from fastrnn._validation import FLOAT_DTYPES

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

# Keras does not compress; an archive that another tool has compressed is accepted as well.
MOST_EXPANSION = 100
MEMBERS = ("metadata.json", "config.json", "model.weights.h5")


def read_archive(path: str | os.PathLike[str]) -> tuple[Any, str, h5py.File]:
    """Return the configuration, the version of Keras and the open weights of a ``.keras`` file.

    Raises
    ------
    ValueError
        If the file is not such an archive, is truncated, or is of another version of Keras.
    """
    limit = MOST_EXPANSION * os.stat(path).st_size
    try:
        with zipfile.ZipFile(path) as archive:
            metadata, config, weights = read_members(archive, MEMBERS, limit).values()
    except (FileNotFoundError, IsADirectoryError, PermissionError):
        raise
    except (zipfile.BadZipFile, zlib.error, OSError, EOFError, RuntimeError, KeyError) as error:
        reason = error.args[-1] if error.args else type(error).__name__
        raise ValueError(f"{path} must be a .keras archive: {reason}") from error
    metadata = parse_json("metadata.json", metadata)
    version = metadata.get("keras_version") if isinstance(metadata, dict) else None
    if not str(version).startswith(("2.", "3.")):
        raise ValueError(f"keras_version must be 2.x or 3.x, got {version!r}")
    return parse_json("config.json", config), version, open_weights(io.BytesIO(weights))


def parse_json(name: str, text: str | bytes) -> Any:
    """Return the content of a JSON text; ValueError if it is not JSON."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{name} must be JSON: {error}") from error


@contextmanager
def reading_weights() -> Iterator[None]:
    """Turn the errors of h5py for a damaged file into ValueError."""
    try:
        yield
    except FileNotFoundError:
        raise
    except (OSError, RuntimeError, KeyError, TypeError, OverflowError, MemoryError) as error:
        raise ValueError(f"weights must be a whole HDF5 file: {error}") from error


def open_weights(file: Any) -> h5py.File:
    """Open an HDF5 file, a path or a file object; ValueError if it is not HDF5."""
    with reading_weights():
        return h5py.File(file, "r")


class Weights:
    """One group of a weights file, whose variables are numbered; need not exist until it is read.

    Parameters
    ----------
    file : h5py.File
    path : tuple of str
        Names of the groups that lead to it.
    """

    def __init__(self, file: h5py.File, path: tuple[str, ...] = ()) -> None:
        self._file = file
        self._path = path

    def __getitem__(self, name: str) -> Weights:
        """Return the group of that name in this one."""
        return Weights(self._file, (*self._path, name))

    def layer(self, name: str) -> Weights:
        """Return the group that holds the group of a layer; here, layers are named by kind."""
        return self

    def finish(self) -> None:
        """Do nothing: each call of `variables` already refuses arrays that it does not read."""

    def variables(
        self, shapes: Sequence[tuple[int | None, ...]], dtype: np.dtype
    ) -> list[np.ndarray]:
        """Return the arrays ``vars/0``, ``vars/1``, ... of this group.

        Parameters
        ----------
        shapes : sequence of tuple
            Their shapes, None for an axis of any size.
        dtype : numpy.dtype

        Raises
        ------
        ValueError
            If there are more or fewer, or one has another shape, is not a float array, or is not
            stored in this file in full.
        """
        stored = self._file
        for name in (*self._path, "vars"):
            stored = member(stored, name, h5py.Group)
        if set(stored) != {str(k) for k in range(len(shapes))}:
            raise ValueError(f"{stored.name} must have {len(shapes)} arrays, got {sorted(stored)}")
        return [
            read_array(member(stored, str(k), h5py.Dataset), shape, dtype)
            for k, shape in enumerate(shapes)
        ]


def member(group: h5py.Group, name: str, kind: type) -> Any:
    """Return a member that is in this file; links to other files are not followed."""
    path = f"{group.name.rstrip('/')}/{name}"
    if not isinstance(group.get(name, getlink=True), h5py.HardLink):
        raise ValueError(f"weights must have {path}")
    member = group[name]
    if not isinstance(member, kind):
        raise ValueError(f"{path} must be an HDF5 {kind.__name__}, got {type(member).__name__}")
    return member


def read_array(dataset: h5py.Dataset, shape: tuple[int | None, ...], dtype: np.dtype) -> np.ndarray:
    """Return an array of this shape, None for an axis of any size, that is stored in this file."""
    found = dataset.shape  # None where there is no data space
    fits = found is not None and len(found) == len(shape)
    if not fits or any(n not in (m, None) for m, n in zip(found, shape)):
        expected = tuple("any" if n is None else n for n in shape)
        raise ValueError(f"{dataset.name} must be {expected}, got {found}")
    if dataset.dtype not in FLOAT_DTYPES:
        raise ValueError(f"{dataset.name} must be float32 or float64, got {dataset.dtype}")
    # A file of a few bytes may declare an array of any size, or one in another file.
    elsewhere = dataset.is_virtual or dataset.external
    if elsewhere or dataset.id.get_storage_size() != dataset.size * dataset.dtype.itemsize:
        raise ValueError(f"{dataset.name} must be stored in full, uncompressed, in this file")
    return dataset[()].astype(dtype)
