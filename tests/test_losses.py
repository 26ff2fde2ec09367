"""Losses against other formulas for the same, central differences, and their refusals."""

import math

import numpy as np
import pytest
from gradients import central_differences
from scipy.special import log_softmax, logsumexp
from scipy.stats import norm
from tolerances import CENTRAL_DIFFERENCES, TOLERANCES, assert_close

from fastrnn.losses import (
    balanced_class_weights,
    bits_per_token,
    gaussian_mixture_nll,
    joint_cross_entropy,
    mean_squared_error,
    perplexity,
    pinball,
    softmax_cross_entropy,
)
from fastrnn.losses._masks import check_mask

MASKS = {"no mask": None, "mask": np.array([[True, False], [False, True], [True, True]])}


def scores(dtype="float64"):
    """Return logits (3, 2, 5) and targets (3, 2)."""
    rng = np.random.default_rng(0)
    return 3 * rng.standard_normal((3, 2, 5)).astype(dtype), rng.integers(0, 5, (3, 2))


@pytest.mark.parametrize("mask", MASKS.values(), ids=MASKS)
def test_cross_entropy_is_the_mean_negative_log_probability(mask, dtype):
    logits, targets = scores(dtype)
    loss, d_logits = softmax_cross_entropy(logits, targets, mask)
    log_probabilities = log_softmax(logits.astype(np.float64), axis=-1)
    nats = -np.take_along_axis(log_probabilities, targets[..., None], axis=-1)[..., 0]
    expected = nats.mean(where=True if mask is None else mask)
    assert isinstance(loss, float)
    assert_close(loss, expected, TOLERANCES[dtype])
    assert d_logits.shape == logits.shape
    assert d_logits.dtype == dtype


def test_a_mask_is_copied():
    # It picks the rows, then the targets: of another number, had a thread written to it meanwhile.
    mask = np.ones(3, bool)
    assert not np.shares_memory(check_mask(mask, (3,)), mask)


@pytest.mark.parametrize("mask", MASKS.values(), ids=MASKS)
def test_cross_entropy_gradient(mask):
    logits, targets = scores()
    d_logits = softmax_cross_entropy(logits, targets, mask)[1]
    expected = central_differences(lambda: softmax_cross_entropy(logits, targets, mask)[0], logits)
    assert_close(d_logits, expected, CENTRAL_DIFFERENCES)


def test_cross_entropy_gradient_in_float32():
    logits, targets = scores("float32")
    expected = softmax_cross_entropy(logits.astype(np.float64), targets)[1]
    assert_close(softmax_cross_entropy(logits, targets)[1], expected, TOLERANCES["float32"])


def test_cross_entropy_leaves_its_arguments():
    logits, targets = scores()
    before = logits.copy()
    softmax_cross_entropy(logits, targets)
    softmax_cross_entropy(logits, targets, MASKS["mask"])
    np.testing.assert_array_equal(logits, before)


def test_cross_entropy_of_one_token():
    loss, d_logits = softmax_cross_entropy([0.0, math.log(3)], 0)
    assert_close(loss, math.log(4), TOLERANCES["float64"])
    assert_close(d_logits, [0.25 - 1, 0.75], TOLERANCES["float64"])


def test_cross_entropy_of_huge_scores(dtype):
    logits = np.array([[1e4, 0, -1e4], [-1e4, -1e4, -1e4]], dtype)
    loss, d_logits = softmax_cross_entropy(logits, [1, 2])
    assert_close(loss, (1e4 + math.log(3)) / 2, TOLERANCES[dtype])
    expected = np.array([[1, -1, 0], [1 / 3, 1 / 3, -2 / 3]]) / 2
    assert_close(d_logits, expected, TOLERANCES[dtype])


