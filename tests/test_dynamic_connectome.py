"""Affinities against brute force and their invariances; motifs recovered from simulated animals; bad recordings."""

from __future__ import annotations

import networkx as nx
import numpy as np
import pandas as pd
import pytest
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.base import clone

from nissl.errors import InputError, UnknownNameError
from nissl.populations import DynamicConnectome, differential_affinity, run_lengths, sliding_correlation
from nissl.populations.motifs.slopes import slopes
from nissl.recordings import Collection, as_traces, simulate
from nissl.statistics import match

RAW = {"smooth": 0.0, "scale": "none", "threshold": 1e-3, "ceiling": None}


def traces(x, rate=1.0):
    x = np.asarray(x, dtype=float)
    dims = ("time", "unit") if x.ndim == 2 else ("animal", "time", "unit")
    return xr.DataArray(x, dims=dims, coords={"time": np.arange(x.shape[-2]) / rate})


def brute_force(d, eps, combine, same):
    """Affinity of two slopes, run by run."""
    s = np.sign(d) * (np.abs(d) > eps)
    out, start = np.zeros(len(d)), 0
    for t in range(1, len(d) + 1):
        if t == len(d) or (s[t] != s[start]).any():
            a, b = np.abs(d[start:t]).mean(0)
            value = {"min": min(a, b), "geometric": np.sqrt(a * b), "product": a * b}[combine]
            still = (s[start] == 0).any() or (same and s[start, 0] != s[start, 1])
            out[start:t] = 0 if still else value
            start = t
    return out


@settings(max_examples=30, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    combine=st.sampled_from(["min", "geometric", "product"]),
    sign=st.sampled_from(["any", "same"]),
)
def test_affinity_is_what_its_runs_say(seed, combine, sign):
    rng = np.random.default_rng(seed)
    x = traces(np.round(rng.normal(size=(40, 3)).cumsum(0), 1), rate=4.0)
    found = differential_affinity(x, combine=combine, sign=sign, **RAW)
    d = np.gradient(x.values, x["time"].values, axis=0)
    for p, (i, j) in enumerate([(0, 1), (0, 2), (1, 2)]):
        assert np.allclose(found.values[:, p], brute_force(d[:, [i, j]], 1e-3, combine, sign == "same"), atol=1e-6)


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 10**6))
def test_invariances_of_affinity(seed):
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(60, 4)).cumsum(0)
    a = differential_affinity(traces(x, 4.0), ceiling=None)
    # Order of the two, time reversal, turning one trace round, gain and offset.
    turned = differential_affinity(traces(x[:, ::-1], 4.0), ceiling=None).values[:, ::-1]
    assert np.allclose(a, turned[:, [0, 1, 3, 2, 4, 5]], atol=1e-6)
    assert np.allclose(a, differential_affinity(traces(x[::-1], 4.0), ceiling=None).values[::-1], atol=1e-6)
    flipped = x * np.array([1, -1, 1, 1])
    assert np.allclose(a, differential_affinity(traces(flipped, 4.0), ceiling=None), atol=1e-6)
    assert np.allclose(a, differential_affinity(traces(3 * x + 5, 4.0), ceiling=None), atol=1e-6)
    assert not np.allclose(
        differential_affinity(traces(x, 4.0), sign="same"), differential_affinity(traces(flipped, 4.0), sign="same")
    )


def test_a_still_trace_has_no_affinity_and_a_twin_has_its_own_slope():
    t = np.arange(80) / 4
    x = traces(np.stack([np.sin(t), np.sin(t), np.full(80, 3.0)], 1), 4.0)
    a = differential_affinity(x, **RAW).values
    assert (a[:, 1:] == 0).all()
    d = np.gradient(np.sin(t), t)
    assert np.allclose(a[:, 0], brute_force(np.stack([d, d], 1), 1e-3, "min", True), atol=1e-6)


def test_ceiling_is_a_quantile_of_the_positive_values():
    x = traces(np.random.default_rng(0).normal(size=(200, 5)).cumsum(0), 4.0)
    plain, cut = differential_affinity(x, ceiling=None).values, differential_affinity(x).values
    top = np.quantile(plain[plain > 0], 0.99)
    assert np.allclose(cut, np.minimum(plain / top, 1), atol=1e-5)
    assert cut.dtype == np.float32


