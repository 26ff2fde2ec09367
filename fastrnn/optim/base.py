"""What all optimisers share."""

from __future__ import annotations

import inspect
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from functools import cached_property
from typing import Any, ClassVar

import numpy as np

from fastrnn._validation import check_array, check_non_negative_float, check_non_negative_int
from fastrnn.optim.schedules import Constant
from fastrnn.parameters import Parameters

Array = np.ndarray


class Optimizer(ABC):
    """What all optimisers share: settings, step count, buffers, and saving them.

    Attributes
    ----------
    parameters : Parameters
        What is updated.
    schedule : callable
        From the number of steps made to a factor on the learning rate. It is not part of the state.
    steps : int
        Number of steps made.

    Notes
    -----
    Settings can be read by their names; of them, `learning_rate` can be set as well.
    """

    # The settings, each with what judges it.
    _checks: ClassVar[Mapping[str, Callable[[str, Any], Any]]]
    # Arguments of the constructor that would have no effect later; the buffers fit `parameters`.
    _fixed: ClassVar[frozenset[str]]

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        if "_checks" in vars(cls):  # others may set attributes of their own
            arguments = frozenset(inspect.signature(cls).parameters)
            cls._fixed = arguments - {"learning_rate", "schedule"}

    def __init__(
        self,
        parameters: Parameters,
        schedule: Callable[[int], float] | None,
        **settings: float | bool,
    ) -> None:
        check_parameters(parameters)
        if schedule is not None and not callable(schedule):
            raise TypeError(f"schedule must be callable, got {type(schedule).__name__}")
        self.parameters = parameters
        self._settings = self._checked(settings)
        self.schedule = Constant() if schedule is None else schedule
        self.steps = 0
        self._buffers = self._new_buffers(self._settings)
        self._factors: dict[str, dict[str, float]] = {}

    def __setattr__(self, name: str, value: Any) -> None:
        if name in self._fixed and "steps" in self.__dict__:
            kind = type(self).__name__
            raise ValueError(f"{name} cannot be set later, got {value!r:.80}; make another {kind}")
        super().__setattr__(name, value)

    def __getattr__(self, name: str) -> Any:
        settings = self.__dict__.get("_settings", {})
        if name not in settings:
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")
        return settings[name]

    def __repr__(self) -> str:
        settings = ", ".join(f"{name}={value}" for name, value in self._settings.items())
        own = "".join(f"; {name}: {factors}" for name, factors in self._factors.items())
        return f"<{type(self).__name__} after {self.steps} steps: {settings}{own}>"

    def __getstate__(self) -> dict[str, Any]:
        return {k: v for k, v in self.__dict__.items() if k not in ("_scratch", "_decayed")}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._settings, self._factors = dict(state["_settings"]), dict(state["_factors"])
        # They may come as views of a file that cannot be written, as joblib hands arrays on.
        self._buffers = self._new_buffers(self._settings)
        for name, buffer in self._buffers.items():
            buffer[:] = state["_buffers"][name]

    @cached_property
    def _scratch(self) -> np.ndarray:
        return self.parameters.new_buffer()

    @cached_property
    def _decayed(self) -> np.ndarray:
        return self.parameters.new_buffer()

    @property
    def learning_rate(self) -> float:
        """Step size before the schedule's factor; may be set between steps."""
        return self._settings["learning_rate"]

    @learning_rate.setter
    def learning_rate(self, value: float) -> None:
        self._settings["learning_rate"] = check_non_negative_float("learning_rate", value)

    def scale(
        self,
        *names: str,
        learning_rate: float | None = None,
        weight_decay: float | None = None,
    ) -> None:
        """Give arrays factors of their own, such as 0 on the weight decay of biases.

        A resumed run has those of its file. See :meth:`fastrnn.parameters.Parameters.freeze` for
        what is not to be trained at all.

        Parameters
        ----------
        *names : str
            Of arrays of ``parameters``.
        learning_rate, weight_decay : float or None
            Factor on that setting for these arrays from now on, at least 0 and 1 at first; None
            leaves it as it is.

        Raises
        ------
        KeyError
            If there is no such name.
        ValueError, TypeError
            If a factor is not a non-negative number. A refused call changes nothing.
        """
        self.parameters.check_names(names)
        given = {"learning_rate": learning_rate, "weight_decay": weight_decay}
        factors = {
            setting: check_non_negative_float(setting, factor)
            for setting, factor in given.items()
            if factor is not None
        }
        for name in names:
            self._factors[name] = self._factors.get(name, {}) | factors

    def step(self) -> None:
        """Update the parameters from their gradients, which stay as they are.

        Those that are frozen stay as well, as do their averages.

        Raises
        ------
        ValueError, TypeError
            If the schedule returns anything but a non-negative number.
        """
        rate = self.scheduled_rate(self.steps)
        self.__dict__["steps"] += 1  # a quarter of the time of an attribute that is checked
        own = self.parameters
        buffers = own.flat_values, own.flat_gradients, *self._buffers.values()
        weight_decay = self._settings["weight_decay"]
        for factors, piece in own.runs(self._factors, *buffers):
            if factors is None:
                self._update(rate, weight_decay, *piece)
            else:
                own_rate = rate * factors.get("learning_rate", 1.0)
                self._update(own_rate, weight_decay * factors.get("weight_decay", 1.0), *piece)

    def scheduled_rate(self, steps: int) -> float:
        """Return the step size, with the schedule's factor, of the step after `steps` others.

        Raises
        ------
        ValueError, TypeError
            If the schedule returns anything but a non-negative number.
        """
        factor = check_non_negative_float("schedule(steps)", self.schedule(steps))
        return self.learning_rate * factor

    def state_dict(self) -> dict[str, Any]:
        """Return what a resumed run needs to continue to the same bits.

        Returns
        -------
        state : dict
            ``algorithm`` (the class's name), ``steps``, the settings and the factors of arrays as
            ``"setting.parameter"``, all JSON scalars; and copies of the buffers as
            ``"buffer.parameter"`` in the parameters' shapes and dtype.
        """
        factors = {
            f"{setting}.{name}": factor
            for name, own in self._factors.items()
            for setting, factor in own.items()
        }
        arrays = {name: view.copy() for name, view in self._named(self._buffers).items()}
        algorithm = type(self).__name__
        return {
            "algorithm": algorithm,
            "steps": self.steps,
            **self._settings,
            **factors,
            **arrays,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore what :meth:`state_dict` returned; a refused state changes nothing.

        Raises
        ------
        KeyError
            If names are missing or unknown; the message lists them.
        ValueError
            If the state is another algorithm's, a setting is impossible or a shape differs.
        TypeError
            If the state is not a mapping or a value is of the wrong kind.
        """
        if not isinstance(state, Mapping):
            raise TypeError(f"state must be a mapping, got {type(state).__name__}")
        algorithm = type(self).__name__
        found = state.get("algorithm", algorithm)
        if not isinstance(found, str) or found != algorithm:
            raise ValueError(f"state must be of {algorithm}, got {found!s:.80}")
        given = {name: state[name] for name in self._checks if name in state}
        settings = self._checked(self._settings | given)
        buffers = self._new_buffers(settings)
        views = self._named(buffers)
        names = ("algorithm", "steps", *self._checks, *views)
        missing = [name for name in names if name not in state]
        factors: dict[str, dict[str, float]] = {}
        for setting in ("learning_rate", "weight_decay"):
            for name in self.parameters:
                if (key := f"{setting}.{name}") in state:
                    factor = check_non_negative_float(key, state[key])
                    factors.setdefault(name, {})[setting] = factor
                    names += (key,)
        unexpected = [str(name) for name in state if name not in names]
        if missing or unexpected:
            raise KeyError(
                f"state does not fit: missing {', '.join(missing) or 'nothing'}; "
                f"unexpected {', '.join(unexpected) or 'nothing'}"
            )
        steps = check_non_negative_int("steps", state["steps"])
        for name, view in views.items():
            view[...] = check_array(name, state[name], view.dtype, view.shape)
        self.steps, self._settings, self._buffers = steps, settings, buffers
        self._factors = factors

    def _checked(self, settings: Mapping[str, Any]) -> dict[str, Any]:
        checked = {name: check(name, settings[name]) for name, check in self._checks.items()}
        dtype = self.parameters.dtype
        least = float(np.finfo(dtype).tiny)
        if checked.get("eps", least) < least:  # zero there, and 0 / 0 is no step
            raise ValueError(f"eps must be at least {least} in {dtype}, got {checked['eps']}")
        return checked

    @abstractmethod
    def _buffer_names(self, settings: Mapping[str, Any]) -> tuple[str, ...]:
        """Return the names of the arrays that these settings keep from step to step."""

    def _new_buffers(self, settings: Mapping[str, Any]) -> dict[str, np.ndarray]:
        return {name: self.parameters.new_buffer() for name in self._buffer_names(settings)}

    def _named(self, buffers: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        return {
            f"{buffer}.{name}": view
            for buffer, flat in buffers.items()
            for name, view in self.parameters.views(flat).items()
        }

    def _with_decay(self, weight_decay: float, values: Array, gradients: Array) -> Array:
        """Return the gradients with the weight decay's share where there is one."""
        if weight_decay == 0:
            return gradients
        decayed = self._decayed[: values.size]
        np.multiply(values, weight_decay, out=decayed)
        decayed += gradients
        return decayed

    @abstractmethod
    def _update(
        self, rate: float, weight_decay: float, values: Array, gradients: Array, *buffers: Array
    ) -> None:
        """Make step number ``steps``, counted from 1, of a piece (n,) of all that there is.

        `rate` is the step size; `buffers` are those that the settings name, in that order.
        """


def check_parameters(parameters: Any) -> None:
    """Refuse what is not `Parameters`, such as a model itself; TypeError."""
    if not isinstance(parameters, Parameters):
        raise TypeError(
            f"parameters must be a model's .parameters, got {type(parameters).__name__}; "
            "fastrnn.parameters.join makes one of those of several layers"
        )


def check_decay_rate(name: str, value: Any) -> float:
    """Return the weight that a running average gives its past; 1 would never forget."""
    rate = check_non_negative_float(name, value)
    if rate >= 1:
        raise ValueError(f"{name} must be in [0, 1), got {rate}")
    return rate
