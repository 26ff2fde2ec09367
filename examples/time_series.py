"""What is the next value of a time series? Many to one, with a horizon of one step.

Data: sunspots of 309 years (``--set sunspots``), the last 62 test, each from the 22 before it; or
airline passengers of 144 months (``--set airline``), the last 29 test, as differences of logarithms
from the 13 before. Network: a GRU of 16 units. In PyTorch it has a root mean squared error of 18.76
and 23.48. A linear autoregression by least squares on the same pasts stands beside it: it is worse
on the sunspots (19.98), but better on the airline (15.98).

Run: python examples/time_series.py
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from _common import arguments, picture, report

import fastrnn as fr

EPOCHS = {"sunspots": 200, "airline": 300}
PAST = {"sunspots": 22, "airline": 13}


class Data(NamedTuple):
    """The series, what is forecast of it, and windows of past values and the next."""

    index: np.ndarray
    values: np.ndarray
    changes: np.ndarray
    past: np.ndarray  # (N, P)
    following: np.ndarray  # (N, 1)
    test: int  # how many of the last ones test


def load(args: Any) -> Data:
    """Cut the series, or the changes of its logarithm, into windows."""
    index, values = fr.data.load(args.set, args.data, sample=args.quick)
    changes = np.diff(np.log(values)) if args.set == "airline" else values
    windows = np.lib.stride_tricks.sliding_window_view(changes, PAST[args.set] + 1)
    return Data(index, values, changes, windows[:, :-1], windows[:, -1:], round(len(values) / 5))


def build(args: Any, data: Data) -> tuple[Any, fr.data.Batches, dict[str, Any]]:
    """Return the model, its batches and how it is trained."""
    known = data.changes[: -data.test]
    model = fr.models.Forecaster(16, mean=known.mean(), std=known.std(), seed=args.seed)
    past, following = data.past[: -data.test], data.following[: -data.test]
    return model, fr.data.Batches(past, following, len(past)), {"learning_rate": 5e-3}


def autoregression(data: Data) -> np.ndarray:
    """Return the forecasts (N, 1) of a linear model fitted to what trains."""
    rows = np.hstack([data.past, np.ones((len(data.past), 1))])
    known = slice(None, -data.test)
    return rows @ np.linalg.lstsq(rows[known], data.following[known])[0]


def main() -> None:
    """Train, test, and draw the forecasts."""
    args = arguments(__doc__, EPOCHS)
    data = load(args)
    model, batches, settings = build(args, data)
    trainer = fr.fit(model, batches, args.epochs, **settings)
    before, truth = data.values[-data.test - 1 : -1], data.values[-data.test :]
    forecasts = {"gru": model.predict(data.past), "linear_ar": autoregression(data)}
    forecasts = {name: forecast[-data.test :, 0] for name, forecast in forecasts.items()}
    if args.set == "airline":
        forecasts = {name: before * np.exp(change) for name, change in forecasts.items()}
    forecasts["persistence"] = before
    errors = {name: float(np.sqrt(np.mean((f - truth) ** 2))) for name, f in forecasts.items()}

    def draw(axes: Any) -> None:
        shown = data.index[-2 * data.test :]
        axes.plot(shown, data.values[-len(shown) :], "k.-", linewidth=0.8, label="true")
        for name, colour in (("gru", "tab:red"), ("linear_ar", "tab:blue")):
            label = f"{name.replace('_', ' ')}, RMSE {errors[name]:.1f}"
            axes.plot(data.index[-data.test :], forecasts[name], color=colour, label=label)
        axes.axvline(data.index[-data.test] - 0.5, color="grey", linestyle=":")
        axes.set(title=f"{args.set}: one step ahead", xlabel="year")
        axes.legend(loc="upper left")

    picture(args.output / f"{args.set}.png", draw, figsize=(10, 4))
    better = "better" if errors["linear_ar"] < errors["gru"] else "worse"
    print(f"the linear autoregression is {better} than the GRU here")
    report(args, trainer, **{f"{name}_rmse": error for name, error in errors.items()})


if __name__ == "__main__":
    main()
