"""What is the next value of a time series? Many to one, with a horizon of one step.

Data: sunspots of 309 years (``--set sunspots``), each forecast from the 22 before it; or airline
passengers of 144 months (``--set airline``), as differences of logarithms, each from the 13 before
it. The last 62 years, or 29 months, are for testing. Network: a GRU of 16 units. In PyTorch it has
a root mean squared error of 18.76 and 23.48. A linear autoregression by least squares on the same
pasts stands beside it: it is worse on the sunspots (19.98), but better on the airline (15.98).

Run: python examples/time_series.py
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from _common import arguments, picture, report

import fastrnn as fr

EPOCHS = {"sunspots": 200, "airline": 300}
PAST, TEST = {"sunspots": 22, "airline": 13}, {"sunspots": 62, "airline": 29}


class Data(NamedTuple):
    """A series, and windows of what is forecast of it: past values and the next one."""

    index: np.ndarray  # years
    values: np.ndarray
    past: np.ndarray  # (N, P)
    following: np.ndarray  # (N, 1)


def load(args: Any) -> Data:
    """Cut the series, or the differences of its logarithm, into windows."""
    index, values = fr.data.load(args.set, args.data, sample=args.quick)
    series = np.diff(np.log(values)) if args.set == "airline" else values
    windows = np.lib.stride_tricks.sliding_window_view(series, PAST[args.set] + 1)
    return Data(index, values, windows[:, :-1], windows[:, -1:])


def build(args: Any, data: Data) -> tuple[Any, fr.data.Batches, dict[str, Any]]:
    """Return the model, its batches (one has all windows) and how it is trained."""
    past, following = data.past[: -TEST[args.set]], data.following[: -TEST[args.set]]
    known = np.append(past[0], following)  # the series without the part that tests
    model = fr.models.Forecaster(16, mean=known.mean(), std=known.std(), seed=args.seed)
    return model, fr.data.Batches(past, following, len(past)), {"learning_rate": 5e-3}


def main() -> None:
    """Train, test, and draw the forecasts."""
    args = arguments(__doc__, epochs=EPOCHS)
    data = load(args)
    model, batches, settings = build(args, data)
    trainer = fr.fit(model, batches, args.epochs, **settings)
    test, shown = slice(-TEST[args.set], None), slice(-2 * TEST[args.set], None)
    before, truth = data.values[:-1][test], data.values[test]
    rows = np.hstack([data.past, np.ones((len(data.past), 1))])
    weights = np.linalg.lstsq(rows[: len(batches.inputs)], batches.targets)[0]
    forecasts = {"GRU": model.predict(data.past), "linear": rows @ weights}
    forecasts = {name: forecast[test, 0] for name, forecast in forecasts.items()}
    if args.set == "airline":
        forecasts = {name: before * np.exp(change) for name, change in forecasts.items()}
    forecasts |= {"persistence": before}
    rmse = {name: float(np.sqrt(np.mean((f - truth) ** 2))) for name, f in forecasts.items()}

    def draw(axes: Any) -> None:
        axes.plot(data.index[shown], data.values[shown], "k.-", linewidth=0.8, label="true")
        for name in ("GRU", "linear"):
            axes.plot(data.index[test], forecasts[name], label=f"{name}, RMSE {rmse[name]:.1f}")
        axes.set(title=f"{args.set}, one step ahead", xlabel="year")
        axes.legend(loc="upper left")

    picture(args.output / f"{args.set}.png", draw, figsize=(10, 4))
    print("the best forecast:", min(rmse, key=lambda name: rmse[name]))
    report(args, trainer, **{f"{name}_RMSE": error for name, error in rmse.items()})


if __name__ == "__main__":
    main()
