"""RMSprop."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, ClassVar

import numpy as np

from fastrnn._validation import check_bool, check_non_negative_float, check_positive_float
from fastrnn.backends import active_backend
from fastrnn.optim.base import Array, Optimizer, check_decay_rate
from fastrnn.parameters import Parameters


class RMSprop(Optimizer):
    r"""Steps divided by the root of a running average of squared gradients.

    .. math:: v \leftarrow \alpha v + (1 - \alpha) g^2, \qquad
              b \leftarrow \mu b + \frac{g}{\sqrt v + \epsilon}, \qquad
              \theta \leftarrow \theta - \eta b

    and with `centered` :math:`v - m^2` in place of :math:`v` in the quotient, where
    :math:`m \leftarrow \alpha m + (1 - \alpha) g`.

    Parameters
    ----------
    parameters : Parameters
        What to update: ``model.parameters``.
    learning_rate : float
        :math:`\eta`, at least 0.
    alpha : float
        :math:`\alpha` in [0, 1).
    eps : float
        :math:`\epsilon`, a positive normal number in the dtype of the parameters.
    weight_decay : float
        At least 0; this times the values is added to the gradients.
    momentum : float
        :math:`\mu` in [0, 1).
    centered : bool
        Divide by the gradients' standard deviation about their mean :math:`m`.
    schedule : callable, optional
        From the number of steps made to a factor on the learning rate.

    Raises
    ------
    ValueError, TypeError
        If a setting is out of range.

    References
    ----------
    ``torch.optim.RMSprop``; Graves, "Generating sequences with recurrent neural networks" (2013),
    equations 38 to 41, for the centred form.
    """

    _checks: ClassVar = {
        "learning_rate": check_non_negative_float,
        "alpha": check_decay_rate,
        "eps": check_positive_float,
        "weight_decay": check_non_negative_float,
        "momentum": check_decay_rate,
        "centered": check_bool,
    }

    def __init__(
        self,
        parameters: Parameters,
        learning_rate: float = 1e-2,
        *,
        alpha: float = 0.99,
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        momentum: float = 0.0,
        centered: bool = False,
        schedule: Callable[[int], float] | None = None,
    ) -> None:
        super().__init__(
            parameters,
            schedule,
            learning_rate=learning_rate,
            alpha=alpha,
            eps=eps,
            weight_decay=weight_decay,
            momentum=momentum,
            centered=centered,
        )

    def _buffer_names(self, settings: Mapping[str, Any]) -> tuple[str, ...]:
        names = {
            "square_avg": True,
            "grad_avg": settings["centered"],
            "momentum_buffer": settings["momentum"] > 0,
        }
        return tuple(name for name, wanted in names.items() if wanted)

    def _update(
        self, rate: float, weight_decay: float, values: Array, gradients: Array, *buffers: Array
    ) -> None:
        gradients = self._with_decay(weight_decay, values, gradients)
        averages = dict(zip(self._buffers, buffers))
        quotient = self._scratch[: values.size]
        rmsprop_quotient(
            gradients,
            averages["square_avg"],
            averages.get("grad_avg"),
            quotient,
            self._settings["alpha"],
            self._settings["eps"],
        )
        active_backend().sgd(
            values,
            quotient,
            averages.get("momentum_buffer"),
            learning_rate=rate,
            momentum=self._settings["momentum"],
            weight_decay=0.0,
            nesterov=False,
        )


def rmsprop_quotient(gradients, square_avg, grad_avg, quotient, alpha, eps) -> None:
    """Write gradients over their root mean square into `quotient`; all arrays (n,).

    The running averages `square_avg` and `grad_avg` (None: not centred) are updated in place.
    """
    np.multiply(gradients, gradients, out=quotient)
    quotient *= 1 - alpha
    square_avg *= alpha
    square_avg += quotient
    if grad_avg is None:
        np.sqrt(square_avg, out=quotient)
    else:
        np.multiply(gradients, 1 - alpha, out=quotient)
        grad_avg *= alpha
        grad_avg += quotient
        np.multiply(grad_avg, grad_avg, out=quotient)
        np.subtract(square_avg, quotient, out=quotient)
        np.maximum(quotient, 0, out=quotient)  # rounding can take a variance below zero
        np.sqrt(quotient, out=quotient)
    quotient += eps
    np.divide(gradients, quotient, out=quotient)
