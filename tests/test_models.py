"""Tests for all models: the encoder that they share, saving and loading."""

import inspect

import numpy as np
import pytest
from tolerances import TOLERANCES, assert_close

import fastrnn as fr
from fastrnn.data import CharVocabulary, Padded, pad
from fastrnn.models import (
    CTCRecognizer,
    Encoder,
    Forecaster,
    LanguageModel,
    SequenceClassifier,
    SequenceRegressor,
    SequenceTagger,
    load,
)
from fastrnn.models.encoder import RESERVED
from fastrnn.training import CheckpointError, load_language_model

V, E, I, H = 7, 3, 2, 4
IDS = Padded(np.array([[1, 6], [2, 0], [5, 3]]), np.array([3, 1]))
RNG = np.random.default_rng(0)
VECTORS = Padded(RNG.standard_normal((3, 2, I)), np.array([1, 3]))
ENCODERS = {
    "embedding": ((V, H), {"embedding_size": E}, IDS),
    "one-hot": ((V, H), {"cell": "rnn"}, IDS),
    "vectors": ((I, H), {"inputs": "vectors", "cell": "lstm"}, VECTORS),
}


def make(name, **options):
    sizes, own, inputs = ENCODERS[name]
    return Encoder(*sizes, **{"dtype": "float64", "seed": 0, **own, **options}), inputs


@pytest.mark.parametrize("bidirectional", [False, True])
@pytest.mark.parametrize("name", ENCODERS)
def test_an_encoder_reads_each_sequence_as_if_alone(name, bidirectional):
    encoder, (values, lengths) = make(name, num_layers=2, bidirectional=bidirectional)
    output, _ = encoder(Padded(values, lengths))
    assert output.shape == (3, 2, encoder.output_size)
    for b, length in enumerate(lengths):
        alone, _ = encoder(values[:length, b])
        assert_close(output[:length, b], alone, TOLERANCES["float64"])
        assert not output[length:, b].any()


@pytest.mark.parametrize("dropout", [{}, {"dropout": 0.5}, {"input_dropout": 0.5}])
@pytest.mark.parametrize("name", ENCODERS)
def test_encoder_gradients(name, dropout):
    direction = RNG.standard_normal(make(name)[0].parameters.flat_values.size)
    weight = RNG.standard_normal((3, 2, H))

    def value(step):  # the same seed draws the same masks
        encoder, inputs = make(name, **dropout)
        encoder.parameters.flat_values[:] += step * direction
        output, state, pullback = encoder.vjp(inputs)
        final = state[0] if isinstance(state, tuple) else state
        d_final = np.ones_like(final)
        return (output * weight).sum() + final.sum(), encoder, pullback, d_final

    _, encoder, pullback, d_final = value(0)
    d_inputs, _ = pullback(weight, (d_final, None) if name == "vectors" else d_final)
    step = 1e-6
    expected = (value(step)[0] - value(-step)[0]) / (2 * step)
    assert encoder.parameters.flat_gradients @ direction == pytest.approx(expected, rel=1e-6)
    assert (d_inputs is None) == (name != "vectors")


@pytest.mark.parametrize("name", ENCODERS)
def test_dropout_of_all_that_is_read_leaves_nothing_of_it(name):
    encoder, inputs = make(name, input_dropout=1.0)
    output, _, _ = encoder.vjp(inputs)
    np.testing.assert_array_equal(output[:1, 0], output[:1, 1])
    assert not np.array_equal(*encoder(inputs)[0][0])


def test_the_gradient_of_vectors():
    encoder, (values, lengths) = make("vectors")
    d_values, _ = encoder.vjp(Padded(values, lengths))[2](np.ones((3, 2, H)))
    assert not d_values[1:, 0].any()
    step = np.zeros_like(values)
    step[1, 1, 0] = 1e-6
    above, below = (encoder(Padded(values + s, lengths))[0].sum() for s in (step, -step))
    assert d_values[1, 1, 0] == pytest.approx((above - below) / 2e-6, rel=1e-6)


@pytest.mark.parametrize("dropout", [{}, {"input_dropout": 0.5}])
@pytest.mark.parametrize("name", ENCODERS)
def test_the_gradient_of_vectors_may_be_left_out(name, dropout):
    gradients = []
    for input_gradient in (True, False):
        encoder, inputs = make(name, **dropout)
        pullback = encoder.vjp(inputs, input_gradient=input_gradient)[2]
        d_values, _ = pullback(np.ones((3, 2, H)))
        assert (d_values is None) == (name != "vectors" or not input_gradient)
        gradients.append(encoder.parameters.flat_gradients)
    np.testing.assert_array_equal(*gradients)


