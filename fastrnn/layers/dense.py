"""The affine layer."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from fastrnn._validation import (
    as_array,
    check_array,
    check_bool,
    check_dtype,
    check_positive_int,
    check_seed,
)
from fastrnn.backends import active_backend
from fastrnn.layers.base import Module, Pullback
from fastrnn.parameters import Parameters

if TYPE_CHECKING:
    from types import ModuleType

    from numpy.typing import ArrayLike, DTypeLike


class Dense(Module):
    r"""Affine map of the last axis, :math:`y = x W^T + b`.

    Parameters
    ----------
    in_features, out_features : int
        Size of the last axis of input and output.
    bias : bool
        False leaves out `b`.
    dtype : {"float32", "float64"}
    seed : int, numpy.random.Generator or None
        Source of the initial parameters, uniform in :math:`\pm 1 / \sqrt{\text{in\_features}}`.

    Attributes
    ----------
    parameters : Parameters
        ``weight`` (out_features, in_features) and ``bias`` (out_features,).

    Raises
    ------
    ValueError, TypeError
        If an argument has the wrong type or is out of range.

    References
    ----------
    ``torch.nn.Linear``, whose names, shapes and initial distribution these are.
    """

    _fixed = frozenset({"in_features", "out_features", "bias", "dtype"})

    def __init__(
        self,
        in_features: int,
        out_features: int,
        bias: bool = True,
        *,
        dtype: DTypeLike = "float32",
        seed: Any = None,
    ) -> None:
        self.in_features = check_positive_int("in_features", in_features)
        self.out_features = check_positive_int("out_features", out_features)
        self.bias = check_bool("bias", bias)
        self.dtype = check_dtype(dtype)
        shapes = {"weight": (self.out_features, self.in_features)}
        if self.bias:
            shapes["bias"] = (self.out_features,)
        generator = check_seed(seed)
        self.parameters = Parameters(shapes, self.dtype)
        bound = 1 / math.sqrt(self.in_features)
        for array in self.parameters.values():
            array[...] = generator.uniform(-bound, bound, array.shape)

    def __call__(self, x: ArrayLike) -> np.ndarray:
        """Return the output (..., out_features) for `x` (..., in_features).

        Raises
        ------
        ValueError, TypeError
            If `x` has another last axis or does not cast to the layer's dtype.
        """
        return self._apply(active_backend(), self._check(x))

    def vjp(self, x: ArrayLike, *, copy: bool = True) -> tuple[np.ndarray, Pullback]:
        """Return the output and its pullback.

        Parameters
        ----------
        x : array_like, shape (..., in_features)
        copy : bool
            False keeps `x` itself for the pullback; it must not be modified until then.

        Returns
        -------
        output : ndarray, shape (..., out_features)
        pullback : callable
            ``d_x = pullback(d_output)`` with arrays of the shapes of `x` and `output`.

        Raises
        ------
        ValueError, TypeError
            As for a call; the pullback as well.
        """
        x = self._check(x, check_bool("copy", copy))
        backend = active_backend()
        output = self._apply(backend, x)
        shape = output.shape

        def adjoint(d_output: ArrayLike) -> np.ndarray:
            d_output = check_array("d_output", d_output, self.dtype, shape)
            owner = self._weight_owner()  # joined since, it may have other arrays
            d_weight, d_bias = owner.gradients["weight"], self.parameters.gradients.get("bias")
            return backend.affine_adjoint(d_output, x, owner["weight"], d_weight, d_bias)

        return output, Pullback(adjoint)

    def _check(self, x: ArrayLike, copy: bool = False) -> np.ndarray:
        x = as_array("x", x)
        return check_array("x", x, self.dtype, (*x.shape[:-1], self.in_features), copy=copy)

    def _apply(self, backend: ModuleType, x: np.ndarray) -> np.ndarray:
        return backend.affine(x, self._weight_owner()["weight"], self.parameters.get("bias"))

    def _weight_owner(self) -> Parameters:
        return self.parameters
