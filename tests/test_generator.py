"""The generator of sequences: likelihoods, gradients, padding, draws, saving, refusals."""

import itertools

import numpy as np
import pytest
from gradients import check_gradients
from scipy.special import log_softmax, logsumexp, softmax
from scipy.stats import norm
from tolerances import TOLERANCES, assert_close

import fastrnn as fr
from fastrnn.data import Batches, Padded, pad
from fastrnn.models import SequenceGenerator, load
from fastrnn.models.encoder import EncoderStream
from fastrnn.training import fit

H, T = 5, 4
LENGTHS = [3, 4, 1]
SIZES = [3, 2, 4]
KINDS = {
    "one variable": {"size": 3},
    "side by side": {"size": SIZES, "embedding_size": [2, 1, 3]},
    "chained": {"size": SIZES, "embedding_size": 2, "chained": True},
    "mixture": {"size": 2, "head": "mixture", "components": 3},
}


def make(kind, **options):
    model = SequenceGenerator(
        **{"hidden_size": H, "dtype": "float64", "seed": 1, **KINDS[kind], **options}
    )
    generator = np.random.default_rng(2)
    for name, array in model.parameters.items():  # links begin at zero
        if "link" in name:
            array[...] = generator.standard_normal(array.shape)
    return model


def sequences(kind, lengths=LENGTHS):
    generator = np.random.default_rng(0)
    if kind == "mixture":
        return [generator.standard_normal((length, 2)) for length in lengths]
    sizes = np.atleast_1d(KINDS[kind]["size"])
    return [generator.integers(0, sizes, (length, len(sizes))) for length in lengths]


@pytest.mark.parametrize("cell", ["rnn", "lstm", "gru"])
@pytest.mark.parametrize("dropout", [{}, {"dropout": 0.4, "input_dropout": 0.4}])
@pytest.mark.parametrize("kind", KINDS)
def test_gradients_are_those_of_central_differences(kind, dropout, cell):
    model, data = make(kind, num_layers=2, cell=cell, **dropout), pad(sequences(kind))
    check_gradients(model, lambda: model.loss_vjp(data, data), least=1e-6)


@pytest.mark.parametrize("kind", KINDS)
def test_the_likelihood_is_the_product_of_the_steps(kind, backend):
    # By hand from the parameters: what stands before each element, the encoder, the distribution.
    model, (sequence,) = make(kind), sequences(kind, [T])
    p = model.parameters
    before = np.vstack([model.head.start, sequence[:-1]])
    if kind == "mixture":
        features, _ = model.encoder(before)
        outputs = features @ p["head.output.weight"].T + p["head.output.bias"]
        outputs = outputs.reshape(T, 3, 5)
        log_density = norm.logpdf(sequence[:, None], outputs[..., 1:3], np.exp(outputs[..., 3:]))
        joint = log_softmax(outputs[..., 0], -1) + log_density.sum(-1)
        expected = logsumexp(joint, -1).sum()
    else:
        K = before.shape[1]
        read = [p[f"head.embedding{k}.weight"][before[:, k].astype(int)] for k in range(K)]
        features, _ = model.encoder(np.hstack(read))
        logits = features @ p["head.output.weight"].T + p["head.output.bias"]
        ends = np.cumsum(model.config["size"])
        expected = 0
        for k, (size, end) in enumerate(zip(model.config["size"], ends)):
            block = logits[:, end - size : end].copy()
            for j in range(k if kind == "chained" else 0):
                link = p[f"head.link{j}.weight"][sequence[:, j]]
                block += link[:, end - size - ends[j] : end - ends[j]]
            expected += log_softmax(block, -1)[np.arange(T), sequence[:, k]].sum()
    assert model.log_likelihood([sequence]) == pytest.approx(expected, rel=1e-12)
    loss, state = model.loss(sequence[:, None], sequence[:, None])
    assert state is None
    assert -loss * T == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("kind", KINDS)
