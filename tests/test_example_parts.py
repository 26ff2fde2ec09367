"""The baselines of the examples that generate sequences, and the files that they write."""

import argparse
import io
import sys
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import multivariate_normal


@pytest.fixture(autouse=True)
def _examples_can_be_imported(monkeypatch):
    monkeypatch.syspath_prepend(str(Path(__file__).parents[1] / "examples"))


def test_the_autoregression_finds_the_one_that_made_the_data():
    from _baselines import autoregression

    generator = np.random.default_rng(0)
    weight, covariance = np.array([[0.5, 0.3], [-0.4, 0.2]]), np.array([[1, 0.6], [0.6, 2]])
    noise = generator.multivariate_normal([1, 0], covariance, (3, 4000))
    series = np.zeros((3, 4001, 2))
    for t in range(4000):
        series[:, t + 1] = series[:, t] @ weight + noise[:, t]
    series = series[:, 1:]
    true = -multivariate_normal([1, 0], covariance).logpdf(noise[2]).mean()
    found = [autoregression(list(series[:2]), [series[2]], order) for order in (1, 3)]
    assert found == pytest.approx([true, true], abs=0.01)


def test_pixels_are_counted():
    from _baselines import counted_pixels

    train = np.array([[[0, 1]], [[1, 0]], [[1, 0]]])
    test = np.array([[[1, 0]]])
    # Each pixel alone, one image of each level added: 1 is seen twice in three, then 0 is.
    alone = -2 * np.log(3 / 5)
    assert counted_pixels(train, test, 2, [], 1e-9) == pytest.approx(-2 * np.log(2 / 3))
    assert counted_pixels(train, test, 2, [], 1e9) == pytest.approx(alone)
    # After a 1 there always was a 0.
    left = counted_pixels(train, test, 2, [(0, 1)], 1e-9)
    assert left == pytest.approx(-np.log(2 / 3))


def test_probabilities_of_all_images_sum_to_one():
    from _baselines import counted_pixels

    generator = np.random.default_rng(0)
    train = generator.integers(0, 2, (9, 2, 2))
    images = (np.arange(16)[:, None] >> np.arange(4) & 1).reshape(16, 1, 2, 2)
    neighbours = [(1, 0), (0, 1)]
    nats = [counted_pixels(train, image, 2, neighbours, 0.5) for image in images]
    assert np.exp(-np.array(nats)).sum() == pytest.approx(1)


@pytest.mark.data
def test_a_melody_is_a_midi_file():
    mido = pytest.importorskip("mido")
    from _midi import midi

    notes = np.array([[60, 1], [62, 16], [79, 12]])
    file = mido.MidiFile(file=io.BytesIO(midi(notes)))
    (track,) = file.tracks
    assert [m.note for m in track if m.type == "note_on"] == [60, 62, 79]
    assert [m.time for m in track if m.type == "note_off"] == [24, 384, 288]
    assert file.length == pytest.approx(29 / 4 * 60 / 80)


@pytest.mark.sklearn
def test_the_digits_are_as_many_as_the_example_says():
    pytest.importorskip("sklearn")
    import digits

    train, test = digits.load(argparse.Namespace(quick=False))
    assert digits.__doc__.split("\n\n")[1].startswith(f"{len(train):,} of scikit-learn's")
    assert f" and {len(test)} tested." in digits.__doc__


def test_without_scikit_learn_the_digits_say_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "sklearn.datasets", None)
    import digits

    with pytest.raises(ImportError, match=r'pip install "fastrnn\[examples\]"'):
        digits.load(argparse.Namespace(quick=False))
