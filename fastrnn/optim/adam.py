"""Adam, and AdamW, which decays weights apart from the moments."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar

from fastrnn._validation import check_non_negative_float, check_positive_float
from fastrnn.backends import active_backend
from fastrnn.optim.base import Array, Optimizer, check_decay_rate
from fastrnn.parameters import Parameters


class Adam(Optimizer):
    r"""Steps along a running mean of the gradients, divided by the root of one of their squares.

    .. math:: m \leftarrow \beta_1 m + (1 - \beta_1) g, \qquad
              v \leftarrow \beta_2 v + (1 - \beta_2) g^2, \qquad
              \theta \leftarrow \theta - \eta \frac{m / (1 - \beta_1^t)}
                                                   {\sqrt{v / (1 - \beta_2^t)} + \epsilon}

    Parameters
    ----------
    parameters : Parameters
        What to update: ``model.parameters``.
    learning_rate : float
        :math:`\eta`, at least 0.
    betas : tuple of float
        :math:`\beta_1` and :math:`\beta_2`, in [0, 1).
    eps : float
        :math:`\epsilon`, a positive normal number in the dtype of the parameters.
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
    ``torch.optim.Adam``; Kingma and Ba, "Adam: a method for stochastic optimization" (2015),
    algorithm 1.
    """

    _checks: ClassVar = {
        "learning_rate": check_non_negative_float,
        "beta1": check_decay_rate,
        "beta2": check_decay_rate,
        "eps": check_positive_float,
        "weight_decay": check_non_negative_float,
    }

    def __init__(
        self,
        parameters: Parameters,
        learning_rate: float = 1e-3,
        *,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        schedule: Callable[[int], float] | None = None,
    ) -> None:
        if not isinstance(betas, Sequence) or len(betas) != 2:
            raise ValueError(f"betas must be two numbers in [0, 1), got {betas!r}")
        super().__init__(
            parameters,
            schedule,
            learning_rate=learning_rate,
            beta1=betas[0],
            beta2=betas[1],
            eps=eps,
            weight_decay=weight_decay,
        )

    def _buffer_names(self, settings: Mapping[str, Any]) -> tuple[str, ...]:
        return ("exp_avg", "exp_avg_sq")

    def _decay(self, learning_rate: float, weight_decay: float) -> tuple[float, float]:
        """Return the weight decay in the gradients, and the factor on the values."""
        return weight_decay, 1.0

    def _update(
        self, rate: float, weight_decay: float, values: Array, gradients: Array, *buffers: Array
    ) -> None:
        weight_decay, shrink = self._decay(rate, weight_decay)
        active_backend().adam(
            values,
            gradients,
            *buffers,
            step=self.steps,
            learning_rate=rate,
            beta1=self._settings["beta1"],
            beta2=self._settings["beta2"],
            eps=self._settings["eps"],
            weight_decay=weight_decay,
            shrink=shrink,
        )


class AdamW(Adam):
    r"""Adam whose weight decay shrinks the values directly, bypassing the moments.

    .. math:: \theta \leftarrow (1 - \eta \lambda) \theta

    comes before Adam's step, with :math:`\lambda` the weight decay.

    Parameters
    ----------
    parameters, learning_rate, betas, eps
        As in :class:`Adam`.
    weight_decay : float
        :math:`\lambda`, at least 0.
    schedule
        As in :class:`Adam`.

    Raises
    ------
    ValueError, TypeError
        If a setting is out of range.

    References
    ----------
    ``torch.optim.AdamW``; Loshchilov and Hutter, "Decoupled weight decay regularization" (2019),
    algorithm 2.
    """

    def __init__(
        self,
        parameters: Parameters,
        learning_rate: float = 1e-3,
        *,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 1e-2,
        schedule: Callable[[int], float] | None = None,
    ) -> None:
        super().__init__(
            parameters,
            learning_rate,
            betas=betas,
            eps=eps,
            weight_decay=weight_decay,
            schedule=schedule,
        )

    def _decay(self, learning_rate: float, weight_decay: float) -> tuple[float, float]:
        return 0.0, 1 - learning_rate * weight_decay
