"""Files of data sets: read, checked against their known size and checksum, and written.

The *content* of a file is the bytes of a text, unpacked if its name ends in ``.gz``, or the arrays
of an ``.npz``. Checksums are of contents, because the bytes of a packed file depend on the packer.
"""

from __future__ import annotations

import gzip
import hashlib
import importlib
import io
import math
import tarfile
import zipfile
from collections.abc import Mapping
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

import numpy as np

from fastrnn._files import read_members, write_atomically

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import ModuleType

    from fastrnn.data.dataset import File

Content = bytes | Mapping[str, np.ndarray]


def read_content(path: Path, limit: int) -> Content:
    """Read a file of at most `limit` bytes, unpacked; ValueError that names it otherwise.

    Files are not trusted: nothing is unpacked beyond the limit, and no pickle is read.
    """
    with reading(path):
        if path.suffix == ".npz":
            return _read_arrays(path, limit)
        opener = gzip.open if path.suffix == ".gz" else open
        with opener(path, "rb") as file:
            content = file.read(limit + 1)
    if len(content) > limit:
        raise ValueError(f"cannot read {path}: it holds more than the {limit} bytes it should")
    return content


def write_content(path: Path, content: Content) -> None:
    """Write what :func:`read_content` reads; the file appears complete or not at all."""
    if path.suffix == ".npz":
        packed = io.BytesIO()
        np.savez_compressed(packed, **content)
        content = packed.getvalue()
    elif path.suffix == ".gz":
        content = gzip.compress(content)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, content)


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


def check_content(content: Content, file: File, origin: Path | str) -> Content:
    """Return the content if it is what the file should hold; ValueError otherwise."""
    try:
        found = digest(content, file.arrays)
    except KeyError as error:
        raise ValueError(f"{origin} has no array {error}") from None
    if found != file.sha256:
        raise ValueError(
            f"{origin} is not the {PurePosixPath(file.path).name} that is known here: its content "
            f"has the SHA-256 {found}, expected {file.sha256}; get it again"
        )
    return content


def find(path: str, folder: Path) -> Path | None:
    """Return where a folder has a file: under its whole path, or under the last parts of it."""
    parts = PurePosixPath(path).parts
    paths = (folder.joinpath(*parts[k:]) for k in range(len(parts)))
    return next((path for path in paths if path.is_file()), None)


def members(archive: bytes, folder: str, ending: str, limit: int = 1 << 27) -> dict[str, bytes]:
    """Return the files in a folder of a zip archive by their names, in order of these.

    A wheel is a zip archive. Files are those with `folder` in their path that end as `ending` says,
    at most `limit` bytes together.
    """
    with reading("the archive"), zipfile.ZipFile(io.BytesIO(archive)) as file:
        found = [name for name in sorted(file.namelist()) if folder in name]
        return read_members(file, [name for name in found if name.endswith(ending)], limit)


def member(archive: bytes, name: str, limit: int = 1 << 27) -> bytes:
    """Return a file of at most `limit` bytes out of a zip archive."""
    with reading(f"{name} in the archive"), zipfile.ZipFile(io.BytesIO(archive)) as file:
        return read_members(file, [name], limit)[name]


def debian_member(package: bytes, name: str, limit: int = 1 << 27) -> bytes:
    """Return a file of at most `limit` bytes, the one of this last name, out of a .deb package."""
    with (
        reading(f"{name} in the package"),
        tarfile.open(fileobj=io.BytesIO(_debian_data(package))) as archive,
    ):
        found = [info for info in archive if PurePosixPath(info.name).name == name]
        if len(found) != 1 or not found[0].isfile() or found[0].size > limit:
            raise ValueError(f"it has not one such file of at most {limit} bytes")
        return archive.extractfile(found[0]).read()


def _debian_data(package: bytes) -> bytes:
    """Return the data.tar.xz: a .deb is an ar archive, 60 bytes before each of its files."""
    place = len(b"!<arch>\n")
    while place < len(package):
        header = package[place : place + 60]
        size = int(header[48:58])
        if header.startswith(b"data.tar"):
            return package[place + 60 : place + 60 + size]
        place += 60 + size + size % 2
    raise ValueError("it has no data.tar")


def needed(module: str, purpose: str) -> ModuleType:
    """Import a package of the extra ``data``; ImportError that says how to get it otherwise."""
    try:
        return importlib.import_module(module)
    except ImportError:
        raise ImportError(
            f"{purpose} needs {module}: python -m pip install 'fastrnn[data]'", name=module
        ) from None


@contextmanager
def reading(path: Path | str) -> Iterator[None]:
    """Turn any error that a reader raises on a damaged or hostile file into a ValueError."""
    try:
        yield
    except (ImportError, MemoryError):
        raise
    except Exception as error:
        reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
        raise ValueError(f"cannot read {path}: {reason}") from error


def _read_arrays(path: Path, limit: int) -> dict[str, np.ndarray]:
    with zipfile.ZipFile(path) as archive:
        contents = read_members(archive, archive.namelist(), limit)
    return {name.removesuffix(".npy"): _array(content) for name, content in contents.items()}


def _array(content: bytes) -> np.ndarray:
    """Read an array in NumPy's format, if all the data that its header promises is there."""
    file = io.BytesIO(content)
    version = np.lib.format.read_magic(file)
    if version != (1, 0):
        raise ValueError(f"arrays must be of NumPy's format 1.0, got {version}")
    shape, fortran, dtype = np.lib.format.read_array_header_1_0(file)
    data = content[file.tell() :]
    if dtype.hasobject or len(data) != math.prod(shape) * dtype.itemsize:
        raise ValueError(f"not an array of plain numbers {dtype} {shape} in {len(data)} bytes")
    return np.frombuffer(data, dtype).reshape(shape, order="F" if fortran else "C")