@pytest.mark.parametrize("name", ENCODERS)
def test_an_encoder_streams(name):
    encoder, (values, _) = make(name, num_layers=2)
    output, _ = encoder(values)
    stream = encoder.stream(2)
    assert np.allclose([stream.step(step) for step in values], output, rtol=1e-12)
    stream.reset()
    assert np.allclose(stream.step(values[0]), output[0], rtol=1e-12)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"cell": "elman"}, "cell must be"),
        ({"inputs": "vectors"}, "embedding_size must be None where inputs are vectors, got 3"),
        ({"embedding_size": 0}, "embedding_size must be"),
        ({"dropout": 2}, "dropout must be"),
        ({"input_dropout": -1}, "input_dropout must be"),
        ({"num_layers": 0}, "num_layers must be"),
        ({"options": {"num_layers": 2}}, "options must have none of .*, got num_layers=2"),
        ({"options": {"dropout": 0.5}}, "options must have none of .*, got dropout=0.5"),
        ({"options": {"batch_first": True}}, "options must have none of .*, got batch_first=True"),
    ],
)
def test_wrong_arguments_are_named(options, message):
    with pytest.raises(ValueError, match=message):
        make("embedding", **options)


def test_options_are_all_arguments_of_the_layers_that_the_encoder_does_not_give():
    own = {name for name in inspect.signature(fr.RNN).parameters if name != "options"}
    assert {*RESERVED} == own - {"nonlinearity", "bias"}


@pytest.mark.parametrize(
    "make",
    [
        lambda options: LanguageModel(5, 3, options=options),
        lambda options: SequenceClassifier(5, 3, 2, options=options),
        lambda options: SequenceRegressor(5, 3, 2, options=options),
        lambda options: SequenceTagger(5, 3, 2, options=options),
        lambda options: CTCRecognizer(5, 3, 2, options=options),
        lambda options: Forecaster(3, options=options),
    ],
)
def test_options_of_every_model(make, tmp_path):
    for name, value in (("num_layers", 2), ("batch_first", True)):
        with pytest.raises(ValueError, match=rf"options must have none of .*, got {name}={value}"):
            make({name: value})
    with pytest.raises(TypeError, match="options must be a mapping from str, got list"):
        make(["bias"])
    options = {"learned_state": np.True_, "zoneout": np.float64(0.25)}
    model = make(options)
    model.save(tmp_path / "m")
    assert load(tmp_path / "m")[0].config["options"] == options


def test_a_model_is_loaded_as_its_class(tmp_path):
    model = LanguageModel(5, 3, seed=0)
    model.save(tmp_path / "m", vocabulary=CharVocabulary("abcde").state())
    loaded, sections = load(tmp_path / "m")
    assert type(loaded) is LanguageModel
    assert np.array_equal(loaded([[1]])[0], model([[1]])[0])
    assert sections["vocabulary"] == {"characters": "abcde"}
    assert load_language_model(tmp_path / "m")[1] == CharVocabulary("abcde")


def test_what_is_printed_of_a_model():
    model = SequenceRegressor(2, 3, cell="rnn", options={"bias": False}, dtype="float64")
    assert repr(model) == (
        "<SequenceRegressor of Parameters(encoder.recurrent.weight_ih_l0 (3, 2), "
        "encoder.recurrent.weight_hh_l0 (3, 3), output.weight (1, 3), output.bias (1,); float64)>"
    )


@pytest.mark.parametrize("section", ["architecture", "model"])
def test_a_section_of_the_models_own_is_refused(tmp_path, section):
    message = f"must be none of architecture, model, .* got {section}"
    with pytest.raises(ValueError, match=message):
        LanguageModel(5, 3).save(tmp_path / "m", **{section: {"class": "Other"}})
    assert not list(tmp_path.iterdir())


def test_another_class_in_the_file_is_refused(tmp_path):
    class Passing(LanguageModel):
        pass

    Passing(5, 3).save(tmp_path / "m")
    del LanguageModel._classes["Passing"]
    with pytest.raises(CheckpointError, match="its class 'Passing' is not known here"):
        load(tmp_path / "m")


def test_the_weight_of_a_batch_is_the_number_of_its_targets():
    model = LanguageModel(5, 3)
    assert model.count(np.zeros((4, 2), int)) == 8
    assert model.count(pad([[1, 2, 3], [4]])) == 4
    assert model.count(Padded(np.zeros((3, 2), int), [3, 1])) == 4
    assert model.count([[1, 2, 3], [4]]) == model.count([1, 2, 3, 4]) == 4


