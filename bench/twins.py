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


class Recognizer(nn.Module):
    """Of a :class:`fastrnn.models.CTCRecognizer`."""

    def __init__(self, ours: Any) -> None:
        super().__init__()
        self.encoder, self.output = Encoder(ours.encoder), linear(ours.output)
        self.repeat, self.stack = ours.config["repeat"], ours.config["stack"]

    def forward(self, inputs: Padded, targets: Padded, state: None) -> Loss:
        values, lengths = tensors(self, inputs)
        if self.repeat > 1:
            values, lengths = values.repeat_interleave(self.repeat, 0), lengths * self.repeat
        if self.stack > 1:
            values = functional.pad(values, (0, 0, 0, 0, 0, -len(values) % self.stack))
            values = values.unflatten(0, (-1, self.stack)).transpose(1, 2).flatten(2)
            lengths = -(-lengths // self.stack)
        scores = self.output(self.encoder(values, lengths)[0]).log_softmax(-1)
        symbols, sizes = map(torch.from_numpy, targets)
        return functional.ctc_loss(scores, symbols.T, lengths, sizes), None


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


class Attention(nn.Module):
    """Of the layers in :mod:`fastrnn.layers.attention`."""

    def __init__(self, ours: Any) -> None:
        super().__init__()
        parts = [name for name in ("query", "memory", "score") if hasattr(ours, name)]
        for name in parts:
            self.add_module(name, linear(getattr(ours, name)))
        self.additive, self.general = len(parts) == 3, len(parts) == 1
        self.scale = getattr(ours, "scale", 1)

    def forward(
        self, queries: torch.Tensor, memory: torch.Tensor, lengths: torch.Tensor
    ) -> torch.Tensor:
        told = valid(memory, lengths).T[:, None]
        queries, memory = queries.transpose(0, 1), memory.transpose(0, 1)
        if self.additive:
            hidden = torch.tanh(self.query(queries)[:, :, None] + self.memory(memory)[:, None])
            scores = self.score(hidden)[..., 0]
        else:
            scores = (self.query(queries) if self.general else queries) @ memory.mT * self.scale
        weights = scores.masked_fill(~told, -torch.inf).softmax(-1)
        return (weights @ memory).transpose(0, 1)


class Decoder(nn.Module):
    """Of a :class:`fastrnn.models.decoder.Decoder`."""

    def __init__(self, ours: Any) -> None:
        super().__init__()
        self.initial, self.recurrent = linear(ours.initial), Encoder(ours.recurrent)
        self.attention = ours.attention and Attention(ours.attention)
        self.combine = ours.combine and linear(ours.combine)
        self.dropout, self.output = nn.Dropout(ours.dropout.p), linear(ours.output)
        layer = ours.recurrent.recurrent
        self.shape = (-1, layer.num_layers, layer.hidden_size)

    def forward(self, targets: Padded, bos: int, context: torch.Tensor, *memory: Any) -> Loss:
        """Return the loss of symbols that are read one step late, after the beginning mark."""
        values, lengths = map(torch.from_numpy, targets)
        told = valid(values, lengths)
        read = torch.cat([torch.full_like(values[:1], bos), values[:-1]])
        initial = torch.tanh(self.initial(context)).view(len(context), *self.shape)
        states = [s.transpose(0, 1).contiguous() for s in initial.unbind(1)]
        hidden, _ = self.recurrent(read, lengths, tuple(states) if len(states) > 1 else states[0])
        rows = hidden[told]
        if self.attention is not None:
            attended = self.attention(hidden, *memory)[told]
            rows = torch.tanh(self.combine(torch.cat([attended, rows], -1)))
        return functional.cross_entropy(self.output(self.dropout(rows)), values[told]), None


class Seq2Seq(nn.Module):
    """Of a :class:`fastrnn.models.Seq2Seq` with teacher forcing."""

    def __init__(self, ours: Any) -> None:
        super().__init__()
        self.encoder, self.decoder = Encoder(ours.encoder), Decoder(ours.decoder)
        self.directions, self.bos = ours.encoder.recurrent.num_directions, ours.config["bos"]

    def forward(self, inputs: Padded | np.ndarray, targets: Padded, state: None) -> Loss:
        padded = inputs if isinstance(inputs, Padded) else fr.data.pad(inputs)
        values, lengths = map(torch.from_numpy, padded)
        if values.is_floating_point():
            values, _ = tensors(self, padded)
        memory, state = self.encoder(values, lengths)
        context = last(state, self.directions)
        return self.decoder(targets, self.bos, context, memory, lengths)


class Captioner(nn.Module):
    """Of a :class:`fastrnn.models.Captioner` with teacher forcing."""

    def __init__(self, ours: Any) -> None:
        super().__init__()
        self.decoder, self.bos = Decoder(ours.decoder), ours.config["bos"]

    def forward(self, inputs: np.ndarray, targets: Padded, state: None) -> Loss:
        return self.decoder(targets, self.bos, tensor(self, inputs).flatten(1))


class Generator(nn.Module):
    """Of a :class:`fastrnn.models.SequenceGenerator`."""

    def __init__(self, ours: Any) -> None:
        super().__init__()
        self.encoder, self.head, self.start = Encoder(ours.encoder), nn.Module(), ours.head.start
        self.head.output = linear(ours.head.output)
        self.sizes = ours.head.sizes if ours.config["head"] == "categorical" else None
        for name in ("embedding", "link"):
            for k, table in enumerate(getattr(ours.head, f"{name}s", ())):
                copy = nn.Embedding(table.num_embeddings, table.embedding_dim)
                self.head.add_module(f"{name}{k}", copy)

    def forward(self, inputs: Any, targets: Any, state: None) -> Loss:
        values, lengths = inputs if isinstance(inputs, Padded) else (inputs, None)
        elements = targets.values if isinstance(targets, Padded) else targets
        first = np.broadcast_to(self.start, (1, *values.shape[1:]))
        before = tensor(self, np.concatenate([first, values[:-1]]))
        if lengths is None:
            lengths = np.full(values.shape[1], len(values))
        lengths, elements = torch.from_numpy(lengths), tensor(self, elements)
        told = valid(before, lengths)
        outputs, elements = self.features(before, lengths, told), elements[told]
        if self.sizes is None:
            return mixture_loss(outputs, elements), None
        blocks = list(outputs.split(self.sizes, -1))
        for j in range(len(blocks) - 1):
            if hasattr(self.head, f"link{j}"):
                added = self.head.get_submodule(f"link{j}")(elements[:, j])
                later = added.split(self.sizes[j + 1 :], -1)
                blocks[j + 1 :] = [block + more for block, more in zip(blocks[j + 1 :], later)]
        losses = [functional.cross_entropy(block, elements[:, k]) for k, block in enumerate(blocks)]
        return sum(losses), None

    def features(
        self, before: torch.Tensor, lengths: torch.Tensor, told: torch.Tensor
    ) -> torch.Tensor:
        """Return what the head says of the elements that count."""
        if self.sizes is not None:
            tables = [self.head.get_submodule(f"embedding{k}") for k in range(len(self.sizes))]
            before = torch.cat([table(before[..., k]) for k, table in enumerate(tables)], -1)
        return self.head.output(self.encoder(before, lengths)[0][told])


def mixture_loss(outputs: torch.Tensor, points: torch.Tensor) -> torch.Tensor:
    """Return the mean negative log-density of points (N, D) under mixtures (N, M * (1 + 2*D))."""
    D = points.shape[1]
    scores, means, scales = outputs.view(len(points), -1, 1 + 2 * D).split([1, D, D], -1)
    normal = torch.distributions.Normal(means, scales.exp(), validate_args=False)
    density = normal.log_prob(points[:, None]).sum(-1) + scores[..., 0].log_softmax(-1)
    return -density.logsumexp(-1).mean()


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
    "CTCRecognizer": Recognizer,
    "Captioner": Captioner,
    "Forecaster": Forecaster,
    "LanguageModel": LanguageModel,
    "QuestionAnswerer": QuestionAnswerer,
    "Seq2Seq": Seq2Seq,
    "SequenceClassifier": Classifier,
    "SequenceGenerator": Generator,
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
