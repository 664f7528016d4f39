"""Structure beside function: statistics against trusted ones, what each null catches, every form of input."""

from __future__ import annotations

import numpy as np
import pytest
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import spearmanr
from sklearn.metrics import roc_auc_score

from nissl.errors import InputError, UnknownNameError
from nissl.populations import functional_connectivity, structure_function
from nissl.recordings import Connectome
from nissl.recordings.simulate.worms import worm_animals, worm_circuit

NAMES = [f"N{i}" for i in range(30)]
OFF = ~np.eye(30, dtype=bool)


def labelled(m: np.ndarray, names=NAMES) -> xr.DataArray:
    return xr.DataArray(m, dims=("target", "source"), coords={"target": list(names), "source": list(names)})


def example(seed: int = 0, noise: float = 1.0) -> tuple[Connectome, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    w = (rng.random((30, 30)) < 0.15) * rng.integers(1, 9, (30, 30)).astype(float)
    np.fill_diagonal(w, 0)
    return Connectome(NAMES, chemical=w), w, w / 4 + noise * rng.random((30, 30))


@given(st.integers(0, 1000), st.booleans(), st.floats(0.0, 0.4))
@settings(max_examples=15, deadline=None)
def test_statistics_against_trusted_ones(seed: int, ties: bool, missing: float) -> None:
    c, w, f = example(seed)
    if ties:
        f = np.round(2 * f)
    rng = np.random.default_rng(seed + 5000)
    f = np.where(rng.random(f.shape) < missing, np.nan, f)
    found = structure_function(c, labelled(f), n=2, resamples=2, top=0.2).table["value"]
    known = OFF & ~np.isnan(f)
    x, y = w[known], np.abs(f[known])
    strong = y > np.quantile(y, 0.8)
    assert found[("", "chemical", "auc")] == pytest.approx(roc_auc_score(x != 0, y))
    assert found[("", "chemical", "rank_correlation")] == pytest.approx(spearmanr(x, y)[0])
    assert found[("", "chemical", "enrichment")] == pytest.approx(
        strong[x != 0].mean() / max(strong[x == 0].mean(), 0.5 / (x == 0).sum())
    )


def test_signed_weights_keep_their_ranks() -> None:
    circuit = worm_circuit(NAMES, inputs=5)
    f = np.random.default_rng(0).random((30, 30))
    found = structure_function(circuit, labelled(f), n=2, resamples=2).table["value"]
    assert found[("", "chemical", "rank_correlation")] == pytest.approx(
        spearmanr(circuit.chemical.values[OFF], f[OFF])[0]
    )


def test_permuted_names_against_doing_it_by_hand() -> None:
    from nissl.statistics import permutations

    c, w, f = example()
    result = structure_function(c, labelled(f), n=5, resamples=2, seed=3)
    got = result.tests[""]["chemical"]["permuted"].surrogates[:, 1]
    by_hand = []
    for order in permutations(30, 5, seed=3):
        moved = np.zeros_like(w)
        moved[np.ix_(order, order)] = w
        by_hand.append(roc_auc_score(moved[OFF] != 0, f[OFF]))
    assert got == pytest.approx(by_hand)


def test_related_ones_stand_out_and_unrelated_ones_do_not() -> None:
    c, _, f = example(noise=0.5)
    table = structure_function(c, labelled(f), n=99, resamples=100).table
    assert (table["p_permuted"] == 0.01).all()
    assert (table["p_rewired"] == 0.01).all()
    assert ((table["low"] < table["value"]) & (table["value"] < table["high"])).all()
    p = [
        structure_function(c, labelled(np.random.default_rng(s).random((30, 30))), n=39, resamples=2).table.loc[("", "chemical", "auc"), ["p_permuted", "p_rewired"]].to_numpy()
        for s in range(12)
    ]  # fmt: skip
    assert 0.2 < np.mean(p) < 0.8


def test_the_rewired_null_sees_through_hubs() -> None:
    """Neurons with many connections are strong in both diagrams, and nothing else is shared: only rewiring says so."""
    rng = np.random.default_rng(1)
    pull = np.exp(1.2 * rng.normal(size=30))
    odds = np.outer(pull, pull)
    w = (rng.random((30, 30)) < np.minimum(0.8, 0.12 * odds)).astype(float)
    np.fill_diagonal(w, 0)
    f = np.log(odds) + 0.3 * rng.normal(size=(30, 30))
    f -= f.min() - 1
    row = structure_function(Connectome(NAMES, chemical=w), labelled(f), n=99, resamples=2).table.loc[
        ("", "chemical", "auc")
    ]
    assert row["p_permuted"] == 0.01
    assert row["rewired"] - row["permuted"] > 0.5 * (row["value"] - row["permuted"])


def test_interval_covers_what_other_animals_give() -> None:
    """Resampling units must be as wide as new draws from the same model are."""
    values, widths = [], []
    for seed in range(20):
        c, _, f = example(seed, noise=3.0)
        row = structure_function(c, labelled(f), n=2, resamples=100, seed=seed).table.loc[("", "chemical", "auc")]
        values.append(row["value"])
        widths.append(row["high"] - row["low"])
    assert 0.5 < np.median(widths) / (4 * np.std(values)) < 2


def test_undirected_function_is_compared_with_edges_either_way() -> None:
    c, w, f = example()
    f = (f + f.T) / 2
    lower = np.tril(np.ones((30, 30), dtype=bool), -1)
    result = structure_function(c, labelled(f), n=3, resamples=2)
    assert result.table["pairs"].iloc[0] == 435
    either = np.maximum(w, w.T)
    assert result.table.loc[("", "chemical", "auc"), "value"] == pytest.approx(
        roc_auc_score(either[lower] != 0, f[lower])
    )
    assert (result.tests[""]["chemical"]["permuted"].surrogates[:, 1] > 0).all()


def test_only_shared_units_count_whatever_their_order() -> None:
    c, _, f = example()
    some = ["N3", "x1", *[f"N{i}" for i in range(29, 8, -1)], "x2"]
    wide = np.random.default_rng(0).random((len(some), len(some)))
    place = {n: i for i, n in enumerate(some)}
    for a in some:
        for b in some:
            if a in NAMES and b in NAMES:
                wide[place[a], place[b]] = f[NAMES.index(a), NAMES.index(b)]
    got = structure_function(c, labelled(wide, some), n=2, resamples=2)
    same = [n for n in NAMES if n in some]
    direct = structure_function(c.select(same), labelled(f).sel(target=same, source=same), n=2, resamples=2)
    assert got.units == tuple(same)
    assert got.table["value"].equals(direct.table["value"])


def test_every_form_of_the_two_sides() -> None:
    c, w, f = example()
    reference = structure_function(c, labelled(f), n=2, resamples=2).table["value"].to_numpy()
    forms = [
        structure_function(labelled(w).rename("wires"), labelled(f), n=2, resamples=2),
        structure_function(w, f, names=NAMES, n=2, resamples=2),
        structure_function(c, f, names=NAMES, n=2, resamples=2),
        structure_function(c, labelled(f).transpose("source", "target"), n=2, resamples=2),
    ]
    for form in forms:
        assert form.table["value"].to_numpy() == pytest.approx(reference)
    states = xr.concat([labelled(f), labelled(f[::-1, ::-1].copy())], dim="state").assign_coords(state=[0, 1])
    layered = structure_function(c, states, n=2, resamples=2)
    assert list(layered.table.index.get_level_values("layer").unique()) == ["state 0", "state 1"]
    assert layered.table.xs("state 0")["value"].to_numpy() == pytest.approx(reference)
    marked = structure_function(c, labelled(f), significant=w > 4, n=2, resamples=2)
    assert marked.table.loc[("", "chemical", "enrichment"), "value"] == pytest.approx(
        (w > 4).sum() / (w != 0).sum() * (870 - (w != 0).sum()) / 0.5
    )
    functional = Connectome(NAMES, functional=np.where(f > 0.8, f, 0))
    assert structure_function(c, functional, n=2, resamples=2).table["p_none"].iloc[0] > 0


def test_unmeasured_pairs_are_left_out_or_taken_for_none() -> None:
    c, _, f = example()
    f = np.where(np.random.default_rng(99).random(f.shape) < 0.3, np.nan, f)
    functional = Connectome(NAMES, functional=np.where(np.isnan(f) | (f > 0.8), f, 0))
    out, none = (structure_function(c, functional, unmeasured=u, n=2, resamples=2).table for u in ("leave out", "none"))
    assert out["pairs"].iloc[0] == (OFF & ~np.isnan(f)).sum()
    assert none["pairs"].iloc[0] == OFF.sum()
    assert none["p_none"].iloc[0] < out["p_none"].iloc[0]


def test_recording_of_a_known_circuit() -> None:
    worms = worm_animals(NAMES, n_animals=1, duration=600, labelled=1.0, noise=0.02)
    recording = worms.recordings["animal1"]
    for measure in ("correlation", "lagged", "partial"):
        table = structure_function(worms.circuit, recording, measure=measure, n=19, resamples=20).table
        assert np.isfinite(table["value"]).all(), measure
    partial = structure_function(worms.circuit, recording, measure="partial", n=99, resamples=20).table
    assert partial.loc[("", "chemical", "auc"), "p_permuted"] <= 0.05


def test_states_of_a_fitted_model_and_a_collection_of_animals() -> None:
    from nissl.populations import HMMGLM
    from nissl.recordings import homogenise

    names = NAMES[:12]
    counts = np.random.default_rng(0).poisson(0.3, size=(400, 12)).astype(float)
    spikes = xr.DataArray(counts, dims=("time", "unit"), coords={"time": 0.01 * np.arange(400), "unit": names})
    circuit = worm_circuit(names, inputs=3)
    by_state = structure_function(circuit, HMMGLM(n_states=2).fit(spikes).weights_, n=3, resamples=3).table
    assert by_state.index.get_level_values("layer").unique().tolist() == ["state 0", "state 1"]
    worms = worm_animals(NAMES, n_animals=3, duration=60, labelled=0.9)
    together = structure_function(worms.circuit, homogenise(worms.recordings, progress=False), n=3, resamples=3)
    assert len(together.units) == 30


# Functional connectivity


def test_correlation_with_gaps_against_pandas() -> None:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(200, 6)) @ rng.normal(size=(6, 6)) + 100
    x[rng.random(x.shape) < 0.2] = np.nan
    got = functional_connectivity(xr.DataArray(x, dims=("time", "unit"), coords={"unit": list("abcdef")}))
    expected = got.to_pandas().copy()
    expected[:] = xr.DataArray(x).to_pandas().corr().to_numpy(copy=True)
    off = ~np.eye(6, dtype=bool)
    assert np.allclose(got.values[off], expected.to_numpy()[off])
    assert np.isnan(np.diag(got)).all()


