"""Tests for each of classifier, regressor, tagger, forecaster and feed-forward network."""

import copy
import pickle

import numpy as np
import pytest
from gradients import check_gradients
from tolerances import TOLERANCES, assert_close

from fastrnn.data import Batches, Padded, pad
from fastrnn.losses import softmax_cross_entropy
from fastrnn.models import (
    CTCRecognizer,
    FeedForward,
    Forecaster,
    SequenceClassifier,
    SequenceRegressor,
    SequenceTagger,
    load,
)
from fastrnn.training import evaluate, fit

V, I, H, K = 7, 2, 4, 3
RNG = np.random.default_rng(0)
IDS = [[1, 6, 2, 0], [3], [5, 5]]
VECTORS = [RNG.standard_normal((length, I)) for length in (2, 4, 1)]
SERIES = [50 + 5 * RNG.standard_normal(length) for length in (3, 5, 2)]
ROWS = RNG.standard_normal((3, I))
LABELS = np.array([2, 0, 1])
NUMBERS = RNG.standard_normal((3, 2))
TAGS = [RNG.integers(K, size=len(row)) for row in IDS]
SAID = [[1, 2, 2], [], [1]]  # symbols, 0 is the blank
WEIGHTS = [0.5, 2.0, 1.0]
DROPOUT = {"dropout": 0.4}
BOTH = {"bidirectional": True, "num_layers": 2}
EMBEDDED = {"embedding_size": 3}
UNITS = {"mean": 50, "std": 5}

# Model, its arguments, inputs and targets.
CASES = {
    "classifier, last": (SequenceClassifier, (V, H, K), {}, IDS, LABELS),
    "classifier, both ends": (SequenceClassifier, (V, H, K), EMBEDDED | BOTH, IDS, LABELS),
    "classifier, mean": (
        SequenceClassifier,
        (I, H, K, "mean"),
        {"inputs": "vectors", "class_weights": WEIGHTS, **BOTH, **DROPOUT},
        VECTORS,
        LABELS,
    ),
    "classifier, attention": (
        SequenceClassifier,
        (V, H, K, "attention"),
        {"cell": "lstm", "input_dropout": 0.4, **EMBEDDED, **DROPOUT},
        IDS,
        LABELS,
    ),
    "regressor": (SequenceRegressor, (V, H, 2), EMBEDDED | DROPOUT, IDS, NUMBERS),
    "regressor, one number": (
        SequenceRegressor,
        (I, H, 1, "mean"),
        {"inputs": "vectors"},
        VECTORS,
        NUMBERS[:, 0],
    ),
    "tagger": (SequenceTagger, (V, H, K), EMBEDDED | DROPOUT, IDS, TAGS),
    "tagger, weighted": (
        SequenceTagger,
        (V, H, K),
        {"class_weights": WEIGHTS, "input_dropout": 0.4, **EMBEDDED, **BOTH},
        IDS,
        TAGS,
    ),
    "recogniser": (
        CTCRecognizer,
        (V, H, K),
        {"cell": "lstm", "repeat": 2, "input_dropout": 0.4, **EMBEDDED, **BOTH, **DROPOUT},
        IDS,
        SAID,
    ),
    "recogniser, stacked": (
        CTCRecognizer,
        (I, H, K),
        {"inputs": "vectors", "repeat": 2, "stack": 3},
        VECTORS,
        SAID[1:] + SAID[1:2],
    ),
    "forecaster": (Forecaster, (H,), UNITS, SERIES, 50 + NUMBERS[:, 0]),
    "forecaster, far": (
        Forecaster,
        (H, 2),
        {"input_size": I, "mean": [1, 2], "std": [2, 1]},
        VECTORS,
        NUMBERS,
    ),
    "forecaster, quantiles": (
        Forecaster,
        (H, 2),
        {"quantiles": [0.1, 0.5, 0.9], "cell": "lstm", **UNITS},
        SERIES,
        50 + 9 * NUMBERS,
    ),
    "feed-forward": (
        FeedForward,
        (I, K, (5, 4)),
        {"class_weights": WEIGHTS, **DROPOUT},
        ROWS,
        LABELS,
    ),
    "feed-forward, numbers": (
        FeedForward,
        (I, 2, [5], "squared_error", "tanh"),
        {},
        ROWS,
        NUMBERS,
    ),
    "affine": (FeedForward, (I, 1, (), "squared_error"), {}, ROWS, NUMBERS[:, 0]),
}
SEQUENCES = [name for name in CASES if "feed" not in name and name != "affine"]
STREAMS = [
    name for name in SEQUENCES if "bidirectional" not in CASES[name][2] and "recog" not in name
]


