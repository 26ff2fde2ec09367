"""Estimators of scikit-learn for sequences, which use the models of this package.

What ``X`` may be:

- a list of arrays (T,) or (T, I): sequences of any lengths T >= 1, all of one width I, 1 for (T,),
  each of whatever NumPy takes for an array, such as a data frame;
- an array (n, T, I): n sequences of T steps;
- whatever else scikit-learn takes as a table (n, T): each row a sequence of T numbers. For
  :class:`RNNTagger` a table (T, I) is one sequence, its rows are the steps.

Networks compute in float32 if it can hold all values of the data that they are fitted on (float32
and float16, booleans, integers of 8 and 16 bits), otherwise in float64.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from sklearn.base import BaseEstimator, ClassifierMixin, RegressorMixin
from sklearn.metrics import accuracy_score
from sklearn.model_selection import train_test_split
from sklearn.preprocessing import LabelEncoder
from sklearn.utils import check_array, check_consistent_length, check_random_state, column_or_1d
from sklearn.utils.class_weight import compute_class_weight
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import assert_all_finite, check_is_fitted, validate_data

from fastrnn._validation import check_bool, check_positive_int, check_probability, check_sequences
from fastrnn.data import Batches
from fastrnn.models import SequenceClassifier, SequenceRegressor, SequenceTagger
from fastrnn.models.predictor import BATCH_SIZE
from fastrnn.optim import Adam
from fastrnn.training import EarlyStopping, ProgressBar, RestoreBest, Trainer

if TYPE_CHECKING:
    from sklearn.utils import Tags

    from fastrnn.models.predictor import Predictor

__all__ = ["RNNClassifier", "RNNRegressor", "RNNTagger"]

_NO_Y = "no_validation"  # what validate_data wants where there is no y


class _RNN(BaseEstimator):
    """Base of the estimators: reading sequences, training, and training further."""

    def fit(self, X: Any, y: Any) -> _RNN:
        """Train on sequences and what belongs to them.

        Parameters
        ----------
        X : list of array_like, or array_like
            See :mod:`fastrnn.interop.sklearn`.
        y : array_like
            Labels or numbers: one, or a row of them, for each sequence; for a tagger one for each
            step.

        Returns
        -------
        self

        Raises
        ------
        ValueError, TypeError
            If the data or a parameter of the constructor is wrong.
        """
        warm = check_bool("warm_start", self.warm_start)
        return self._train(X, y, self.epochs, warm and hasattr(self, "model_"))

    def predict(self, X: Any) -> Any:
        """Return what is predicted for each sequence, in the form of ``y``."""
        check_is_fitted(self)
        return self._predicted(X, self.model_.predict)

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        tags.input_tags.three_d_array = True
        tags.target_tags.required = True
        return tags

    @abstractmethod
    def _build(self, targets: Any, classes: Any, **settings: Any) -> Predictor:
        """Return a model for targets like these."""

    @abstractmethod
    def _targets(self, y: Any, classes: Any) -> tuple[Any, Any]:
        """Return the classes (None: numbers are predicted), and targets as the model wants them."""

    def _train(
        self, X: Any, y: Any, epochs: int, going_on: bool, classes: np.ndarray | None = None
    ) -> Any:
        before = dict(vars(self))
        try:
            return self._train_anew(X, y, epochs, going_on, classes)
        except BaseException:  # an earlier fit can still be used
            vars(self).clear()
            vars(self).update(before)
            raise

    def _train_anew(
        self, X: Any, y: Any, epochs: int, going_on: bool, classes: np.ndarray | None
    ) -> Any:
        epochs = check_positive_int("epochs", epochs)
        share = check_probability("validation_fraction", self.validation_fraction)
        if share in (0, 1):
            raise ValueError(f"validation_fraction must be between 0 and 1, got {share}")
        sequences, y = self._read(X, y, reset=not going_on)
        if going_on:
            classes = getattr(self, "classes_", None)
        classes, targets = self._targets(y, classes)
        random = self._random if going_on else check_random_state(self.random_state)
        model = self.model_ if going_on else self._start(sequences, targets, classes, random)
        optimizer = self._optimizer if going_on else Adam(model.parameters)
        optimizer.learning_rate = self.learning_rate
        callbacks, validation = [ProgressBar()] if self.verbose else [], None
        if self.patience is not None:
            if len(sequences) < 2:
                raise ValueError("patience must be None for one sequence: none can be held out")
            if not going_on or not hasattr(self, "_held_out_by"):
                self._held_out_by = _seed(random)  # the same sequences by each fit that goes on
            parts = train_test_split(
                sequences, targets, test_size=share, random_state=self._held_out_by
            )
            sequences, held_out, targets, held_out_targets = parts
            validation = Batches(held_out, held_out_targets, BATCH_SIZE)
            callbacks += [RestoreBest(), EarlyStopping(self.patience)]
        batches = Batches(sequences, targets, self.batch_size, seed=_seed(random))
        trainer = Trainer(model, optimizer, clip=self.clip, callbacks=callbacks)
        trainer.fit(batches, epochs, validation)
        self.model_, self._optimizer, self._random = model, optimizer, random
        if classes is not None:
            self.classes_ = classes
        self.n_iter_ = trainer.epoch
        self.loss_curve_ = [row["training_loss"] for row in trainer.history]
        return self

    def _start(
        self, sequences: Any, targets: Any, classes: Any, random: np.random.RandomState
    ) -> Predictor:
        return self._build(
            targets,
            classes,
            input_size=sequences[0].shape[1],
            hidden_size=self.hidden_size,
            num_layers=self.num_layers,
            cell=self.cell,
            bidirectional=self.bidirectional,
            dropout=self.dropout,
            inputs="vectors",
            dtype=sequences[0].dtype,
            seed=_seed(random),
        )

    def _read(self, X: Any, y: Any = _NO_Y, reset: bool = False) -> Any:
        """Return sequences (T, I) of the model's type, and y where it is given."""
        if _are_sequences(X):
            sequences = check_sequences("X", X)
            if y is not _NO_Y:
                check_consistent_length(sequences, y)
                y = self._check_y(y)
        else:
            if y is _NO_Y:
                X = validate_data(self, X, reset=reset)
            else:
                X, y = validate_data(self, X, y, reset=reset, **self._checks)
            sequences, y = self._cut(X, y)
        if not reset:
            dtype = np.dtype(self.model_.config["dtype"])
        else:  # as elsewhere in scikit-learn: float32 stays what it is
            single = np.result_type(np.float32, *sequences) == np.float32
            dtype = np.dtype(np.float32 if single else np.float64)
        with np.errstate(over="ignore"):  # infinity is refused below
            sequences = [np.ascontiguousarray(x, dtype) for x in sequences]
        sequences = [x[:, None] if x.ndim == 1 else x for x in sequences]
        for k, x in enumerate(sequences):
            if not np.isfinite(x).all():  # takes a tenth of the time of scikit-learn's own check
                assert_all_finite(x, input_name=f"X[{k}]")
            if len(x) == 0:
                raise ValueError(f"X[{k}] must have at least 1 step, got none")
        width = sequences[0].shape[1]
        if not reset and width != self.model_.config["input_size"]:
            expected = self.model_.config["input_size"]
            raise ValueError(f"X must be of width {expected} at each step, got {width}")
        if reset and _are_sequences(X):  # forget the columns of a table that was fitted before
            for name in {"n_features_in_", "feature_names_in_"} & vars(self).keys():
                delattr(self, name)
        return sequences if y is _NO_Y else (sequences, y)

    _checks: ClassVar[dict[str, Any]] = {}  # of y, by validate_data

    def _check_y(self, y: Any) -> Any:
        """Return what belongs to a list of sequences as an array."""
        return column_or_1d(y, warn=True)

    def _cut(self, X: np.ndarray, y: Any) -> tuple[list[np.ndarray], Any]:
        """Return the sequences of a table and what belongs to each."""
        return list(X[:, :, None]), y

    def _predicted(self, X: Any, predict: Callable[[list[np.ndarray]], Any]) -> Any:
        """Return what the model says of `X`, in the form of ``y``."""
        return predict(self._read(X))