def test_cross_entropy_of_a_large_vocabulary(backend):
    # Every term is rounded the same way, so that errors add up.
    logits = np.full((1, 200_000), -2.3, np.float32)
    logits[0, 0] = 0
    loss, d_logits = softmax_cross_entropy(logits, [0])
    expected, d_expected = softmax_cross_entropy(logits.astype(np.float64), [0])
    assert_close(loss, expected, TOLERANCES["float32"])
    assert_close(d_logits[0, 1:], d_expected[0, 1:], TOLERANCES["float32"])


def test_cross_entropy_with_impossible_classes():
    loss, d_logits = softmax_cross_entropy([[0.0, -math.inf, 0.0]], [2])
    assert_close(loss, math.log(2), TOLERANCES["float64"])
    assert_close(d_logits, [[0.5, 0, -0.5]], TOLERANCES["float64"])
    assert softmax_cross_entropy([[0.0, -math.inf, 0.0]], [1])[0] == math.inf


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_cross_entropy_lets_nan_flow_in_its_row(bad):
    logits, targets = scores()
    logits[1, 0, 2] = bad
    loss, d_logits = softmax_cross_entropy(logits, targets)
    assert math.isnan(loss)
    assert np.isnan(d_logits[1, 0]).any()
    assert np.isfinite(np.delete(d_logits.reshape(6, 5), 2, axis=0)).all()


def test_a_target_that_is_none_is_named_by_its_place_among_all():
    targets = np.array([[0, 9], [1, 0], [1, 7]])
    with pytest.raises(ValueError, match=r"^targets must be in 0\.\.2, got 7 at \(2, 1\)$"):
        softmax_cross_entropy(np.zeros((3, 2, 3)), targets, MASKS["mask"])


def test_cross_entropy_never_reads_what_the_mask_leaves_out():
    logits, targets = scores()
    mask = MASKS["mask"]
    expected = softmax_cross_entropy(logits, targets, mask)
    logits[~mask], targets[~mask] = math.nan, -100
    loss, d_logits = softmax_cross_entropy(logits, targets, mask)
    assert loss == expected[0]
    np.testing.assert_array_equal(d_logits, expected[1])
    assert not d_logits[~mask].any()


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"targets": np.zeros((3, 3), int)}, ValueError, r"targets must be \(3, 2\), got \(3, 3\)"),
        ({"targets": np.full((3, 2), 5)}, ValueError, r"targets must be in 0\.\.4, got 5"),
        ({"targets": np.full((3, 2), -1)}, ValueError, r"targets must be in 0\.\.4, got -1"),
        ({"targets": np.zeros((3, 2))}, TypeError, "targets must be integers"),
        ({"mask": np.zeros((3, 2), bool)}, ValueError, "at least one token"),
        ({"mask": np.ones((2, 3), bool)}, ValueError, r"mask must be \(3, 2\), got \(2, 3\)"),
        ({"mask": np.ones((3, 2))}, TypeError, "mask must be boolean, got dtype float64"),
        *(
            ({name: [[1], [1, 2]]}, ValueError, f"{name} must be an array, got lists of unequal")
            for name in ("logits", "targets", "mask")
        ),
        ({"logits": np.zeros((3, 2, 5), complex)}, TypeError, "logits must be castable"),
        ({"logits": 1.0}, ValueError, r"logits must be \(\.\.\., V\) with V >= 1, got \(\)"),
        ({"logits": np.zeros((3, 2, 0))}, ValueError, r"V >= 1, got \(3, 2, 0\)"),
        (
            {"logits": np.zeros((0, 2, 5)), "targets": np.zeros((0, 2), int)},
            ValueError,
            "at least one token",
        ),
    ],
)
def test_cross_entropy_refuses(change, error, message):
    logits, targets = scores()
    with pytest.raises(error, match=message):
        softmax_cross_entropy(**{"logits": logits, "targets": targets, **change})


CLASS_WEIGHTS = [0.5, 1, 2, 4, 0.1]