def test_blocks_of_pairs_do_not_matter(monkeypatch):
    import nissl.populations.motifs.affinity as room

    x = traces(np.random.default_rng(0).normal(size=(2, 50, 9)).cumsum(1), 4.0)
    whole, windows = differential_affinity(x), sliding_correlation(x, window=3.0)
    monkeypatch.setattr(room, "BLOCK", 120)
    assert np.array_equal(whole, differential_affinity(x))
    assert np.array_equal(windows, sliding_correlation(x, window=3.0))


def test_what_is_missing_stays_missing():
    x = np.random.default_rng(0).normal(size=(2, 60, 4)).cumsum(1)
    x[0, :, 2] = np.nan
    x[1, 20:30, 0] = np.nan
    for a in (differential_affinity(traces(x, 4.0)), sliding_correlation(traces(x, 4.0), window=1.0)):
        first, second = np.triu_indices(4, 1)
        with_two, with_zero = (first == 2) | (second == 2), (first == 0) | (second == 0)
        assert np.isnan(a.values[:, 0, with_two]).all()
        assert np.isfinite(a.values[:, 0, ~with_two]).all()
        assert np.isnan(a.values[20:30, 1][:, with_zero]).all()
        assert np.isfinite(a.values[:, 1, ~with_zero]).all()
        assert np.isfinite(a.values[:15, 1]).all()


def test_slopes_beside_gaps_are_one_sided():
    x = np.arange(10.0)[:, None] ** 2
    x[5] = np.nan
    d = slopes(as_traces(x, ("animal", "time", "unit")), smooth=0, scale="none").values[0, :, 0]
    assert np.allclose(d[[0, 1, 4, 6, 9]], [1, 2, 7, 13, 17])
    assert np.isnan(d[5])


def test_sliding_correlation_is_pandas():
    x = np.random.default_rng(0).normal(size=(60, 3))
    a = sliding_correlation(traces(x), window=11.0, sign="same").values
    frame = pd.DataFrame(x)
    expected = frame[0].rolling(11, center=True).corr(frame[1]).clip(lower=0)
    assert np.allclose(a[5:-5, 0], expected[5:-5], atol=1e-5)


def test_smoothing_lengthens_runs():
    noise = np.random.default_rng(0).normal(size=(400, 3))
    rough, smooth = (run_lengths(noise, rate=4.0, smooth=s, threshold=0.0) for s in (0.0, 1.0))
    assert np.median(rough) <= 0.5 < np.median(smooth)
    assert smooth.sum() == pytest.approx(3 * 400 / 4)


def test_noise_stands_still():
    """A noisy sensor without a signal moves little; a clean signal moves nearly always."""
    rng = np.random.default_rng(0)
    t = np.arange(480) / 4
    x = np.stack([rng.normal(size=480), rng.normal(size=480), np.sin(t / 3), np.cos(t / 5)], 1)
    moving = differential_affinity(traces(x, 4.0)).values > 0
    assert moving[:, 0].mean() < 0.05
    assert moving[:, 5].mean() > 0.9
    assert (differential_affinity(traces(x, 4.0), threshold=1e-3).values[:, 0] > 0).mean() > 0.9


@pytest.fixture(scope="module")
def worms():
    return simulate.motifs(seed=0, presentations=2)


@pytest.fixture(scope="module")
def fit(worms):
    return DynamicConnectome(progress=False).fit(worms)


def order(fit, worms):
    """The component of each motif."""
    weights = np.abs(worms["motif_unit"].values)
    truth = weights[:, :, None] * weights[:, None] * ~np.eye(weights.shape[1], dtype=bool)
    a, b = (
        m.reshape(len(m), -1) / np.linalg.norm(m.reshape(len(m), -1), axis=1, keepdims=True)
        for m in (truth, fit.affinity_factors_.values)
    )
    return match(a @ b.T)


def test_motifs_are_recovered(fit, worms):
    assert fit.weights_.shape == (3,)
    assert fit.rank_curve_["chosen"].idxmax() == 3
    found = order(fit, worms)
    assert found.scores.min() > 0.9
    for motif, component in enumerate(found.columns):
        course, loading = fit.time_factors_.values[:, component], fit.animal_factors_.values[:, component]
        assert course[worms["motif_time"].values[motif] > 0].sum() / course.sum() > 0.6
        present = worms["motif_animal"].values[motif] > 0
        assert loading[present].min() > loading[~present].max()
        assert fit.atlas()["label"][component] == worms["motif_stimulus"].values[motif]
        members = {str(u) for u in worms["unit"].values[worms["motif_unit"].values[motif] != 0]}
        assert len(members & set(fit.atlas()["core"][component])) >= 0.8 * len(members)