class _Labels(ClassifierMixin, _RNN):
    """Base of the estimators that predict labels."""

    def partial_fit(self, X: Any, y: Any, classes: Any = None) -> _Labels:
        """Train one more epoch.

        Parameters
        ----------
        X, y
            As for ``fit``.
        classes : array_like
            All labels that there can be; the first call needs them.

        Returns
        -------
        self

        Raises
        ------
        ValueError, TypeError
            As from ``fit``; if there are no classes in the first call, or others later, or weights
            are to be balanced by the labels of the first call alone.
        """
        going_on = hasattr(self, "model_")
        if self.class_weight == "balanced" and not going_on:
            raise ValueError(
                "class_weight must be a weight for each class in partial_fit, which does not see "
                "all labels, got 'balanced'; sklearn.utils.class_weight computes weights"
            )
        if classes is None and not going_on:
            raise ValueError(
                "classes must be all labels in the first call of partial_fit, got None"
            )
        classes = None if classes is None else np.unique(classes)
        if going_on and classes is not None and not np.array_equal(classes, self.classes_):
            raise ValueError(f"classes must be {self.classes_}, as before, got {classes}")
        return self._train(X, y, 1, going_on, classes)

    def predict_proba(self, X: Any) -> Any:
        """Return the probability of each of ``classes_``, where ``predict`` has a label."""
        check_is_fitted(self)
        return self._predicted(X, self.model_.predict_proba)

    def predict(self, X: Any) -> Any:
        predicted = super().predict(X)
        if isinstance(predicted, list):
            return [self.classes_[ids] for ids in predicted]
        return self.classes_[predicted]

    def _number(self, y: np.ndarray, classes: np.ndarray | None) -> tuple[np.ndarray, np.ndarray]:
        """Return the classes, those of `y` (n,) unless they are given, and the labels' numbers."""
        check_classification_targets(y)
        encoder = LabelEncoder()
        encoder.classes_ = np.unique(y) if classes is None else classes
        if len(encoder.classes_) < 2:
            found = f"1 class: {encoder.classes_[0]}"
            raise ValueError(f"y must have at least 2 classes, got {found}")
        # The encoder would first make them of the classes' type: shorter strings, smaller numbers.
        unseen = np.setdiff1d(y, encoder.classes_)
        if unseen.size:
            raise ValueError(f"y must be of the classes {encoder.classes_}, got {unseen}")
        return encoder.classes_, encoder.transform(y)

    def _class_weights(self, ids: np.ndarray, classes: np.ndarray) -> np.ndarray | None:
        if self.class_weight is None:
            return None
        return compute_class_weight(self.class_weight, classes=classes, y=classes[ids])