@pytest.mark.parametrize("mask", MASKS.values(), ids=MASKS)
def test_class_weights_are_of_a_weighted_mean(mask, dtype, backend):
    logits, targets = scores(dtype)
    loss, d_logits = softmax_cross_entropy(logits, targets, mask, CLASS_WEIGHTS)
    kept = np.ones_like(targets, bool) if mask is None else mask
    log_probabilities = log_softmax(logits.astype(np.float64), axis=-1)
    nats = -np.take_along_axis(log_probabilities, targets[..., None], axis=-1)[..., 0]
    weights = np.take(CLASS_WEIGHTS, targets)
    assert_close(loss, np.average(nats[kept], weights=weights[kept]), TOLERANCES[dtype])
    assert d_logits.dtype == dtype
    wide = logits.astype(np.float64)
    expected = central_differences(
        lambda: softmax_cross_entropy(wide, targets, mask, CLASS_WEIGHTS)[0], wide
    )
    assert_close(d_logits, expected, max(CENTRAL_DIFFERENCES, TOLERANCES[dtype]))


def test_equal_class_weights_change_nothing():
    logits, targets = scores()
    loss, d_logits = softmax_cross_entropy(logits, targets, class_weights=[3] * 5)
    expected, d_expected = softmax_cross_entropy(logits, targets)
    assert_close(loss, expected, TOLERANCES["float64"])
    assert_close(d_logits, d_expected, TOLERANCES["float64"])


def test_class_weights_of_many_scores():
    # More in a row than are looked at together, and more rows.
    for shape in ((2, 2**16 + 1), (2**16, 3)):
        logits = np.random.default_rng(5).standard_normal(shape)
        targets = np.arange(len(logits)) % 3
        weights = np.arange(1, shape[1] + 1)
        loss, _ = softmax_cross_entropy(logits, targets, class_weights=weights)
        nats = -log_softmax(logits, axis=1)[np.arange(len(logits)), targets]
        expected = np.average(nats, weights=weights[targets])
        assert_close(loss, expected, TOLERANCES["float64"])


def test_class_weights_of_large_scores(backend):
    # In float32, log V is lost beside such scores.
    logits = np.full((3, 4), 1e8, np.float32)
    loss, _ = softmax_cross_entropy(logits, [0, 1, 2], class_weights=[1, 2, 3, 4])
    assert_close(loss, math.log(4), TOLERANCES["float32"])
    assert softmax_cross_entropy([[2e38, -2e38]], [1], class_weights=[1, 1])[0] == 4e38
    logits = np.array([[2e38, -2e38]], np.float32)  # the difference is beyond float32
    for weights in (None, [1, 1]):
        assert softmax_cross_entropy(logits, [0], class_weights=weights)[0] == 0


@pytest.mark.parametrize("weights", [[1, 1, 1, 1], [1, 1, 1, 1, 0], [1, 1, 1, 1, math.inf]])
def test_class_weights_that_are_refused(weights):
    with pytest.raises(ValueError, match="class_weights must be"):
        softmax_cross_entropy(*scores(), class_weights=weights)


def test_balanced_class_weights():
    labels = np.array([0, 0, 0, 1, 2, 2])
    weights = balanced_class_weights(labels, 3)
    assert_close(weights, [2 / 3, 2, 1], TOLERANCES["float64"])
    assert_close(np.bincount(labels, weights[labels]), [2, 2, 2], TOLERANCES["float64"])
    sklearn = pytest.importorskip("sklearn.utils.class_weight")
    expected = sklearn.compute_class_weight("balanced", classes=np.arange(3), y=labels)
    assert_close(weights, expected, TOLERANCES["float64"])


@pytest.mark.parametrize(
    ("labels", "number", "message"),
    [
        ([0, 0], 1, "num_classes must be at least 2, got 1"),
        ([1, 1, 1], 2, "labels must have every class of 2, got none of 0"),
        ([0, 2], 2**70, "got none of 1, 3, 4, 5, 6, 7, 8, 9, 10, 11$"),
        ([0, 1, 2], 2, "labels must be in 0..1, got 2"),
        ([], 2, "labels must have every class of 2, got none of 0, 1"),
    ],
)
def test_balanced_class_weights_refuse(labels, number, message):
    with pytest.raises(ValueError, match=message):
        balanced_class_weights(labels, number)


