"""What every layer and every model is."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from fastrnn.parameters import Parameters

if TYPE_CHECKING:
    from numpy.typing import ArrayLike


class Module:
    """Base of layers and models: call it for inference, and its ``vjp`` for training.

    ``y = module(x)`` keeps nothing. ``y, pullback = module.vjp(x)`` also returns the function that
    takes the gradient of a loss with respect to ``y``, adds the gradients of the parameters into
    ``gradients`` and returns that of ``x``. That function can be used once. Recurrent layers
    also take and return a state.

    Parameters must stay as they are between a ``vjp`` and its pullback, which reads them again.

    The parts of a module are joined when it is made, so none can be exchanged later: that raises a
    ValueError. Copy parameters in with :meth:`load_state_dict` of a part.

    Attributes
    ----------
    parameters : Parameters
        Writable views by name; what is written there is used by the next call.
    """

    parameters: Parameters
    # Attributes that only the constructor reads, such as sizes: to set one later has no effect.
    _fixed: ClassVar[frozenset[str]] = frozenset()

    def __setattr__(self, name: str, value: Any) -> None:
        old, own = self.__dict__.get(name), self.__dict__.get("parameters")
        if isinstance(old, (Module, Parameters)) and not isinstance(value, (Module, Parameters)):
            kind = type(old).__name__
            raise TypeError(f"{name} must stay a {kind}, got {value!r:.80}; set what it holds")
        if own is not None and name in self._fixed:
            kind = type(self).__name__
            raise ValueError(
                f"{name} must stay what this {kind} was made with, {getattr(self, name)!r:.80}, "
                f"got {value!r:.80}; make another {kind}"
            )
        if own:  # parts, if any, are joined already
            new = value if name == "parameters" else getattr(value, "parameters", None)
            is_part = own.is_part if name == "parameters" else isinstance(value, Module)
            if is_part and isinstance(new, Parameters) and len(new) and not new.is_within(own):
                raise ValueError(
                    f"{name} must be of the parts that were joined when this was made, got another "
                    f"{type(value).__name__}: copy its parameters in with load_state_dict, or make "
                    f"another {type(self).__name__}"
                )
        super().__setattr__(name, value)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} of {self.parameters}>"

    @property
    def gradients(self) -> Mapping[str, np.ndarray]:
        """Gradients by the parameters' names, which pullbacks add into."""
        return self.parameters.gradients

    def zero_gradients(self) -> None:
        """Set every gradient to zero."""
        self.parameters.zero_gradients()

    def state_dict(self) -> dict[str, np.ndarray]:
        """Return copies of the parameters by name."""
        return self.parameters.state_dict()

    def load_state_dict(self, state: Mapping[str, ArrayLike]) -> None:
        """Copy parameters in; see :meth:`fastrnn.parameters.Parameters.load_state_dict`."""
        self.parameters.load_state_dict(state)


class Pullback:
    """The adjoint of one call. It can be used once, and then frees what it kept for that.

    After a refused call (wrong shape or dtype) it is still usable. A call that ends in another
    error, such as Ctrl-C, may have added some of its gradients, and cannot be repeated.

    Parameters
    ----------
    adjoint : callable
        Checks its arguments before it changes anything.

    Raises
    ------
    RuntimeError
        When called again.
    """

    __slots__ = ("_adjoint",)

    def __init__(self, adjoint: Callable[..., Any]) -> None:
        self._adjoint = [adjoint]  # a list, which hands it to one of several threads

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Return what the adjoint returns."""
        try:
            adjoint = self._adjoint.pop()
        except IndexError:
            raise RuntimeError("this pullback has been used; call vjp again for another") from None
        try:
            return adjoint(*args, **kwargs)
        except (TypeError, ValueError):
            self._adjoint.append(adjoint)
            raise
