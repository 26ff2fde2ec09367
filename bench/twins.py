"""The models in PyTorch, as its users write them: the same networks with the same parameters.

A twin takes a batch as :class:`fastrnn.data.Batches` makes it and returns its loss. Sequences of
different lengths are packed; those of one length are not, which PyTorch runs faster.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

import fastrnn as fr
from fastrnn.data import Padded

Loss = tuple[torch.Tensor, Any]


class Encoder(nn.Module):
    """Of a :class:`fastrnn.models.Encoder`."""

    def __init__(self, ours: fr.models.Encoder) -> None:
        super().__init__()
        layer, table = ours.recurrent, ours.embedding
        self.embedding = table and nn.Embedding(table.num_embeddings, table.embedding_dim)
        self.recurrent = getattr(nn, type(layer).__name__)(
            layer.input_size,
            layer.hidden_size,
            layer.num_layers,
            dropout=layer.dropout,
            bidirectional=layer.bidirectional,
        )
        # One-hot vectors are rows of the identity: looked up, not computed.
        one_hot = torch.eye(layer.input_size) if ours.inputs == "ids" and table is None else None
        self.register_buffer("one_hot", one_hot, persistent=False)
        self.input_dropout = nn.Dropout(ours.input_dropout.p)
        self.dropout = nn.Dropout(ours.dropout.p)

    def forward(
        self, inputs: torch.Tensor, lengths: torch.Tensor | None = None, state: Any = None
    ) -> tuple[torch.Tensor, Any]:
        if self.embedding is not None:
            inputs = self.embedding(inputs)
        elif self.one_hot is not None:
            inputs = functional.embedding(inputs, self.one_hot)
        inputs = self.input_dropout(inputs)
        if lengths is None or (lengths == len(inputs)).all():
            output, state = self.recurrent(inputs, state)
        else:
            packed = pack_padded_sequence(inputs, lengths, enforce_sorted=False)
            output, state = self.recurrent(packed, state)
            output, _ = pad_packed_sequence(output)
        return self.dropout(output), state


class Pooling(nn.Module):
    """Of the layers in :mod:`fastrnn.layers.pooling`."""

    def __init__(self, kind: str, width: int, directions: int) -> None:
        super().__init__()
        self.kind, self.directions = kind, directions
        if kind == "attention":
            self.hidden, self.score = nn.Linear(width, width), nn.Linear(width, 1, bias=False)

    def forward(self, output: torch.Tensor, lengths: torch.Tensor, state: Any) -> torch.Tensor:
        if self.kind == "last":
            return last(state, self.directions)
        if self.kind == "mean":
            return output.sum(0) / lengths[:, None]
        scores = self.score(torch.tanh(self.hidden(output)))
        weights = scores.masked_fill(~valid(output, lengths)[..., None], -torch.inf).softmax(0)
        return (weights * output).sum(0)


class Pooled(nn.Module):
    """Of a :class:`fastrnn.models.SequenceClassifier`, SequenceRegressor or Forecaster."""

    def __init__(self, ours: Any) -> None:
        super().__init__()
        self.encoder = Encoder(ours.encoder)
        width, directions = ours.encoder.output_size, ours.encoder.recurrent.num_directions
        self.pooling = Pooling(ours.config.get("pooling", "last"), width, directions)
        self.dropout = nn.Dropout(ours.dropout.p)
        self.output = linear(ours.output)
        weights = ours.config.get("class_weights")
        self.register_buffer("weights", weights and torch.tensor(weights), persistent=False)

    def outputs(self, values: torch.Tensor, lengths: torch.Tensor) -> torch.Tensor:
        output, state = self.encoder(values, lengths)
        return self.output(self.dropout(self.pooling(output, lengths, state)))


class Classifier(Pooled):
    """Of a :class:`fastrnn.models.SequenceClassifier`."""

    def forward(self, inputs: Padded, targets: np.ndarray, state: None) -> Loss:
        scores = self.outputs(*tensors(self, inputs))
        return functional.cross_entropy(scores, torch.from_numpy(targets), self.weights), None


class Regressor(Pooled):
    """Of a :class:`fastrnn.models.SequenceRegressor`."""

    def forward(self, inputs: Padded, targets: np.ndarray, state: None) -> Loss:
        outputs = self.outputs(*tensors(self, inputs))
        return functional.mse_loss(outputs, tensor(self, targets).view_as(outputs)), None


class Forecaster(Pooled):
    """Of a :class:`fastrnn.models.Forecaster` of the mean."""

    def __init__(self, ours: fr.models.Forecaster) -> None:
        super().__init__(ours)
        self.mean, self.std = np.array(ours.config["mean"]), np.array(ours.config["std"])

    def forward(self, inputs: Any, targets: np.ndarray, state: None) -> Loss:
        values, lengths = inputs if isinstance(inputs, Padded) else fr.data.pad(inputs)
        values = (values.reshape(*values.shape[:2], -1) - self.mean) / self.std
        outputs = self.outputs(tensor(self, values), torch.from_numpy(lengths))
        targets = (targets - self.mean[0]) / self.std[0]
        return functional.mse_loss(outputs, tensor(self, targets).view_as(outputs)), None


class Tagger(nn.Module):
    """Of a :class:`fastrnn.models.SequenceTagger`."""

    def __init__(self, ours: fr.models.SequenceTagger) -> None:
        super().__init__()
        self.encoder, self.output = Encoder(ours.encoder), linear(ours.output)
        weights = ours.config["class_weights"]
        self.register_buffer("weights", weights and torch.tensor(weights), persistent=False)

    def forward(self, inputs: Padded, targets: Padded, state: None) -> Loss:
        values, lengths = tensors(self, inputs)
        scores, told = self.output(self.encoder(values, lengths)[0]), valid(values, lengths)
        labels = torch.from_numpy(targets.values)
        return functional.cross_entropy(scores[told], labels[told], self.weights), None


class LanguageModel(nn.Module):
    """Of a :class:`fastrnn.models.LanguageModel`."""

    def __init__(self, ours: fr.models.LanguageModel) -> None:
        super().__init__()
        self.encoder = Encoder(ours.encoder)
        self.output = nn.Linear(ours.config["hidden_size"], ours.config["vocabulary_size"])
        if ours.config["tie_weights"]:
            self.output.weight = self.encoder.embedding.weight

    def forward(self, inputs: Any, targets: Any, state: Any) -> Loss:
        if not isinstance(inputs, Padded):  # a window, which goes on where the last one ended
            hidden, state = self.encoder(torch.from_numpy(inputs), None, state)
            detached = [s.detach() for s in state] if isinstance(state, tuple) else state.detach()
            labels = torch.from_numpy(targets).flatten()
            loss = functional.cross_entropy(self.output(hidden).flatten(0, 1), labels)
            return loss, tuple(detached) if isinstance(state, tuple) else detached
        values, lengths = tensors(self, inputs)
        hidden, told = self.encoder(values, lengths)[0], valid(values, lengths)
        labels = torch.from_numpy(targets.values)
        return functional.cross_entropy(self.output(hidden[told]), labels[told]), None


class QuestionAnswerer(nn.Module):
    """Of a :class:`fastrnn.models.QuestionAnswerer`: each distinct sentence is read once."""

    def __init__(self, ours: fr.models.QuestionAnswerer) -> None:
        super().__init__()
        self.sentence, self.story = Encoder(ours.sentence), Classifier(ours.story)

    def forward(self, inputs: tuple[Padded, np.ndarray], targets: np.ndarray, state: None) -> Loss:
        (stories, lengths), questions = inputs
        S, B, W = stories.shape
        rows = np.concatenate([stories.reshape(-1, W), questions])
        rows, numbers = np.unique(rows, axis=0, return_inverse=True)
        told, numbers = rows[rows.any(1)], numbers.ravel() - (not rows[0].any())
        numbers = torch.from_numpy(numbers.clip(0))  # of stories that have ended: any sentence
        words = torch.from_numpy(np.count_nonzero(told, axis=1))
        vectors = last(self.sentence(torch.from_numpy(told.T), words)[1])
        told, asked = vectors[numbers[:-B]].view(S, B, -1), vectors[numbers[-B:]]
        pairs = torch.cat([told, told * asked], 2)
        scores = self.story.outputs(pairs, torch.from_numpy(lengths))
        return functional.cross_entropy(scores, torch.from_numpy(targets)), None


def last(state: Any, directions: int = 1) -> torch.Tensor:
    """Return what the last layer has read at the end of the sequences, (B, directions * H)."""
    return torch.cat([*(state[0] if isinstance(state, tuple) else state)[-directions:]], -1)


def valid(values: torch.Tensor, lengths: torch.Tensor) -> torch.Tensor:
    """Return where a sequence has not ended, (T, B)."""
    return torch.arange(len(values))[:, None] < lengths


def linear(ours: fr.Dense) -> nn.Linear:
    """Return a layer of the same shape."""
    return nn.Linear(ours.in_features, ours.out_features, ours.bias)


def tensor(module: nn.Module, array: np.ndarray) -> torch.Tensor:
    """Return ids as they are, numbers in the module's type."""
    if array.dtype.kind == "i":
        return torch.from_numpy(array)
    return torch.from_numpy(array).to(next(module.parameters()).dtype)


def tensors(module: nn.Module, padded: Padded) -> tuple[torch.Tensor, torch.Tensor]:
    """Return values and lengths."""
    return tensor(module, padded.values), torch.from_numpy(padded.lengths)


TWINS: dict[str, Any] = {
    "Forecaster": Forecaster,
    "LanguageModel": LanguageModel,
    "QuestionAnswerer": QuestionAnswerer,
    "SequenceClassifier": Classifier,
    "SequenceRegressor": Regressor,
    "SequenceTagger": Tagger,
}


def twin(model: fr.models.Model) -> nn.Module:
    """Return the same network in PyTorch, with copies of the model's parameters.

    Raises
    ------
    ValueError
        If the parameters' names or shapes differ.
    """
    module = TWINS[type(model).__name__](model).to(getattr(torch, model.parameters.dtype.name))
    theirs = dict(module.named_parameters())
    if theirs.keys() != model.parameters.keys():
        names = sorted(theirs.keys() ^ model.parameters.keys())
        raise ValueError(f"both networks must have the same parameters, got {names} in one alone")
    with torch.no_grad():
        for name, value in theirs.items():
            value.copy_(torch.from_numpy(model.parameters[name]).view_as(value))
    return module