QUANTILES = [0.1, 0.5, 0.8]


def test_pinball_by_hand(dtype):
    predictions = np.array([[1, 2, 5], [0, 4, 4]], dtype)
    loss, d_predictions = pinball(predictions, [2, 4], QUANTILES)
    assert_close(loss, (0.1 * 1 + 0 + 0.2 * 3 + 0.1 * 4 + 0 + 0) / 6, TOLERANCES[dtype])
    assert_close(d_predictions, np.array([[-0.1, 0, 0.2], [-0.1, 0, 0]]) / 6, TOLERANCES[dtype])
    assert d_predictions.dtype == dtype


@pytest.mark.parametrize("mask", MASKS.values(), ids=MASKS)
def test_pinball_gradient(mask):
    rng = np.random.default_rng(0)
    predictions, targets = rng.standard_normal((3, 2, 3)), rng.standard_normal((3, 2))
    _, d_predictions = pinball(predictions, targets, QUANTILES, mask)
    expected = central_differences(
        lambda: pinball(predictions, targets, QUANTILES, mask)[0], predictions
    )
    assert_close(d_predictions, expected, CENTRAL_DIFFERENCES)
    if mask is not None:
        predictions[~mask], targets[~mask] = math.nan, math.inf
        np.testing.assert_array_equal(
            pinball(predictions, targets, QUANTILES, mask)[1], d_predictions
        )


def test_the_least_pinball_is_at_the_quantile():
    values = np.random.default_rng(0).standard_normal(1001)
    for quantile in QUANTILES:
        at = np.quantile(values, quantile)
        losses = [
            pinball(np.full((1001, 1), at + step), values, [quantile])[0] for step in (-0.1, 0, 0.1)
        ]
        assert losses[1] < min(losses[0], losses[2])


def test_pinball_lets_nan_flow():
    loss, d_predictions = pinball([[math.nan], [1.0]], [0, 0], [0.5])
    assert math.isnan(loss)
    np.testing.assert_array_equal(d_predictions, [[math.nan], [0.25]])


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ((np.zeros((2, 3)), np.zeros(3), QUANTILES), ValueError, r"targets must be \(2,\)"),
        ((np.zeros((2, 2)), np.zeros(2), QUANTILES), ValueError, r"predictions must be \(2, 3\)"),
        ((np.zeros((0, 3)), np.zeros(0), QUANTILES), ValueError, "at least one value"),
        ((np.zeros((2, 1)), np.zeros(2), [1.0]), ValueError, "quantiles must be one or more"),
        ((np.zeros((2, 0)), np.zeros(2), []), ValueError, "quantiles must be one or more"),
        ((np.zeros((2, 3)), np.zeros(2), QUANTILES, [1, 0]), TypeError, "mask must be boolean"),
    ],
)
def test_pinball_refuses(arguments, error, message):
    with pytest.raises(error, match=message):
        pinball(*arguments)


def test_mean_squared_error_by_hand(dtype):
    predictions = np.array([[1.0, 2.0], [3.0, 5.0]], dtype)
    loss, d_predictions = mean_squared_error(predictions, [[1, 0], [0, 1]])
    assert loss == (0 + 4 + 9 + 16) / 4
    np.testing.assert_array_equal(d_predictions, [[0, 1], [1.5, 2]])
    assert d_predictions.dtype == dtype
    assert mean_squared_error(3.0, 1.0) == (4.0, np.array(4.0))
    assert mean_squared_error(3.0, 1.0, np.True_) == (4.0, np.array(4.0))  # the shape of both
    assert mean_squared_error(np.array([1e30], dtype), [0])[0] == pytest.approx(1e60)


