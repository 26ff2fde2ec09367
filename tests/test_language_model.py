"""The language model: gradients, state, streams, samples."""

import itertools

import numpy as np
import pytest
from gradients import check_gradients
from tolerances import TOLERANCES, assert_close

from fastrnn.data import Padded, pad
from fastrnn.models import LanguageModel
from fastrnn.models.encoder import CELLS
from fastrnn.models.language_model import LanguageModelStream

V, H, T, B = 5, 4, 4, 2
INPUTS = {
    "one-hot": {},
    "embedding": {"embedding_size": 3},
    "tied": {"embedding_size": H, "tie_weights": True},
}


def make(cell="lstm", **options):
    return LanguageModel(V, H, **{"num_layers": 2, "cell": cell, "seed": 3, **options})


def make_batch(seed=0):
    return np.random.default_rng(seed).integers(V, size=(2, T, B))


def flat(state):
    return np.concatenate([np.ravel(s) for s in (state if isinstance(state, tuple) else (state,))])


@pytest.mark.parametrize("inputs", INPUTS)
@pytest.mark.parametrize("dropout", [0.0, 0.4])
@pytest.mark.parametrize("cell", CELLS)
def test_gradients_are_those_of_central_differences(cell, dropout, inputs):
    model = make(cell, dtype="float64", dropout=dropout, **INPUTS[inputs])
    ids, targets = make_batch()
    _, state = model(make_batch(1)[0])
    check_gradients(model, lambda: model.loss_vjp(ids, targets, state))


@pytest.mark.parametrize("inputs", INPUTS)
def test_whole_sequences_count_as_if_alone(inputs, backend):
    many = [[1, 2, 3, 0], [4], [2, 2]]
    sources, targets = pad([ids[:-1] for ids in many]), pad([ids[1:] for ids in many])
    found, alone = make(dtype="float64", **INPUTS[inputs]), make(dtype="float64", **INPUTS[inputs])
    loss, state, pullback = found.loss_vjp(sources, targets)
    pullback()
    assert state is None
    assert found.loss(sources, targets) == (pytest.approx(loss), None)
    total = 0
    for ids in many:
        if len(ids) > 1:
            nats, _, pullback = alone.loss_vjp(ids[:-1], ids[1:])
            share = (len(ids) - 1) / 4
            before = alone.parameters.flat_gradients.copy()
            alone.zero_gradients()
            pullback()
            alone.parameters.flat_gradients[:] = before + share * alone.parameters.flat_gradients
            total += share * nats
    assert loss == pytest.approx(total, rel=1e-12)
    assert found.parameters.flat_gradients == pytest.approx(alone.parameters.flat_gradients)
    targets.values[~targets.mask] = -9  # beyond the ends nothing is read
    assert found.loss(sources, targets)[0] == pytest.approx(loss)


def test_padding_is_not_scored(monkeypatch):
    model, rows = make(), []
    score = model.output.vjp
    monkeypatch.setattr(model.output, "vjp", lambda x, copy: rows.append(x) or score(x, copy=copy))
    ids = pad([[1, 2, 3, 0], [4]])
    model.loss_vjp(ids, ids)
    assert [x.shape for x in rows] == [(5, H)]


@pytest.mark.parametrize(
    ("ids", "targets", "error", "message"),
    [
        (pad([[1, 2]]), [[1], [2]], TypeError, "ids and targets must both be Padded, or neither"),
        (pad([[1, 2]]), Padded(np.ones((2, 1), int), [1]), ValueError, "targets must be as long"),
        (pad([[]]), pad([[]]), ValueError, "at least one token"),
        (
            pad([[1]]),
            Padded(np.ones((2, 1), int), [1]),
            ValueError,
            r"must be \(1, 1\), got \(2, 1\)",
        ),
        (pad([[1, 2], [3]]), pad([[1, V], [3]]), ValueError, r"targets .* got 5 at \(1, 0\)"),
    ],
)
def test_whole_sequences_that_do_not_fit_are_refused(ids, targets, error, message):
    for call in (make().loss, make().loss_vjp):
        with pytest.raises(error, match=message):
            call(ids, targets)


