"""Tokens of spikes: the identity, truncation, ties, windows with their past, and what is refused."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from nissl.errors import InputError
from nissl.populations import SpikeTokenizer
from nissl.populations.neuroformer.counts import spike_counts
from nissl.populations.neuroformer.windows import open_windows, split_windows

COUNTS = hnp.arrays(np.int64, st.tuples(st.sampled_from([5, 10, 15]), st.integers(1, 4)), elements=st.integers(0, 3))


@settings(max_examples=40, deadline=None)
@given(COUNTS, st.sampled_from(["unit", "shuffled"]))
def test_decode_undoes_encode(counts: np.ndarray, ties: str) -> None:
    tokenizer = SpikeTokenizer(counts.shape[1], ties=ties)
    tokens = tokenizer.encode(counts)
    np.testing.assert_array_equal(tokenizer.decode(tokens.ids, tokens.dts), counts)
    assert not tokens.truncated.any()
    events = tokens.ids < tokenizer.n_units
    times = np.where(events, tokens.dts, tokenizer.n_bins)
    assert (np.diff(times[:, 1:]) >= 0).all()  # monotone in time
    assert (tokens.ids[:, 0] == tokenizer.sos).all()
    assert ((tokens.ids == tokenizer.eos).sum(1) == 1).all()


def test_too_many_events_keep_the_latest_and_say_so() -> None:
    counts = np.zeros((10, 2), int)
    counts[:5, 0], counts[5, 1] = 1, 1
    with pytest.warns(UserWarning, match="50.0% of windows hold more than 3 events; 2 of 6"):
        tokens = SpikeTokenizer(2, max_events=3).encode(counts)
    assert tokens.truncated.tolist() == [True, False]
    assert tokens.dts[0, 1:4].tolist() == [2, 3, 4]


def test_shuffled_ties_have_no_preferred_order() -> None:
    counts = np.ones((4000, 2), int)
    ids = SpikeTokenizer(2, window=0.01, ties="shuffled").encode(counts).ids
    assert abs((ids[:, 1] == 0).mean() - 0.5) < 0.04
    assert (SpikeTokenizer(2, window=0.01).encode(counts).ids[:, 1] == 0).all()


def test_windows_hold_the_same_tokens_and_the_right_past() -> None:
    rng = np.random.default_rng(0)
    counts = rng.poisson(0.3, (60, 3))
    windows = _windows(counts)
    tokens = windows.tokenizer.encode(counts)
    batch = windows.batch(np.arange(windows.n))
    np.testing.assert_array_equal(batch.ids.numpy(), tokens.ids)
    np.testing.assert_array_equal(batch.dts.numpy(), tokens.dts)
    for w in range(3, windows.n):
        past = counts[w * 5 - 15 : w * 5]
        bins, units = np.nonzero(past)
        n = past[bins, units]
        real = batch.past_real[w].numpy()
        assert batch.past_ids[w].numpy()[real].tolist() == np.repeat(units, n).tolist()
        assert batch.past_dts[w].numpy()[real].tolist() == np.repeat(bins, n).tolist()
    assert windows.usable.tolist() == [False] * 3 + [True] * 9


def test_missing_bins_make_windows_unusable_and_nothing_else() -> None:
    counts = np.ones((100, 2))
    counts[50, 1] = np.nan
    windows = _windows(counts)
    assert np.flatnonzero(~windows.usable).tolist() == [0, 1, 2, 10, 11, 12, 13]


def test_blocks_are_held_out_with_a_gap() -> None:
    start = np.arange(2000) * 0.05
    label = split_windows(start, np.ones(2000, bool), test=0.2, blocks=10, gap=1.0, seed=3)
    train, test = start[label == "train"], start[label == "test"]
    assert len(test) == 400
    assert np.abs(train[:, None] - test).min() > 1.0
    assert (label == "gap").sum() <= 80
    with pytest.raises(InputError, match="no window left to train"):
        split_windows(start, np.ones(2000, bool), test=0.5, blocks=2, gap=100.0, seed=0)


def test_counts_from_everything_that_holds_spikes() -> None:
    spikes = xr.Dataset(
        {"spike_time": ("spike", [0.005, 0.012, 0.031, 0.049]), "spike_unit": ("spike", [0, 1, 0, 1])},
        {"unit": ["a", "b"]},
    )
    counts = spike_counts(spikes, 0.01)
    assert counts.values.sum() == 4
    assert counts["unit"].values.tolist() == ["a", "b"]
    with pytest.raises(InputError, match="outside the time"):
        spike_counts(spikes.assign_attrs(start=0.01, stop=0.05), 0.01)
    with pytest.raises(InputError, match="unit number 7"):
        spike_counts(spikes.assign(spike_unit=("spike", [0, 1, 7, 1])), 0.01)
    fine = np.tile([[0, 1], [1, 0]], (10, 1))
    coarse = spike_counts(xr.DataArray(fine, {"time": np.arange(20) * 0.005}, ("time", "unit")), 0.01)
    assert coarse.values.tolist() == [[1, 1]] * 10
    np.testing.assert_allclose(spike_counts(torch.tensor(fine), 0.01)["time"].values[:2], [0, 0.01])


@pytest.mark.parametrize(
    ("counts", "message"),
    [
        ([[1, -1]] * 4, "negative"),
        ([[1, 0.5]] * 4, "fractional"),
        ([[1, np.inf]] * 4, "infinite"),
        ([[1, 0]] * 4, "never fire: 1"),
    ],
)
def test_counts_that_are_none(counts: list, message: str) -> None:
    with pytest.raises(InputError, match=message):
        spike_counts(np.array(counts), 0.01)


def test_bins_that_do_not_fit() -> None:
    with pytest.raises(InputError, match="wider than the window"):
        SpikeTokenizer(2, window=0.05, bin_width=0.1)
    with pytest.raises(InputError, match="whole number of bins"):
        SpikeTokenizer(2, window=0.05, bin_width=0.02)
    wide = xr.DataArray(np.ones((20, 2)), {"time": np.arange(20) * 0.1}, ("time", "unit"))
    with pytest.raises(InputError, match="wide, the model"):
        spike_counts(wide, 0.01)
    uneven = xr.DataArray(np.ones((20, 2)), {"time": np.cumsum(np.tile([0.01, 0.0137], 10))}, ("time", "unit"))
    with pytest.raises(InputError, match="even grid"):
        spike_counts(uneven, 0.01)


def test_a_gap_in_time_is_missing_not_invented() -> None:
    time = np.r_[np.arange(10), np.arange(15, 25)] * 0.01
    counts = spike_counts(xr.DataArray(np.ones((20, 2)), {"time": time}, ("time", "unit")), 0.01)
    assert counts.sizes["time"] == 25
    assert np.isnan(counts.values[10:15]).all()
    assert np.nansum(counts.values) == 40


def test_tokens_that_are_none() -> None:
    tokenizer = SpikeTokenizer(2)
    with pytest.raises(InputError, match="one shape"):
        tokenizer.decode(np.zeros((1, 3), int), np.zeros((1, 2), int))
    with pytest.raises(InputError, match="no bin"):
        tokenizer.decode(np.array([[3, 0]]), np.array([[6, 5]]))
    with pytest.raises(InputError, match="2 units"):
        tokenizer.encode(np.zeros((10, 3), int))
    with pytest.raises(InputError, match="shorter than one window"):
        tokenizer.encode(np.zeros((3, 2), int))


def _windows(counts: np.ndarray):
    return open_windows(
        counts, bin_width=0.01, window=0.05, max_events=100, ties="unit", silent="keep", seed=0, past=0.15, max_past=200
    )