@pytest.mark.parametrize(
    "mask",
    [None, MASKS["mask"], np.array([True, False, True]), np.arange(30).reshape(3, 2, 5) % 4 > 0],
    ids=["no mask", "rows", "steps", "elements"],
)
def test_mean_squared_error_gradient(mask):
    rng = np.random.default_rng(0)
    predictions, targets = rng.standard_normal((2, 3, 2, 5))
    loss, d_predictions = mean_squared_error(predictions, targets, mask)
    kept = slice(None) if mask is None else mask
    assert_close(loss, np.mean((predictions[kept] - targets[kept]) ** 2), TOLERANCES["float64"])
    expected = central_differences(
        lambda: mean_squared_error(predictions, targets, mask)[0], predictions
    )
    assert_close(d_predictions, expected, CENTRAL_DIFFERENCES)
    if mask is not None:
        predictions[~mask], targets[~mask] = math.nan, math.inf
        np.testing.assert_array_equal(
            mean_squared_error(predictions, targets, mask)[1], d_predictions
        )


def test_mean_squared_error_lets_nan_flow():
    loss, d_predictions = mean_squared_error([math.nan, 1.0], [0.0, 0.0])
    assert math.isnan(loss)
    assert math.isnan(d_predictions[0])
    assert d_predictions[1] == 1


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ((np.zeros(3), np.zeros(2)), ValueError, r"targets must be \(3,\), got \(2,\)"),
        ((np.zeros(3), np.zeros(3), np.zeros(3, bool)), ValueError, "at least one element"),
        ((np.zeros(0), np.zeros(0)), ValueError, "at least one element"),
        ((np.zeros(3), np.zeros(3), np.ones((3, 1), bool)), ValueError, r"mask must be \(3,\)"),
        ((np.zeros(3), np.zeros(3), [1, 0, 1]), TypeError, "mask must be boolean"),
        ((1.0, 2.0, np.ones(1, bool)), ValueError, r"mask must be \(\), got \(1,\)"),
        ((1.0, 2.0, np.False_), ValueError, "at least one element"),
        ((["a"], [0.0]), TypeError, "predictions must be castable"),
    ],
)
def test_mean_squared_error_refuses(arguments, error, message):
    with pytest.raises(error, match=message):
        mean_squared_error(*arguments)


SIZES = [2, 4, 1]


def joint_scores():
    """Return logits (3, 2, 7) and targets (3, 2, 3)."""
    rng = np.random.default_rng(0)
    return 3 * rng.standard_normal((3, 2, sum(SIZES))), rng.integers(0, SIZES, (3, 2, 3))


@pytest.mark.parametrize("mask", MASKS.values(), ids=MASKS)
def test_joint_cross_entropy_is_the_sum_over_the_variables(mask):
    logits, targets = joint_scores()
    loss, d_logits = joint_cross_entropy(logits, targets, SIZES, mask)
    blocks = np.split(logits, [2, 6], axis=-1)
    nats = [
        -np.take_along_axis(log_softmax(block, -1), targets[..., k, None], -1)[..., 0]
        for k, block in enumerate(blocks)
    ]
    expected = np.sum(nats, 0).mean(where=True if mask is None else mask)
    assert_close(loss, expected, TOLERANCES["float64"])
    expected = central_differences(
        lambda: joint_cross_entropy(logits, targets, SIZES, mask)[0], logits
    )
    assert_close(d_logits, expected, CENTRAL_DIFFERENCES)
    if mask is not None:
        logits[~mask], targets[~mask] = math.nan, -100
        again = joint_cross_entropy(logits, targets, SIZES, mask)
        assert again[0] == loss
        np.testing.assert_array_equal(again[1], d_logits)


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"sizes": [2, 4]}, ValueError, r"logits must be \(\.\.\., 6\) for sizes \[2, 4\]"),
        ({"sizes": [], "logits": np.zeros((3, 2, 0))}, ValueError, "logits must be"),
        ({"sizes": 7}, TypeError, "sizes must be a sequence of int, got int"),
        ({"sizes": np.array(7)}, TypeError, "sizes must be a sequence of int, got ndarray"),
        ({"sizes": [7, 0]}, ValueError, "sizes must be a positive integer, got 0"),
        ({"targets": np.zeros((3, 2), int)}, ValueError, r"targets must be \(3, 2, 3\)"),
        ({"targets": np.full((3, 2, 3), 1)}, ValueError, r"targets must be in 0\.\.0, got 1"),
        ({"logits": 1.0}, ValueError, "logits must be"),
        ({"mask": np.zeros((3, 2), bool)}, ValueError, "at least one token"),
    ],
)
def test_joint_cross_entropy_refuses(change, error, message):
    logits, targets = joint_scores()
    with pytest.raises(error, match=message):
        joint_cross_entropy(**{"logits": logits, "targets": targets, "sizes": SIZES, **change})


