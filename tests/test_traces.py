"""Activity comes in as people have it, and what cannot be used is named."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import xarray as xr

from nissl.errors import InputError, UnknownNameError
from nissl.recordings import as_traces

X = np.random.default_rng(0).normal(size=(20, 3))


def test_numpy_torch_and_xarray_are_one() -> None:
    named = xr.DataArray(X.T, dims=("neuron", "time"), coords={"neuron": list("abc"), "time": np.arange(20) / 4})
    for given in (X, torch.tensor(X), named, named.to_dataset(name="activity")):
        traces = as_traces(given, rate=4.0)
        assert traces.dims == ("time", "unit")
        assert traces.dtype == np.float64
        np.testing.assert_array_equal(traces.values, X)
        np.testing.assert_allclose(traces.time, np.arange(20) / 4)
    assert as_traces(named).unit.values.tolist() == ["a", "b", "c"]


def test_leading_axes_are_added_and_ragged_trials_padded() -> None:
    assert as_traces(X, ("trial", "time", "unit")).shape == (1, 20, 3)
    ragged = as_traces([X, X[:5]], ("trial", "time", "unit"))
    assert ragged.shape == (2, 20, 3)
    assert np.isnan(ragged.values[1, 5:]).all()


def test_states_of_a_network_count_positions() -> None:
    states = xr.DataArray(np.random.default_rng(1).normal(size=(2, 9, 4)), dims=("sample", "position", "unit"))
    traces = as_traces(states, ("trial", "time", "unit"))
    assert traces.sizes["time"] == 9
    assert traces.attrs["time_unit"] == "token"


@pytest.mark.parametrize(
    ("given", "keywords", "message"),
    [
        (np.zeros((2, 2, 2, 2)), {}, "shape"),
        (X[:, 0], {"dims": ("trial", "time", "unit")}, r"for one unit give x\[:, None\]"),
        (X[:, :1], {"min_units": 2}, "1 unit"),
        (X[:1], {}, "1 sample"),
        (np.where(np.eye(20, 3) > 0, np.inf, X), {}, "infinite activity in '0', '1', '2'"),
        (np.where(np.arange(3) == 1, np.nan, X), {}, "without a single sample: '1'"),
        (np.where(np.arange(3) == 1, 2.0, X), {}, "never change: '1'"),
        (np.where(np.eye(20, 3) > 0, np.nan, X), {"missing": "raise"}, "missing samples"),
        (X, {"rate": -1.0}, "rate of -1"),
        (X.astype(complex), {}, "real numbers"),
        (xr.DataArray(X, dims=("time", "unit"), coords={"unit": ["a", "a", "b"]}), {}, "given twice: 'a'"),
        (xr.DataArray(X, dims=("time", "unit"), coords={"time": np.r_[np.arange(19), 3]}), {}, "do not increase"),
        (xr.DataArray(X, dims=("time", "unit"), coords={"time": np.arange(20)}), {"rate": 50.0}, "own clock"),
        (xr.DataArray(X, dims=("row", "column")), {}, "axes"),
        (xr.Dataset({"spike_time": ("spike", [1.0])}), {}, "bin_spikes"),
        ([X, X[:, :2]], {"dims": ("trial", "time", "unit")}, "same units"),
    ],
)
def test_what_cannot_be_used_is_named(given: object, keywords: dict, message: str) -> None:
    with pytest.raises(InputError, match=message):
        as_traces(given, **keywords)


def test_unknown_variable_names_the_nearest() -> None:
    with pytest.raises(UnknownNameError, match="activity"):
        as_traces(xr.Dataset({"activity": (("time", "unit"), X)}), variable="activty")


def test_labelled_trials_are_matched_by_name() -> None:
    first = xr.DataArray(X, dims=("time", "unit"), coords={"unit": list("abc")})
    other = first[:15].isel(unit=[2, 0, 1]).transpose("unit", "time")
    found = as_traces([first, other], ("trial", "time", "unit"))
    assert found["unit"].values.tolist() == list("abc")
    np.testing.assert_array_equal(found.values[1, :15], X[:15])
    assert np.isnan(found.values[1, 15:]).all()
    with pytest.raises(InputError, match="trial 1 has the units"):
        as_traces([first, other.assign_coords(unit=list("abd"))], ("trial", "time", "unit"))


def test_activity_of_half_precision_networks() -> None:
    for kind in (torch.bfloat16, torch.float16):
        given = torch.tensor(X).to(kind)
        np.testing.assert_array_equal(as_traces(given).values, given.double().numpy())
