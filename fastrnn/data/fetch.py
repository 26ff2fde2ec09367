"""Data sets from their public addresses, kept in the user's cache."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

from fastrnn.data.files import check_content, needed, reading, write_content

if TYPE_CHECKING:
    from fastrnn.data.dataset import File


def cache() -> Path:
    """Return the folder of fetched files, laid out like a folder of all data sets.

    It is the one that pooch uses; pooch need not be installed.
    """
    usual = "~/Library/Caches" if sys.platform == "darwin" else "~/.cache"
    return Path(os.environ.get("XDG_CACHE_HOME") or os.path.expanduser(usual), "fastrnn")


def fetch(file: File) -> Path:
    """Fetch a file's originals, make the file of them, and return its path.

    Raises
    ------
    ImportError
        If pooch, or a package that making the file needs, is not installed.
    OSError
        If an address does not answer.
    ValueError
        If an original or the file made of it is not what it should be; it is not kept.
    """
    originals = [_fetch_original(address) for address in file.addresses]
    origin = "what came from " + file.addresses[0].partition("#")[0]
    try:
        with reading(origin):
            content = [original.read_bytes() for original in originals]
            made = file.make(*content) if file.make else content[0]
        check_content(made, file, origin)
    except ValueError:
        for original in originals:
            original.unlink(missing_ok=True)
        raise
    target = cache() / file.path
    write_content(target, made)
    return target


def _fetch_original(address: str) -> Path:
    url, _, checksum = address.partition("#sha256=")
    try:
        path = _pooch().retrieve(
            url, f"sha256:{checksum}" if checksum else None, path=cache() / "originals"
        )
    except OSError as error:
        raise OSError(
            f"cannot fetch {url}: {error}; FASTRNN_DATA may name a folder that has the file"
        ) from error
    return Path(path)


def _pooch() -> ModuleType:
    return needed("pooch", "fetching data sets")