def mixtures(dtype="float64"):
    """Return outputs (3, 2, 4, 5) of 4 components and targets (3, 2, 2)."""
    rng = np.random.default_rng(0)
    outputs = rng.standard_normal((3, 2, 4, 5)).astype(dtype)
    return outputs, rng.standard_normal((3, 2, 2)).astype(dtype)


@pytest.mark.parametrize("mask", MASKS.values(), ids=MASKS)
def test_gaussian_mixture_is_the_mean_negative_log_density(mask, dtype):
    outputs, targets = mixtures(dtype)
    loss, d_outputs = gaussian_mixture_nll(outputs, targets, mask)
    parts = norm.logpdf(targets[:, :, None], outputs[..., 1:3], np.exp(outputs[..., 3:]))
    log_density = logsumexp(log_softmax(outputs[..., 0], -1) + parts.sum(-1), -1)
    expected = -log_density.mean(where=True if mask is None else mask)
    assert isinstance(loss, float)
    assert_close(loss, expected, TOLERANCES[dtype])
    assert (d_outputs.shape, d_outputs.dtype) == (outputs.shape, dtype)
    wide = gaussian_mixture_nll(outputs.astype(np.float64), targets.astype(np.float64), mask)
    assert_close(d_outputs, wide[1], TOLERANCES[dtype])


@pytest.mark.parametrize("mask", MASKS.values(), ids=MASKS)
def test_gaussian_mixture_gradient(mask):
    outputs, targets = mixtures()
    d_outputs = gaussian_mixture_nll(outputs, targets, mask)[1]
    expected = central_differences(lambda: gaussian_mixture_nll(outputs, targets, mask)[0], outputs)
    assert_close(d_outputs, expected, CENTRAL_DIFFERENCES)
    if mask is not None:
        outputs[~mask], targets[~mask] = math.nan, math.inf
        np.testing.assert_array_equal(gaussian_mixture_nll(outputs, targets, mask)[1], d_outputs)


def test_a_gaussian_mixture_of_one_by_hand():
    loss, d_outputs = gaussian_mixture_nll([[5.0, 1.0, math.log(2)]], [3.0])
    assert_close(loss, 0.5 + math.log(2) + 0.5 * math.log(2 * math.pi), TOLERANCES["float64"])
    np.testing.assert_allclose(d_outputs, [[0, -0.5, 0]], atol=1e-15)


def test_gaussian_mixtures_far_from_the_point_stay_finite(dtype):
    # Densities of e^-5e5 and below: every component underflows, their logarithms do not.
    outputs = np.array([[[0, 1e3, 0], [0, -1e3, 0], [-1e4, 0, 0]]], dtype)
    loss, d_outputs = gaussian_mixture_nll(outputs, [[0.0]])
    assert_close(loss, 1e4 + 0.5 * math.log(2 * math.pi) + math.log(2), TOLERANCES[dtype])
    assert_close(d_outputs[0, :, 0], [0.5, 0.5, -1], TOLERANCES[dtype])
    outputs = np.array([[[0, 1e3, 0], [0, -1e3, 0]]], dtype)
    loss, d_outputs = gaussian_mixture_nll(outputs, [[1.0]])
    assert_close(loss, 999**2 / 2 + 0.5 * math.log(2 * math.pi) + math.log(2), TOLERANCES[dtype])
    assert_close(d_outputs[0, :, 1], [999, 0], TOLERANCES[dtype])


