"""scikit-learn's estimators: its own checks, sequences of all forms, and its tools."""

import pickle

import numpy as np
import pytest

pytest.importorskip("sklearn", minversion="1.6")

from sklearn.base import clone
from sklearn.compose import TransformedTargetRegressor
from sklearn.model_selection import GridSearchCV, KFold, cross_val_score, train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler
from sklearn.utils.estimator_checks import parametrize_with_checks

import fastrnn as fr
from fastrnn.interop.sklearn import RNNClassifier, RNNRegressor, RNNTagger

pytestmark = pytest.mark.sklearn

RNG = np.random.default_rng(0)
SEQUENCES = [RNG.standard_normal((length, 2)) for length in RNG.integers(1, 9, 60)]
LABELS = np.array(["up" if x[:, 0].mean() > 0 else "down" for x in SEQUENCES])
NUMBERS = np.array([x[:, 0].mean() for x in SEQUENCES])
TAGS = [np.where(x.cumsum(axis=0)[:, 0] > 0, "above", "below") for x in SEQUENCES]
SMALL = {"hidden_size": 8, "learning_rate": 0.01, "epochs": 20, "random_state": 0}
FITTED = {
    "classifier": (RNNClassifier(pooling="mean", **SMALL), LABELS),
    "regressor": (RNNRegressor(pooling="mean", **SMALL), NUMBERS),
    "tagger": (RNNTagger(**SMALL), TAGS),
}
each = pytest.mark.parametrize("name", FITTED)


def expected_failures(estimator):
    """Return the checks that an estimator cannot pass, with the reason."""
    if not isinstance(estimator, RNNTagger):
        return {}
    reason = "the rows of a table are the steps of one sequence: each is read after those before"
    return {
        "check_methods_sample_order_invariance": reason,
        "check_methods_subset_invariance": reason,
    }


@parametrize_with_checks(
    [RNNClassifier(), RNNRegressor(), RNNTagger()], expected_failed_checks=expected_failures
)
def test_the_checks_of_scikit_learn(estimator, check):
    check(estimator)


def fit(name, X=SEQUENCES, **options):
    estimator, y = FITTED[name]
    return clone(estimator).set_params(**options).fit(X, y), y


def equal(a, b):
    return len(a) == len(b) and all(np.array_equal(x, y) for x, y in zip(a, b))


@each
def test_sequences_of_any_lengths_are_learnt(name):
    estimator, y = fit(name, epochs=60)
    assert estimator.score(SEQUENCES, y) > 0.9
    assert estimator.n_iter_ == len(estimator.loss_curve_) == 60
    assert estimator.loss_curve_[-1] < estimator.loss_curve_[0]
    assert not hasattr(estimator, "n_features_in_")


@each
def test_a_sequence_is_predicted_as_if_alone(name):
    estimator, _ = fit(name)
    together = estimator.predict(SEQUENCES)
    alone = [estimator.predict([x])[0] for x in SEQUENCES]
    if name == "regressor":
        np.testing.assert_allclose(together, alone, rtol=1e-12, atol=1e-14)
    else:
        assert equal(together, alone)


def test_probabilities_are_of_the_classes_in_order():
    classifier, _ = fit("classifier")
    probabilities = classifier.predict_proba(SEQUENCES)
    assert classifier.classes_.tolist() == ["down", "up"]
    np.testing.assert_allclose(probabilities.sum(axis=1), 1, rtol=1e-6)
    predicted = classifier.classes_[probabilities.argmax(axis=1)]
    assert np.array_equal(predicted, classifier.predict(SEQUENCES))
    tagger, _ = fit("tagger")
    rows = tagger.predict_proba(SEQUENCES)
    assert [row.shape for row in rows] == [(len(x), 2) for x in SEQUENCES]
    assert equal([tagger.classes_[row.argmax(axis=1)] for row in rows], tagger.predict(SEQUENCES))


@pytest.mark.parametrize("name", ["classifier", "regressor"])
def test_tables_arrays_and_lists_of_the_same_sequences_are_the_same(name):
    table = RNG.standard_normal((20, 5))
    y = table.sum(axis=1) > 0
    forms = [table, table[:, :, None], list(table), list(table[:, :, None]), table.tolist()]
    forms.append(np.fromiter(forms[2], object))
    estimator, _ = FITTED[name]
    predictions = [clone(estimator).fit(X, y).predict(X) for X in forms]
    assert all(np.array_equal(predictions[0], p) for p in predictions)
    assert clone(estimator).fit(forms[1], y).predict(forms[1][:, :3]).shape == (20,)
    assert clone(estimator).fit(table, y).n_features_in_ == 5


