"""exp, tanh and sigmoid of the kernels: error bounds in ULP, and the limits."""

import os

import numpy as np
import pytest

if os.environ.get("FASTRNN_BACKEND") == "reference":
    pytest.skip("the NumPy backend has no vector functions of its own", allow_module_level=True)

from fastrnn._core import kernels

# Documented in src/kernels/math.inc.h.
BOUNDS = {"exp": 1.5, "tanh": 3.0, "sigmoid": 2.5}
# Results are normal numbers between these arguments.
RANGES = {
    ("exp", "float32"): (-87.3, 88.7),
    ("exp", "float64"): (-708.3, 709.7),
    ("tanh", "float32"): (-12, 12),
    ("tanh", "float64"): (-24, 24),
    ("sigmoid", "float32"): (-87.3, 40),
    ("sigmoid", "float64"): (-708.3, 60),
}
EXACT = {
    "exp": np.exp,
    "tanh": np.tanh,
    "sigmoid": lambda x: 1 / (1 + np.exp(-x)),
}


@pytest.fixture(params=kernels.available_isas())
def isa(request):
    before = kernels.isa()
    kernels.use_isa(request.param)
    yield request.param
    kernels.use_isa(before)


def arguments(function, dtype):
    low, high = RANGES[function, dtype]
    rng = np.random.default_rng(0)
    tiny = np.finfo(dtype).tiny
    small = np.geomspace(tiny, 1, 20_001)
    x = np.concatenate(
        [rng.uniform(low, high, 200_001), rng.uniform(-2, 2, 100_001), small, -small]
    )
    return x.astype(dtype)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("function", BOUNDS)
def test_error_bound(isa, function, dtype):
    wide = np.float64 if dtype == "float32" else np.longdouble
    x = arguments(function, dtype)
    exact = EXACT[function](x.astype(wide))
    error = np.abs(kernels.apply(function, x).astype(wide) - exact)
    worst = float((error / np.spacing(np.abs(exact).astype(dtype)).astype(wide)).max())
    # Where long double is no wider than double, the exact value is itself off by a few halves.
    slack = 0 if np.finfo(wide).eps < np.finfo(dtype).eps else 1.5
    assert worst <= BOUNDS[function] + slack


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(
    ("function", "x", "y"),
    [
        ("exp", [-np.inf, -1e4, 0.0, -0.0, np.inf, 1e4], [0, 0, 1, 1, np.inf, np.inf]),
        ("tanh", [-np.inf, -1e30, 0.0, -0.0, 1e30, np.inf], [-1, -1, 0, -0.0, 1, 1]),
        ("sigmoid", [-np.inf, -1e30, 0.0, -0.0, 1e30, np.inf], [0, 0, 0.5, 0.5, 1, 1]),
    ],
)
def test_limits(isa, function, x, y, dtype):
    # Twice as many as the longest vector, and a part of one.
    x, y = np.array(x * 7, dtype), np.array(y * 7, dtype)
    np.testing.assert_array_equal(kernels.apply(function, x), y)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("function", BOUNDS)
def test_nan_gives_nan_and_touches_no_neighbour(isa, function, dtype):
    for size in (1, 3, 19):
        x = np.zeros(size, dtype)
        x[size // 2] = np.nan
        np.testing.assert_array_equal(np.isnan(kernels.apply(function, x)), np.isnan(x))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_denormal_arguments(isa, dtype):
    x = np.array([1, -1, 3, 1000], dtype) * np.finfo(dtype).smallest_subnormal
    np.testing.assert_array_equal(kernels.apply("tanh", x), x)
    np.testing.assert_array_equal(kernels.apply("exp", x), np.ones_like(x))
    np.testing.assert_array_equal(kernels.apply("sigmoid", x), np.full_like(x, 0.5))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_denormal_results(isa, dtype):
    """Below the normal numbers the error is below the smallest of them."""
    tiny = np.finfo(dtype).tiny
    x = np.linspace(-120 if dtype == "float32" else -760, np.log(tiny), 1001).astype(dtype)
    for function in ("exp", "sigmoid"):
        y = kernels.apply(function, x)
        assert np.abs(y - np.exp(x)).max() <= tiny


def test_apply_refuses_what_it_cannot_take():
    with pytest.raises(TypeError, match="x must be a contiguous float32 or float64 array"):
        kernels.apply("exp", np.zeros(3, int))
    with pytest.raises(TypeError, match="contiguous"):
        kernels.apply("exp", np.zeros(6)[::2])
    with pytest.raises(ValueError, match="function must be exp, tanh or sigmoid, got 'sin'"):
        kernels.apply("sin", np.zeros(3))