def test_scales_are_said_and_kept(fit):
    model = np.einsum("tc,ac,cij->taij", fit.time_factors_, fit.animal_factors_, fit.affinity_factors_)
    i, j = np.triu_indices(model.shape[-1], 1)
    x = fit.affinity_.values
    assert 1 - ((x - model[..., i, j]) ** 2).sum() / (x**2).sum() == pytest.approx(fit.explained_variance_, abs=1e-4)
    assert np.allclose(fit.time_factors_.max("time"), 1)
    assert np.allclose(fit.animal_factors_.max("animal"), 1)
    assert (np.diff(fit.weights_) <= 0).all()
    assert fit.weights_.sum() == pytest.approx(1)
    pattern = fit.affinity_factors_.values
    assert np.array_equal(pattern, pattern.swapaxes(1, 2))
    assert fit.affinity_factors_.dims == ("component", "target", "source")


def test_tables_agree_with_the_pattern(fit):
    pattern = fit.affinity_factors_.values[0]
    top = fit.pairs(0, 1).iloc[0]
    assert top["affinity"] == pattern.max()
    table = fit.community_table(0)
    names = list(fit.traces_["unit"].values)
    core = [names.index(u) for u in table["units"][0]]
    block = pattern[np.ix_(core, core)]
    assert table["affinity"][0] == pytest.approx(block[np.triu_indices(len(core), 1)].mean())
    ranked = fit.candidates(0, table["units"][0][0])
    assert set(ranked.index) == set(table["units"][0][1:])
    assert (np.diff(ranked) <= 0).all()
    assert ranked.iloc[0] == pytest.approx(pattern[names.index(ranked.index[0]), core].sum())


def test_graph_and_reversion(fit):
    graph = fit.graph(0)
    assert isinstance(graph, nx.Graph)
    assert graph.number_of_nodes() == 24
    weights = [w for _, _, w in graph.edges(data="weight")]
    assert min(weights) >= 0.01 * max(weights)
    reverted = fit.reversion(0)
    assert set(reverted["unit"].values) == set(fit.community_table(0)["units"][0])
    course = fit.time_factors_.sel(component=0)
    assert (course.sel(time=reverted["time"]) >= 0.5).all()
    assert np.array_equal(reverted, fit.traces_.sel(time=reverted["time"], unit=reverted["unit"]))


def test_levels_end_in_one_community(fit):
    assert (fit.communities_.values[:, -1] == 0).all()
    assert fit.communities_.dims == ("component", "level", "unit")


def test_the_picture_has_a_row_a_component(fit):
    import matplotlib.pyplot as plt

    figure = fit.plot()
    assert len([ax for ax in figure.axes if ax.get_ylabel().startswith("component")]) == 3
    plt.close(figure)


def test_units_missing_in_animals_are_left_out_not_zero():
    worms = simulate.motifs(seed=3, missing=0.2)
    fit = DynamicConnectome(n_factors=3, n_restarts=4, communities="leiden", progress=False).fit(worms)
    assert order(fit, worms).scores.min() > 0.85
    zeros = worms.assign(activity=worms["activity"].fillna(0.0))
    other = DynamicConnectome(n_factors=3, n_restarts=4, communities="leiden", constant="keep", progress=False).fit(
        zeros
    )
    assert order(fit, worms).scores.mean() > order(other, worms).scores.mean()


def test_stretches_without_data_and_pairs_never_seen():
    worms = simulate.motifs(seed=1, duration=60.0)
    x = worms["activity"].values.copy()
    x[:, 100:120] = np.nan  # nobody was recorded
    x[2, 30:70, 5] = np.nan
    x[:4, :, 0], x[4:, :, 1] = np.nan, np.nan  # n00 and n01 never together
    fit = DynamicConnectome(n_factors=3, n_restarts=2, max_sweeps=60, progress=False).fit(
        worms.assign(activity=(("animal", "time", "unit"), x))
    )
    assert np.isnan(fit.time_factors_.values[100:120]).all()
    assert np.isfinite(fit.time_factors_.values[:100]).all()
    pattern = fit.affinity_factors_.values
    assert np.isnan(pattern[:, 0, 1]).all()
    assert np.isnan(pattern).sum() == 2 * 3
    assert len(fit.atlas()) == 3


