"""Read the past of a series and forecast its next values, one step ahead or several."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from fastrnn._validation import as_array, check_array, check_positive_int, check_quantiles
from fastrnn.data import Padded
from fastrnn.losses import mean_squared_error, pinball
from fastrnn.models.classifier import PooledModel, PooledStream
from fastrnn.models.predictor import BATCH_SIZE, as_padded, as_rows

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

    from fastrnn.data.batches import Sequences


class Forecaster(PooledModel):
    r"""Forecast the next values of a series from its past, the whole horizon at once.

    .. math:: z_t = \frac{x_t - \mu}{\sigma}, \qquad h_t = f_W(h_{t-1}, z_t), \qquad
              \hat x_{T+1} \dots \hat x_{T+n} = \mu_1 + \sigma_1 (W h_T + b)

    Parameters
    ----------
    hidden_size : int
        Units H of each recurrent layer.
    horizon : int
        Number of steps n ahead.
    input_size : int
        Width I of the series: the first column is forecast, the others may help.
    mean, std : float or array_like, shape (I,)
        The columns are scaled by these, such as the mean and standard deviation of the training
        part; `std` is positive.
    quantiles : array_like or None, shape (Q,)
        Probabilities in (0, 1) of the quantiles to forecast; None forecasts the mean.
    seed : int, numpy.random.SeedSequence or None
        Source of the initial parameters and of the dropout masks.
    **encoder
        Of :class:`fastrnn.models.Encoder`: ``num_layers``, ``cell``, ``dropout``, ``dtype`` and
        others.

    Attributes
    ----------
    parameters, config, generators
        As for :class:`fastrnn.models.SequenceClassifier`.

    Raises
    ------
    ValueError, TypeError
        If an argument has the wrong type or is out of range.

    Notes
    -----
    The loss is the squared error, or the pinball loss where there are quantiles, of scaled values:
    in units of `std` squared, or of `std`. Forecasts are in the unit of the series.

    References
    ----------
    The direct strategy with one network for all steps of Ben Taieb et al., "A review and comparison
    of strategies for multi-step ahead time series forecasting" (2012), there called MIMO.
    """

    def __init__(
        self,
        hidden_size: int,
        horizon: int = 1,
        *,
        input_size: int = 1,
        mean: ArrayLike = 0.0,
        std: ArrayLike = 1.0,
        quantiles: ArrayLike | None = None,
        seed: int | np.random.SeedSequence | None = None,
        **encoder: Any,
    ) -> None:
        horizon = check_positive_int("horizon", horizon)
        input_size = check_positive_int("input_size", input_size)
        if quantiles is not None:
            quantiles = check_quantiles("quantiles", quantiles).tolist()
        output_size = horizon * (1 if quantiles is None else len(quantiles))
        encoder = {"inputs": "vectors", **encoder}
        if encoder["inputs"] != "vectors":
            raise ValueError(f"inputs must be 'vectors' in a forecaster, got {encoder['inputs']!r}")
        super().__init__(input_size, hidden_size, output_size, "last", seed, encoder)
        self._mean, self._std = _widths("mean", mean, input_size), _widths("std", std, input_size)
        if not (self._std > 0).all():
            raise ValueError(f"std must be positive, got {std}; leave out what never changes")
        for name in ("pooling", "inputs", "embedding_size", "embedding_scale"):
            del self.config[name]
        self.config |= {
            "horizon": horizon,
            "mean": self._mean.tolist(),
            "std": self._std.tolist(),
            "quantiles": quantiles,
        }

    def criterion(self, output: np.ndarray, targets: ArrayLike) -> tuple[float, np.ndarray]:
        """Return the loss of what the call returns and of the true values.

        Parameters
        ----------
        output : ndarray, shape (B, n) or (B, n * Q)
            Scaled.
        targets : array_like, shape (B, n), or (B,) where n is 1
            In the unit of the series.

        Returns
        -------
        loss : float
            Mean over the values, scaled.
        d_output : ndarray, shape of `output`

        Raises
        ------
        ValueError, TypeError
            If the targets have another shape or are not real numbers.
        """
        horizon, quantiles = self.config["horizon"], self.config["quantiles"]
        targets = check_array(
            "targets", as_rows(targets, horizon), np.dtype(np.float64), (len(output), horizon)
        )
        targets = (targets - self._mean[0]) / self._std[0]
        if quantiles is None:
            return mean_squared_error(output, targets)
        loss, d_output = pinball(output.reshape(*targets.shape, -1), targets, quantiles)
        return loss, d_output.reshape(output.shape)

    def predict(self, inputs: Padded | Sequences, batch_size: int = BATCH_SIZE) -> np.ndarray:
        """Return forecasts.

        Parameters
        ----------
        inputs : Padded, or sequences
            The pasts of B series, (T_b, I), or (T_b,) where I is 1, in the unit of the series.
        batch_size : int
            Series that are read together.

        Returns
        -------
        forecast : ndarray of float64, shape (B, n), or (B, n, Q) where there are quantiles
            In the unit of the series.
        """
        return self._unscaled(self._scores(inputs, batch_size))

    def stream(self, batch_size: int = 1) -> PooledStream:
        """Return an object that reads a step (B, I) at a time; a step returns the forecasts.

        Raises
        ------
        ValueError
            If the model is bidirectional: it needs the end of the sequence.
        """
        return ForecasterStream(self, batch_size)

    def _read(self, inputs: Padded | Sequences) -> Padded:
        values, lengths = as_padded(inputs)
        values = as_array("inputs", values)
        if values.ndim == 2:
            values = values[..., None]
        return Padded(self._scaled(values), lengths)

    def _scaled(self, values: ArrayLike) -> np.ndarray:
        # In float64: in float32 few digits of the difference from a large mean would be left.
        values = as_array("inputs", values)
        shape = (*values.shape[:-1], len(self._mean))
        values = check_array("inputs", values, np.dtype(np.float64), shape)
        return (values - self._mean) / self._std

    def _unscaled(self, output: np.ndarray) -> np.ndarray:
        forecast = self._mean[0] + self._std[0] * output
        if self.config["quantiles"] is None:
            return forecast
        return forecast.reshape(*output.shape[:-1], self.config["horizon"], -1)


class ForecasterStream(PooledStream):
    """A forecaster that reads one step a call, in the unit of the series.

    Parameters
    ----------
    model : Forecaster
    batch_size : int
        Number of series B read side by side.
    """

    def __init__(self, model: Forecaster, batch_size: int = 1) -> None:
        def head(pooled: np.ndarray) -> np.ndarray:
            return model._unscaled(model.output(pooled))

        super().__init__(model.encoder, model.pooling.stream(batch_size), head, batch_size)
        self._scaled = model._scaled

    def step(self, inputs: ArrayLike) -> np.ndarray:
        """Return what :meth:`Forecaster.predict` returns for all read so far, `inputs` (B, I)."""
        return super().step(self._scaled(inputs))


def _widths(name: str, value: ArrayLike, size: int) -> np.ndarray:
    """Return a finite number for each column as float64 (size,)."""
    array = as_array(name, value)
    array = np.full(size, array) if array.ndim == 0 else array
    array = check_array(name, array, np.dtype(np.float64), (size,))
    if not np.isfinite(array).all():
        raise ValueError(f"{name} must be finite, got {value}")
    return array
