from collections.abc import Mapping
from typing import Any

import numpy as np

from fastrnn.cells import CellSpec

class Scan:
    def __init__(
        self,
        cell: CellSpec,
        weights: Mapping[str, np.ndarray],
        x: np.ndarray,
        offsets: np.ndarray,
        state: tuple[np.ndarray, ...],
        out: np.ndarray,
        reverse: bool = False,
        keep_tape: bool = False,
        extras: Any = None,
    ) -> None: ...

def scans(
    runs: list[Scan], most_threads: int | None = None
) -> list[tuple[tuple[np.ndarray, ...], Scan | None]]: ...
def scan_adjoints(
    tapes: list[Scan], runs: list[tuple[Any, ...]], most_threads: int | None = None
) -> list[tuple[np.ndarray | None, tuple[np.ndarray, ...]]]: ...
