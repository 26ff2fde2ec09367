"""Files written atomically, and zip archives from untrusted sources."""

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
    """Write a file so that readers find all of it or the file before, even after a power cut.

    Parameters
    ----------
    path : str or Path
        A regular file is replaced and keeps its permissions; for a symbolic link, the file that it
        points to.
    data : bytes

    Raises
    ------
    OSError
        If the file cannot be written, or the path is not that of a file; nothing has changed then.
    """
    given, path = path, Path(os.path.realpath(path))
    if path.exists() and not path.is_file():
        raise FileExistsError(f"{given} is not a regular file")
    # One temporary name for each target: the next process overwrites what a killed one left behind,
    # but not what another process or thread is writing now. 60 characters are at most 240 of the
    # 255 bytes that a name may have.
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
        if isinstance(error, OSError):  # name the file that was asked for
            raise OSError(error.errno, error.strerror, str(given)) from None
        raise
    with suppress(OSError):  # the directory may not be readable; the file is written in any case
        directory = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(directory)
        finally:
            os.close(directory)


def _open_locked(path: Path) -> BinaryIO | None:
    """Open and lock a file to write; None if another process has locked it, or it is a link."""
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
    """Return members of a zip archive from an untrusted source, by name.

    No more of a member is unpacked than the size that the archive states.

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
