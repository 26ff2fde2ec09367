"""The recogniser: frames repeated and stacked, streams, learning; test_predictors has more."""

import numpy as np
import pytest
from tolerances import TOLERANCES, assert_close

from fastrnn.data import Batches, Padded, pad
from fastrnn.losses import ctc
from fastrnn.models import CTCRecognizer
from fastrnn.models.ctc_decoding import best_path, prefix_beam
from fastrnn.models.encoder import HeadStream
from fastrnn.training import evaluate, fit

I, H, V = 2, 4, 3
RNG = np.random.default_rng(0)
IDS = [[1, 6, 2, 0], [3], [5, 5]]
VECTORS = [RNG.standard_normal((length, I)) for length in (7, 4, 1)]
SAID = [[1, 2], [], [1]]


def on_ids(**options):
    return CTCRecognizer(7, H, V, **{"dtype": "float64", "seed": 0, **options})


def on_vectors(**options):
    return CTCRecognizer(I, H, V, inputs="vectors", **{"dtype": "float64", "seed": 0, **options})


def test_repeated_steps_are_read_so_often():
    once, thrice = on_ids(), on_ids(repeat=3)
    scores, lengths = thrice(IDS)
    expected = once([np.repeat(row, 3) for row in IDS])
    assert lengths.tolist() == [12, 3, 6]
    assert np.array_equal(scores, expected.values)


def test_stacked_vectors_lie_side_by_side():
    stacked = on_vectors(stack=3)
    wide = CTCRecognizer(3 * I, H, V, inputs="vectors", dtype="float64", seed=0)
    scores, lengths = stacked(VECTORS)
    rows = [np.append(x, np.zeros((-len(x) % 3, I))).reshape(-1, 3 * I) for x in VECTORS]
    assert lengths.tolist() == [3, 2, 1]
    assert np.array_equal(scores, wide(rows).values)


def test_what_pads_does_not_reach_a_stacked_frame():
    model = on_vectors(stack=3)
    values, lengths = pad(VECTORS)
    values[np.arange(len(values))[:, None] >= lengths] = np.nan
    for one, other in zip(model.predict(Padded(values, lengths)), model.predict(VECTORS)):
        assert np.array_equal(one, other)
    assert np.isfinite(model(Padded(values, lengths)).values).all()


def test_the_loss_is_that_of_the_scores():
    model = on_vectors(stack=2)
    assert model.loss(VECTORS, SAID) == (ctc(*model(VECTORS), *pad(SAID))[0], None)
    assert model.loss(VECTORS, pad(SAID)) == model.loss(VECTORS, SAID)


def test_the_mean_over_batches_counts_sequences():
    model = on_vectors()
    batches = Batches(VECTORS, SAID, 2)
    assert evaluate(model, batches) == pytest.approx(model.loss(VECTORS, SAID)[0])


def test_predictions_are_decoded_scores():
    model = on_vectors()
    scores = model(VECTORS)
    for found, expected in zip(model.predict(VECTORS), best_path(*scores)):
        assert np.array_equal(found, expected)
    for found, readings in zip(model.predict(VECTORS, beam_width=8), prefix_beam(*scores, 8)):
        assert np.array_equal(found, readings[0].symbols)


def test_it_learns_what_is_not_aligned():
    """Each step that is not 0 is to be said, equal neighbours too, the zeros are silence."""
    rng = np.random.default_rng(1)
    inputs = [rng.integers(0, 4, rng.integers(3, 9)) for _ in range(200)]
    targets = [row[row > 0] for row in inputs]
    model = CTCRecognizer(4, 16, 4, repeat=2, bidirectional=True, seed=0)
    fit(model, Batches(inputs, targets, 20), 20, learning_rate=0.02, progress=False)
    new = [rng.integers(0, 4, 12) for _ in range(20)]
    right = [np.array_equal(found, row[row > 0]) for row, found in zip(new, model.predict(new))]
    assert np.mean(right) > 0.9


@pytest.mark.parametrize(
    ("make", "inputs"),
    [
        (on_ids, IDS[0]),
        (lambda: on_ids(repeat=2, embedding_size=3), IDS[0]),
        (on_vectors, VECTORS[0]),
        (lambda: on_vectors(stack=3, cell="lstm"), VECTORS[0]),
        (lambda: on_vectors(stack=3, repeat=2, num_layers=2), VECTORS[0]),
    ],
)
def test_a_stream_is_the_call_step_by_step(make, inputs):
    model = make()
    expected, stream = model([inputs]).values, model.stream()
    for axis in [None, ...]:  # with and without an axis B
        steps = [stream.step(step[axis]) for step in np.asarray(inputs)]
        steps += [stream.finish(), stream.finish()]
        assert {step.shape[1:] for step in steps} == {(1, V)}
        assert_close(np.concatenate(steps), expected, TOLERANCES["float64"])
        stream.step(np.asarray(inputs)[:1])
        stream.reset()