class Arraylike:
    """Objects that NumPy converts to an array: a tensor, a data frame or one of its columns."""

    def __init__(self, array):
        self.array = array
        self.ndim = array.ndim

    def __array__(self, dtype=None, copy=None):
        return self.array

    def __len__(self):
        return len(self.array)

    def __getitem__(self, k):
        return self.array[k]


@each
def test_tensors_frames_and_series_are_arrays(name):
    estimator, y = fit(name, epochs=2)
    column = np.empty(len(SEQUENCES), object)
    column[:] = [x.tolist() for x in SEQUENCES]
    for X in (list(map(Arraylike, SEQUENCES)), Arraylike(column)):
        assert equal(clone(estimator).fit(X, y).predict(X), estimator.predict(SEQUENCES))
    stacked = np.stack([SEQUENCES[0], SEQUENCES[0] + 1])
    assert equal(estimator.predict(Arraylike(stacked)), estimator.predict(stacked))
    column = np.empty(2, object)
    column[:] = stacked.tolist()  # of one length, which a table has as well
    assert equal(estimator.predict(Arraylike(column)), estimator.predict(stacked))


def test_a_table_is_one_sequence_to_a_tagger():
    steps = np.concatenate(SEQUENCES[:3])
    for labels in (np.concatenate(TAGS[:3]), np.arange(len(steps)) % 2):
        tagger = RNNTagger(**SMALL).fit(steps, labels)
        listed = RNNTagger(**SMALL).fit([steps], [labels])
        assert np.array_equal(tagger.predict(steps), listed.predict([steps])[0])
        assert tagger.predict_proba(steps).shape == (len(steps), 2)
        assert tagger.score(steps, labels) == listed.score([steps], [labels])
        right = tagger.predict(steps) == labels
        assert right.any()
        assert tagger.score(steps, labels, sample_weight=right) == 1
    stacked = np.stack([steps, steps + 1])
    tagger = RNNTagger(**SMALL).fit(stacked, np.stack([labels, labels]))
    assert [len(row) for row in tagger.predict(stacked)] == [len(steps)] * 2


def test_several_numbers_a_sequence():
    regressor = RNNRegressor(pooling="mean", **SMALL)
    y = np.stack([NUMBERS, -NUMBERS], axis=1)
    assert regressor.fit(SEQUENCES, y).predict(SEQUENCES).shape == (60, 2)
    assert regressor.score(SEQUENCES, y) > 0.7


def test_rare_classes_weigh_more_where_asked():
    rare = np.where(NUMBERS.argsort().argsort() < 9, "rare", "common")
    found = {}
    for weight in (None, "balanced", {"common": 1, "rare": 50}):
        classifier = RNNClassifier(class_weight=weight, pooling="mean", **SMALL | {"epochs": 8})
        found[str(weight)] = (classifier.fit(SEQUENCES, rare).predict(SEQUENCES) == "rare").sum()
    plain, balanced, heavy = found.values()
    assert plain < balanced < heavy
    tagger = RNNTagger(class_weight={"above": 1, "below": 1e4}, **SMALL).fit(SEQUENCES, TAGS)
    assert set(np.concatenate(tagger.predict(SEQUENCES))) == {"below"}


@each
def test_patience_stops_and_goes_back_to_the_best(name):
    estimator, y = FITTED[name]
    estimator = clone(estimator).set_params(patience=3, epochs=200, validation_fraction=0.3)
    # Nothing in the sequences tells these.
    y = [RNG.permutation(tags) for tags in y] if name == "tagger" else RNG.permutation(y)
    estimator.fit(SEQUENCES, y)
    assert 3 < estimator.n_iter_ < 200
    shorter = clone(estimator).set_params(epochs=estimator.n_iter_ - 3, patience=999)
    assert equal(shorter.fit(SEQUENCES, y).predict(SEQUENCES), estimator.predict(SEQUENCES))
    half, _ = fit(name, patience=9, epochs=2, validation_fraction=0.5)
    assert half._optimizer.steps == 2  # of 30 sequences each, where 54 are two batches


