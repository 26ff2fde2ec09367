from collections.abc import Mapping
from typing import Any

import numpy as np

class Scan:
    def __init__(
        self,
        cell: str,
        weights: Mapping[str, np.ndarray],
        x: np.ndarray,
        offsets: np.ndarray,
        state: tuple[np.ndarray, ...],
        out: np.ndarray,
        reverse: bool,
        keep: bool,
        extras: Any = None,
    ) -> None: ...
    def forward(self) -> tuple[np.ndarray, ...]: ...
    def adjoint(
        self,
        d_out: np.ndarray | None,
        d_final: tuple[np.ndarray | None, ...] | None,
        gradients: Mapping[str, np.ndarray],
    ) -> tuple[np.ndarray, tuple[np.ndarray, ...]]: ...

def forward_both(
    first: Scan, second: Scan
) -> tuple[tuple[np.ndarray, ...], tuple[np.ndarray, ...]]: ...
def adjoint_both(
    first: Scan, second: Scan, given: tuple[Any, ...], given_second: tuple[Any, ...]
) -> tuple[Any, Any]: ...
