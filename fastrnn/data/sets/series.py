"""Classic time series."""

from __future__ import annotations

import csv
from collections.abc import Callable
from datetime import UTC, date, datetime
from functools import partial
from typing import NamedTuple

import numpy as np

from fastrnn.data.dataset import DataSet, File
from fastrnn.data.files import member
from fastrnn.data.sets._sources import AEON, STATSMODELS


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


_STATSMODELS = "public domain, as statsmodels states; package BSD-3-Clause"


def _statsmodels(name: str, title: str, source: str, load: Callable[..., Series]) -> DataSet:
    file = File(f"time_series/{name}.csv", (f"{STATSMODELS}/{name}/{name}.csv",))
    return DataSet(title, source, _STATSMODELS, (file,), load, sample_series)


def _aeon(
    name: str, path: str, title: str, source: str, licence: str, load: Callable[..., Series]
) -> DataSet:
    make = partial(member, name=f"aeon/datasets/data/{path}")
    file = File(f"time_series/{name}.csv", (AEON,), make)
    return DataSet(title, source, licence, (file,), load, sample_series)


DATASETS = {
    "sunspots": _statsmodels(
        "sunspots",
        "Yearly numbers of sunspots, 1700 to 2008",
        "National Geophysical Data Center, by way of statsmodels",
        load_yearly,
    ),
    "co2": _statsmodels(
        "co2",
        "Weekly carbon dioxide in the air of Mauna Loa, 1958 to 2001, ppm; 59 weeks are missing",
        "Keeling and Whorf, Scripps Institution of Oceanography (2004), by way of statsmodels",
        load_co2,
    ),
    "elnino": _statsmodels(
        "elnino",
        "Monthly temperature of the Pacific (Nino 1+2), 1950 to 2010, degrees Celsius",
        "National Oceanic and Atmospheric Administration, by way of statsmodels",
        load_elnino,
    ),
    "nile": _statsmodels(
        "nile",
        "Yearly flow of the Nile at Aswan, 1871 to 1970, 1e8 cubic metres",
        "Cobb, The problem of the Nile, Biometrika 65 (1978), by way of statsmodels",
        load_yearly,
    ),
    "airline": _aeon(
        "airline",
        "Airline/Airline.csv",
        "Monthly passengers of airlines, 1949 to 1960, thousands",
        "Box and Jenkins, Time Series Analysis (1976), series G, by way of aeon 1.6.0",
        "historical facts in a BSD-3-Clause package",
        load_airline,
    ),
    "lynx": _aeon(
        "lynx",
        "Lynx/Lynx.csv",
        "Yearly trappings of lynx in Canada, 1821 to 1934",
        "Elton and Nicholson, The ten-year cycle in numbers of the lynx in Canada (1942), by way "
        "of aeon 1.6.0",
        "historical facts in a BSD-3-Clause package",
        load_yearly,
    ),
    "solar": _aeon(
        "solar",
        "solar/solar.csv",
        "Half-hourly solar generation of Great Britain, six days of May 2021, MW",
        "Sheffield Solar, PV_Live, by way of aeon 1.6.0",
        "in a BSD-3-Clause package, which does not restate the source's terms",
        load_solar,
    ),
}