@pytest.mark.parametrize("cell", CELLS)
def test_the_pullback_takes_and_returns_gradients_of_the_state(cell):
    model = make(cell, dtype="float64", embedding_size=3)
    ids, _ = make_batch()
    logits, state, pullback = model.vjp(ids)
    d_logits = np.random.default_rng(2).standard_normal(logits.shape)
    d_state = state  # any numbers of the right shapes
    d_initial = flat(pullback(d_logits, d_state))

    _, initial = model(make_batch(1)[0])
    direction = np.zeros_like(flat(initial))
    direction[::3] = 1
    parts = initial if isinstance(initial, tuple) else (initial,)

    def shifted(step):
        pieces = np.split(step * direction, np.cumsum([p.size for p in parts])[:-1])
        moved = tuple(piece.reshape(part.shape) for piece, part in zip(pieces, parts))
        y, final = model(ids, moved if len(moved) > 1 else moved[0])
        return (y * d_logits).sum() + flat(final) @ flat(d_state)

    numeric = (shifted(1e-5) - shifted(-1e-5)) / 2e-5
    assert np.isclose(d_initial @ direction, numeric, rtol=1e-7)


@pytest.mark.parametrize("inputs", INPUTS)
@pytest.mark.parametrize("cell", CELLS)
def test_a_carried_state_makes_two_calls_one(cell, inputs):
    model = make(cell, **INPUTS[inputs])
    ids, _ = make_batch()
    whole, end = model(ids)
    assert whole.shape == (T, B, V)
    assert whole.dtype == np.float32
    first, state = model(ids[:3])
    second, state = model(ids[3:], state)
    np.testing.assert_allclose(np.concatenate([first, second]), whole, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(flat(state), flat(end), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("inputs", INPUTS)
@pytest.mark.parametrize("cell", CELLS)
def test_a_stream_is_the_call_step_by_step(cell, inputs):
    model = make(cell, **INPUTS[inputs])
    ids, _ = make_batch()
    whole, end = model(ids)
    stream = model.stream(B)
    for _ in range(2):
        steps = [stream.step(row) for row in ids]
        np.testing.assert_allclose(steps, whole, rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(flat(stream.state), flat(end), rtol=1e-5, atol=1e-6)
        stream.reset()
    _, stream.state = model(ids[:2])
    np.testing.assert_allclose(stream.step(ids[2]), whole[2], rtol=1e-5, atol=1e-6)


def test_one_hot_is_an_identity_embedding():
    one_hot, embedded = make(seed=1), make(embedding_size=V, seed=2)
    embedded.load_state_dict({"encoder.embedding.weight": np.eye(V), **one_hot.state_dict()})
    ids, targets = make_batch()
    for model in (one_hot, embedded):
        model.loss_vjp(ids, targets)[2]()
    np.testing.assert_allclose(embedded(ids)[0], one_hot(ids)[0], rtol=1e-5, atol=1e-6)
    for name, gradient in one_hot.gradients.items():
        np.testing.assert_allclose(embedded.gradients[name], gradient, rtol=1e-4, atol=1e-6)


def test_dropout_is_for_training_alone():
    model = make(dropout=0.5)
    ids, targets = make_batch()
    assert model.loss(ids, targets)[0] == model.loss(ids, targets)[0]
    assert len({model.loss_vjp(ids, targets)[0] for _ in range(3)}) == 3
    plain = make(dropout=0.0)
    assert plain.loss_vjp(ids, targets)[0] == plain.loss(ids, targets)[0]


def test_the_same_seed_makes_the_same_model():
    same, other = make(seed=3), make(seed=4)
    for name, value in make(seed=3).parameters.items():
        assert np.array_equal(same.parameters[name], value)
        assert not np.array_equal(other.parameters[name], value)


def test_tied_weights_are_one_array():
    model = make(**INPUTS["tied"])
    assert np.abs(model.parameters["encoder.embedding.weight"]).max() <= H**-0.5
    assert "output.weight" not in model.parameters
    before, _ = model([[0]])
    model.parameters["encoder.embedding.weight"][1] = 0
    assert model([[0]])[0][0, 0, 1] == model.parameters["output.bias"][1]
    assert before[0, 0, 1] != model.parameters["output.bias"][1]
    with pytest.raises(ValueError, match=r"embedding_size must be hidden_size 4 .* got 3"):
        make(embedding_size=3, tie_weights=True)


@pytest.mark.parametrize(
    ("cell", "num_layers", "inputs"), [*itertools.product(CELLS, (1, 3), INPUTS)]
)
def test_a_model_can_be_made_again_from_its_config(cell, num_layers, inputs):
    model = make(cell, num_layers=num_layers, **INPUTS[inputs])
    twin = LanguageModel(**model.config)
    twin.load_state_dict(model.state_dict())
    assert np.array_equal(twin([[1]])[0], model([[1]])[0])


def test_temperature_zero_takes_the_likeliest():
    model = make()
    sampled = list(model.sample([2, 0], 6, temperature=0))
    ids = [2, 0]
    for _ in range(6):
        ids.append(int(model(np.array(ids))[0][-1].argmax()))
    assert sampled == ids[2:]
    assert list(model.sample([2, 0], 6, top_k=1, seed=5)) == sampled


@pytest.mark.parametrize("options", [{}, {"cell": "gru", "options": {"learned_state": True}}])
@pytest.mark.parametrize("n", [1, 2, 2001, 2500])
def test_a_prompt_is_read_in_few_calls_and_goes_on_as_step_by_step(n, options, monkeypatch):
    model = make(dtype="float64", **options)
    prompt = np.arange(n) * 7 % V
    stream = model.stream()
    for symbol in prompt:
        logits = stream.step([symbol])
    steps, step = [], LanguageModelStream.step
    monkeypatch.setattr(
        LanguageModelStream, "step", lambda *args: steps.append(step(*args)) or steps[-1]
    )
    assert len(list(model.sample(prompt, 3, seed=0))) == len(steps) == 3
    assert_close(steps[0], logits, TOLERANCES["float64"])


def test_the_prompt_may_be_overwritten_before_the_first_draw():
    model, prompt = make(), np.array([2, 0])
    sampled = model.sample(prompt, 6, temperature=0)
    prompt[...] = V  # no symbol at all
    assert list(sampled) == list(model.sample([2, 0], 6, temperature=0))


def test_the_same_seed_draws_the_same():
    model = make()
    drawn = [list(model.sample([0], 40, seed=seed)) for seed in (1, 1, 2)]
    assert drawn[0] == drawn[1] != drawn[2]
    assert set(drawn[0]) == set(range(V))


@pytest.mark.parametrize(("temperature", "top_k"), [(1.0, None), (0.3, None), (2.0, 2), (1.0, 99)])
def test_draws_follow_the_softmax(temperature, top_k):
    model = make()
    model.parameters["output.bias"][...] = [1, -1, 0, 0.5, 0]
    scores = model([[1]])[0][0, 0] / temperature
    if top_k == 2:
        scores[np.argsort(scores)[:-2]] = -np.inf
    expected = np.exp(scores) / np.exp(scores).sum()
    generator = np.random.default_rng(0)
    n = 1500
    draws = [
        next(model.sample([1], 1, temperature=temperature, top_k=top_k, seed=generator))
        for _ in range(n)
    ]
    found = np.bincount(draws, minlength=V) / n
    # Five standard deviations of a binomial share.
    assert np.all(np.abs(found - expected) <= 5 * np.sqrt(expected * (1 - expected) / n))


@pytest.mark.parametrize("temperature", [1e-310, 1e-30, 1e30])
def test_extreme_temperatures_draw(temperature):
    drawn = list(make().sample([0], 5, temperature=temperature, seed=0))
    if temperature < 1:
        assert drawn == list(make().sample([0], 5, temperature=0))
    assert len(drawn) == 5


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"prompt": []}, ValueError, r"prompt must be \(n,\) with n >= 1, got \(0,\)"),
        ({"prompt": [[1]]}, ValueError, r"prompt must be \(n,\) with n >= 1, got \(1, 1\)"),
        ({"prompt": [V]}, ValueError, r"prompt must be in 0\.\.4, got 5"),
        ({"prompt": [0.5]}, TypeError, "prompt must be integers"),
        ({"length": -1}, ValueError, "length must be a non-negative integer"),
        ({"temperature": -1}, ValueError, "temperature must be a non-negative number"),
        ({"temperature": float("nan")}, ValueError, "temperature must be a non-negative number"),
        ({"top_k": 0}, ValueError, "top_k must be a positive integer"),
        ({"seed": -1}, ValueError, "seed must be a non-negative integer, .* got int -1"),
    ],
)
def test_wrong_arguments_of_sample_are_refused_at_once(arguments, error, message):
    with pytest.raises(error, match=message):
        make().sample(**({"prompt": [0], "length": 3} | arguments))