def make(name, **options):
    kind, sizes, own, inputs, targets = CASES[name]
    return kind(*sizes, **{"seed": 0, **own, **options}), inputs, targets


def as_list(predicted):
    return predicted if isinstance(predicted, list) else list(predicted)


def poisoned(inputs):
    """Return the sequences padded by NaN, or by an id that does not exist."""
    values, lengths = pad(inputs)
    values = np.concatenate([values, np.zeros_like(values[:2])])
    values[~Padded(values, lengths).mask] = 99 if values.dtype.kind == "i" else np.nan
    return Padded(values, lengths)


@pytest.mark.parametrize("name", CASES)
def test_gradients_are_those_of_central_differences(name, backend):
    model, inputs, targets = make(name, dtype="float64")
    check_gradients(model, lambda: model.loss_vjp(inputs, targets), least=1e-6)


@pytest.mark.parametrize("pooling", ["last", "mean", "attention"])
def test_pooling_says_what_is_read_of_the_recurrent_layers(pooling):
    model = classifier(pooling=pooling, dtype="float64", seed=0)
    for row in IDS:
        steps, length = model.encoder(row)[0], len(row)
        if pooling == "last":
            weights = np.arange(length) == length - 1
        elif pooling == "mean":
            weights = np.full(length, 1 / length)
        else:
            weights = model.pooling.weights(steps[:, None])[:, 0]
        expected = model.output(weights @ steps)
        assert_close(model([row])[0], expected, TOLERANCES["float64"])


@pytest.mark.parametrize("name", SEQUENCES)
def test_a_ragged_batch_is_each_sequence_alone(name, backend):
    model, inputs, targets = make(name, dtype="float64")
    together = as_list(model.predict(inputs))
    for row, predicted in zip(inputs, together):
        assert_close(predicted, as_list(model.predict([row]))[0], TOLERANCES["float64"])
    if "class_weights" not in CASES[name][2]:
        losses = [model.loss([row], [target])[0] for row, target in zip(inputs, targets)]
        one = [pad([target]) if isinstance(targets, list) else target for target in targets]
        sizes = [model.count(target) for target in one]
        assert_close(model.loss(inputs, targets)[0], np.average(losses, weights=sizes), 1e-12)


@pytest.mark.parametrize("name", SEQUENCES)
def test_padding_is_never_read(name):
    model, inputs, targets = make(name, dtype="float64", dropout=0.0, input_dropout=0.0)
    padded = poisoned(inputs)
    marked = poisoned(targets) if isinstance(targets, list) else targets
    for own, other in zip(as_list(model.predict(inputs)), as_list(model.predict(padded))):
        assert np.array_equal(own, other)
    gradients = []
    for arguments in ((inputs, targets), (padded, marked)):
        model.zero_gradients()
        loss, _, pullback = model.loss_vjp(*arguments)
        pullback()
        assert loss == model.loss(*arguments)[0]
        gradients.append(model.parameters.flat_gradients.copy())
    assert_close(gradients[1], gradients[0], TOLERANCES["float64"])