@each
def test_parameters_are_those_of_the_model(name):
    settings = {"num_layers": 2, "cell": "lstm", "bidirectional": True, "dropout": 0.3}
    estimator, _ = fit(name, hidden_size=4, epochs=1, **settings)
    expected = {"input_size": 2, "hidden_size": 4, **settings}
    if name != "tagger":
        expected["pooling"] = "mean"
    assert expected.items() <= estimator.model_.config.items()


def test_the_random_state_is_the_source_of_parameters_and_of_the_order(monkeypatch):
    seeds, batches = [], fr.data.Batches

    def note(*arguments, seed):
        seeds.append(seed)
        return batches(*arguments, seed=seed)

    monkeypatch.setattr("fastrnn.interop.sklearn.Batches", note)
    first, second = (
        fit("classifier", random_state=state, epochs=1, learning_rate=0)[0].model_
        for state in (0, 1)
    )
    assert not np.array_equal(first.parameters.flat_values, second.parameters.flat_values)
    assert seeds[0] != seeds[1]


@each
def test_training_goes_on(name):
    warm, y = fit(name, warm_start=True, epochs=3)
    before, random = warm.model_.state_dict(), warm._random
    losses = [warm.loss_curve_[-1], warm.fit(SEQUENCES, y).loss_curve_[-1]]
    assert losses[1] < losses[0]
    assert warm._optimizer.steps == 2 * 3 * 2  # fits, epochs, batches
    assert warm._random is random
    assert any(np.any(before[key] != value) for key, value in warm.model_.state_dict().items())
    cold = warm.set_params(warm_start=False).fit(SEQUENCES, y)
    assert equal(cold.predict(SEQUENCES), fit(name, epochs=3)[0].predict(SEQUENCES))

    part = clone(FITTED[name][0])
    classes = {} if name == "regressor" else {"classes": cold.classes_}
    for _ in range(15):
        part.partial_fit(SEQUENCES, y, **classes)
    assert part.n_iter_ == 1
    assert part.loss_curve_[0] < warm.loss_curve_[0]


def test_partial_fit_knows_labels_that_come_later():
    classifier = RNNClassifier(**SMALL)
    with pytest.raises(ValueError, match="classes must be all labels in the first call"):
        classifier.partial_fit(SEQUENCES, LABELS)
    classifier.partial_fit(SEQUENCES, LABELS, classes=["up", "down", "flat"])
    assert classifier.predict_proba(SEQUENCES).shape == (60, 3)
    assert classifier.classes_.tolist() == ["down", "flat", "up"]
    with pytest.raises(ValueError, match=r"y must be of the classes .*, got .*'sideways'"):
        classifier.partial_fit(SEQUENCES, np.full(60, "sideways"))
    with pytest.raises(ValueError, match=r"classes must be .*, as before, got .*'sideways'"):
        classifier.partial_fit(SEQUENCES, LABELS, classes=["up", "down", "sideways"])
    classifier.partial_fit(SEQUENCES, LABELS, classes=["down", "flat", "up"])


@pytest.mark.parametrize(
    ("classes", "labels"),
    [
        (["cat", "dog"], ["cats", "dogs"]),
        (["B", "O"], ["B-PER", "O"]),
        (np.array([0, 1], np.int8), [256, 257]),
    ],
)
def test_labels_are_not_cut_to_the_length_of_the_classes(classes, labels):
    X = [np.ones((3, 1))] * 4
    with pytest.raises(ValueError, match=r"y must be of the classes .*, got"):
        RNNClassifier(2).partial_fit(X, labels * 2, classes=classes)
    with pytest.raises(ValueError, match=r"y must be of the classes .*, got"):
        RNNTagger(2).partial_fit([np.ones((4, 1))], [labels * 2], classes=classes)
    warm = RNNClassifier(2, epochs=1, warm_start=True).fit(X, [*classes] * 2)
    with pytest.raises(ValueError, match=r"y must be of the classes .*, got"):
        warm.fit(X, labels * 2)


def test_partial_fit_cannot_balance_labels_that_come_later():
    classifier = RNNClassifier(class_weight="balanced", **SMALL)
    with pytest.raises(ValueError, match="class_weight must be a weight for each class"):
        classifier.partial_fit(SEQUENCES, LABELS, classes=["up", "down"])
    assert not hasattr(classifier, "model_")
    weights = classifier.fit(SEQUENCES, LABELS).model_.config["class_weights"]
    classifier.partial_fit(SEQUENCES[:1], LABELS[:1])  # with the weights of all labels
    assert classifier.model_.config["class_weights"] == weights


