"""Replay and sequences: exact Bayes and brute force first, then simulated truth, then bad input."""

from __future__ import annotations

from math import factorial

import numpy as np
import pandas as pd
import pytest
import torch
import xarray as xr
from scipy.stats import spearmanr
from sklearn.base import clone

from nissl.errors import InputError, UnknownNameError
from nissl.populations import ReplayDecoder, flexibility, rank_order, sequenceness
from nissl.populations.sequences.events import event_counts
from nissl.populations.sequences.trajectories import best_line, position_moments, shifted_moments, weighted_correlation
from nissl.recordings.simulate import place_cells, replay_events


@pytest.fixture(scope="module")
def run() -> xr.Dataset:
    return place_cells(seed=0)


@pytest.fixture(scope="module")
def decoder(run: xr.Dataset) -> ReplayDecoder:
    return ReplayDecoder().fit(run, run.position)


def brute_correlation(p: np.ndarray) -> float:
    """Over the cells of a posterior (bin, position), each weighted with its mass."""
    t, x = np.meshgrid(np.arange(p.shape[0]), np.arange(p.shape[1]), indexing="ij")
    cov = np.cov(np.stack([t.ravel(), x.ravel()]), aweights=p.ravel(), bias=True)
    return float(cov[0, 1] / np.sqrt(cov[0, 0] * cov[1, 1]))


def test_posterior_is_exact_bayes_and_sums_to_one(decoder: ReplayDecoder) -> None:
    counts = np.random.default_rng(0).poisson(0.5, (3, 6, 40)).astype(float)
    counts[1, 4:] = np.nan
    found = decoder.decode(counts)
    assert np.isnan(found[1, 4:]).all()
    np.testing.assert_allclose(found.sum("position").values[~np.isnan(counts[..., 0])], 1)
    rates = decoder.fields_.values * 0.02
    k = counts[0, 2].astype(int)
    product = np.ones(rates.shape[1])
    for i, n in enumerate(k):  # Poisson probabilities, one cell after another
        product *= rates[i] ** n * np.exp(-rates[i]) / factorial(n)
    np.testing.assert_allclose(found[0, 2], product / product.sum(), rtol=1e-9)


def test_units_of_labelled_counts_are_matched_by_name(decoder: ReplayDecoder) -> None:
    rng = np.random.default_rng(5)
    counts = xr.DataArray(rng.poisson(0.5, (3, 6, 40)), dims=("event", "bin", "unit"), coords={"unit": decoder.units_})
    expected = decoder.decode(counts.values)
    mixed = counts.isel(unit=rng.permutation(40)).transpose("unit", "bin", "event")
    np.testing.assert_array_equal(decoder.decode(mixed), expected)
    np.testing.assert_array_equal(decoder.decode(mixed.isel(event=1)), expected[1:2])
    with pytest.raises(InputError, match="without the units"):
        decoder.decode(counts.isel(unit=slice(1, None)))


def test_a_spike_at_an_edge_belongs_to_the_bin_that_begins_there() -> None:
    width, starts, names = 0.03, [0.3, 0.6, 1.3], np.arange(10)
    spikes = {k: np.array([start + width * k for start in starts]) for k in names}
    windows = pd.DataFrame({"start": starts, "stop": [start + 10 * width for start in starts]})
    counts, real = event_counts(windows, spikes, names, width)
    assert real.shape == (3, 10)
    assert real.all()
    np.testing.assert_array_equal(counts, np.eye(10)[None].repeat(3, 0))


def test_silence_is_evidence(decoder: ReplayDecoder) -> None:
    found = decoder.decode(np.zeros((1, 1, 40)))[0, 0]
    crowded = decoder.fields_.sum("unit")
    assert int(found.argmax("position")) == int(crowded.argmin("position"))


def test_fields_are_those_that_were_simulated(run: xr.Dataset, decoder: ReplayDecoder) -> None:
    truth = run.field.interp(position_bin=decoder.fields_.position.values).values
    inner = slice(3, -3)
    assert np.corrcoef(truth[:, inner].ravel(), decoder.fields_.values[:, inner].ravel())[0, 1] > 0.97
    assert float(decoder.occupancy_.sum()) == pytest.approx(float(run.time[-1]), rel=0.02)