@pytest.mark.parametrize("name", SEQUENCES)
def test_padding_is_not_read_with_dropout_either(name):
    model, inputs, targets = make(name, dropout=0.3, input_dropout=0.3)
    marked = poisoned(targets) if isinstance(targets, list) else targets
    loss, _, pullback = model.loss_vjp(poisoned(inputs), marked)
    pullback()
    assert np.isfinite([loss, *model.parameters.flat_gradients]).all()


@pytest.mark.parametrize("name", CASES)
def test_a_saved_model_predicts_the_same(name, tmp_path):
    model, inputs, _ = make(name)
    model.save(tmp_path / "m")
    loaded, _ = load(tmp_path / "m")
    assert type(loaded) is type(model)
    assert loaded.config == model.config
    for one, other in zip(as_list(model.predict(inputs)), as_list(loaded.predict(inputs))):
        assert np.array_equal(one, other)


@pytest.mark.parametrize("name", CASES)
def test_the_trainer_lowers_the_loss(name):
    model, inputs, targets = make(name, dropout=0.0)
    trainer = fit(model, Batches(inputs, targets, 2), 30, learning_rate=0.02, progress=False)
    losses = [row["training_loss"] for row in trainer.history]
    assert losses[-1] < 0.9 * losses[0]
    sizes = [1 if isinstance(model, CTCRecognizer) else np.size(target) for target in targets]
    assert model.count(pad(targets) if isinstance(targets, list) else targets) == sum(sizes)


@pytest.mark.parametrize("name", STREAMS)
def test_a_stream_is_the_call_step_by_step(name):
    model, inputs, _ = make(name, dtype="float64")
    sequence = next(row for row in inputs if len(row) > 2)
    stream = model.stream()
    ids = model.encoder.inputs == "ids"
    for shape in [(1,) if ids else (1, -1), () if ids else (-1,)]:  # with and without an axis B
        for t in range(len(sequence)):
            step = stream.step(np.reshape(sequence[t], shape))
            so_far = [sequence[: t + 1]]
            if isinstance(model, Forecaster):
                expected = model.predict(so_far)
            elif isinstance(model, SequenceTagger):
                expected = model(so_far).values[-1]
            else:
                expected = model(so_far)
            assert_close(step, expected if shape[:1] == (1,) else expected[0], 1e-11)
        stream.reset()


@pytest.mark.parametrize("name", STREAMS)
@pytest.mark.parametrize("duplicate", [copy.copy, copy.deepcopy, pickle.dumps])
def test_a_stream_is_not_copied(name, duplicate):
    with pytest.raises(TypeError, match="a stream cannot be copied"):
        duplicate(make(name)[0].stream())


@pytest.mark.parametrize("name", ["classifier, both ends", "classifier, mean", "tagger, weighted"])
def test_both_directions_do_not_stream(name):
    with pytest.raises(ValueError, match="cannot stream"):
        make(name)[0].stream()


@pytest.mark.parametrize("name", ["classifier, mean", "tagger", "feed-forward"])
def test_probabilities_sum_to_one_and_predict_is_the_likeliest(name):
    model, inputs, _ = make(name)
    for row, label in zip(as_list(model.predict_proba(inputs)), as_list(model.predict(inputs))):
        assert row.shape[-1] == K
        assert np.allclose(row.sum(axis=-1), 1)
        assert np.array_equal(row.argmax(axis=-1), label)


def test_arrays_have_the_examples_first():
    model, _, _ = make("classifier, mean")
    x = RNG.standard_normal((5, 4, I))
    assert_close(model(x), model(list(x)), 0)
    (inputs, _), *_ = Batches(x, np.zeros(5, int), 5)
    assert_close(model(inputs), model(x), 0)


def test_the_embedding_starts_at_its_scale():
    one, small = (
        make("classifier, both ends", embedding_scale=scale)[0].encoder.embedding.parameters[
            "weight"
        ]
        for scale in (1.0, 0.1)
    )
    assert_close(small, 0.1 * one, TOLERANCES["float32"])


