"""Stochastic gradient descent."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, ClassVar

from fastrnn._validation import check_bool, check_non_negative_float
from fastrnn.backends import active_backend
from fastrnn.optim.base import Array, Optimizer, check_decay_rate
from fastrnn.parameters import Parameters


class SGD(Optimizer):
    r"""Stochastic gradient descent, with momentum if wanted.

    .. math:: b \leftarrow \mu b + g, \qquad \theta \leftarrow \theta - \eta b

    and with `nesterov` :math:`\theta \leftarrow \theta - \eta (g + \mu b)`.

    Parameters
    ----------
    parameters : Parameters
        What to update: ``model.parameters``.
    learning_rate : float
        :math:`\eta`, at least 0.
    momentum : float
        :math:`\mu` in [0, 1).
    nesterov : bool
        Look ahead along the momentum, which must be above 0.
    weight_decay : float
        At least 0; this times the values is added to the gradients.
    schedule : callable, optional
        From the number of steps made to a factor on the learning rate.

    Raises
    ------
    ValueError, TypeError
        If a setting is out of range.

    References
    ----------
    ``torch.optim.SGD``; Sutskever et al., "On the importance of initialization and momentum in deep
    learning" (2013).
    """

    _checks: ClassVar = {
        "learning_rate": check_non_negative_float,
        "momentum": check_decay_rate,
        "nesterov": check_bool,
        "weight_decay": check_non_negative_float,
    }

    def __init__(
        self,
        parameters: Parameters,
        learning_rate: float = 1e-3,
        *,
        momentum: float = 0.0,
        nesterov: bool = False,
        weight_decay: float = 0.0,
        schedule: Callable[[int], float] | None = None,
    ) -> None:
        super().__init__(
            parameters,
            schedule,
            learning_rate=learning_rate,
            momentum=momentum,
            nesterov=nesterov,
            weight_decay=weight_decay,
        )

    def _checked(self, settings: Mapping[str, Any]) -> dict[str, Any]:
        checked = super()._checked(settings)
        if checked["nesterov"] and checked["momentum"] == 0:
            raise ValueError("momentum must be above 0 for nesterov, got 0.0")
        return checked

    def _buffer_names(self, settings: Mapping[str, Any]) -> tuple[str, ...]:
        return ("momentum_buffer",) if settings["momentum"] else ()

    def _update(
        self, rate: float, weight_decay: float, values: Array, gradients: Array, *buffers: Array
    ) -> None:
        active_backend().sgd(
            values,
            gradients,
            *(buffers or (None,)),
            learning_rate=rate,
            momentum=self._settings["momentum"],
            weight_decay=weight_decay,
            nesterov=self._settings["nesterov"],
        )