def test_a_refused_step_of_a_stream_changes_nothing():
    model = on_vectors(stack=2)
    stream = model.stream()
    stream.step(VECTORS[0][:1])
    with pytest.raises(ValueError, match=r"inputs must be \(1, 2\), got \(1, 3\)"):
        stream.step(np.zeros((1, 3)))
    scores = stream.step(VECTORS[0][1:2])
    assert_close(scores, model([VECTORS[0][:2]]).values, TOLERANCES["float64"])


def test_an_interrupted_step_of_a_stream_is_made_again(monkeypatch):
    def interrupt(self, inputs):
        raise KeyboardInterrupt

    model = on_vectors(stack=2)
    stream, expected = model.stream(), model([VECTORS[0][:3]]).values
    stream.step(VECTORS[0][:1])
    with monkeypatch.context() as context:
        context.setattr(HeadStream, "step", interrupt)
        for call in (lambda: stream.step(VECTORS[0][1:2]), stream.finish):
            with pytest.raises(KeyboardInterrupt):
                call()
    scores = [stream.step(VECTORS[0][k : k + 1]) for k in (1, 2)]
    assert_close(np.concatenate([*scores, stream.finish()]), expected, TOLERANCES["float64"])


def test_a_stream_keeps_what_its_caller_overwrites():
    stream, buffer = on_vectors(stack=2).stream(), np.empty((1, I))
    for step in VECTORS[0][:2]:
        buffer[:] = step
        scores = stream.step(buffer)
    assert_close(scores, on_vectors(stack=2)([VECTORS[0][:2]]).values, TOLERANCES["float64"])


def test_both_directions_do_not_stream():
    with pytest.raises(ValueError, match="cannot stream"):
        on_ids(bidirectional=True).stream()


REFUSED = {
    "the blank alone": (lambda: CTCRecognizer(7, H, 1), "num_symbols must be at least 2"),
    "repeat": (lambda: on_ids(repeat=0), "repeat must be a positive integer, got 0"),
    "stack": (lambda: on_vectors(stack=0), "stack must be a positive integer, got 0"),
    "stacked ids": (lambda: on_ids(stack=2), "stack must be 1 where inputs are ids, got 2"),
    "input size": (lambda: CTCRecognizer(0, H, V), "input_size must be a positive integer"),
    "empty": (lambda: on_ids().predict([[1], []]), r"inputs\[1\] must have at least 1 step"),
    "unknown id": (lambda: on_ids(repeat=2).predict([[7]]), "ids must be in 0..6, got 7"),
    "width": (
        lambda: on_vectors(stack=2).predict([np.zeros((4, 3))]),
        r"inputs must be \(T, B, 2\), got \(4, 1, 3\)",
    ),
    "lengths": (
        lambda: on_ids(repeat=2).predict(Padded(np.zeros((2, 1), int), [3])),
        "lengths must be in 0..2, got 3 at row 0",
    ),
    "blank in a target": (
        lambda: on_ids().loss([[1, 2]], [[1, 0]]),
        r"targets must not have the blank 0, got it at \(1, 0\)",
    ),
    "target": (lambda: on_ids().loss([[1]], [1]), r"targets\[0\] must be \(T,\) or \(T, I\)"),
    "unknown symbol": (lambda: on_ids().loss([[1, 2]], [[V]]), "targets must be in 0..2, got 3"),
    "long target": (
        lambda: on_ids().loss([[1, 2, 3], [1]], [[1], [1, 2]]),
        "that of sequence 1 has 2 symbols and 0 repeats, so it needs 2 frames, got 1",
    ),
    "numbers of sequences": (
        lambda: on_ids().loss([[1, 2]], [[1], [2]]),
        r"targets must be \(S, 1\), got \(1, 2\)",
    ),
    "beam": (lambda: on_ids().predict(IDS, beam_width=0), "beam_width must be a positive integer"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_wrong_arguments_are_named(name):
    call, message = REFUSED[name]
    with pytest.raises(ValueError, match=message):
        call()