@pytest.mark.parametrize("name", ["classifier, mean", "tagger, weighted", "feed-forward"])
def test_the_loss_weighs_the_classes(name):
    model, inputs, targets = make(name, dtype="float64")
    scores = np.log(np.concatenate([np.atleast_2d(p) for p in model.predict_proba(inputs)]))
    labels = np.concatenate([np.atleast_1d(label) for label in targets])
    expected, _ = softmax_cross_entropy(scores, labels, class_weights=WEIGHTS)
    assert model.loss(inputs, targets)[0] == pytest.approx(expected, rel=1e-12)


def test_dropout_is_of_what_is_pooled():
    """Of every output a mean has some left; of what is pooled at probability 1 nothing is."""
    model, inputs, _ = make("classifier, mean", dropout=1.0, num_layers=1)
    assert model.encoder.dropout.p == 0
    bias = model.parameters["output.bias"]
    assert np.array_equal(model.vjp(inputs)[0], np.tile(bias, (3, 1)))
    assert not np.array_equal(model(inputs), np.tile(bias, (3, 1)))


@pytest.mark.parametrize(
    ("name", "mean", "std"),
    [("forecaster", 1e9, 1e3), ("forecaster, far", np.array([1e9, 7]), np.array([1e3, 5]))],
)
def test_forecasts_are_in_the_unit_of_the_series(name, mean, std):
    plain, inputs, targets = make(name, mean=0, std=1)
    scaled, _, _ = make(name, mean=mean, std=std)
    moved = [mean + std * row for row in inputs]
    assert_close(scaled.predict(moved), 1e9 + 1e3 * plain.predict(inputs), 1e-9)
    assert scaled.loss(moved, 1e9 + 1e3 * targets)[0] == pytest.approx(
        plain.loss(inputs, targets)[0], rel=1e-6
    )


def test_vectors_may_be_overwritten_after_vjp():
    gradients = []
    for value in (None, 7.0):
        model, inputs, _ = make("feed-forward, numbers")
        inputs = inputs.astype(np.float32)
        output, pullback = model.vjp(inputs)
        if value is not None:
            inputs[...] = value
        pullback(np.ones_like(output))
        gradients.append(model.parameters.flat_gradients)
    np.testing.assert_array_equal(*gradients)


def test_a_forecaster_may_be_told_that_it_reads_vectors():
    told = Forecaster(H, inputs="vectors", seed=0)
    np.testing.assert_array_equal(told.predict(SERIES), Forecaster(H, seed=0).predict(SERIES))
    assert told.config == Forecaster(H).config


def test_quantiles_are_learnt():
    """Of noise without a past the tenths lie where those of the noise do."""
    noise = np.random.default_rng(1).standard_normal((500, 3))
    model = Forecaster(2, quantiles=[0.1, 0.5, 0.9], seed=0)
    fit(model, Batches(noise[:, :2], noise[:, 2:], 100), 60, learning_rate=0.02, progress=False)
    forecast = model.predict(noise[:, :2])
    assert forecast.shape == (500, 1, 3)
    below = (noise[:, 2, None] < forecast[:, 0]).mean(axis=0)
    assert np.allclose(below, [0.1, 0.5, 0.9], atol=0.05)


def classifier(**options):
    return SequenceClassifier(V, H, K, **options)