def test_lag_runs_from_source_to_target() -> None:
    rng = np.random.default_rng(0)
    drive = rng.normal(size=1003)
    x = np.stack([drive[3:], drive[:-3]], axis=1)  # the second follows the first by three samples
    recording = xr.DataArray(
        x, dims=("time", "unit"), coords={"time": 0.5 * np.arange(1000), "unit": ["leads", "follows"]}
    )
    got = functional_connectivity(recording, "lagged", lag=1.5)
    assert float(got.sel(target="follows", source="leads")) == pytest.approx(1)
    assert abs(float(got.sel(target="leads", source="follows"))) < 0.15


def test_partial_correlation_of_a_chain_has_no_shortcut() -> None:
    rng = np.random.default_rng(0)
    a = rng.normal(size=20_000)
    b = a + rng.normal(size=20_000)
    c = b + rng.normal(size=20_000)
    got = functional_connectivity(
        xr.DataArray(np.stack([a, b, c], 1), dims=("time", "unit"), coords={"unit": list("abc")}), "partial"
    )
    assert abs(float(got.sel(target="c", source="a"))) < 0.03
    assert float(got.sel(target="c", source="b")) == pytest.approx(1 / np.sqrt(2), abs=0.03)


def test_animals_are_pooled_about_their_own_means() -> None:
    rng = np.random.default_rng(0)
    one = rng.normal(size=(2, 300, 2))
    shifted = one + np.array([0, 100])[:, None, None]
    make = lambda v: xr.DataArray(v, dims=("animal", "time", "unit"), coords={"unit": ["a", "b"]})  # noqa: E731
    assert abs(float(functional_connectivity(make(shifted)).values[0, 1])) < 0.15