def test_weighted_correlation_is_that_over_all_cells() -> None:
    rng = np.random.default_rng(0)
    p = rng.dirichlet(np.ones(15), (4, 7))
    real = np.ones((4, 7), bool)
    real[2, 5:] = False
    score, slope = weighted_correlation(*position_moments(p), real)
    assert score[0] == pytest.approx(brute_correlation(p[0]))
    assert score[2] == pytest.approx(brute_correlation(p[2, :5]))
    mean = p[2, :5] @ np.arange(15)
    assert slope[2] == pytest.approx(np.polyfit(np.arange(5), mean, 1)[0])


def test_shifted_moments_are_those_of_rolled_posteriors() -> None:
    p = np.random.default_rng(0).dirichlet(np.ones(9), 3)
    first, second = shifted_moments(p)
    for shift in range(9):
        expected = position_moments(np.roll(p, shift, axis=1))
        np.testing.assert_allclose(first[:, shift], expected[0])
        np.testing.assert_allclose(second[:, shift], expected[1])


def test_best_line_by_exhaustion() -> None:
    p = np.random.default_rng(0).dirichlet(np.ones(8), (2, 5))
    real = np.ones((2, 5), bool)
    real[1, 4:] = False
    score, _ = best_line(p, real, within=1, step=1)
    for event, count in ((0, 5), (1, 4)):
        lines = [[round(a + (z - a) * b / (count - 1)) for b in range(count)] for a in range(8) for z in range(8)]
        near = [np.mean([p[event, b, max(c - 1, 0) : c + 2].sum() for b, c in enumerate(line)]) for line in lines]
        assert score[event] == pytest.approx(max(near), abs=1e-9)


def test_replays_are_found_with_direction_and_speed(run: xr.Dataset, decoder: ReplayDecoder) -> None:
    events = replay_events(run, 80, order="mixed", seed=2)
    found = decoder.score(events, n_shuffles=200, current=0.0)
    assert (found.p < 0.05).mean() >= 0.95
    assert (np.sign(found.slope) == events.direction.values).all()
    true = (events.trajectory[:, -1] - events.trajectory[:, 0]).values / (11 * 0.02)
    assert np.median(np.abs(found.slope / true - 1)) < 0.1
    np.testing.assert_allclose(found.begin, events.trajectory[:, 0], atol=0.5)
    assert found.loc[found.begin > 0.5, "remote"].all()
    assert (found.q >= found.p - 1e-12).all()
    line = decoder.score(replay_events(run, 20, order="reverse", seed=3), n_shuffles=100, method="line")
    assert (line.p < 0.05).mean() >= 0.95
    assert (line.slope < 0).all()


def test_false_positives_keep_near_their_level(run: xr.Dataset, decoder: ReplayDecoder) -> None:
    events = replay_events(run, 150, order="shuffled", seed=4)
    assert (decoder.score(events, n_shuffles=200).p < 0.05).mean() < 0.13
    replay = replay_events(run, 150, order="forward", seed=4)
    assert 0 < decoder.false_positives(replay, repeats=2, n_shuffles=200) < 0.12
    strict = decoder.false_positives(replay, repeats=2, n_shuffles=200, shuffles=("identity", "position", "order"))
    assert strict <= decoder.false_positives(replay, repeats=2, n_shuffles=200)


def test_counts_windows_and_recordings_give_one_answer(run: xr.Dataset, decoder: ReplayDecoder) -> None:
    events = replay_events(run, 5, seed=5)
    whole = decoder.score(events, n_shuffles=50)
    table = pd.DataFrame({"start": events.event_start, "stop": events.event_stop})
    pd.testing.assert_frame_equal(decoder.score(table, events, n_shuffles=50), whole)
    counts = np.zeros((5, 12, 40))
    for e, start in enumerate(events.event_start.values):
        for unit, t in zip(events.spike_unit.values, events.spike_time.values, strict=True):
            if 0 <= (b := int(np.floor((t - start) / 0.02))) < 12:
                counts[e, b, unit] += 1
    pd.testing.assert_frame_equal(decoder.score(torch.from_numpy(counts), n_shuffles=50), whole)