REFUSED = {
    "one class": (lambda: SequenceClassifier(V, H, 1), "num_classes must be at least 2, got 1"),
    "one tag": (lambda: SequenceTagger(V, H, 1), "num_classes must be at least 2, got 1"),
    "one output": (lambda: FeedForward(I, 1), "^output_size must be at least 2, got 1"),
    "no symbols": (
        lambda: SequenceClassifier(0, H, K, embedding_size=3),
        "^input_size must be a positive integer, got 0",
    ),
    "pooling": (lambda: classifier(pooling="max"), "pooling must be one of 'last', 'mean'"),
    "cell": (lambda: classifier(cell="elman"), "cell must be"),
    "reverse": (
        lambda: classifier(options={"reverse": True}),
        "options must have no reverse where pooling is 'last', got True",
    ),
    "weights": (lambda: classifier(class_weights=[1, 2]), r"class_weights must be \(3,\)"),
    "negative": (lambda: classifier(class_weights=[1, 2, 0]), "class_weights must be positive"),
    "scale": (lambda: classifier(embedding_scale=-1), "embedding_scale must be"),
    "horizon": (lambda: Forecaster(H, 0), "horizon must be a positive integer, got 0"),
    "std": (lambda: Forecaster(H, std=0), "std must be positive"),
    "mean": (lambda: Forecaster(H, mean=[1, 2]), r"mean must be \(1,\)"),
    "NaN": (lambda: Forecaster(H, mean=np.nan), "mean must be finite"),
    "ids of a series": (
        lambda: Forecaster(H, inputs="ids"),
        "^inputs must be 'vectors' in a forecaster, got 'ids'",
    ),
    "quantile": (lambda: Forecaster(H, quantiles=[0.5, 1]), r"quantiles must be one or more in"),
    "ragged step": (
        lambda: Forecaster(H).stream().step([[1], [1, 2]]),
        "inputs must be an array, got lists of unequal lengths",
    ),
    "ids of a step": (
        lambda: classifier().stream(2).step([1]),
        r"^ids must be \(2,\), got \(1,\)",
    ),
    "targets in a list": (
        lambda: evaluate(Forecaster(H, 2), Batches([[1, 2], [3]], [[1, 2], [3, 4]], 2)),
        r"targets must be an array, got Padded, as a batch has of a list; np.array\(...\) of it",
    ),
    "loss": (lambda: FeedForward(I, K, loss="hinge"), "loss must be one of 'cross_entropy'"),
    "activation": (lambda: FeedForward(I, K, activation="sin"), "activation must be"),
    "hidden size": (lambda: FeedForward(I, K, np.array([4, 0])), r"hidden_sizes\[1\] must be"),
    "weights of numbers": (
        lambda: FeedForward(I, K, loss="squared_error", class_weights=WEIGHTS),
        "class_weights must be None where loss is 'squared_error'",
    ),
    "probabilities of numbers": (
        lambda: make("affine")[0].predict_proba(ROWS),
        "has no probabilities",
    ),
    "empty": (
        lambda: classifier().predict([[1], []]),
        r"inputs\[1\] must have at least 1 step, got none \(of 2 seq.*; leave out empty",
    ),
    "none": (lambda: classifier().predict([]), "must be one sequence or more, got none"),
    "unknown id": (lambda: classifier().predict([[1, V]]), "ids must be in 0..6, got 7"),
    "mixed widths": (
        lambda: make("classifier, mean")[0].predict([np.zeros((2, I)), np.zeros((2, I + 1))]),
        r"inputs\[1\] must be \(T, 2\), got \(2, 3\)",
    ),
    "another width": (
        lambda: make("classifier, mean")[0].predict([np.zeros((2, I + 1))]),
        r"inputs must be \(T, B, 2\), got \(2, 1, 3\)",
    ),
    "numbers for vectors": (  # as many sequences as a vector is wide
        lambda: make("classifier, mean")[0].predict([np.zeros(4)] * I),
        r"inputs must be \(T, B, 2\), got \(4, 2\); a sequence is \(T, 2\), one alone",
    ),
    "a text": (
        lambda: classifier().predict("hello"),
        r"inputs\[0\] must be of numbers, got dtype <U1",
    ),
    "a single sequence": (
        lambda: classifier().predict(IDS[0]),
        r"inputs\[0\] must be .*, got \(\); put a single sequence into a list",
    ),
    "vectors for ids": (
        lambda: classifier().predict([np.zeros((2, I), int)]),
        r"inputs must be \(T, B\), got \(2, 1, 2\); ids are .* for models with inputs='vectors'",
    ),
    "unknown label": (
        lambda: classifier().loss(IDS, [0, 1, K]),
        r"targets must be in 0..2, got 3 at \(2,\)",
    ),
    "labels": (lambda: classifier().loss(IDS, [0, 1]), r"targets must be \(3,\), got \(2,\)"),
    "unknown tag": (
        lambda: make("tagger")[0].loss(IDS, [[0] * 4, [K], [1, 1]]),
        "targets must be in 0..2, got 3",
    ),
    "lengths of tags": (
        lambda: make("tagger")[0].loss(IDS, [[0] * 4, [1, 1], [1]]),
        r"targets must be as long as inputs, \[4 1 2\], got \[4 2 1\]",
    ),
    "numbers": (
        lambda: make("regressor")[0].loss(IDS, NUMBERS[:, :1]),
        r"targets must be \(3, 2\), got \(3, 1\)",
    ),
    "future": (
        lambda: make("forecaster, far")[0].loss(VECTORS, NUMBERS[:, :1]),
        r"targets must be \(3, 2\), got \(3, 1\)",
    ),
    "past": (
        lambda: make("forecaster")[0].predict(VECTORS),
        r"inputs must be \(4, 3, 1\), got \(4, 3, 2\)",
    ),
    "rows": (lambda: make("feed-forward")[0].predict(ROWS[0]), r"inputs must be \(B, 2\)"),
}