def test_each_sequence_of_a_batch_counts_as_if_alone(kind, backend):
    model, many = make(kind), sequences(kind)
    together = model.log_likelihood(many)
    assert together == pytest.approx([model.log_likelihood([s])[0] for s in many], rel=1e-12)
    assert model.loss(pad(many), pad(many))[0] == pytest.approx(-together.sum() / sum(LENGTHS))
    assert model.loss_vjp(pad(many), pad(many))[0] == pytest.approx(-together.sum() / sum(LENGTHS))
    assert model.count(pad(many)) == sum(LENGTHS)
    assert model.count(np.zeros((4, 2, 3))) == 8


@pytest.mark.parametrize("kind", KINDS)
def test_an_empty_sequence_has_likelihood_one(kind):
    model, (one,) = make(kind), sequences(kind, [1])
    first, second, third = model.log_likelihood([one[:0], one, one[:0]])
    assert first == third == 0
    assert second == model.log_likelihood([one])[0]
    assert model.log_likelihood([one[:0]] * 2).tolist() == [0, 0]


@pytest.mark.parametrize("kind", KINDS)
def test_padding_is_never_read(kind):
    model, data = make(kind, dropout=0.3, input_dropout=0.3), pad(sequences(kind))
    found = []
    for rubbish in (0, -7 if kind != "mixture" else np.nan):
        values = np.where(data.mask[..., None], data.values, rubbish)
        model = make(kind, dropout=0.3, input_dropout=0.3)
        loss, _, pullback = model.loss_vjp(
            Padded(values, data.lengths), Padded(values, data.lengths)
        )
        pullback()
        found.append((loss, *model.parameters.flat_gradients))
    assert np.isfinite(found).all()
    assert found[0] == found[1]


@pytest.mark.parametrize("kind", KINDS)
def test_the_compiled_gradients_are_those_of_the_reference(kind, compiled_backend):
    data, found = pad(sequences(kind)), []
    for name in ("reference", compiled_backend):
        model = make(kind)
        with fr.use_backend(name):
            model.loss_vjp(data, data)[2]()
        found.append(model.parameters.flat_gradients)
    assert_close(*found, TOLERANCES["float64"])


def test_noisy_inputs_leave_the_targets():
    model, (clean,) = make("mixture"), sequences("mixture", [T])
    noisy = clean + 0.1
    assert model.loss(noisy[:, None], clean[:, None])[0] != model.loss(*[clean[:, None]] * 2)[0]
    # The last element of the inputs is not read.
    changed = noisy.copy()
    changed[-1] = 99
    one, other = (model.loss(x[:, None], clean[:, None])[0] for x in (noisy, changed))
    assert one == other


@pytest.mark.parametrize("kind", ["side by side", "chained"])
def test_probabilities_of_all_elements_sum_to_one(kind):
    model = make(kind)
    elements = np.array(list(itertools.product(*map(range, SIZES))))
    assert np.exp(model.log_likelihood(list(elements[:, None]))).sum() == pytest.approx(1)


@pytest.mark.parametrize("kind", ["side by side", "chained"])
@pytest.mark.parametrize("prompted", [False, True])
def test_draws_follow_the_distribution(kind, prompted):
    model, n = make(kind), 3000
    prompt = sequences(kind, [2])[0] if prompted else None
    generator = np.random.default_rng(0)
    drawn = [next(model.sample(1, prompt=prompt, seed=generator)) for _ in range(n)]
    found = np.bincount(np.ravel_multi_index(np.transpose(drawn), SIZES), minlength=24) / n
    begin = np.zeros((0, 3), int) if prompt is None else prompt
    elements = itertools.product(*map(range, SIZES))
    whole = [np.vstack([begin, element]) for element in elements]
    expected = softmax(model.log_likelihood(whole))
    # Five standard deviations of a binomial share.
    assert np.all(np.abs(found - expected) <= 5 * np.sqrt(expected * (1 - expected) / n))


@pytest.mark.parametrize("kind", KINDS)
def test_a_prompt_is_read_in_one_call_and_goes_on_as_step_by_step(kind, monkeypatch):
    model, (prompt,) = make(kind), sequences(kind, [T])
    stream = model.encoder.stream()
    for element in [model.head.start, *prompt]:
        features = stream.step(model.head.read(element[None])[0])
    steps, step = [], EncoderStream.step
    monkeypatch.setattr(EncoderStream, "step", lambda *args: steps.append(step(*args)) or steps[-1])
    assert len(list(model.sample(2, prompt=prompt, seed=0))) == len(steps) == 2
    assert_close(steps[0], features, TOLERANCES["float64"])


