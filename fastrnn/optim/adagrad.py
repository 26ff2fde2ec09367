"""Adagrad."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, ClassVar

import numpy as np

from fastrnn._validation import check_non_negative_float, check_positive_float
from fastrnn.optim.base import Array, Optimizer
from fastrnn.parameters import Parameters


class Adagrad(Optimizer):
    r"""Steps divided by the root of the sum of all squared gradients.

    .. math:: s \leftarrow s + g^2, \qquad
              \theta \leftarrow \theta - \frac{\eta}{1 + \lambda (t - 1)}
                                         \frac{g}{\sqrt s + \epsilon}

    Parameters
    ----------
    parameters : Parameters
        What to update: ``model.parameters``.
    learning_rate : float
        :math:`\eta`, at least 0.
    lr_decay : float
        :math:`\lambda`, at least 0.
    weight_decay : float
        At least 0; this times the values is added to the gradients.
    initial_accumulator_value : float
        :math:`s` before the first step, at least 0.
    eps : float
        :math:`\epsilon`, a positive normal number in the dtype of the parameters.
    schedule : callable, optional
        From the number of steps made to a factor on the learning rate.

    Raises
    ------
    ValueError, TypeError
        If a setting is out of range.

    References
    ----------
    ``torch.optim.Adagrad``; Duchi et al., "Adaptive subgradient methods for online learning and
    stochastic optimization", JMLR 12 (2011).
    """

    _checks: ClassVar = {
        "learning_rate": check_non_negative_float,
        "lr_decay": check_non_negative_float,
        "weight_decay": check_non_negative_float,
        "initial_accumulator_value": check_non_negative_float,
        "eps": check_positive_float,
    }

    def __init__(
        self,
        parameters: Parameters,
        learning_rate: float = 1e-2,
        *,
        lr_decay: float = 0.0,
        weight_decay: float = 0.0,
        initial_accumulator_value: float = 0.0,
        eps: float = 1e-10,
        schedule: Callable[[int], float] | None = None,
    ) -> None:
        super().__init__(
            parameters,
            schedule,
            learning_rate=learning_rate,
            lr_decay=lr_decay,
            weight_decay=weight_decay,
            initial_accumulator_value=initial_accumulator_value,
            eps=eps,
        )
        self._buffers["sum"].fill(self._settings["initial_accumulator_value"])

    def _buffer_names(self, settings: Mapping[str, Any]) -> tuple[str, ...]:
        return ("sum",)

    def _update(
        self, rate: float, weight_decay: float, values: Array, gradients: Array, *buffers: Array
    ) -> None:
        adagrad_update(
            values,
            self._with_decay(weight_decay, values, gradients),
            *buffers,
            self._scratch[: values.size],
            rate / (1 + (self.steps - 1) * self._settings["lr_decay"]),
            self._settings["eps"],
        )


def adagrad_update(values, gradients, total, scratch, learning_rate, eps) -> None:
    """Step; all arrays (n,), `values` and `total`, the sum of squares, in place."""
    np.multiply(gradients, gradients, out=scratch)
    total += scratch
    np.sqrt(total, out=scratch)
    scratch += eps
    np.divide(gradients, scratch, out=scratch)
    scratch *= learning_rate
    values -= scratch
