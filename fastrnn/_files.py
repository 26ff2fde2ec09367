"""Files that are written whole, and archives that are read with care."""

from __future__ import annotations

import os
import secrets
import shutil
import zipfile
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO

try:
    import fcntl
except ImportError:  # not on POSIX
    fcntl = None


def write_atomically(path: str | Path, data: bytes) -> None:
    """Write a file so that its readers, even after a power cut, find all of it or the one before.

    Parameters
    ----------
    path : str or Path
        Replaced if it is a regular file, with its permissions; of a symbolic link, where it points
        to.
    data : bytes

    Raises
    ------
    OSError
        If the file cannot be written, or is something else than a file; nothing has changed then.
    """
    given, path = path, Path(os.path.realpath(path))
    if path.exists() and not path.is_file():
        raise FileExistsError(f"{given} is not a regular file")
    # One name a target: what a killed process left behind is overwritten by the next, but not what
    # another process or thread is writing. 60 characters are 240 bytes at most, and names have 255.
    stem = f".{path.name[:60]}"
    temporary = path.with_name(f"{stem}.tmp")
    try:
        file = _open_locked(temporary)
        if file is None:
            temporary = path.with_name(f"{stem}.{secrets.token_hex(4)}.tmp")
            file = open(temporary, "xb")  # noqa: SIM115 - closed below
        with file:
            if path.exists():
                shutil.copymode(path, temporary)
            file.truncate(0)
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
            os.replace(temporary, path)  # before the lock is gone
    except BaseException as error:
        with suppress(OSError):  # on a read-only file system even of a file that is not there
            temporary.unlink()
        if isinstance(error, OSError):  # about the file that was asked for
            raise OSError(error.errno, error.strerror, str(given)) from None
        raise
    with suppress(OSError):  # a directory that cannot be read; the file is written all the same
        directory = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(directory)
        finally:
            os.close(directory)


def _open_locked(path: Path) -> BinaryIO | None:
    """Open a new or old file to write and lock it; None where it is another's, or a link."""
    flags = os.O_WRONLY | os.O_CREAT
    for name in ("O_NOFOLLOW", "O_NONBLOCK", "O_BINARY"):  # a pipe would wait for its reader
        flags |= getattr(os, name, 0)
    try:
        file = os.fdopen(os.open(path, flags, 0o666), "wb")
    except OSError:
        return None
    try:
        if fcntl is not None:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if os.path.samestat(os.fstat(file.fileno()), os.lstat(path)):  # nobody has moved it
            return file
    except OSError:
        pass
    file.close()
    return None


def read_members(archive: zipfile.ZipFile, names: Iterable[str], limit: int) -> dict[str, bytes]:
    """Return members of a zip archive that comes from a stranger, by name.

    Of a deflated one no more is unpacked than the archive says it holds.

    Raises
    ------
    KeyError
        If one is not there.
    ValueError
        If they hold more than `limit` bytes together, or one is neither deflated nor stored.
    """
    infos = {name: archive.getinfo(name) for name in names}
    left = limit
    for name, info in infos.items():
        # Other methods take whatever memory the archive asks for, and raise errors of their own.
        if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            raise ValueError(f"{name} must be deflated, got method {info.compress_type}")
        if info.file_size > left:
            raise ValueError(
                f"{name} must not expand to more than {left} bytes, got {info.file_size}"
            )
        left -= info.file_size
    return {name: archive.read(info) for name, info in infos.items()}