# What goes wrong


@pytest.mark.parametrize(
    ("ask", "error", "text"),
    [
        (lambda c, f: structure_function(c, labelled(f[:5, :5], NAMES[:5])), InputError, r"5 unit\(s\) in common"),
        (lambda c, f: structure_function(c, labelled(f, [n.lower() for n in NAMES])), InputError, "0 unit"),
        (lambda c, f: structure_function(c, xr.DataArray(f, dims=("target", "source"))), InputError, "without names"),
        (lambda c, f: structure_function(c, f), InputError, "names="),
        (lambda c, f: structure_function(f, f), InputError, "names="),
        (lambda c, f: structure_function(c, labelled(np.full_like(f, np.nan))), InputError, "not one pair"),
        (lambda c, f: structure_function(c, labelled(np.ones_like(f))), InputError, "functionally connected"),
        (lambda c, f: structure_function(c, labelled(f), significant=np.zeros((30, 30))), InputError, "0 of 870"),
        (lambda c, f: structure_function(c, labelled(f), significant=np.zeros((3, 3))), InputError, "shape"),
        (lambda c, f: structure_function(c, labelled(f), kinds=["electrical"]), UnknownNameError, "electrical"),
        (lambda c, f: structure_function(c, labelled(f), top=1.5), InputError, "top=1.5"),
        (lambda c, f: structure_function(c, labelled(f), n=0), InputError, "n=0"),
        (lambda c, f: structure_function(c, labelled(f), unmeasured="zero"), UnknownNameError, "leave out"),
        (lambda c, f: structure_function(c, labelled(f).expand_dims(state=2, head=2)), InputError, "one more"),
        (lambda c, f: structure_function(Connectome(NAMES, chemical=np.eye(30)), labelled(f)), InputError, "0 chemical connection"),
        (lambda c, f: structure_function("Cook2019", labelled(f)), UnknownNameError, "Cook2019"),
        (lambda c, f: functional_connectivity(f, "mutual"), UnknownNameError, "partial"),
        (lambda c, f: functional_connectivity(f, lag=1.0), InputError, "lagged"),
        (lambda c, f: functional_connectivity(f, "lagged", lag=100.0), InputError, "lag of 100"),
        (lambda c, f: functional_connectivity(f, "partial"), InputError, "without a gap"),
        (lambda c, f: functional_connectivity(f[:10]), InputError, "sample"),
    ],
)  # fmt: skip
def test_bad_input(ask, error, text) -> None:
    c, _, f = example()
    with pytest.raises(error, match=text):
        ask(c, f)


def test_picture_and_words() -> None:
    import matplotlib

    matplotlib.use("Agg")
    c, _, f = example()
    result = structure_function(c, labelled(f), n=9, resamples=9)
    assert "30 shared units" in str(result)
    assert "<table" in result._repr_html_()
    ax = result.plot("auc")
    assert ax.get_xlabel().startswith("area under the curve")
    with pytest.raises(UnknownNameError, match="auc"):
        result.plot("acu")
