"""Models that write: gradients, PyTorch's loss, ragged batches, decoding, saving, refusals."""

import itertools

import numpy as np
import pytest
from gradients import check_gradients

from fastrnn.data import Batches, Padded, pad
from fastrnn.losses import softmax_cross_entropy
from fastrnn.models import Captioner, Seq2Seq, load
from fastrnn.optim import Adam
from fastrnn.training import Callback, Checkpoint, Trainer, fit

V, W, I, H, E = 6, 7, 3, 4, 5  # symbols read and written, width of a vector
EOS = 3
SOURCES = [[1, 5, 2, 4], [3], [2, 2]]
TARGETS = [[4, EOS], [5, 6, 4, EOS], [0, EOS]]
RNG = np.random.default_rng(0)
VECTORS = [RNG.standard_normal((length, I)) for length in (4, 1, 2)]
IMAGES = RNG.standard_normal((3, 2, 2, I))


def seq2seq(**options):
    options = {"embedding_size": E, "dtype": "float64", "seed": 1} | options
    return Seq2Seq(I if options.get("inputs") == "vectors" else V, W, H, **options)


def captioner(**options):
    return Captioner(12, W, H, **{"embedding_size": E, "dtype": "float64", "seed": 1} | options)


MODELS = {
    "general": (seq2seq, {}, SOURCES),
    "dot": (seq2seq, {"attention": "dot", "cell": "lstm", "num_layers": 2}, SOURCES),
    "additive": (seq2seq, {"attention": "additive", "bidirectional": False}, SOURCES),
    "no attention": (seq2seq, {"attention": None, "cell": "rnn", "embedding_size": None}, SOURCES),
    "vectors": (seq2seq, {"inputs": "vectors"}, VECTORS),
    "captioner": (captioner, {}, IMAGES),
    "deep captioner": (captioner, {"cell": "gru", "num_layers": 2}, IMAGES),
}


def make(name, **options):
    function, own, inputs = MODELS[name]
    return function(**own, **options), inputs


def one(inputs, b):
    return inputs[b : b + 1]


@pytest.mark.parametrize("name", MODELS)
def test_gradients_are_those_of_central_differences(name, backend):
    model, inputs = make(name, dropout=0.4, input_dropout=0.3)
    check_gradients(model, lambda: model.loss_vjp(inputs, TARGETS), least=1e-6)


@pytest.mark.parametrize("name", MODELS)
def test_an_example_is_treated_as_if_alone(name):
    model, inputs = make(name)
    logits = model(inputs, TARGETS)
    weights = model.attention_weights(inputs, TARGETS)
    assert logits.shape == (4, 3, W)
    total = 0.0
    for b, target in enumerate(TARGETS):
        alone = model(one(inputs, b), [target])
        np.testing.assert_allclose(logits[: len(target), [b]], alone, rtol=1e-12)
        assert not logits[len(target) :, b].any()
        own = model.attention_weights(one(inputs, b), [target])
        if weights is not None:
            np.testing.assert_allclose(weights[: len(target), [b], : own.shape[2]], own)
            np.testing.assert_allclose(own.sum(axis=2), 1)
        total += model.loss(one(inputs, b), [target])[0] * len(target)
    loss = model.loss(inputs, TARGETS)[0]
    assert loss == pytest.approx(total / model.count(pad(TARGETS)), rel=1e-12)
    assert loss == pytest.approx(model.loss_vjp(inputs, TARGETS)[0], rel=1e-12)


def test_padding_is_never_read():
    model, inputs = make("vectors", input_dropout=0.2)
    state = model.generators["encoder_input_dropout"].bit_generator.state
    results = []
    for beyond, symbol in ((0.0, 0), (np.nan, -5)):
        values, lengths = pad(inputs)
        targets = pad(TARGETS)
        for b in range(3):
            values[lengths[b] :, b] = beyond
            targets.values[targets.lengths[b] :, b] = symbol
        model.generators["encoder_input_dropout"].bit_generator.state = state
        model.generators["decoder_input_dropout"].bit_generator.state = state
        model.zero_gradients()
        loss, _, pullback = model.loss_vjp(Padded(values, lengths), targets)
        pullback()
        results.append((loss, model.parameters.flat_gradients.copy()))
        assert np.isfinite(model(Padded(values, lengths), targets)).all()
    assert results[0][0] == results[1][0]
    np.testing.assert_array_equal(results[0][1], results[1][1])