@each
def test_copies_and_pickles_predict_the_same(name):
    estimator, y = fit(name)
    copied = pickle.loads(pickle.dumps(estimator))
    assert equal(copied.predict(SEQUENCES), estimator.predict(SEQUENCES))
    for one in (copied, estimator):  # and train on the same
        one.partial_fit(SEQUENCES, y)
    assert equal(copied.predict(SEQUENCES), estimator.predict(SEQUENCES))


@each
def test_float32_stays_float32(name):
    single = [x.astype(np.float32) for x in SEQUENCES]
    integers = [x.round().astype(int) for x in SEQUENCES]
    for X, dtype in ((single, "float32"), (SEQUENCES, "float64"), (integers, "float64")):
        estimator, _ = fit(name, X, epochs=1)
        assert estimator.model_.config["dtype"] == dtype
        assert len(estimator.predict(SEQUENCES)) == 60


@each
def test_the_model_can_be_saved(name, tmp_path):
    estimator, _ = fit(name)
    estimator.model_.save(tmp_path / "m")
    loaded, _ = fr.models.load(tmp_path / "m")
    assert equal(loaded.predict(SEQUENCES), estimator.model_.predict(SEQUENCES))


@each
def test_grid_search(name):
    estimator, y = FITTED[name]
    quick = clone(estimator).set_params(epochs=2)
    search = GridSearchCV(quick, {"hidden_size": [2, 3]}, cv=2).fit(SEQUENCES, y)
    assert search.best_params_["hidden_size"] in (2, 3)
    assert equal(search.predict(SEQUENCES), search.best_estimator_.predict(SEQUENCES))
    assert cross_val_score(quick, SEQUENCES, y, cv=KFold(3)).shape == (3,)


def test_pipelines():
    table = 100 + RNG.standard_normal((30, 6))
    labels = np.where(table.sum(axis=1) > 600, "high", "low")
    pipeline = make_pipeline(StandardScaler(), RNNClassifier(**SMALL)).fit(table, labels)
    assert pipeline.score(table, labels) > 0.8
    double = FunctionTransformer(lambda X: [2 * x for x in X])
    doubled = make_pipeline(double, clone(FITTED["classifier"][0])).fit(SEQUENCES, LABELS)
    assert doubled.score(SEQUENCES, LABELS) > 0.8
    numbers = TransformedTargetRegressor(RNNRegressor(**SMALL), transformer=StandardScaler())
    assert numbers.fit(table, 1000 * table.mean(axis=1)).predict(table).mean() > 90_000


@pytest.mark.parametrize(
    ("X", "error", "message"),
    [
        (
            [np.zeros((2, 2)), np.zeros((0, 2))],
            ValueError,
            r"X\[1\] must have at least 1 step",
        ),
        (
            [np.zeros((2, 2)), np.zeros((2, 3))],
            ValueError,
            r"X\[1\] must be \(T, 2\), got \(2, 3\)",
        ),
        ([np.zeros(2), np.full(3, np.nan)], ValueError, r"X\[1\] contains NaN"),
        ([np.zeros(2), np.full(3, np.inf)], ValueError, r"X\[1\] contains infinity"),
        ([np.zeros(2), np.array(["a"])], TypeError, r"X\[1\] must be of numbers"),
        (np.zeros((2, 0, 2)), ValueError, "at least 1 step"),
        ([np.zeros(2)], ValueError, "inconsistent numbers of samples"),
        ([], ValueError, "array"),
        ("text", ValueError, "array"),
    ],
)
def test_wrong_sequences_are_refused(X, error, message):
    classifier = RNNClassifier(**SMALL)
    with pytest.raises(error, match=message):
        classifier.fit(X, ["a", "b"])
    assert not hasattr(classifier, "model_")


def test_what_is_refused_changes_nothing():
    for name in FITTED:
        estimator, y = fit(name, epochs=2)
        before = estimator.predict(SEQUENCES)
        with pytest.raises((ValueError, TypeError)):
            estimator.fit(SEQUENCES[:2], ["a", "a"])
        with pytest.raises(ValueError, match="learning_rate must be"):
            estimator.set_params(learning_rate=-1).fit(SEQUENCES, y)
        assert equal(estimator.predict(SEQUENCES), before)
    table = RNG.standard_normal((8, 5))
    classifier = RNNClassifier(**SMALL).fit(table, [0, 1] * 4)
    for X, y in ((table[:, :3], ["a"] * 8), (SEQUENCES, LABELS[:5])):
        with pytest.raises(ValueError, match=r"at least 2 classes|inconsistent numbers"):
            classifier.fit(X, y)
        assert classifier.n_features_in_ == 5
        classifier.predict(table)


