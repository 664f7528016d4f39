"""Ridge regression reads what is there, on stretches it has not seen, and says p = chance where nothing is."""

from __future__ import annotations

import numpy as np
import pytest
import xarray as xr
from scipy.signal import lfilter
from scipy.stats import kstest

from nissl.errors import InputError
from nissl.populations import decode


def slow(seed: int, n: int, units: int, tau: float = 10.0) -> np.ndarray:
    a = np.exp(-1 / tau)
    x = lfilter([1], [1, -a], np.random.default_rng(seed).normal(size=(n + 200, units)), axis=0)[200:]
    return x / x.std(0)


def test_a_linear_read_out_is_found_and_an_unrelated_one_is_not() -> None:
    x = slow(0, 800, 6)
    noise = slow(1, 800, 2)
    both = np.stack([x @ np.arange(6.0) + noise[:, 0], noise[:, 1]], 1)
    found = decode(x, xr.DataArray(both, dims=("time", "variable"), coords={"variable": ["speed", "other"]})).set_index(
        "variable"
    )
    assert found.loc["speed", "correlation"] > 0.95
    assert found.loc["speed", "p"] == 0.01
    assert abs(found.loc["other", "correlation"]) < 0.3
    assert found.loc["speed", "r2"] > 0.9


def test_p_is_uniform_for_slow_signals_that_have_nothing_to_do_with_each_other() -> None:
    p = [
        float(decode(slow(i, 400, 5), slow(1000 + i, 400, 1)[:, 0], n_surrogates=39, seed=i)["p"].iloc[0])
        for i in range(80)
    ]
    assert kstest(p, "uniform").pvalue > 0.01
    assert np.mean(np.array(p) <= 0.05) <= 0.12


def test_the_recordings_own_behaviour_is_put_on_the_clock() -> None:
    x = slow(2, 600, 4)
    recording = xr.Dataset(
        {"activity": (("time", "unit"), x), "behaviour": (("behaviour_time", "variable"), np.repeat(x[:, :1], 2, 0))},
        {
            "time": np.arange(600) / 5,
            "unit": list("abcd"),
            "behaviour_time": np.arange(1200) / 10,
            "variable": ["speed"],
        },
    )
    found = decode(recording)
    assert found["variable"].tolist() == ["speed"]
    assert found["correlation"].iloc[0] > 0.9


def test_samples_with_something_missing_are_left_out() -> None:
    x = slow(3, 500, 3)
    y = x[:, 0] * 2.0
    x[100:150, 1], y[300:320] = np.nan, np.nan
    assert decode(x, y)["samples"].iloc[0] == 430


@pytest.mark.parametrize(
    ("behaviour", "keywords", "message"),
    [
        (None, {}, "holds no behaviour"),
        (np.zeros(10), {}, "shape"),
        (np.ones(200), {}, "never changes"),
        (np.arange(200.0), {"folds": 20}, "20 folds"),
        (np.arange(200.0), {"gap": 150.0}, "smaller gap"),
    ],
)
def test_bad_input(behaviour: np.ndarray | None, keywords: dict, message: str) -> None:
    with pytest.raises(InputError, match=message):
        decode(slow(4, 200, 3), behaviour, **keywords)