def test_a_model_gone_wrong_does_not_write():
    model = make()
    model.parameters["output.bias"][0] = np.nan
    with pytest.raises(ValueError, match="scores are not finite"):
        next(model.sample([0], 1))


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"vocabulary_size": 0}, ValueError, "vocabulary_size must be a positive integer, got 0"),
        ({"hidden_size": 1.5}, TypeError, "hidden_size must be a positive integer, got float 1.5"),
        ({"num_layers": -1}, ValueError, "num_layers must be a positive integer"),
        ({"embedding_size": 0}, ValueError, "embedding_size must be a positive integer"),
        ({"cell": "LSTM"}, ValueError, "cell must be one of 'rnn', 'lstm', 'gru', got 'LSTM'"),
        ({"dropout": 1.5}, ValueError, r"dropout must be a probability in \[0, 1\], got 1.5"),
        ({"dtype": "int32"}, ValueError, "dtype must be float32 or float64"),
        ({"options": {"reverse": True}}, ValueError, "options must have no reverse in a language"),
        ({"options": {"proj_size": 2}}, ValueError, "options must have no proj_size .* got 2"),
        ({"options": {"bidirectional": True}}, ValueError, "got bidirectional=True"),
    ],
)
def test_wrong_arguments_of_the_model_are_refused(arguments, error, message):
    with pytest.raises(error, match=message):
        LanguageModel(**({"vocabulary_size": V, "hidden_size": H} | arguments))


