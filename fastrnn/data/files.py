"""Files of data sets: read, checked against what they should hold, and written.

What a file holds is its *content*: the bytes of a text, unpacked where its name ends in ``.gz``, or
the arrays of an ``.npz``. Checksums are of contents, as the bytes of a packed file depend on who
packed it.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import math
import os
import tempfile
import zipfile
import zlib
from collections.abc import Mapping
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterator

Content = bytes | Mapping[str, np.ndarray]


_DAMAGED = (
    EOFError,
    KeyError,
    NotImplementedError,
    OSError,
    RuntimeError,
    ValueError,
    zipfile.BadZipFile,
    zlib.error,
)


def read_content(path: Path, limit: int) -> Content:
    """Read a file of at most `limit` bytes, unpacked; ValueError that names it otherwise.

    Files come from strangers: nothing is unpacked beyond the limit, and no pickle is read.
    """
    with _reading(path):
        if path.suffix == ".npz":
            return _read_arrays(path, limit)
        opener = gzip.open if path.suffix == ".gz" else open
        with opener(path, "rb") as file:
            content = file.read(limit + 1)
    if len(content) > limit:
        raise ValueError(f"{path} holds more than the {limit} bytes it should")
    return content


def write_content(path: Path, content: Content) -> None:
    """Write what :func:`read_content` reads; the file appears complete or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent)
    try:
        with os.fdopen(handle, "wb") as file:
            if path.suffix == ".npz":
                np.savez_compressed(file, **content)
            else:
                file.write(gzip.compress(content) if path.suffix == ".gz" else content)
        os.replace(name, path)
    except BaseException:
        os.unlink(name)
        raise


def digest(content: Content, arrays: tuple[str, ...] = ()) -> str:
    """Return the SHA-256 of a content in hexadecimal; of `arrays` alone, where any are named."""
    if isinstance(content, bytes):
        return hashlib.sha256(content).hexdigest()
    hashed = hashlib.sha256()
    for name in sorted(arrays or content):
        array = np.ascontiguousarray(content[name])
        hashed.update(f"{name} {array.dtype.str} {array.shape}\n".encode())
        hashed.update(array)
    return hashed.hexdigest()


def check_content(
    content: Content, sha256: str, origin: Path, arrays: tuple[str, ...] = ()
) -> Content:
    """Return the content if it has this checksum; ValueError otherwise."""
    found = digest(content, arrays)
    if found != sha256:
        raise ValueError(
            f"{origin} is not the published file: its content's SHA-256 is {found}, "
            f"expected {sha256}"
        )
    return content


def find(name: str, folder: Path) -> Path | None:
    """Return where a folder has a file: under its whole name, or under the last parts of it."""
    parts = PurePosixPath(name).parts
    paths = (folder.joinpath(*parts[k:]) for k in range(len(parts)))
    return next((path for path in paths if path.is_file()), None)


def member(archive: bytes, name: str, limit: int = 1 << 26) -> bytes:
    """Return a file out of a zip archive (a wheel is one), at most `limit` bytes of it."""
    with _reading(f"{name} in the archive"), zipfile.ZipFile(io.BytesIO(archive)) as file:
        return _read_member(file, file.getinfo(name), limit)


@contextmanager
def _reading(path: Path | str) -> Iterator[None]:
    try:
        yield
    except _DAMAGED as error:
        reason = getattr(error, "strerror", None) or error or type(error).__name__
        raise ValueError(f"cannot read {path}: {reason}") from error


def _read_member(archive: zipfile.ZipFile, info: zipfile.ZipInfo, limit: int) -> bytes:
    if info.file_size > limit:
        raise ValueError(f"{info.filename} holds {info.file_size} bytes, more than {limit}")
    return archive.read(info)  # which reads no more than the size that the archive states


def _read_arrays(path: Path, limit: int) -> dict[str, np.ndarray]:
    with zipfile.ZipFile(path) as archive:
        members = archive.infolist()
        if sum(info.file_size for info in members) > limit:
            raise ValueError(f"it holds more than the {limit} bytes it should")
        return {
            info.filename.removesuffix(".npy"): _array(_read_member(archive, info, limit))
            for info in members
        }


def _array(content: bytes) -> np.ndarray:
    """Read an array in NumPy's format; its header promises no more than there is."""
    file = io.BytesIO(content)
    version = np.lib.format.read_magic(file)
    if version != (1, 0):
        raise ValueError(f"arrays must be of NumPy's format 1.0, got {version}")
    shape, fortran, dtype = np.lib.format.read_array_header_1_0(file)
    data = content[file.tell() :]
    if dtype.hasobject or len(data) != math.prod(shape) * dtype.itemsize:
        raise ValueError(f"not an array of plain numbers {dtype} {shape} in {len(data)} bytes")
    return np.frombuffer(data, dtype).reshape(shape, order="F" if fortran else "C")
