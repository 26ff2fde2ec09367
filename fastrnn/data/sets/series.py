"""Classic time series."""

from __future__ import annotations

import csv
from datetime import UTC, date, datetime
from typing import NamedTuple

import numpy as np


class Series(NamedTuple):
    """A series; `index` is the year, with its part where there are several values a year."""

    index: np.ndarray  # (T,) float64
    values: np.ndarray  # (T,) float64, NaN where one is missing


def load_yearly(content: bytes) -> Series:
    """Sunspots, Nile, lynx: a year and a value a line."""
    years, values = zip(*_rows(content))
    return Series(np.array(years, float), np.array(values, float))


def load_airline(content: bytes) -> Series:
    """Months as ``1949-01``."""
    months, values = zip(*_rows(content))
    index = [int(month[:4]) + (int(month[5:]) - 1) / 12 for month in months]
    return Series(np.array(index), np.array(values, float))


def load_elnino(content: bytes) -> Series:
    """Twelve months a line."""
    table = np.array(_rows(content), float)
    return Series((table[:, :1] + np.arange(12) / 12).ravel(), table[:, 1:].ravel())


def load_co2(content: bytes) -> Series:
    """Weeks as ``19580329``; gaps are NaN."""
    days, values = zip(*_rows(content))
    index = []
    for day in days:
        day = date.fromisoformat(day)
        first = date(day.year, 1, 1)
        index.append(day.year + (day - first).days / (date(day.year + 1, 1, 1) - first).days)
    return Series(np.array(index), np.array([value or "nan" for value in values], float))


def load_solar(content: bytes) -> Series:
    """Half-hours of a week; `index` is in days since its start."""
    times, values = zip(*_rows(content))
    start = datetime(2021, 5, 1, tzinfo=UTC)
    index = [(datetime.fromisoformat(time) - start).total_seconds() / 86400 for time in times]
    return Series(np.array(index), np.array(values, float))


def _rows(content: bytes) -> list[list[str]]:
    return list(csv.reader(content.decode().splitlines()))[1:]


def sample_series() -> Series:
    """Return 150 values with a period of 11 and some noise, positive as the real ones are."""
    time = np.arange(150.0)
    noise = np.random.default_rng(0).standard_normal(150)
    return Series(1850 + time, 50 + 40 * np.sin(2 * np.pi * time / 11) + 3 * noise)