@pytest.mark.parametrize("temperature", [1.0, 0.25])
def test_draws_of_a_mixture_have_its_moments(temperature):
    model, n = make("mixture"), 4000
    outputs = np.array([[0.5, 2, -1, 0, -1], [0, -2, 1, -1, 0], [-9, 0, 0, 0, 0]])
    model.parameters["head.output.weight"][...] = 0
    model.parameters["head.output.bias"][...] = outputs.ravel()
    drawn = np.array(list(model.sample(n, temperature=temperature, seed=0)))
    weight = softmax(outputs[:, 0] / temperature)[:, None]
    mean = (weight * outputs[:, 1:3]).sum(0)
    variance = temperature * np.exp(2 * outputs[:, 3:])
    variance = (weight * (variance + outputs[:, 1:3] ** 2)).sum(0) - mean**2
    assert drawn.dtype == np.float64
    assert np.abs(drawn.mean(0) - mean).max() < 5 * np.sqrt(variance.max() / n)
    assert drawn.var(0) == pytest.approx(variance, rel=0.1)


def test_temperature_zero_takes_the_likeliest():
    model = make("chained")
    first = next(model.sample(1, temperature=0))
    scores = {
        tuple(e): model.log_likelihood([[e]])[0] for e in itertools.product(*map(range, SIZES))
    }
    rest = [scores[*first[:2], k] for k in range(SIZES[2])]
    assert first[2] == np.argmax(rest)  # given the two before it
    model = make("mixture")
    bias = model.parameters["head.output.bias"]
    model.parameters["head.output.weight"][...] = 0
    bias[...] = 0
    bias[5:8] = 1, 3, 4
    assert np.array_equal(list(model.sample(2, temperature=0)), [[3, 4], [3, 4]])


@pytest.mark.parametrize("kind", KINDS)
def test_elements_may_be_overwritten_where_they_were_drawn(kind):
    model, found = make(kind), []
    for element in model.sample(6, seed=3):
        found.append(element.copy())
        element[...] = 1 if kind == "mixture" else 0
    np.testing.assert_array_equal(found, list(model.sample(6, seed=3)))


@pytest.mark.parametrize("kind", KINDS)
def test_the_same_seed_draws_the_same(kind):
    model = make(kind)
    drawn = [np.array(list(model.sample(20, seed=seed))) for seed in (1, 1, 2)]
    assert np.array_equal(drawn[0], drawn[1])
    assert not np.array_equal(drawn[0], drawn[2])
    assert list(model.sample(0)) == []


@pytest.mark.parametrize("kind", KINDS)
def test_a_saved_model_is_the_same(kind, tmp_path):
    model = make(kind, num_layers=2, cell="lstm")
    model.save(tmp_path / "m")
    loaded, _ = load(tmp_path / "m")
    assert loaded.config == model.config
    many = sequences(kind)
    assert np.array_equal(loaded.log_likelihood(many), model.log_likelihood(many))


def test_a_chain_begins_as_none():
    many = sequences("chained")
    chained, none = (
        SequenceGenerator(SIZES, H, chained=chained, seed=1) for chained in (True, False)
    )
    assert np.array_equal(chained.log_likelihood(many), none.log_likelihood(many))


