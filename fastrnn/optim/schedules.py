"""Learning-rate schedules: from the number of steps made to a factor on the learning rate."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field

from fastrnn._validation import check_non_negative_float, check_positive_int


@dataclass(frozen=True)
class Constant:
    """Factor 1 at every step."""

    def __call__(self, step: int) -> float:
        """Return 1."""
        return 1.0


@dataclass(frozen=True)
class StepDecay:
    """Multiply the learning rate by `gamma` after every `step_size` steps.

    Parameters
    ----------
    step_size : int
        At least 1.
    gamma : float
        At least 0.

    Raises
    ------
    ValueError, TypeError
        If one is not.
    """

    step_size: int
    gamma: float = 0.1

    def __post_init__(self) -> None:
        check_positive_int("step_size", self.step_size)
        check_non_negative_float("gamma", self.gamma)

    def __call__(self, step: int) -> float:
        """Return the factor after `step` steps."""
        return self.gamma ** (step // self.step_size)


@dataclass(frozen=True)
class ExponentialDecay:
    """Multiply the learning rate by `gamma` after every step.

    Parameters
    ----------
    gamma : float
        At least 0.

    Raises
    ------
    ValueError, TypeError
        If it is not.
    """

    gamma: float

    def __post_init__(self) -> None:
        check_non_negative_float("gamma", self.gamma)

    def __call__(self, step: int) -> float:
        """Return the factor after `step` steps."""
        return self.gamma**step


@dataclass(frozen=True)
class CosineDecay:
    """Half a cosine from 1 at step 0 to `final` at `total_steps`, and `final` from there on.

    Parameters
    ----------
    total_steps : int
        Steps of the whole training, epochs times batches; at least 1.
    final : float
        Last factor, at least 0.

    Raises
    ------
    ValueError, TypeError
        If one is not.

    References
    ----------
    Loshchilov and Hutter, "SGDR: stochastic gradient descent with warm restarts" (2017), equation
    5, without restarts.
    """

    total_steps: int
    final: float = 0.0

    def __post_init__(self) -> None:
        check_positive_int("total_steps", self.total_steps)
        check_non_negative_float("final", self.final)

    def __call__(self, step: int) -> float:
        """Return the factor after `step` steps."""
        progress = min(step / self.total_steps, 1.0)
        return self.final + (1 - self.final) * (1 + math.cos(math.pi * progress)) / 2


@dataclass(frozen=True)
class WarmUp:
    """Rise linearly to 1 over `steps` steps, the first at ``1 / steps``; then follow `then`.

    Parameters
    ----------
    steps : int
        At least 1.
    then : callable
        A schedule, which counts its own steps from 0.

    Raises
    ------
    ValueError, TypeError
        If `steps` is not at least 1, or `then` is not callable.
    """

    steps: int
    then: Callable[[int], float] = field(default_factory=Constant)

    def __post_init__(self) -> None:
        check_positive_int("steps", self.steps)
        if not callable(self.then):
            raise TypeError(f"then must be callable, got {type(self.then).__name__}")

    def __call__(self, step: int) -> float:
        """Return the factor after `step` steps."""
        return (step + 1) / self.steps if step < self.steps else self.then(step - self.steps)