class RNNClassifier(_Labels):
    """A label for a sequence, by :class:`fastrnn.models.SequenceClassifier`.

    Parameters
    ----------
    hidden_size : int
        Units of each recurrent layer and direction.
    num_layers : int
        Recurrent layers, one on top of the other.
    cell : {"rnn", "lstm", "gru"}
    bidirectional : bool
        Whether a second layer reads from the end.
    pooling : {"last", "mean", "attention"}
        What is read of the recurrent layers' outputs.
    dropout : float
        Probability with which outputs of the recurrent layers are dropped in training.
    class_weight : dict, "balanced" or None
        As elsewhere in scikit-learn; all weights are positive.
    epochs : int
        Passes over the data.
    batch_size : int
        Sequences of a step.
    learning_rate : float
        Of Adam.
    clip : float or None
        Largest norm of all gradients together.
    patience : int or None
        Stop after this many epochs without a lower loss on sequences held out, and go back to the
        epoch of the lowest; None trains all epochs on all sequences.
    validation_fraction : float
        Share of the sequences held out where `patience` is given, between 0 and 1; the same ones in
        each ``fit`` that continues the training.
    warm_start : bool
        Whether ``fit`` continues the training of the last one.
    random_state : int, numpy.random.RandomState or None
        Source of initial parameters, dropout, the order and of what is held out.
    verbose : bool
        Whether to show a progress bar, where standard error is a terminal.

    Attributes
    ----------
    model_ : fastrnn.models.SequenceClassifier
        ``model_.save(path)`` writes it for :func:`fastrnn.models.load`.
    classes_ : ndarray
        The labels, sorted.
    n_iter_ : int
        Epochs of the last fit.
    loss_curve_ : list of float
        Training loss of each.
    n_features_in_ : int
        Columns, where ``X`` was a table.
    """

    def __init__(
        self,
        hidden_size: int = 64,
        *,
        num_layers: int = 1,
        cell: str = "gru",
        bidirectional: bool = False,
        pooling: str = "last",
        dropout: float = 0.0,
        class_weight: Any = None,
        epochs: int = 50,
        batch_size: int = 32,
        learning_rate: float = 3e-3,
        clip: float | None = 1.0,
        patience: int | None = None,
        validation_fraction: float = 0.1,
        warm_start: bool = False,
        random_state: Any = None,
        verbose: bool = False,
    ) -> None:
        self.hidden_size = hidden_size
        self.num_layers = num_layers
        self.cell = cell
        self.bidirectional = bidirectional
        self.pooling = pooling
        self.dropout = dropout
        self.class_weight = class_weight
        self.epochs = epochs
        self.batch_size = batch_size
        self.learning_rate = learning_rate
        self.clip = clip
        self.patience = patience
        self.validation_fraction = validation_fraction
        self.warm_start = warm_start
        self.random_state = random_state
        self.verbose = verbose

    def _build(self, targets: Any, classes: Any, **settings: Any) -> SequenceClassifier:
        return SequenceClassifier(
            num_classes=len(classes),
            pooling=self.pooling,
            class_weights=self._class_weights(targets, classes),
            **settings,
        )

    def _targets(self, y: Any, classes: Any) -> tuple[np.ndarray, np.ndarray]:
        return self._number(y, classes)