def test_training_finds_a_pattern():
    up = [np.stack([np.arange(k, k + 6) % 4, np.arange(k, k + 6) % 2], 1) for k in range(4)]
    model = SequenceGenerator([4, 2], 16, seed=0)
    fit(model, Batches(up, up, 4), 60, learning_rate=0.03)
    drawn = np.array(list(model.sample(5, prompt=[[2, 0]], temperature=0)))
    assert drawn[:, 0].tolist() == [3, 0, 1, 2, 3]
    assert drawn[:, 1].tolist() == [1, 0, 1, 0, 1]


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"head": "poisson"}, ValueError, "head must be one of 'categorical', 'mixture'"),
        ({"size": 0}, ValueError, "size must be a positive integer, got 0"),
        ({"size": []}, ValueError, "size must be one or more sizes"),
        ({"size": [3, 0]}, ValueError, r"size\[1\] must be a positive integer, got 0"),
        ({"size": "33"}, TypeError, "size must be a positive integer"),
        ({"size": [3, 2], "head": "mixture"}, TypeError, "size must be a positive integer"),
        ({"embedding_size": [4, 4]}, ValueError, "embedding_size must be 1 sizes"),
        ({"components": 0}, ValueError, "components must be a positive integer"),
        ({"chained": 1}, TypeError, "chained must be True or False"),
        ({"cell": "elman"}, ValueError, "cell must be one of"),
        ({"dropout": 2}, ValueError, "dropout must be a probability"),
        ({"hidden_size": 0}, ValueError, "hidden_size must be a positive integer"),
        ({"dtype": "int8"}, ValueError, "dtype must be float32 or float64"),
    ],
)
def test_wrong_arguments_are_refused(options, error, message):
    with pytest.raises(error, match=message):
        SequenceGenerator(**{"size": 3, "hidden_size": 2, **options})


ONES = np.ones((4, 2, 3), int)


@pytest.mark.parametrize(
    ("inputs", "targets", "error", "message"),
    [
        (
            ONES[..., 0],
            ONES,
            ValueError,
            r"must be \(T, B, 3\), got \(4, 2\); a sequence is \(T, 3\)",
        ),
        (ONES, ONES[..., :2], ValueError, r"targets must be \(T, B, 3\), got \(4, 2, 2\)"),
        (ONES, ONES[:3], ValueError, r"targets must be \(4, 2, 3\), as inputs, got \(3, 2, 3\)"),
        (ONES, 2 * ONES, ValueError, r"targets\[\.\.\., 1\] must be in 0\.\.1, got 2"),
        (ONES * 1.0, ONES, TypeError, "inputs must be integers"),
        (
            Padded(ONES, [4, 1]),
            Padded(ONES, [4, 2]),
            ValueError,
            "targets must be as long as inputs",
        ),
        (Padded(ONES, [4, 5]), ONES, ValueError, r"lengths must be in 0\.\.4, got 5"),
        (Padded(ONES, [0, 0]), Padded(ONES, [0, 0]), ValueError, "at least one token"),
    ],
)
def test_wrong_sequences_are_refused(inputs, targets, error, message):
    model = make("side by side")
    for call in (model.loss, model.loss_vjp):
        with pytest.raises(error, match=message):
            call(inputs, targets)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"prompt": [1]}, ValueError, r"prompt must be \(n, 3\), got \(1,\)"),
        ({"prompt": [[1, 2]]}, ValueError, r"prompt must be \(n, 3\), got \(1, 2\)"),
        ({"prompt": [[1, 2, 1]]}, ValueError, r"prompt\[\.\.\., 1\] must be in 0\.\.1, got 2"),
        ({"prompt": [[1], [1, 2]]}, ValueError, "prompt must be an array, got lists of unequal"),
        ({"seed": "a"}, TypeError, "seed must be a non-negative integer, .* got str 'a'"),
        ({"length": -1}, ValueError, "length must be a non-negative integer"),
        ({"temperature": -1}, ValueError, "temperature must be a non-negative number"),
    ],
)
def test_wrong_arguments_of_sample_are_refused_at_once(arguments, error, message):
    with pytest.raises(error, match=message):
        make("side by side").sample(**{"length": 2, **arguments})


def test_what_is_gone_on_with_goes_by_its_name():
    # A LanguageModel, which cannot do without, takes it first.
    with pytest.raises(TypeError, match="positional"):
        make("side by side").sample(2, [[1, 1, 1]])


@pytest.mark.parametrize("kind", ["chained", "mixture"])
def test_a_model_gone_wrong_does_not_draw(kind):
    for wrong in (slice(1, None, 5), slice(None)):  # the means of a mixture; all scores
        model = make(kind)
        model.parameters["head.output.bias"][wrong] = np.nan
        with pytest.raises(ValueError, match="scores are not finite"):
            next(model.sample(1))
