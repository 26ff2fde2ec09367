from numpy import ndarray
from numpy.typing import DTypeLike

def empty(shape: tuple[int, ...], dtype: DTypeLike) -> ndarray: ...
