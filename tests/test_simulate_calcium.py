"""Calcium from spikes: the kernel, linearity, saturation, noise, bleaching, bad input."""

from __future__ import annotations

import numpy as np
import pytest
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st

from nissl.errors import InputError
from nissl.recordings.simulate.calcium import calcium


def test_one_spike_is_the_kernel_written_out():
    spikes = np.zeros((400, 2))
    spikes[20, 0], spikes[35, 1] = 1, 3
    out = calcium(spikes, rate=100.0, rise=0.04, decay=0.3, noise=0.0, amplitude=np.array([0.5, 2.0]))
    t = np.arange(400) / 100
    fine = np.linspace(0, 1, 100_001)
    peak = (np.exp(-fine / 0.3) - np.exp(-fine / 0.04)).max()

    def kernel(since):
        return np.where(since >= 0, np.exp(-since / 0.3) - np.exp(-since / 0.04), 0) / peak

    np.testing.assert_allclose(out.activity[:, 0], 0.5 * kernel(t - 0.2), atol=1e-8)
    np.testing.assert_allclose(out.activity[:, 1], 6.0 * kernel(t - 0.35), atol=1e-7)
    assert out.attrs["rate"] == pytest.approx(100)
    assert out.activity.attrs["quantity"] == "dF/F"


def test_train_is_the_convolution():
    spikes = np.random.default_rng(0).poisson(0.1, (300, 3)).astype(float)
    out = calcium(spikes, rate=50.0, rise=0.0, decay=0.4, noise=0.0)
    kernel = np.exp(-np.arange(300) / 20)
    direct = np.stack([np.convolve(s, kernel)[:300] for s in spikes.T], 1)
    np.testing.assert_allclose(out.truth, direct, atol=1e-10)


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 1000), rise=st.floats(0.0, 0.2), decay=st.floats(0.25, 2.0))
def test_transients_add_and_never_come_before_their_spikes(seed, rise, decay):
    a, b = np.random.default_rng(seed).poisson(0.05, (2, 120, 2)).astype(float)
    a[:15] = 0
    out = [calcium(x, rate=30.0, rise=rise, decay=decay, noise=0.0).truth.to_numpy() for x in (a, b, a + b)]
    np.testing.assert_allclose(out[0] + out[1], out[2], atol=1e-9)
    assert (out[0][:15] == 0).all()
    assert (out[0] >= -1e-12).all()


def test_saturation_is_a_ceiling_and_monotone():
    spikes = np.full((500, 1), 5.0)
    free = calcium(spikes, rate=50.0, noise=0.0).truth
    capped = calcium(spikes, rate=50.0, noise=0.0, saturation=3.0).truth
    np.testing.assert_allclose(capped, free / (1 + free / 3))
    assert float(capped.max()) < 3
    assert (np.diff(capped[:, 0]) >= -1e-12).all()


def test_bleaching_fades_rest_and_response_alike():
    spikes = np.zeros((1000, 1))
    out = calcium(spikes, rate=10.0, noise=0.0, bleaching=40.0)
    np.testing.assert_allclose(1 + out.activity[:, 0], np.exp(-np.arange(1000) / 10 / 40), atol=1e-12)
    spikes[500] = 4
    seen = calcium(spikes, rate=10.0, noise=0.0, bleaching=40.0)
    np.testing.assert_allclose(
        (1 + seen.activity) / (1 + seen.truth), np.exp(-seen.time / 40).to_numpy()[:, None], atol=1e-12
    )
    assert float(seen.truth[:500].max()) == 0


def test_noise_has_its_size_and_its_seed():
    spikes = np.zeros((4000, 5))
    a, b, c = (calcium(spikes, rate=20.0, noise=0.3, seed=s).activity for s in (1, 1, 2))
    assert np.array_equal(a, b)
    assert not np.array_equal(a, c)
    assert float(a.std()) == pytest.approx(0.3, rel=0.02)


def test_clock_and_names_stay():
    time = 5 + np.arange(50) / 25
    spikes = xr.DataArray(
        np.ones((50, 2)), dims=("time", "unit"), coords={"time": time, "unit": ["AVA", "AVB"]}, name="spikes"
    )
    out = calcium(spikes.to_dataset())
    np.testing.assert_array_equal(out.activity.time, time)
    assert out.activity.unit.to_numpy().tolist() == ["AVA", "AVB"]


def test_spike_times_are_binned():
    spikes = xr.Dataset(
        {"spike_time": ("spike", [0.105, 0.305, 0.305]), "spike_unit": ("spike", [0, 1, 1])},
        coords={"unit": ["a", "b"]},
    )
    out = calcium(spikes, rate=100.0, noise=0.0)
    assert float(out.spikes.sum()) == 3
    assert float(out.spikes.sel(unit="b").sum()) == 2
    with pytest.raises(InputError, match="rate"):
        calcium(spikes)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"rise": 0.6}, "quicker than the decay"),
        ({"decay": 0.01, "rise": 0.0}, "within one frame"),
        ({"noise": -1}, "at least 0"),
        ({"saturation": 0.0}, "positive"),
        ({"bleaching": -5.0}, "positive"),
        ({"amplitude": np.ones(3)}, "2 units"),
        ({"amplitude": -1.0}, "positive number"),
    ],
)
def test_bad_settings(change, message):
    with pytest.raises(InputError, match=message):
        calcium(np.ones((40, 2)), **{"rate": 20.0, **change})


def test_bad_spikes():
    gap = np.ones((40, 2))
    gap[5, 1] = np.nan
    with pytest.raises(InputError, match="missing at times"):
        calcium(gap, rate=10.0)
    with pytest.raises(InputError, match="negative"):
        calcium(-np.ones((40, 2)), rate=10.0)
    uneven = xr.DataArray(np.ones((4, 2)), dims=("time", "unit"), coords={"time": [0.0, 0.1, 0.2, 0.9], "unit": [0, 1]})
    with pytest.raises(InputError, match="apart"):
        calcium(uneven)
