"""Descriptions of data sets: their files, where they come from, and their licences."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from fastrnn.data.checksums import CHECKSUMS

if TYPE_CHECKING:
    from fastrnn.data.files import Content


@dataclass(frozen=True)
class File:
    """A file of a data set, in the form that its loader reads.

    Parameters
    ----------
    path : str
        Relative to a folder of all data sets. A folder may also have the file under only the last
        parts of the path.
    addresses : tuple of str
        Of the public originals; ``#sha256=...`` at the end is an original's checksum, if known.
    make : callable, optional
        ``make(*originals) -> content`` takes the bytes of the originals; without it the content is
        the only original.
    arrays : tuple of str
        Arrays that the checksum covers, if others depend on the processor's arithmetic; an empty
        tuple means all.

    Attributes
    ----------
    size : int
        Bytes of the content, unpacked.
    sha256 : str
        Of the content.
    """

    path: str
    addresses: tuple[str, ...]
    make: Callable[..., Content] | None = None
    arrays: tuple[str, ...] = ()

    @property
    def size(self) -> int:
        return CHECKSUMS[self.path][0]

    @property
    def sha256(self) -> str:
        return CHECKSUMS[self.path][1]


@dataclass(frozen=True)
class DataSet:
    """A data set; ``str()`` of it is the text to read before using it.

    Parameters
    ----------
    title, source : str
        A short description, and who made it: the text to cite.
    licence : str
    files : tuple of File
    load : callable
        ``load(*contents)`` of the files, in their order, returns the data.
    sample : callable
        ``sample()`` returns a few made-up examples of the same form.
    """

    title: str
    source: str
    licence: str
    files: tuple[File, ...]
    load: Callable[..., Any]
    sample: Callable[[], Any]

    def __str__(self) -> str:
        addresses = dict.fromkeys(
            address.partition("#")[0] for file in self.files for address in file.addresses
        )
        return "\n".join(
            [
                self.title,
                f"Source: {self.source}",
                f"Licence: {self.licence}",
                *(f"Address: {address}" for address in addresses),
                *(f"File: {file.path}" for file in self.files),
            ]
        )