def test_scores_do_not_depend_on_the_order_of_events_or_units(run: xr.Dataset, decoder: ReplayDecoder) -> None:
    events = replay_events(run, 6, seed=6)
    table = pd.DataFrame({"start": events.event_start, "stop": events.event_stop})
    back = decoder.score(table[::-1].reset_index(drop=True), events, n_shuffles=20)
    plain = decoder.score(table, events, n_shuffles=20)
    np.testing.assert_allclose(back.score[::-1], plain.score)
    renamed = {int(u): events.spike_time.values[events.spike_unit.values == u] for u in range(39, -1, -1)}
    np.testing.assert_allclose(decoder.score(table, renamed, n_shuffles=20).score, plain.score)


def test_held_out_laps(run: xr.Dataset) -> None:
    test = ReplayDecoder().validate(run, run.position, n_shuffles=99)
    assert test.effect < 0.1
    assert test.mean > 0.3
    assert test.p == pytest.approx(0.01)


def test_short_and_quiet_events_are_not_scored(run: xr.Dataset, decoder: ReplayDecoder) -> None:
    counts = np.full((3, 12, 40), np.nan)
    counts[0] = np.random.default_rng(0).poisson(0.3, (12, 40))
    counts[1, :3] = 1  # three bins
    counts[2] = 0
    counts[2, :, :2] = 1  # two cells
    found = decoder.score(counts, n_shuffles=20)
    assert found.reason.tolist() == ["", "fewer than 5 bins", "fewer than 5 active cells"]
    assert np.isnan(found.loc[1:, ["score", "p", "q", "slope"]]).all(axis=None)
    assert not np.isnan(found.p[0])


def test_decoder_follows_scikit_learn(decoder: ReplayDecoder) -> None:
    other = clone(decoder.set_params(min_active=5))
    assert other.get_params() == decoder.get_params()
    assert not hasattr(other, "fields_")


def test_bad_runs_and_events(run: xr.Dataset, decoder: ReplayDecoder) -> None:
    with pytest.raises(InputError, match="increase"):
        ReplayDecoder().fit(run, np.stack([np.zeros(20), np.arange(20.0)], 1))
    with pytest.raises(InputError, match="never change"):
        ReplayDecoder().fit(run, run.position * 0)
    with pytest.raises(InputError, match="compare the clocks"):
        ReplayDecoder().fit({"a": [1e6]}, run.position)
    with pytest.raises(InputError, match="bin_width 0"):
        ReplayDecoder(bin_width=0).fit(run, run.position)
    with pytest.warns(UserWarning, match="silent during the run: 'quiet'"):
        ReplayDecoder().fit({"a": run.spike_time.values, "quiet": []}, run.position)
    with pytest.raises(InputError, match="40 units"):
        decoder.score(np.zeros((2, 12, 3)))
    with pytest.raises(InputError, match="without the units"):
        decoder.score([[0.0, 1.0]], {"stranger": [0.5]})
    with pytest.raises(InputError, match="do not end after they start"):
        decoder.score([[1.0, 0.5]], run)
    with pytest.raises(InputError, match="start before the one before them ends"):
        decoder.score([[0.0, 1.0], [0.5, 2.0]], run)
    with pytest.raises(UnknownNameError, match="line"):
        decoder.score(np.zeros((1, 12, 40)), method="lines")  # type: ignore[arg-type]
    with pytest.raises(UnknownNameError, match="identity"):
        decoder.score(np.zeros((1, 12, 40)), shuffles=("id",))  # type: ignore[arg-type]
    with pytest.raises(InputError, match="negative"):
        decoder.score(-np.ones((1, 12, 40)))