def test_collections_arrays_and_one_animal():
    worms = simulate.motifs(n_animals=3, absent=0, duration=60.0, seed=2)
    options = {"n_factors": 3, "n_restarts": 2, "communities": "leiden", "progress": False}
    one = DynamicConnectome(**options).fit(worms)
    stimuli = ["stimulus_start", "stimulus_stop", "stimulus_label"]
    each = {a: worms[["activity", *stimuli]].sel(animal=a, drop=True) for a in worms["animal"].values}
    collected = DynamicConnectome(**options).fit(Collection(each))
    assert np.allclose(one.affinity_factors_, collected.affinity_factors_)
    assert list(collected.atlas()["label"]) == list(one.atlas()["label"])
    array = DynamicConnectome(**options).fit(worms["activity"].values, rate=4.0)
    assert np.allclose(one.time_factors_, array.time_factors_)
    assert set(array.atlas()["label"]) == {"spontaneous"}
    single = DynamicConnectome(**options).fit(worms["activity"].values[0], rate=4.0)
    assert single.animal_factors_.shape == (1, 3)


def test_ragged_animals():
    worms = simulate.motifs(n_animals=3, absent=0, duration=60.0, seed=2)
    each = {a: worms[["activity"]].sel(animal=a, drop=True) for a in worms["animal"].values}
    each["animal 2"] = each["animal 2"].isel(time=slice(0, 150), unit=slice(0, 20))
    fit = DynamicConnectome(n_factors=2, n_restarts=2, communities="leiden", progress=False).fit(Collection(each))
    assert fit.traces_.shape == (3, 240, 24)
    assert np.isfinite(fit.animal_factors_).all()


def test_hub_is_the_first_candidate():
    intact = simulate.hub_circuit(seed=3)
    fit = DynamicConnectome(n_factors=3, n_restarts=4, progress=False).fit(intact)
    component = fit.components_of("stimulus 1")[0]
    assert fit.candidates(component, str(intact["sensory"].values[1])).index[0] == str(intact["hub"].values[1])


def test_silencing_changes_nothing_else():
    intact, silenced = (simulate.hub_circuit(duration=60.0, silence=s) for s in ((), "n03"))
    group = intact["group"].values
    others = (group != group[3]) if group[3] >= 0 else np.arange(30) != 3
    assert np.allclose(intact["activity"].values[..., others], silenced["activity"].values[..., others])
    assert np.abs(silenced["activity"].values[..., 3]).max() < 0.4


def test_scikit_learn_manners(worms):
    model = DynamicConnectome(n_factors=2, sign="same", n_restarts=1, communities="leiden", progress=False)
    assert clone(model).get_params() == model.get_params()
    a, b = model.fit(worms).affinity_factors_, clone(model).fit(worms).affinity_factors_
    assert a.identical(b)
    assert model.fit(worms) is model


# Bad recordings


def bad(change):
    worms = simulate.motifs(n_animals=3, absent=0, duration=60.0)
    x = worms["activity"].values.copy()
    change(x)
    return worms.assign(activity=(("animal", "time", "unit"), x))


def test_an_animal_with_one_neuron_is_named():
    def change(x):
        x[1, :, 1:] = np.nan

    with pytest.raises(InputError, match="fewer than two recorded neurons in animals 'animal 1'"):
        DynamicConnectome(n_factors=2).fit(bad(change))


def test_constant_traces_are_named_or_kept():
    def change(x):
        x[2, :, 4] = 1.5

    with pytest.raises(InputError, match="never change: 'n04 of animal 2'"):
        DynamicConnectome(n_factors=2).fit(bad(change))
    kept = DynamicConnectome(n_factors=2, n_restarts=1, constant="keep", communities="leiden", progress=False).fit(
        bad(change)
    )
    first, second = np.triu_indices(24, 1)
    assert (kept.affinity_.values[:, 2, (first == 4) | (second == 4)] == 0).all()


