"""The models of whole examples against the same networks in PyTorch, with the same weights."""

import numpy as np
import pytest
from tolerances import TOLERANCES, assert_close

from fastrnn.data import pad
from fastrnn.models import (
    CTCRecognizer,
    FeedForward,
    Forecaster,
    SequenceClassifier,
    SequenceRegressor,
    SequenceTagger,
)

pytestmark = pytest.mark.torch
torch = pytest.importorskip("torch")

V, I, H, K = 7, 2, 4, 3
RNG = np.random.default_rng(0)
IDS = [RNG.integers(V, size=length) for length in (4, 1, 3)]
VECTORS = [RNG.standard_normal((length, I)) for length in (2, 4, 1)]
LABELS, NUMBERS = np.array([2, 0, 1]), RNG.standard_normal((3, 2))
TAGS = [RNG.integers(K, size=len(row)) for row in IDS]
WEIGHTS = [0.5, 2.0, 1.0]
LAYERS = {"rnn": torch.nn.RNN, "lstm": torch.nn.LSTM, "gru": torch.nn.GRU}


def weights_of(model):
    """Return the model's parameters as PyTorch's leaves, by name."""
    return {
        name: torch.tensor(value, requires_grad=True) for name, value in model.state_dict().items()
    }


def encoded(model, weights, inputs):
    """Return outputs (T, B, W), a mask (T, B), and the last layer's final states, by PyTorch."""
    values, lengths = pad(inputs)
    x = torch.tensor(values)
    if model.encoder.embedding is not None:
        x = weights["encoder.embedding.weight"][x]
    elif model.encoder.inputs == "ids":
        x = torch.nn.functional.one_hot(x, V).double()
    own = model.encoder.recurrent
    layer = LAYERS[model.config["cell"]](
        own.input_size, H, own.num_layers, bidirectional=own.bidirectional, dtype=torch.float64
    )
    packed = torch.nn.utils.rnn.pack_padded_sequence(x, lengths, enforce_sorted=False)
    own_weights = {
        name.removeprefix("encoder.recurrent."): value
        for name, value in weights.items()
        if name.startswith("encoder.recurrent.")
    }
    output, state = torch.func.functional_call(layer, own_weights, (packed,))
    output, _ = torch.nn.utils.rnn.pad_packed_sequence(output)
    final = state[0] if isinstance(state, tuple) else state
    final = torch.cat(list(final[-own.num_directions :]), dim=-1)
    return output, np.arange(len(values))[:, None] < lengths, final


def pooled(model, weights, inputs):
    output, mask, final = encoded(model, weights, inputs)
    mask = torch.tensor(mask)
    pooling = model.config.get("pooling", "last")
    if pooling == "last":
        return final
    if pooling == "mean":
        return output.sum(dim=0) / mask.sum(dim=0)[:, None]
    hidden = torch.nn.functional.linear(
        output, weights["pooling.hidden.weight"], weights["pooling.hidden.bias"]
    )
    scores = hidden.tanh() @ weights["pooling.score.weight"][0]
    attention = scores.masked_fill(~mask, -torch.inf).softmax(dim=0)
    return (attention[..., None] * output).sum(dim=0)


def head(weights, x):
    return torch.nn.functional.linear(x, weights["output.weight"], weights["output.bias"])


def check(model, inputs, targets, loss_of):
    """Compare the loss and every gradient."""
    weights = weights_of(model)
    expected = loss_of(weights)
    expected.backward()
    loss, _, pullback = model.loss_vjp(inputs, targets)
    pullback()
    assert_close(loss, expected.item(), TOLERANCES["float64"])
    for name, gradient in model.gradients.items():
        assert_close(gradient, weights[name].grad.numpy(), 10 * TOLERANCES["float64"], name)


@pytest.mark.parametrize("pooling", ["last", "mean", "attention"])
@pytest.mark.parametrize("cell", LAYERS)
@pytest.mark.parametrize("class_weights", [None, WEIGHTS])
def test_classifier(pooling, cell, class_weights):
    model = SequenceClassifier(
        *(V, H, K, pooling),
        class_weights=class_weights,
        cell=cell,
        num_layers=2,
        embedding_size=3,
        bidirectional=True,
        dtype="float64",
        seed=0,
    )
    weight = None if class_weights is None else torch.tensor(class_weights).double()

    def loss(weights):
        scores = head(weights, pooled(model, weights, IDS))
        return torch.nn.functional.cross_entropy(scores, torch.tensor(LABELS), weight)

    check(model, IDS, LABELS, loss)


def test_regressor():
    model = SequenceRegressor(I, H, 2, inputs="vectors", dtype="float64", seed=0)

    def loss(weights):
        numbers = head(weights, pooled(model, weights, VECTORS))
        return torch.nn.functional.mse_loss(numbers, torch.tensor(NUMBERS))

    check(model, VECTORS, NUMBERS, loss)


@pytest.mark.parametrize("class_weights", [None, WEIGHTS])
def test_tagger(class_weights):
    model = SequenceTagger(
        V, H, K, class_weights=class_weights, bidirectional=True, dtype="float64", seed=0
    )
    weight = None if class_weights is None else torch.tensor(class_weights).double()

    def loss(weights):
        output, mask, _ = encoded(model, weights, IDS)
        labels = torch.tensor(np.where(mask, pad(TAGS).values, -100))
        scores = head(weights, output).flatten(0, 1)
        return torch.nn.functional.cross_entropy(scores, labels.flatten(), weight)

    check(model, IDS, TAGS, loss)


def test_recogniser():
    model = CTCRecognizer(
        *(V, H, K), repeat=2, cell="lstm", bidirectional=True, dtype="float64", seed=0
    )
    said, sizes = pad([[1, 2, 2], [1], []])

    def loss(weights):
        output, mask, _ = encoded(model, weights, [np.repeat(row, 2) for row in IDS])
        return torch.nn.functional.ctc_loss(
            head(weights, output).log_softmax(2),
            torch.tensor(said.T.copy()),
            torch.tensor(mask.sum(axis=0)),
            torch.tensor(sizes),
        )

    check(model, IDS, [[1, 2, 2], [1], []], loss)


def test_forecaster():
    mean, std = np.array([1.0, 2.0]), np.array([2.0, 0.5])
    model = Forecaster(H, 2, input_size=I, mean=mean, std=std, dtype="float64", seed=0)

    def loss(weights):
        scaled = [(row - mean) / std for row in VECTORS]
        forecast = mean[0] + std[0] * head(weights, pooled(model, weights, scaled))
        return torch.nn.functional.mse_loss(forecast, torch.tensor(NUMBERS)) / std[0] ** 2

    check(model, VECTORS, NUMBERS, loss)


@pytest.mark.parametrize("activation", ["relu", "tanh"])
def test_feed_forward(activation):
    rows = RNG.standard_normal((3, I))
    model = FeedForward(I, K, (6, 5), activation=activation, dtype="float64", seed=0)

    def loss(weights):
        x = torch.tensor(rows)
        for k in range(3):
            x = torch.nn.functional.linear(
                x, weights[f"dense{k}.weight"], weights[f"dense{k}.bias"]
            )
            x = getattr(torch, activation)(x) if k < 2 else x
        return torch.nn.functional.cross_entropy(x, torch.tensor(LABELS))

    check(model, rows, LABELS, loss)