def test_rank_order_is_spearmans_and_finds_recurring_orders() -> None:
    rng = np.random.default_rng(0)
    first = np.arange(12.0) + rng.normal(0, 2, (15, 12))
    first[rng.random(first.shape) < 0.3] = np.nan
    found = rank_order(first, n_permutations=99)
    both = ~np.isnan(first[0] + first[1])
    # Ranks are those among all active units of an event; over the shared ones they are monotone in Spearman's.
    a, b = (found.rank.values[k][both] for k in (0, 1))
    assert float(found.correlation[0, 1]) == pytest.approx(np.corrcoef(a, b)[0, 1])
    full = rank_order(np.arange(12.0) + rng.normal(0, 2, (2, 12)), n_permutations=19)
    assert found.test.p == pytest.approx(0.01)
    x = np.arange(6.0) + rng.normal(0, 2, (2, 6))
    assert rank_order(x, n_permutations=5).test.effect == pytest.approx(spearmanr(*x).statistic)
    assert full.test.effect > 0.5
    # The first unit fires before the last one in nearly all events: source 0, target 11.
    assert float(found.order.effect.sel(target=11, source=0)) == 1
    assert float(found.order.p.sel(target=11, source=0)) < 0.05


def test_random_orders_keep_their_level() -> None:
    rng = np.random.default_rng(0)
    p = [rank_order(rng.random((10, 8)), n_permutations=99, seed=k).test.p for k in range(60)]
    assert np.mean(np.array(p) < 0.05) < 0.15


def test_rank_order_reads_recordings(run: xr.Dataset) -> None:
    events = replay_events(run, 20, order="forward", seed=1)
    found = rank_order(events, n_permutations=99)
    assert found.test.effect > 0.5
    assert found.test.p == pytest.approx(0.01)
    centre = run.centre.values
    early, late = int(centre.argmin()), int(centre.argmax())
    assert float(found.order.effect.sel(target=late, source=early)) > 0.8
    with pytest.raises(InputError, match="two events"):
        rank_order(np.zeros((1, 10)))
    with pytest.raises(InputError, match="in common"):
        rank_order(np.array([[1, 2, 3, 4, np.nan, np.nan, np.nan, np.nan], [np.nan] * 4 + [1, 2, 3, 4]]))


def test_sequenceness_finds_lag_and_direction() -> None:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(2000, 7))
    for start in range(0, 1960, 40):
        for k in range(7):
            x[start + 4 * k, k] += 3
    chain = np.eye(7, k=-1)
    found = sequenceness(x, chain, max_lag=0.12, rate=100, n_permutations=199)
    assert float(found.effect.idxmax()) == pytest.approx(0.04)
    assert float(found.p.sel(lag=0.04, method="nearest")) < 0.02
    back = sequenceness(x, chain.T, max_lag=0.12, rate=100, n_permutations=199)
    np.testing.assert_allclose(back.effect, -found.effect)
    z = (x - x.mean(0)) / x.std(0)
    by_hand = np.mean([z[4:, k + 1] @ z[:-4, k] / 1996 for k in range(6)])
    assert float(found.forward.sel(lag=0.04, method="nearest")) == pytest.approx(by_hand)
    free = [
        float(sequenceness(rng.normal(size=(300, 7)), chain, max_lag=10, n_permutations=39, seed=k).p.min())
        for k in range(40)
    ]
    assert np.mean(np.array(free) < 0.05) < 0.2
    with pytest.raises(InputError, match="no direction"):
        sequenceness(x, chain + chain.T, max_lag=5)
    with pytest.raises(InputError, match="lags up to"):
        sequenceness(x, chain, max_lag=5000)


def test_flexibility_counts_and_measures() -> None:
    rng = np.random.default_rng(0)
    same = flexibility([[0, 1, 2, 3, 4]] * 20)
    assert (same.distinct, same.entropy, same.repeats) == (1, 0.0, 0.95)
    assert same.transition_entropy.effect == 0
    assert same.transition_entropy.p < 0.01
    free = flexibility([rng.permutation(5).tolist() for _ in range(60)])
    assert free.distinct > 40
    assert free.transition_entropy.p > 0.01
    assert flexibility([["a", "b"], ["b", "a"]]).entropy == 1
    with pytest.raises(InputError, match="fewer than two items"):
        flexibility([[1], [1, 2]])