@pytest.mark.parametrize("inputs", INPUTS)
@pytest.mark.parametrize(
    ("ids", "error"), [([[V]], ValueError), ([[-1]], ValueError), ([[0.0]], TypeError)]
)
def test_wrong_ids_are_refused(ids, error, inputs):
    model = make(**INPUTS[inputs])
    for call in (model, model.vjp, model.stream().step):
        with pytest.raises(error, match="ids must be"):
            call(ids)


@pytest.mark.parametrize("inputs", INPUTS)
@pytest.mark.parametrize(
    ("B", "ids", "message"),
    [
        (2, [1], r"^ids must be \(2,\), got \(1,\)$"),
        (2, 1, r"^ids must be \(2,\), got \(\)$"),
        (1, [1, 0], r"^ids must be \(1,\), got \(2,\)$"),
        (1, [[1]], r"^ids must be \(1,\), got \(1, 1\)$"),
    ],
)
def test_a_step_of_another_number_of_ids_is_refused(B, ids, message, inputs):
    stream = make(**INPUTS[inputs]).stream(B)
    before = stream.state
    with pytest.raises(ValueError, match=message):
        stream.step(ids)
    np.testing.assert_array_equal(stream.state, before)


@pytest.mark.parametrize("dropout", [0.0, 0.5])
@pytest.mark.parametrize("ids", [[0, 1, 2], [[0, 1], [2, 3]]], ids=["one", "batch"])
def test_a_refused_pullback_changes_nothing(ids, dropout):
    model = make(dropout=dropout)
    logits, _, pullback = model.vjp(ids)
    output, _, encoder_pullback = model.encoder.vjp(ids)
    for refused, d_output in ((pullback, logits), (encoder_pullback, output)):
        with pytest.raises((TypeError, ValueError), match="d_"):
            refused(d_output, np.zeros(3))
        assert not model.parameters.flat_gradients.any()
    pullback(logits)
    encoder_pullback(output)