@pytest.mark.parametrize("name", MODELS)
def test_writing_goes_on_with_the_likeliest_of_what_teacher_forcing_scores(name):
    model, inputs = make(name)
    written = model.predict(inputs, max_length=5)
    for b, ids in enumerate(written):
        given = [*ids, EOS]
        scores = model(one(inputs, b), [given])[:, 0]
        assert scores[: len(ids)].argmax(axis=1).tolist() == ids.tolist()
        assert len(ids) == 5 or scores[-1].argmax() == EOS
    drawn = model.sample(inputs, max_length=5, top_k=1, seed=0)
    assert [ids.tolist() for ids in drawn] == [ids.tolist() for ids in written]


@pytest.mark.parametrize("name", MODELS)
def test_beam_search_is_exhaustive_search(name):
    model, inputs = make(name)
    length = 2
    found = model.beam_search(inputs, beam_width=W**length, max_length=length)
    best = model.predict(inputs, beam_width=W**length, max_length=length)
    symbols = [k for k in range(W) if k != EOS]
    sequences = [(), *itertools.product(symbols), *itertools.product(symbols, repeat=length)]
    for b in range(3):
        scores = {}
        for ids in sequences:
            target = [*ids, EOS][:length]
            logits = model(one(inputs, b), [target])[:, 0]
            scores[ids] = -softmax_cross_entropy(logits, target)[0]
        expected = sorted(scores, key=scores.get, reverse=True)
        assert [tuple(h.ids) for h in found[b]] == expected
        np.testing.assert_allclose([h.score for h in found[b]], [scores[i] for i in expected])
        assert tuple(best[b]) == expected[0]


def test_predict_hands_the_length_penalty_to_the_beam():
    model, inputs = make("general")
    none, strong = (
        np.concatenate(model.predict(inputs, beam_width=5, length_penalty=p, max_length=6))
        for p in (0, 9)
    )
    assert len(none) < len(strong)


@pytest.mark.parametrize("name", ["general", "captioner"])
def test_dropout_is_of_what_is_scored(name):
    """At probability 1 nothing is left but the bias."""
    model, inputs = make(name, dropout=1.0)
    targets = np.concatenate(TARGETS)
    scores = np.tile(model.parameters["decoder.output.bias"], (len(targets), 1))
    expected, _ = softmax_cross_entropy(scores, targets)
    assert model.loss_vjp(inputs, TARGETS)[0] == pytest.approx(expected)
    assert model.decoder.recurrent.dropout.p == 0
    assert name == "captioner" or model.encoder.dropout.p == 0


@pytest.mark.parametrize("name", ["general", "captioner"])
def test_what_is_excluded_is_never_written(name):
    model, inputs = make(name)
    model.parameters["decoder.output.bias"][5] = 9
    likely = model.predict(inputs, max_length=4)
    assert all(5 in ids for ids in likely)
    exclude = [5, 0]
    for written in (
        model.predict(inputs, max_length=4, exclude=exclude),
        model.predict(inputs, beam_width=3, max_length=4, exclude=exclude),
        model.sample(inputs, max_length=4, exclude=exclude, seed=0),
    ):
        assert not np.isin(np.concatenate(written), exclude).any()
    with pytest.raises(ValueError, match=r"exclude must be in 0\.\.6, got 7"):
        model.predict(inputs, exclude=[W])
    with pytest.raises(ValueError, match="exclude must not have the end mark 3, got"):
        model.predict(inputs, exclude=[EOS])