class RNNRegressor(RegressorMixin, _RNN):
    """Numbers for a sequence, by :class:`fastrnn.models.SequenceRegressor`.

    Parameters
    ----------
    hidden_size, num_layers, cell, bidirectional, pooling, dropout
        As for :class:`RNNClassifier`.
    epochs, batch_size, learning_rate, clip, patience, validation_fraction
        As for :class:`RNNClassifier`.
    warm_start, random_state, verbose
        As for :class:`RNNClassifier`.

    Attributes
    ----------
    model_, n_iter_, loss_curve_, n_features_in_
        As for :class:`RNNClassifier`.

    Notes
    -----
    The numbers are learnt as they are: scale them, such as by
    :class:`sklearn.compose.TransformedTargetRegressor`.
    """

    def __init__(
        self,
        hidden_size: int = 64,
        *,
        num_layers: int = 1,
        cell: str = "gru",
        bidirectional: bool = False,
        pooling: str = "last",
        dropout: float = 0.0,
        epochs: int = 50,
        batch_size: int = 32,
        learning_rate: float = 3e-3,
        clip: float | None = 1.0,
        patience: int | None = None,
        validation_fraction: float = 0.1,
        warm_start: bool = False,
        random_state: Any = None,
        verbose: bool = False,
    ) -> None:
        self.hidden_size = hidden_size
        self.num_layers = num_layers
        self.cell = cell
        self.bidirectional = bidirectional
        self.pooling = pooling
        self.dropout = dropout
        self.epochs = epochs
        self.batch_size = batch_size
        self.learning_rate = learning_rate
        self.clip = clip
        self.patience = patience
        self.validation_fraction = validation_fraction
        self.warm_start = warm_start
        self.random_state = random_state
        self.verbose = verbose

    _checks = {"multi_output": True, "y_numeric": True}

    def partial_fit(self, X: Any, y: Any) -> RNNRegressor:
        """Train one more epoch, with ``X`` and ``y`` as for ``fit``; return self."""
        return self._train(X, y, 1, hasattr(self, "model_"))

    def predict(self, X: Any) -> np.ndarray:
        predicted = super().predict(X).astype(np.float64)
        return predicted[:, 0] if self._one else predicted

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        tags.target_tags.multi_output = True
        return tags

    def _build(self, targets: Any, classes: Any, **settings: Any) -> SequenceRegressor:
        return SequenceRegressor(output_size=targets.shape[1], pooling=self.pooling, **settings)

    def _check_y(self, y: Any) -> np.ndarray:
        return check_array(y, ensure_2d=False, input_name="y")

    def _targets(self, y: Any, classes: Any) -> tuple[None, np.ndarray]:
        return None, y.astype(np.float64).reshape(len(y), -1)

    def _train(self, X: Any, y: Any, *settings: Any) -> RNNRegressor:
        super()._train(X, y, *settings)
        self._one = np.asarray(y).ndim == 1
        return self


