"""Public data sets by name: from a folder, from the cache, or from their public addresses."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fastrnn._validation import check_bool, check_choice, check_path
from fastrnn.data.fetch import cache, fetch
from fastrnn.data.files import check_content, find, read_content
from fastrnn.data.sets import (
    dialogue,
    motion,
    music,
    pictures,
    sentiment,
    series,
    speech,
    text,
    translation,
)
from fastrnn.data.sets import (
    names as _names,
)

if TYPE_CHECKING:
    from fastrnn.data.dataset import DataSet, File
    from fastrnn.data.files import Content

DATASETS: dict[str, DataSet] = {
    **text.DATASETS,
    **sentiment.DATASETS,
    **_names.DATASETS,
    **translation.DATASETS,
    **dialogue.DATASETS,
    **pictures.DATASETS,
    **motion.DATASETS,
    **speech.DATASETS,
    **music.DATASETS,
    **series.DATASETS,
}


def names() -> list[str]:
    """Return the names of the data sets."""
    return list(DATASETS)


def info(name: str) -> DataSet:
    """Return the description of a data set: print it to read source, licence, addresses and files.

    Raises
    ------
    ValueError
        If there is no data set of this name.
    """
    return DATASETS[check_choice("name", name, DATASETS)]


def load(name: str, folder: str | Path | None = None, *, sample: bool = False) -> Any:
    """Return a data set, in the form that docs/data.md describes.

    Its files are read from `folder`. Without it, each is looked for in the folder that the
    environment variable ``FASTRNN_DATA`` names, then in the user's cache; if it is in neither, it
    is fetched into the cache, with the packages of ``fastrnn[data]``.

    Parameters
    ----------
    name : str
        One of :func:`names`.
    folder : str or Path, optional
        Of all data sets as docs/data.md lays them out, or of this set's files.
    sample : bool
        Whether to return a few made-up examples of the same form instead; nothing is read then.

    Raises
    ------
    ImportError
        If files have to be fetched and a package is missing.
    OSError
        If an address does not answer.
    ValueError
        If there is no data set of this name, `folder` does not have its files, or a file is not
        the published one. Files are never changed or removed.
    """
    dataset = info(name)
    if check_bool("sample", sample):
        return dataset.sample()
    return dataset.load(*[_content(file, folder) for file in dataset.files])


def _content(file: File, folder: str | Path | None) -> Content:
    path = _locate(file, folder)
    return check_content(read_content(path, file.size), file, path)


def _locate(file: File, folder: str | Path | None) -> Path:
    if folder is not None:
        found = find(file.path, _folder("folder", folder))
        if found is None:
            raise ValueError(f"folder {folder} has no {file.path}; without it, it is fetched")
        return found
    variable = os.environ.get("FASTRNN_DATA")
    found = find(file.path, _folder("FASTRNN_DATA", variable)) if variable else None
    return found or find(file.path, cache()) or fetch(file)


def _folder(name: str, value: str | Path) -> Path:
    path = check_path(name, value)
    if not path.is_dir():
        raise ValueError(f"{name} must be a folder, got {value}")
    return path