def test_animals_without_a_common_moment_are_named():
    def change(x):
        x[0, :120, ::2] = np.nan
        x[0, 120:, 1::2] = np.nan
        x[0, :, 4:] = np.nan
        x[0, :, 2:4] = np.nan

    with pytest.raises(InputError, match="no pair of neurons was recorded at the same time in animals 'animal 0'"):
        DynamicConnectome(n_factors=2).fit(bad(change))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"smooth": 30.0}, "shorter than the smoothing"),
        ({"smooth": -1.0}, "at least 0"),
        ({"n_factors": 0}, "whole number"),
        ({"n_factors": 10**6}, "allow at most"),
        ({"combine": "max"}, "allowed: 'min'"),
        ({"sign": "both"}, "allowed: 'any'"),
        ({"scale": "zscore"}, "allowed: 'minmax'"),
        ({"threshold": "auto"}, "'noise'"),
        ({"affinity": "covariance"}, "allowed: 'differential'"),
        ({"affinity": "correlation", "window": 1e3}, "window"),
        ({"communities": "louvain"}, "allowed: 'block-model'"),
        ({"edge_fraction": 1.0}, "edge_fraction"),
        ({"n_factors": None, "n_restarts": 1}, "stability compares"),
    ],
)
def test_options_are_checked(options, message):
    with pytest.raises(InputError, match=message):
        DynamicConnectome(**{"n_factors": 2, "progress": False, **options}).fit(bad(lambda x: None))


def test_unknown_names_have_neighbours(fit):
    with pytest.raises(UnknownNameError, match="nearest: 'stimulus 1'"):
        fit.components_of("stimulus1")
    with pytest.raises(UnknownNameError, match="unknown unit 'n2'"):
        fit.candidates(0, "n2")
    with pytest.raises(UnknownNameError, match="component 7"):
        fit.pairs(7)
    with pytest.raises(UnknownNameError, match="level 9"):
        fit.community_table(0, level=9)
    with pytest.raises(UnknownNameError, match="community"):
        fit.reversion(0, community=99)


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ({"start": [5.0], "stop": [4.0], "label": ["salt"]}, "do not end after they begin: 'salt'"),
        ({"start": [5000.0], "stop": [6000.0], "label": ["salt"]}, "outside the recording"),
        ({"start": [5.0], "stop": [6.0]}, "lacks label"),
    ],
)
def test_stimuli_are_checked(table, message):
    with pytest.raises(InputError, match=message):
        DynamicConnectome(n_factors=2).fit(
            np.random.default_rng(0).normal(size=(100, 4)), rate=4.0, stimuli=pd.DataFrame(table)
        )


def test_uneven_clocks_are_refused():
    time = np.r_[np.arange(50), 60 + np.arange(50)] / 4
    x = xr.DataArray(np.random.default_rng(0).normal(size=(100, 4)), dims=("time", "unit"), coords={"time": time})
    with pytest.raises(InputError, match="homogenise"):
        differential_affinity(x)


@pytest.mark.parametrize(
    "options",
    [
        {"sizes": (1, 3)},
        {"sizes": (30,)},
        {"absent": 8},
        {"duration": 0.1},
        {"event_rate": 9.0},
        {"inverted": 2.0},
        {"noise": -1.0},
        {"n_animals": 0},
    ],
)
def test_simulators_check_what_they_are_asked(options):
    with pytest.raises(InputError):
        simulate.motifs(**options)


def test_the_simulator_keeps_its_promises():
    worms = simulate.motifs(seed=5, noise=0.0, private_rate=0.0, inverted=0.5)
    assert worms.identical(simulate.motifs(seed=5, noise=0.0, private_rate=0.0, inverted=0.5))
    x, weights = worms["activity"].values, worms["motif_unit"].values
    before = worms["time"].values < worms["stimulus_start"].values.min()
    assert np.abs(x[:, before]).max() < 1e-9
    for m in range(3):
        assert (weights[m] != 0).sum() == (12, 9, 6)[m]
        assert (weights[m] < 0).sum() == round(0.5 * (12, 9, 6)[m])
        absent = worms["motif_animal"].values[m] == 0
        only = (weights[m] != 0) & (np.delete(weights, m, 0) == 0).all(0)
        assert absent.sum() == 2
        assert np.abs(x[absent][:, :, only]).max() < 1e-9
    with pytest.raises(UnknownNameError, match="unknown unit 'n3'; nearest"):
        simulate.hub_circuit(silence="n3")
