from typing import Any

import numpy as np

from fastrnn.cells import CellSpec

MOST_KEPT: int

class Scan:
    def __new__(
        cls,
        cell: CellSpec,
        weights: dict[str, np.ndarray],
        x: np.ndarray,
        offsets: np.ndarray,
        state: tuple[np.ndarray, ...],
        out: np.ndarray,
        reverse: bool = False,
        keep_tape: bool = False,
        extras: Any = None,
    ) -> Scan: ...

class Replay:
    def run(
        self, x: Any, state: Any, values: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray | tuple[np.ndarray, ...]] | None: ...

def replay(
    groups: list[list[Scan]],
    values: np.ndarray,
    x_shape: tuple[int, ...],
    output_shape: tuple[int, ...],
    state_shapes: tuple[tuple[int, ...], ...],
    swaps_axes: bool,
    before: Replay | None = None,
) -> Replay | None: ...
def scans(
    runs: list[Scan], most_threads: int | None = None
) -> list[tuple[tuple[np.ndarray, ...], Scan | None]]: ...
def scan_adjoints(
    tapes: list[Scan], runs: list[tuple[Any, ...]], most_threads: int | None = None
) -> list[tuple[np.ndarray | None, tuple[np.ndarray, ...]]]: ...