def test_what_was_fitted_says_what_can_be_predicted():
    classifier, _ = fit("classifier", np.ones((60, 3)), epochs=1)
    assert classifier.n_features_in_ == 3
    classifier.feature_names_in_ = np.array(["a", "b", "c"], object)  # as of a data frame
    classifier.fit(SEQUENCES, LABELS)
    assert not hasattr(classifier, "n_features_in_")
    assert not hasattr(classifier, "feature_names_in_")
    with pytest.raises(ValueError, match="X must be of width 2 at each step, got 1"):
        classifier.predict([x[:, 0] for x in SEQUENCES])
    with pytest.raises(ValueError, match="y must have at least 2 classes, got 1 class"):
        clone(classifier).fit(SEQUENCES, ["up"] * 60)


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"cell": "elman"}, ValueError, "cell must be one of"),
        ({"epochs": 0}, ValueError, "epochs must be a positive integer"),
        ({"pooling": "max"}, ValueError, "pooling must be one of"),
        ({"batch_size": 0}, ValueError, "batch_size must be a positive integer"),
        ({"clip": -1}, ValueError, "clip must be a positive number"),
        ({"class_weight": {"up": -1}}, ValueError, "class_weights must be positive"),
        ({"patience": 0}, ValueError, "patience must be a positive integer"),
        (
            {"validation_fraction": 1},
            ValueError,
            "validation_fraction must be between 0 and 1, got 1",
        ),
        ({"validation_fraction": 3}, ValueError, "validation_fraction must be a probability"),
        ({"warm_start": "no"}, TypeError, "warm_start must be True or False, got str 'no'"),
    ],
)
def test_wrong_parameters_are_refused(options, error, message):
    classifier = RNNClassifier(**SMALL | options)
    with pytest.raises(error, match=message):
        classifier.fit(SEQUENCES, LABELS)
    assert not hasattr(classifier, "model_")


def test_a_tagger_wants_labels_for_each_step():
    tagger, y = fit("tagger", epochs=2, batch_size=4)
    before = tagger.predict_proba(SEQUENCES)
    y = [*y[:-1], y[-1][:1]]
    with pytest.raises(ValueError, match=rf"y\[59\] must have {len(TAGS[-1])} labels, got 1"):
        tagger.partial_fit(SEQUENCES, y)
    assert equal(tagger.predict_proba(SEQUENCES), before)


def test_a_tagger_is_scored_step_by_step():
    tagger, tags = fit("tagger", epochs=2)
    with pytest.raises(ValueError, match=rf"y\[0\] must have {len(tags[0])} labels, got 1"):
        tagger.score(SEQUENCES, [tags[0][:1], *tags[1:]])
    with pytest.raises(ValueError, match="inconsistent numbers of samples"):
        tagger.score(SEQUENCES, [np.concatenate(tags)])


def test_the_same_sequences_are_held_out_by_each_fit_that_goes_on(monkeypatch):
    held_out = []

    def split(*arrays, **options):
        parts = train_test_split(*arrays, **options)
        held_out.append(np.concatenate(parts[1]).tolist())
        return parts

    monkeypatch.setattr("fastrnn.interop.sklearn.train_test_split", split)
    classifier = RNNClassifier(**SMALL | {"patience": 3, "warm_start": True, "epochs": 1})
    for _ in range(3):
        classifier.fit(SEQUENCES, LABELS)
    assert held_out[0] == held_out[1] == held_out[2]
    with pytest.raises(ValueError, match="patience must be None for one sequence"):
        classifier.partial_fit(SEQUENCES[:1], LABELS[:1])


def test_a_tagger_wants_labels_for_each_sequence():
    with pytest.raises(ValueError, match=r"y\[0\] must be a label for each step, got one, 'a'"):
        RNNTagger(**SMALL).fit(SEQUENCES, ["a"] * len(SEQUENCES))
    with pytest.raises(TypeError, match="y must be labels for each sequence, got NoneType"):
        RNNTagger(4).fit([np.zeros((3, 2))], None)