@pytest.mark.parametrize(
    "name", [name for name, case in CASES.items() if case[0] is not FeedForward]
)
def test_predictions_do_not_depend_on_the_size_of_batches(name):
    model, inputs, _ = make(name)
    many = [inputs[k % len(inputs)] for k in range(7)]
    for function in ("predict", "predict_proba"):
        predict = getattr(model, function, None)
        if predict is None:
            continue
        expected = predict(many)
        for given in (many, pad(many)):
            for size in (1, 3, 7, 100):
                for found, wanted in zip(predict(given, size), expected, strict=True):
                    assert_close(np.asarray(found), np.asarray(wanted), TOLERANCES["float32"])
        with pytest.raises(ValueError, match="batch_size must be a positive integer, got 0"):
            predict(many, batch_size=0)
        with pytest.raises(ValueError, match=r"inputs\[5\] must have at least 1 step"):
            predict([*many[:5], many[0][:0]], 2)


@pytest.mark.parametrize("name", REFUSED)
def test_wrong_arguments_are_named(name):
    call, message = REFUSED[name]
    with pytest.raises((ValueError, TypeError), match=message):
        call()


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: classifier().loss(IDS, [0.0, 1.0, 2.0]), "targets must be integers"),
        (
            lambda: classifier(embeding_size=3),
            "^SequenceClassifier has no argument 'embeding_size'; .*, input_dropout, embedding_sc",
        ),
        (lambda: classifier(output_dropout=0.1), "^SequenceClassifier has no argument 'output_dr"),
        (lambda: SequenceRegressor(V, H, units=3), "^SequenceRegressor has no argument 'units'"),
        (lambda: Forecaster(H, pooling="mean"), "^Forecaster has no argument 'pooling'"),
        (
            lambda: SequenceTagger(V, H, K, pooling="mean"),
            "^SequenceTagger has no argument 'pooling'; .* output_dropout, embedding_scale, opt",
        ),
        (lambda: CTCRecognizer(V, H, K, units=3), "^CTCRecognizer has no argument 'units'"),
        (
            lambda: classifier().predict([[0.0, 1.0]]),
            "inputs must be castable to int64, got dtype float64; .* models with inputs='vectors'",
        ),
        (lambda: FeedForward(I, K, 5), "hidden_sizes must be a sequence of int, got int"),
    ],
)
def test_arguments_of_the_wrong_kind_are_named(call, message):
    with pytest.raises(TypeError, match=message):
        call()
