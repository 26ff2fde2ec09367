from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

class Stepper:
    def __init__(
        self,
        cell: str,
        passes: Callable[[], list[Mapping[str, np.ndarray]]],
        parameters: Any,
        states: tuple[np.ndarray, ...],
        check: Callable[[Any, Any], tuple[np.ndarray, np.ndarray | None]],
        extras: Any = None,
    ) -> None: ...
    def step(self, x: Any, out: np.ndarray | None = None) -> np.ndarray: ...
    def copy_states(self) -> tuple[np.ndarray, ...]: ...
    def set_states(self, values: tuple[np.ndarray, ...]) -> None: ...