@pytest.mark.parametrize("name", ["general", "captioner"])
def test_scheduled_sampling(name):
    model, inputs = make(name)
    forced = model.loss_vjp(inputs, TARGETS)[0]
    model.scheduled_sampling = 1.0
    targets = pad(TARGETS)
    own = model(inputs, TARGETS).argmax(axis=2)  # what it would have read instead
    expected = total = 0.0
    for b, target in enumerate(TARGETS):
        read = [model.config["bos"], *own[: len(target) - 1, b]]
        context, memory = model.encode(one(inputs, b))
        logits, _ = model.decoder(pad([read]), context, memory)
        expected += softmax_cross_entropy(logits[:, 0], target)[0] * len(target)
        total += len(target)
    loss, _, pullback = model.loss_vjp(inputs, targets)
    pullback()
    assert loss == pytest.approx(expected / total, rel=1e-12)
    assert loss != forced
    assert model.loss(inputs, TARGETS)[0] == pytest.approx(forced)  # is for training alone
    model.scheduled_sampling = 0.5
    assert len({model.loss_vjp(inputs, TARGETS)[0] for _ in range(20)}) > 1
    states = {key: one.bit_generator.state for key, one in model.generators.items()}
    drawn = [model.loss_vjp(inputs, TARGETS)[0] for _ in range(9)]
    for key, state in states.items():
        model.generators[key].bit_generator.state = state
    assert [model.loss_vjp(inputs, TARGETS)[0] for _ in range(9)] == drawn
    with pytest.raises(ValueError, match="scheduled_sampling must be a probability"):
        model.scheduled_sampling = 2
    assert type(model)(**model.config).scheduled_sampling == 0.5


@pytest.mark.parametrize("name", MODELS)
def test_saved_and_loaded(name, tmp_path):
    model, inputs = make(name, dropout=0.1)
    model.save(tmp_path / "m")
    loaded, _ = load(tmp_path / "m")
    assert type(loaded) is type(model)
    assert loaded.config == model.config
    np.testing.assert_array_equal(loaded(inputs, TARGETS), model(inputs, TARGETS))


@pytest.mark.parametrize("attention", ["general", "dot", "additive"])
def test_a_sequence_is_learnt_backwards(attention):
    generator = np.random.default_rng(0)
    sources = [generator.integers(4, 8, generator.integers(2, 4)) for _ in range(160)]
    targets = [[*row[::-1], EOS] for row in sources]
    model = Seq2Seq(8, 8, 24, embedding_size=12, attention=attention, seed=0)
    batches = Batches(sources[:140], targets[:140], 20, seed=0)
    fit(model, batches, 30, learning_rate=0.01, clip=1.0, progress=False)
    written = model.predict(sources[140:])
    right = [ids.tolist() == target[:-1] for ids, target in zip(written, targets[140:])]
    assert np.mean(right) >= 0.9


@pytest.mark.parametrize(
    ("inputs", "targets", "error", "message"),
    [
        ([[1], []], [[4, 3], [3]], ValueError, r"inputs\[1\] must have at least 1 step"),
        ([[1], [2]], [[4, 3], []], ValueError, r"targets\[1\] must have at least 1 step"),
        ([[1], [2]], [4, 3], ValueError, r"targets\[0\] must be \(T,\) or \(T, I\)"),
        ([], [], ValueError, "inputs must be one sequence or more, got none"),
        ([[1], [V]], [[3], [3]], ValueError, r"ids must be in 0\.\.5, got 6"),
        ([[1], [2]], [[3], [W, 3]], ValueError, r"targets must be in 0\.\.6, got 7 at \(0, 1\)"),
        ([[1], [2]], [[3]], ValueError, r"targets must be \(S, 2\), got \(1, 1\)"),
        ([[1.5], [2]], [[3], [3]], TypeError, "inputs must be castable to int64"),
        ([[1], [2]], [[0.5], [3]], TypeError, "targets must be castable to int64"),
        ([[[1]], [[2]]], [[3], [3]], ValueError, r"inputs must be \(T, B\), got \(1, 2, 1\)"),
    ],
)
def test_seq2seq_refuses(inputs, targets, error, message):
    model = seq2seq()
    for call in (model, model.loss, model.loss_vjp):
        with pytest.raises(error, match=message):
            call(inputs, targets)