def test_gaussian_mixture_with_a_component_that_is_switched_off():
    outputs = [[[0.0, 1.0, 0.0], [-math.inf, 0.0, 0.0]]]
    loss, d_outputs = gaussian_mixture_nll(outputs, [[1.0]])
    assert_close(loss, 0.5 * math.log(2 * math.pi), TOLERANCES["float64"])
    assert_close(d_outputs[0], [[0, 0, 1], [0, 0, 0]], TOLERANCES["float64"])


@pytest.mark.parametrize("s", [-60, -100])
def test_gaussian_mixture_with_a_component_too_narrow_for_the_point(s):
    # Its density is zero; the square of its z, and at -100 the inverse of sigma, are not finite.
    outputs = np.array([[[0, 0, s], [0, 0, 0]]], np.float32)
    loss, d_outputs = gaussian_mixture_nll(outputs, [[1.0]])
    assert_close(loss, 0.5 + math.log(2) + 0.5 * math.log(2 * math.pi), TOLERANCES["float32"])
    assert_close(d_outputs[0], [[0.5, 0, 0], [-0.5, -1, 0]], TOLERANCES["float32"])


@pytest.mark.parametrize("s", [-60, -200])
def test_gaussian_mixture_without_a_density_at_the_point_is_infinite(s):
    outputs = np.array([[[0, 0, s], [0, 0, s]], [[0, 0, 0], [0, 0, 0]]], np.float32)
    loss, d_outputs = gaussian_mixture_nll(outputs, [[1.0], [1.0]])
    assert loss == math.inf
    assert np.isnan(d_outputs[0]).any()
    assert np.isfinite(d_outputs[1]).all()


def test_gaussian_mixture_lets_nan_flow_in_its_row():
    outputs, targets = mixtures()
    outputs[1, 0, 2, 1] = math.nan
    loss, d_outputs = gaussian_mixture_nll(outputs, targets)
    assert math.isnan(loss)
    assert np.isnan(d_outputs[1, 0]).any()
    assert np.isfinite(np.delete(d_outputs.reshape(6, 20), 2, axis=0)).all()


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        (
            {"outputs": np.zeros((3, 2, 4, 4))},
            ValueError,
            r"outputs must be \(\.\.\., M, 1 \+ 2\*D\)",
        ),
        ({"outputs": np.zeros((3, 2, 4, 1))}, ValueError, "outputs must be"),
        ({"outputs": np.zeros((3, 2, 0, 5))}, ValueError, "outputs must be"),
        ({"outputs": np.zeros(5)}, ValueError, "outputs must be"),
        ({"outputs": np.zeros((3, 2, 4, 5), complex)}, TypeError, "outputs must be castable"),
        ({"targets": np.zeros((3, 2, 3))}, ValueError, r"targets must be \(3, 2, 2\)"),
        ({"mask": np.zeros((3, 2), bool)}, ValueError, "at least one point"),
        ({"mask": np.ones((3, 1), bool)}, ValueError, r"mask must be \(3, 2\)"),
    ],
)
def test_gaussian_mixture_refuses(change, error, message):
    outputs, targets = mixtures()
    with pytest.raises(error, match=message):
        gaussian_mixture_nll(**{"outputs": outputs, "targets": targets, **change})


def test_units():
    assert bits_per_token(math.log(8)) == pytest.approx(3, rel=1e-15)
    assert perplexity(math.log(65)) == pytest.approx(65, rel=1e-14)
    assert perplexity(1e4) == math.inf
    assert math.isnan(perplexity(math.nan))