class RNNTagger(_Labels):
    """A label for each step of a sequence, by :class:`fastrnn.models.SequenceTagger`.

    A table is one sequence: ``fit(X, y)`` takes the steps (T, I) and their labels (T,), or a list
    of both.

    Parameters
    ----------
    hidden_size, num_layers, cell, bidirectional, dropout, class_weight
        As for :class:`RNNClassifier`.
    epochs, batch_size, learning_rate, clip, patience, validation_fraction
        As for :class:`RNNClassifier`.
    warm_start, random_state, verbose
        As for :class:`RNNClassifier`.

    Attributes
    ----------
    model_, classes_, n_iter_, loss_curve_, n_features_in_
        As for :class:`RNNClassifier`.
    """

    def __init__(
        self,
        hidden_size: int = 64,
        *,
        num_layers: int = 1,
        cell: str = "gru",
        bidirectional: bool = False,
        dropout: float = 0.0,
        class_weight: Any = None,
        epochs: int = 50,
        batch_size: int = 32,
        learning_rate: float = 3e-3,
        clip: float | None = 1.0,
        patience: int | None = None,
        validation_fraction: float = 0.1,
        warm_start: bool = False,
        random_state: Any = None,
        verbose: bool = False,
    ) -> None:
        self.hidden_size = hidden_size
        self.num_layers = num_layers
        self.cell = cell
        self.bidirectional = bidirectional
        self.dropout = dropout
        self.class_weight = class_weight
        self.epochs = epochs
        self.batch_size = batch_size
        self.learning_rate = learning_rate
        self.clip = clip
        self.patience = patience
        self.validation_fraction = validation_fraction
        self.warm_start = warm_start
        self.random_state = random_state
        self.verbose = verbose

    def score(self, X: Any, y: Any, sample_weight: Any = None) -> float:
        """Return the share of steps with the right label, `sample_weight` one for each step."""
        predicted = self.predict(X)
        if isinstance(predicted, list):
            check_consistent_length(predicted, y)
            y = self._check_y(y)
            _check_lengths(predicted, y)
            predicted, y = np.concatenate(predicted), np.concatenate(y)
        return accuracy_score(y, predicted, sample_weight=sample_weight)

    def _build(self, targets: Any, classes: Any, **settings: Any) -> SequenceTagger:
        return SequenceTagger(
            num_classes=len(classes),
            class_weights=self._class_weights(np.concatenate(targets), classes),
            **settings,
        )

    def _cut(self, X: np.ndarray, y: Any) -> tuple[list[np.ndarray], Any]:
        return [X], y if y is _NO_Y else [y]

    def _read(self, X: Any, y: Any = _NO_Y, reset: bool = False) -> Any:
        read = super()._read(X, y, reset)
        if y is not _NO_Y:
            _check_lengths(*read)
        return read

    def _check_y(self, y: Any) -> list[np.ndarray]:
        if y is None:
            raise TypeError("y must be labels for each sequence, got NoneType")
        for k, labels in enumerate(y):
            if np.isscalar(labels):
                raise ValueError(f"y[{k}] must be a label for each step, got one, {labels!r:.80}")
        # A column need not go through scikit-learn's checks, which take 80 us.
        return [labels if _is_column(labels) else column_or_1d(labels) for labels in y]

    def _targets(self, y: Any, classes: Any) -> tuple[np.ndarray, list[np.ndarray]]:
        classes, ids = self._number(np.concatenate(y), classes)
        return classes, np.split(ids, np.cumsum([len(labels) for labels in y])[:-1])

    def _predicted(self, X: Any, predict: Callable[[list[np.ndarray]], Any]) -> Any:
        predicted = super()._predicted(X, predict)
        return predicted if _are_sequences(X) else predicted[0]


def _check_lengths(sequences: list[np.ndarray], y: list[np.ndarray]) -> None:
    """Refuse labels that are not one for each step of each sequence; ValueError."""
    for k, (x, labels) in enumerate(zip(sequences, y)):
        if len(x) != len(labels):
            raise ValueError(f"y[{k}] must have {len(x)} labels, got {len(labels)}")


def _are_sequences(X: Any) -> bool:
    """Return whether `X` holds sequences, and is not a table.

    Whatever has axes is an array here: a tensor, a data frame, a series of arrays or lists.
    """
    if getattr(X, "ndim", 1) != 1:
        return X.ndim == 3
    is_array = hasattr(X, "ndim")
    rows = [x for x in X if _is_row(x)] if is_array or isinstance(X, (list, tuple)) else []
    if rows and (is_array or any(hasattr(x, "ndim") for x in rows)):
        return True
    nested = any(len(x) and _is_row(x[0]) for x in rows)
    return nested or len({len(x) for x in rows}) > 1


def _is_column(labels: Any) -> bool:
    return type(labels) is np.ndarray and labels.ndim == 1 and labels.dtype.kind in "biufOSU"


def _is_row(x: Any) -> bool:
    return isinstance(x, (list, tuple)) or getattr(x, "ndim", 0) > 0


def _seed(random: np.random.RandomState) -> int:
    return int(random.randint(np.iinfo(np.int32).max))
