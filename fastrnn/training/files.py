"""Files that are whole at every moment: the old one, or the new one."""

from __future__ import annotations

import os
from pathlib import Path


def write_atomically(path: str | Path, data: bytes) -> None:
    """Write a file so that its readers, even after a power cut, find all of it or the one before.

    Parameters
    ----------
    path : str or Path
        Replaced if it is a regular file.
    data : bytes

    Raises
    ------
    OSError
        If the file cannot be written, or is something else than a file; nothing has changed then.
    """
    path = Path(path)
    if path.exists() and not path.is_file():
        raise FileExistsError(f"{path} is not a regular file")
    # One name a target: what a killed process left behind is overwritten by the next.
    temporary = path.with_name(f".{path.name}.tmp")
    try:
        with open(temporary, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException as error:
        temporary.unlink(missing_ok=True)
        if isinstance(error, OSError):  # about the file that was asked for
            raise OSError(error.errno, error.strerror, str(path)) from None
        raise
    if os.name == "posix":  # elsewhere a directory cannot be opened
        directory = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(directory)
        finally:
            os.close(directory)