@pytest.mark.parametrize(
    ("seed", "error"), [(-1, ValueError), (1.5, TypeError), ("a", TypeError), (True, TypeError)]
)
def test_a_seed_is_a_non_negative_integer(seed, error):
    with pytest.raises(error, match="seed must be a non-negative integer, got"):
        LanguageModel(5, 3, seed=seed)


def objects(sequences):
    array = np.empty(len(sequences), object)
    array[:] = sequences
    return array


@pytest.mark.parametrize("kind", [list, tuple, objects, pad])
def test_every_target_counts_the_same_whatever_holds_the_sequences(kind):
    model = SequenceTagger(V, H, 2, seed=0)
    inputs, targets = [[0], [1, 5, 2, 1], [6, 3]], [[1], [0, 0, 1, 0], [1, 1]]
    batches = [(kind(inputs[:1]), kind(targets[:1])), (kind(inputs[1:]), kind(targets[1:]))]
    assert model.count(kind(targets)) == 7
    whole = model.loss(inputs, targets)[0]
    assert fr.training.evaluate(model, batches) == pytest.approx(whole, rel=1e-6)


@pytest.mark.parametrize(
    "replace",
    [
        lambda model: setattr(model, "output", fr.Dense(H, 5)),
        lambda model: setattr(model, "encoder", make("embedding")[0]),
        lambda model: setattr(model.encoder, "recurrent", fr.GRU(E, H)),
        lambda model: setattr(model.encoder, "embedding", fr.Embedding(V, E)),
        lambda model: setattr(model.output, "parameters", fr.Dense(H, 3).parameters),
        lambda model: setattr(model, "another", fr.Dense(H, 5)),
    ],
)
def test_no_part_is_exchanged_behind_the_back_of_training(replace):
    model = SequenceClassifier(V, H, 3, embedding_size=E)
    with pytest.raises(
        ValueError, match="must be of the parts that were joined when this was made"
    ):
        replace(model)
    model.output = model.output  # its own
    model.output.parameters = model.output.parameters
    model.scale = np.ones(3)


@pytest.mark.parametrize(
    ("name", "value"), [("dropout", 0.5), ("encoder", None), ("parameters", {"weight": 1})]
)
def test_no_part_becomes_something_else(name, value):
    model = SequenceClassifier(V, H, 3)
    kind = type(getattr(model, name)).__name__
    with pytest.raises(TypeError, match=f"{name} must stay a {kind}, got .*; set what it holds"):
        setattr(model, name, value)
    model.dropout.p = 0.5


def test_targets_may_be_several_and_of_any_kind():
    model = SequenceTagger(V, H, 3)
    tags = [np.array([0, 1, 2]), np.array([1])]
    assert model.count((pad(tags), np.array([0, 1]))) == model.count((tags, [0, 1])) == 6


def test_no_model_takes_the_name_of_one_of_ours():
    with pytest.raises(TypeError, match="must not be called SequenceTagger, as one of fastrnn is"):
        type("SequenceTagger", (SequenceTagger,), {})
    for _ in range(2):  # a cell of a notebook is run again
        own = type("OwnTagger", (SequenceTagger,), {})
    assert type(own(V, H, 3)) is own


def test_training_and_prediction_where_numpy_shall_raise_errors():
    """What is far below the largest is zero, whatever the caller asks NumPy for."""
    poses = [RNG.standard_normal((5, I)) for _ in range(6)]
    with np.errstate(all="raise"):
        for pooling in ("last", "attention"):
            model = SequenceClassifier(I, H, 3, pooling, inputs="vectors", seed=0)
            model.parameters.flat_values[:] *= 300
            fr.fit(model, fr.data.Batches(poses, [0, 1, 2] * 2, 3), 1)
            model.predict_proba(VECTORS)
        model = fr.models.SequenceGenerator(I, H, head="mixture", components=3, seed=0)
        model.parameters.flat_values[:] *= 30
        fr.fit(model, fr.data.Batches(poses, poses, 3), 1, clip=1.0)
        model.log_likelihood(poses)


def test_the_gradient_of_what_a_classifier_reads_is_made_on_request():
    model = SequenceClassifier(I, H, 3, inputs="vectors", dtype="float64", seed=0)
    d_scores = RNG.standard_normal((2, 3))
    gradients = []
    for options in ({}, {"input_gradient": False}):
        model.zero_gradients()
        d_inputs = model.vjp(VECTORS, **options)[1](d_scores)
        gradients.append(model.parameters.flat_gradients.copy())
        assert (d_inputs is None) == bool(options)
    np.testing.assert_array_equal(*gradients)