@pytest.mark.parametrize(
    ("inputs", "error", "message"),
    [
        (np.zeros((3, 11)), ValueError, r"inputs must be \(B, 12\), got \(3, 11\)"),
        (np.zeros(12), ValueError, r"inputs must be \(B, 12\), got \(12,\)"),
        (
            np.zeros((3, 2, 2)),
            ValueError,
            r"^inputs must be \(B, .*\) of 12 numbers each, got \(3, 2, 2\); picture\[None\] makes",
        ),
        (np.zeros((3, 2, 3)), ValueError, r"of 12 numbers each, got \(3, 2, 3\)$"),
        (np.zeros((0, 12)), ValueError, "inputs must be one vector or picture or more, got none"),
        (np.zeros((0, 2, 2, 3)), ValueError, "inputs must be one vector or picture .* got none"),
        (np.zeros((3, 12), complex), TypeError, "inputs must be castable to float64"),
    ],
)
def test_a_captioner_refuses(inputs, error, message):
    model = captioner()
    for call in (lambda: model.loss(inputs, TARGETS), lambda: model.predict(inputs)):
        with pytest.raises(error, match=message):
            call()


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: seq2seq(attention="luong"), "attention must be one of 'dot', 'general'"),
        (lambda: Seq2Seq(V, W, 5), "hidden_size must be even where the encoder is bidirectional"),
        (lambda: Seq2Seq(0, W, H), "source_size must be a positive integer, got 0"),
        (lambda: seq2seq(bos=W), r"bos must be in 0\.\.6, got 7"),
        (lambda: captioner(eos=-1), r"eos must be in 0\.\.6, got -1"),
        (lambda: seq2seq(dropout=2), "dropout must be a probability"),
        (lambda: captioner(scheduled_sampling=-1), "scheduled_sampling must be a probability"),
        (lambda: captioner(cell="elman"), "cell must be one of"),
        (lambda: seq2seq(inputs="words"), "inputs must be one of"),
        (lambda: seq2seq().predict(SOURCES, beam_width=0), "beam_width must be a positive integer"),
        (
            lambda: seq2seq().predict(SOURCES, beam_width=2**62),
            "beam_width must be at most 1000000",
        ),
        (lambda: seq2seq().predict(SOURCES, max_length=0), "max_length must be a positive"),
        (
            lambda: seq2seq().predict(SOURCES, length_penalty=-1),
            "length_penalty must be a non-negative number, got -1.0",
        ),
        (
            lambda: seq2seq().predict(SOURCES, beam_width=2, length_penalty=-1),
            "length_penalty must be a non-negative number, got -1.0",
        ),
        (
            lambda: seq2seq().predict(SOURCES, length_penalty=1e6),
            "length_penalty must be at most 178 where max_length is 50, got 1000000.0",
        ),
        (
            lambda: seq2seq().predict(SOURCES, beam_width=2, length_penalty=1e6),
            "length_penalty must be at most 178 where max_length is 50, got 1000000.0",
        ),
    ],
)
def test_impossible_settings(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_a_beam_width_is_a_number():
    with pytest.raises(TypeError, match="beam_width must be a positive integer, got bool True"):
        seq2seq().predict(SOURCES, beam_width=True)


def torch_recurrent(torch, encoder):
    """Return PyTorch's embedding and layer with the weights of an `Encoder`."""
    layer = encoder.recurrent
    peer = {"gru": torch.nn.GRU, "lstm": torch.nn.LSTM}[layer.cell.name](
        layer.input_size, layer.hidden_size, layer.num_layers, bidirectional=layer.bidirectional
    ).double()
    peer.load_state_dict({k: torch.tensor(v) for k, v in layer.state_dict().items()})
    return torch.tensor(encoder.embedding.parameters["weight"]), peer


@pytest.mark.torch
@pytest.mark.parametrize("name", ["general", "dot", "additive", "captioner", "deep captioner"])
def test_the_loss_is_that_of_pytorch(name):
    torch = pytest.importorskip("torch")
    model, inputs = make(name)
    parameters = {key: torch.tensor(array) for key, array in model.parameters.items()}
    decoder = {k.removeprefix("decoder."): v for k, v in parameters.items() if "decoder." in k}
    table, peer = torch_recurrent(torch, model.decoder.recurrent)
    layers, size = peer.num_layers, peer.hidden_size
    lstm = isinstance(peer, torch.nn.LSTM)

    def affine(part, x):
        return torch.nn.functional.linear(x, decoder[f"{part}.weight"], decoder.get(f"{part}.bias"))

    losses = []
    with torch.no_grad():
        for b, target in enumerate(TARGETS):
            if name in ("captioner", "deep captioner"):
                context = torch.tensor(inputs[b].ravel())
            else:
                source_table, source_peer = torch_recurrent(torch, model.encoder)
                memory, _ = source_peer(source_table[torch.tensor(inputs[b])])
                half = size // 2 if source_peer.bidirectional else size
                context = torch.cat([memory[-1, :half], memory[0, half:]])
            initial = torch.tanh(affine("initial", context)).reshape(-1, layers, size)
            state = tuple(initial) if lstm else initial[0]
            read = torch.tensor([model.config["bos"], *target[:-1]])
            hidden, _ = peer(table[read], state)
            if model.decoder.attention is not None:
                if name == "dot":
                    scores = hidden @ memory.T / memory.shape[1] ** 0.5
                elif name == "general":
                    scores = affine("attention.query", hidden) @ memory.T / memory.shape[1] ** 0.5
                else:
                    both = affine("attention.query", hidden)[:, None] + affine(
                        "attention.memory", memory
                    )
                    scores = affine("attention.score", torch.tanh(both))[..., 0]
                attended = torch.softmax(scores, dim=1) @ memory
                hidden = torch.tanh(affine("combine", torch.cat([attended, hidden], dim=1)))
            losses.append(
                torch.nn.functional.cross_entropy(
                    affine("output", hidden), torch.tensor(target), reduction="none"
                )
            )
    expected = float(torch.cat(losses).mean())
    assert model.loss(inputs, TARGETS)[0] == pytest.approx(expected, rel=1e-12)


def test_a_run_whose_sampling_rises_is_resumed(tmp_path):
    class Rising(Callback):
        def on_epoch_begin(self, trainer):
            trainer.model.scheduled_sampling = trainer.epoch / 4

    def run(epochs, resume=None):
        model = Seq2Seq(5, 6, 4, seed=0)
        batches = Batches([[1, 2], [3]] * 4, [[4, 1], [5, 3, 1]] * 4, 4, seed=0)
        path = tmp_path / "run"
        callbacks = [Rising(), Checkpoint(path)]
        fit(model, batches, epochs, callbacks=callbacks, resume=resume)
        return model.state_dict()

    expected = run(4)
    (tmp_path / "run").unlink()
    run(3)
    for name, value in run(4, tmp_path / "run").items():
        np.testing.assert_array_equal(value, expected[name])


@pytest.mark.parametrize("saved", [{"scheduled_sampling": 2.0}, {}])
def test_a_run_with_a_wrong_sampling_is_refused_and_nothing_changes(tmp_path, saved):
    def trainer(seed):
        model = Seq2Seq(5, 6, 4, seed=seed, scheduled_sampling=0.25)
        return Trainer(model, Adam(model.parameters))

    sections = trainer(0).state_dict()
    config = dict(sections["architecture"]["config"])
    del config["scheduled_sampling"]
    sections["architecture"] = {"class": "Seq2Seq", "config": config | saved}
    other = trainer(1)
    before = other.model.state_dict()
    with pytest.raises((KeyError, ValueError), match="scheduled_sampling"):
        other.load_state_dict(sections)
    for name, value in other.model.state_dict().items():
        np.testing.assert_array_equal(value, before[name])
    assert other.model.scheduled_sampling == 0.25
