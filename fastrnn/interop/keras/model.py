"""Models of Keras: calls of the layers of `fastrnn.interop.keras.layers`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from fastrnn._validation import as_array, check_positive_int
from fastrnn.interop.keras.base import Layer

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from fastrnn.layers.base import Module

# A value: a layer's name, the number of its call, the number of the output.
Key = tuple[str, int, int]


class Call(NamedTuple):
    """A layer applied to values of earlier calls.

    Attributes
    ----------
    name, number : str, int
        Which call of which layer: its outputs are the values (name, number, k).
    layer : Layer
    inputs : Key, or list of Key
        A list for layers that take one.
    mask : Key or None, or list of them
        A mask that is given explicitly, in place of the inputs' own; a list if `inputs` is one.
    state : list of Key
    unmasked : bool
        Whether the layer ignores the mask of its input; its output still has this mask.
    """

    name: str
    number: int
    layer: Layer
    inputs: Any
    mask: Any = None
    state: Sequence[Key] = ()
    unmasked: bool = False

    @property
    def needs(self) -> list[Key]:
        """The values that the call reads."""
        masks = [key for key in keys(self.mask) if key is not None]
        return [*keys(self.inputs), *masks, *self.state]

    def run(self, known: dict[Key, tuple[np.ndarray, Any]]) -> None:
        """Add the outputs and their masks to the known values."""
        x, own = (replaced(self.inputs, lambda key, k=k: known[key][k]) for k in range(2))
        mask = None if self.unmasked else own
        if self.mask is not None:
            given = [None if key is None else known[key][0] for key in keys(self.mask)]
            if isinstance(self.layer, Submodel):  # whose inputs keep theirs where none is given
                given = [a if b is None else b for a, b in zip(keys(own), given)]
            mask = given if isinstance(self.mask, list) else given[0]
        options = {"state": [known[key][0] for key in self.state]} if self.state else {}
        y, after = self.layer(x, mask, **options)
        outputs, masks = (part if isinstance(part, tuple) else (part,) for part in (y, after))
        if self.unmasked:
            sequences = self.layer.sequences
            masks = (own,) * sequences + masks[sequences:]
        pairs = enumerate(zip(outputs, masks))
        known.update({(self.name, self.number, k): pair for k, pair in pairs})


class KerasModel:
    """Layers and the calls of them, for inference; made by `fastrnn.interop.keras.load`.

    Attributes
    ----------
    layers : list of Layer
        With their names in the Keras model.
    input_names : list of str
    """

    def __init__(self, layers: list[Layer], calls: list[Call], inputs: Any, outputs: Any) -> None:
        self.layers = layers
        named = isinstance(inputs, Mapping)
        self.input_names = sorted(inputs) if named else [name for name, _, _ in keys(inputs)]
        self.outputs = outputs
        self._inputs = inputs
        self._calls = calls

    def __call__(self, x: Any, training: bool = False) -> Any:
        """Return what ``model.predict(x)`` returns in Keras, of all sequences at once.

        Parameters
        ----------
        x : array_like
            (B, T, I), (B, I), or integers as ids (B, T), whichever the first layer takes. If the
            model has several inputs, a tuple or list of them, or a mapping from their names.
        training : bool
            As in Keras, but it must be False: nothing is dropped.

        Returns
        -------
        y : ndarray, or tuple or dict of ndarray
            A tuple where the model has several outputs, a dict where they have names.

        Raises
        ------
        ValueError, TypeError
            If an input is missing, or has the wrong shape or type, or T = 0; for training.
        """
        if training:
            raise ValueError(f"training must be False, got {training!r:.80}")
        return self.run([(array, None) for array in self._arrays(x)])[0]

    def predict(self, x: Any, batch_size: int = 32, verbose: Any = 0) -> Any:
        """Return what ``model.predict(x, batch_size)`` returns in Keras.

        It needs memory for one batch and for the results.

        Parameters
        ----------
        x : array_like
            As in a call of the model.
        batch_size : int
            Sequences that go through the model together.
        verbose : int or str
            As in Keras, but nothing is shown.

        Returns
        -------
        y : ndarray, or list or dict of ndarray
            A list where the model has several outputs, a dict where they have names.

        Raises
        ------
        ValueError, TypeError
            As from a call of the model; positions in messages are those in a batch.
        """
        batch_size = check_positive_int("batch_size", batch_size)
        arrays = self._arrays(x)
        sizes = {array.shape[0] if array.ndim else 0 for array in arrays}
        if len(sizes) > 1 or 0 in sizes:  # for the layers to refuse, or one batch of none
            batches = [arrays]
        else:
            starts = range(0, max(sizes), batch_size)
            batches = [[array[k : k + batch_size] for array in arrays] for k in starts]
        parts = [self.run([(array, None) for array in batch])[0] for batch in batches]
        match parts[0]:
            case dict():
                return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
            case tuple():
                return [np.concatenate(outputs) for outputs in zip(*parts)]
        return np.concatenate(parts)

    def _arrays(self, x: Any) -> list[np.ndarray]:
        """Return the inputs in their order."""
        names = self.input_names
        if isinstance(x, Mapping):
            if set(x) != set(names):
                found = ", ".join(map(str, x))
                raise ValueError(f"x must have the inputs {', '.join(names)}, got {found}")
            x = [x[name] for name in names]
        elif len(names) == 1:
            x = [x]
        elif not isinstance(x, (tuple, list)) or len(x) != len(names):
            found = len(x) if isinstance(x, (tuple, list)) else type(x).__name__
            raise ValueError(f"x must be {len(names)} arrays ({', '.join(names)}), got {found}")
        return [as_array("x", array) for array in x]

    def reset_states(self) -> None:
        """Forget the states that ``stateful`` layers keep between calls."""
        for layer in self.layers:
            layer.reset_states()

    def layer(self, name: str) -> Module:
        """Return one layer as a layer of fastrnn, which can be trained, streamed or exported.

        Parameters
        ----------
        name : str
            In the Keras model, of an Embedding, Dense, SimpleRNN, LSTM, GRU, or a Bidirectional or
            TimeDistributed of them; ``"model/layer"`` for a layer of an inner model.

        Returns
        -------
        layer : Embedding, Dense, RNN, LSTM or GRU
            With a copy of the weights. Recurrent layers have ``batch_first=True`` and return all
            outputs and the state, with both directions side by side; for ``go_backwards`` they have
            ``reverse=True``. A Dense is returned without its activation.

        Raises
        ------
        KeyError
            If there is no layer of this name.
        ValueError
            If fastrnn has no such layer: it is of another kind, or has other activations.
        """
        for layer in self.layers:
            if layer.name == str(name):  # in Keras 2 it may have slashes of its own
                return layer.own()
        for layer in self.layers:
            outer = f"{layer.name}/"
            if isinstance(layer, Submodel) and str(name).startswith(outer):
                return layer.model.layer(str(name)[len(outer) :])
        names = ", ".join(str(layer.name) for layer in self.layers)
        raise KeyError(f"name must be that of a layer ({names}), got {name!r:.80}")

    def run(self, given: list[tuple[np.ndarray, Any]]) -> list[Any]:
        """Return the outputs and their masks for these inputs and masks."""
        known = dict(zip(keys(self._inputs), given))
        for call in self._calls:
            call.run(known)
        found = [replaced(self.outputs, lambda key, k=k: known[key][k]) for k in range(2)]
        return [tuple(part) if isinstance(part, list) else part for part in found]


class Submodel(Layer):
    """A model in another, as a layer."""

    kind = "Model"

    def __init__(self, name: str | None, model: KerasModel) -> None:
        self.name, self.model = name, model
        self.stateful = any(layer.stateful for layer in model.layers)

    def widths(self, inputs: Sequence[int | None]) -> tuple[int | None, ...]:
        if len(inputs) != len(self.model.input_names):
            expected = len(self.model.input_names)
            raise ValueError(f"layer {self.name!r} must take {expected} inputs, got {len(inputs)}")
        return (None,) * len(keys(self.model.outputs))

    def reset_states(self) -> None:
        self.model.reset_states()

    def __call__(self, x: Any, mask: Any) -> tuple[Any, Any]:
        single = len(self.model.input_names) == 1
        y, mask = self.model.run([(x, mask)] if single else list(zip(x, mask)))
        if isinstance(y, dict):
            y, mask = (tuple(part[name] for name in sorted(part)) for part in (y, mask))
        return y, mask


def replaced(values: Any, function: Callable[[Any], Any]) -> Any:
    """Return a value, or a list or mapping of values, with each value replaced."""
    if isinstance(values, Mapping) and "class_name" not in values:
        return {name: function(value) for name, value in values.items()}
    if isinstance(values, list) and values and isinstance(values[0], (list, tuple, Mapping)):
        return [function(value) for value in values]
    return function(values)


def keys(values: Any) -> list[Key]:
    """Return the keys of a nest, in Keras's order: those of a mapping by name."""
    if isinstance(values, Mapping):
        return [values[name] for name in sorted(values)]
    return list(values) if isinstance(values, list) else [values]
