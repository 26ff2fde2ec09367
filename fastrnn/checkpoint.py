"""Checkpoints: one safetensors file with all that a run needs to continue, or with a model.

The file holds arrays, and one metadata entry ``fastrnn`` with a JSON object. Both are split in
sections (``model``, ``optimizer``, ``progress``, ...): array ``weight`` of section ``model`` is the
tensor ``model.weight``, everything else of the section is in the JSON object under the section's
name, and ``sha256`` there is the digest of all of it. There is no pickle in it, and nothing in it
is executed.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.numpy
from safetensors import SafetensorError

from fastrnn._files import write_atomically
from fastrnn._validation import check_path

FORMAT_VERSION = 1
_METADATA_KEY = "fastrnn"

Sections = dict[str, dict[str, Any]]


class CheckpointError(ValueError):
    """The file is no checkpoint of fastrnn, is damaged, or does not hold what was asked for."""


def save_checkpoint(path: str | Path, sections: Mapping[str, Mapping[str, Any]]) -> None:
    """Write a checkpoint atomically.

    Parameters
    ----------
    path : str or Path
    sections : mapping of str to mapping
        Section names (without dots) to named values, each an array or something that JSON holds.

    Raises
    ------
    OSError
        If the file cannot be written; the one before is still there.
    TypeError, ValueError
        If a section is not a mapping, has a name that would not be found again, or holds what a
        file cannot; the file before is still there.
    """
    if not isinstance(sections, Mapping):
        raise TypeError(f"sections must be a mapping, got {type(sections).__name__}")
    arrays: dict[str, np.ndarray] = {}
    document: dict[str, Any] = {"format_version": FORMAT_VERSION}
    for section, values in sections.items():
        if section in (*document, "sha256") or "." in section:
            raise ValueError(
                f"a section's name must have no dot and not be one of the file's own, got {section}"
            )
        if not isinstance(values, Mapping):
            raise TypeError(f"{section} must be a mapping of names, got {type(values).__name__}")
        plain = {}
        for name, value in values.items():
            if isinstance(value, np.ndarray):
                arrays[f"{section}.{name}"] = _as_stored(f"{section}.{name}", value)
            else:
                plain[name] = value
        document[section] = _as_json(section, plain)
    document["sha256"] = _digest(arrays, document)
    # A single entry: safetensors writes several in an order that differs from run to run.
    metadata = {_METADATA_KEY: json.dumps(document)}
    write_atomically(check_path("path", path), safetensors.numpy.save(arrays, metadata))


def with_sections(own: Sections, added: Mapping[str, Mapping[str, Any]]) -> Sections:
    """Return the sections of a model or run and those added; ValueError if a name is in both."""
    for section in added:
        if section in own:
            raise ValueError(
                f"a section's name must be none of {', '.join(own)}, which are in the file anyway, "
                f"got {section}"
            )
    return {**added, **own}


def load_checkpoint(path: str | Path) -> Sections:
    """Read a checkpoint; return its sections as they were given to :func:`save_checkpoint`.

    Raises
    ------
    CheckpointError
        If there is no such file or it is not a whole checkpoint of a known format. The message is
        one line.
    TypeError
        If the path is neither a str nor a Path.
    """
    path = check_path("path", path)
    try:
        if not path.exists():
            raise CheckpointError(f"there is no file {path}")
        if not path.is_file():
            raise CheckpointError(f"{path} is not a file")
        data = path.read_bytes()
    except OSError as error:
        raise CheckpointError(f"cannot read {path}: {error.strerror or error}") from None
    try:
        arrays = safetensors.numpy.load(data)
        # safetensors has checked the header, but its Python interface does not give the metadata.
        header = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])
    except (SafetensorError, ValueError, TypeError, KeyError) as error:
        raise CheckpointError(
            f"{path} is damaged or no safetensors file ({first_line(error)})"
        ) from None
    try:
        document = json.loads(header["__metadata__"][_METADATA_KEY])
        version, digest = document.pop("format_version"), document.pop("sha256")
        sections = {section: dict(values) for section, values in document.items()}
        for key, array in arrays.items():
            section, name = key.split(".", 1)
            sections[section][name] = array
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        raise CheckpointError(
            f"{path} was not written by fastrnn; give a file that it saved"
        ) from None
    if version != FORMAT_VERSION:
        raise CheckpointError(
            f"{path} has format version {str(version)[:20]}, this fastrnn reads {FORMAT_VERSION}; "
            "use the fastrnn that wrote it"
        )
    if digest != _digest(arrays, {"format_version": version, **document}):
        raise CheckpointError(f"{path} is damaged (its checksum is another); use a copy of it")
    return sections


def _as_stored(name: str, array: np.ndarray) -> np.ndarray:
    """Return an array in the form in which it is read back."""
    if array.dtype.kind not in "biuf" or array.dtype.itemsize > 8:
        raise TypeError(f"{name} must be real, of at most 64 bits, got dtype {array.dtype}")
    return np.asarray(array, array.dtype.newbyteorder("="), order="C")


def _as_json(section: str, values: Mapping[str, Any]) -> Any:
    """Return values in the form in which they are read back: keys are strings, tuples are lists."""
    try:
        return json.loads(json.dumps(values))
    except (TypeError, ValueError) as error:
        raise TypeError(f"{section} must hold arrays and what JSON holds: {error}") from None


def _digest(arrays: Mapping[str, np.ndarray], document: Mapping[str, Any]) -> str:
    """Return the SHA-256 of names, types, shapes and contents."""
    digest = hashlib.sha256(json.dumps(document, sort_keys=True).encode())
    for name, array in sorted(arrays.items()):
        digest.update(f"{name} {array.dtype.str} {array.shape}".encode())
        digest.update(array.data)
    return digest.hexdigest()


def first_line(error: Exception) -> str:
    """Return what an error says, cut to one line."""
    text = str(error.args[0] if isinstance(error, KeyError) and error.args else error)
    return text.splitlines()[0][:200] if text else type(error).__name__
