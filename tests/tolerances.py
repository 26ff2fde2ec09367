"""The one table of tolerances, and the one way in which arrays are compared.

Errors are relative to the largest element expected, array by array. The worst that these tests
measure is 3e-8 from central differences, 1.3e-15 in float64 and 1.6e-6 in float32.
"""

import numpy as np

# Of analytic gradients from central differences of a float64 loss.
CENTRAL_DIFFERENCES = 1e-7

# Of any result from PyTorch's float64 numbers, and from the NumPy reference in float64.
TOLERANCES = {"float64": 1e-12, "float32": 1e-5}


# Layer normalisation divides rounding errors too by the deviation of a row, which is 0.01 and less
# where a product has one or two terms. The worst that is measured is 3.7e-5, in float32.
NORMALISED = 10


def tolerance(cell: str, dtype: str) -> float:
    """Return the tolerance of a cell's results."""
    return TOLERANCES[dtype] * (NORMALISED if "normalised" in cell else 1)


def relative_error(actual: np.ndarray, expected: np.ndarray) -> float:
    """Return max |actual - expected| / max |expected|; absolute where all expected are zero."""
    actual, expected = np.asarray(actual, np.float64), np.asarray(expected, np.float64)
    assert actual.shape == expected.shape
    if expected.size == 0:
        return 0.0
    return float(np.max(np.abs(actual - expected)) / (np.max(np.abs(expected)) or 1.0))


def assert_close(actual: np.ndarray, expected: np.ndarray, limit: float, name: str = "") -> None:
    """Fail where `actual` is further than `limit` from `expected`, or has a NaN."""
    error = relative_error(actual, expected)
    assert error <= limit, f"{name}: relative error {error:.2e} > {limit:.0e}"
