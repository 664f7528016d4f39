"""Active dendrites: closed forms against scipy, exact fractions and simulation; what the neuron stores; then bad input."""

from __future__ import annotations

import math
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import torch
import xarray as xr
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file
from scipy import stats

import nissl
from nissl.errors import InputError, UnknownNameError
from nissl.nn import (
    DendriticClassifier,
    DendriticNeuron,
    match_probability,
    miss_probability,
    optimal_threshold,
    union_capacity,
    union_size,
)
from nissl.nn.dendrites import (
    Plasticity,
    SequenceMemory,
    any_match_probability,
    competition_sweep,
    correlated_patterns,
    correlation_sweep,
    equal_frequency_code,
    match_bounds,
    noise_sweep,
    noisy_patterns,
    overlap_probability,
    random_patterns,
    total_error,
    union_match_probability,
)
from nissl.populations import estimate_sdr


@st.composite
def sizes(draw: st.DrawFn, largest: int = 400) -> tuple[int, int, int, int]:
    """n, a, s and theta that can be."""
    n = draw(st.integers(1, largest))
    a, s = draw(st.integers(0, n)), draw(st.integers(0, n))
    return n, a, s, draw(st.integers(0, s + 1))


@pytest.mark.parametrize(
    ("n", "a", "s", "theta", "p", "rel"),
    [
        (200_000, 2000, 10, 10, 9.779e-21, 1e-3),
        (10_000, 300, 24, 12, 8.3758e-13, 1e-4),
        (4000, 32, 20, 10, 3.9669e-17, 1e-4),
        (2048, 40, 40, 20, 2.491e-26, 1e-3),
        (4000, 128, 24, 12, 1.3432e-12, 1e-4),
        (500, 64, 24, 8, 0.0064309, 1e-4),
        (200_000, 2000, 20, 10, 1.65e-15, 1e-2),
    ],
)
def test_known_numbers(n: int, a: int, s: int, theta: int, p: float, rel: float) -> None:
    assert match_probability(n, a, s, theta) == pytest.approx(p, rel=rel)


def test_known_numbers_of_sets_and_bounds() -> None:
    one = match_probability(100, 7, 7, np.arange(4, 8))
    np.testing.assert_allclose(500 * one, [0.1447, 2.8265e-3, 2.0365e-5, 3.1235e-8], rtol=3e-4)
    bounds = {k: math.exp(v) for k, v in match_bounds(4000, 128, 24, 12).items()}
    assert bounds == pytest.approx({"union": 3.12e-12, "binomial": 2.18e-12, "chernoff": 1.31e-11}, rel=3e-3)


@given(sizes())
@settings(max_examples=300, deadline=None)
def test_equals_the_exact_fraction(given_sizes: tuple[int, int, int, int]) -> None:
    n, a, s, theta = given_sizes
    exact = sum(
        (Fraction(math.comb(s, b) * math.comb(n - s, a - b), math.comb(n, a)) for b in range(theta, min(s, a) + 1)),
        Fraction(0),
    )
    assert match_probability(n, a, s, theta, exact=True) == exact
    assert match_probability(n, a, s, theta) == pytest.approx(float(exact), rel=1e-11, abs=0)
    log = match_probability(n, a, s, theta, log=True)
    assert log == (
        pytest.approx(math.log(exact.numerator) - math.log(exact.denominator), rel=1e-9, abs=1e-12)
        if exact
        else -math.inf
    )


def test_equals_scipy_on_a_grid() -> None:
    n, a, s, theta = np.ix_([50, 1000, 20_000], [1, 10, 50], [1, 20, 45], [0, 1, 3, 8, 20, 46])
    found = match_probability(n, a, s, theta)
    np.testing.assert_allclose(found, stats.hypergeom.sf(theta - 1, n, s, a), rtol=1e-9, atol=1e-300)
    a, s, theta, lost = np.ix_([50, 128], [1, 20, 45], [0, 1, 8, 20, 45], [0, 10, 50])
    theta = np.minimum(theta, s)
    np.testing.assert_allclose(
        miss_probability(a, s, theta, lost), stats.hypergeom.sf(s - theta, a, s, lost), rtol=1e-9, atol=1e-300
    )


def test_stays_finite_far_below_the_smallest_double() -> None:
    theta = np.array([500, 800, 1000])
    assert (match_probability(10**6, 1000, 1000, theta) == 0).all()
    log = match_probability(10**6, 1000, 1000, theta, log=True)
    assert np.isfinite(log).all()
    exact = match_probability(10**6, 1000, 1000, 1000, exact=True)
    assert log[-1] == pytest.approx(math.log(exact.numerator) - math.log(exact.denominator), rel=1e-12)
    # A neuron of many segments, each of which hardly ever errs: the sum, not 0.
    assert any_match_probability(10**6, 1000, 1000, 1000, 500, log=True) == pytest.approx(log[-1] + math.log(500))
    assert any_match_probability(10_000, 300, 24, 20, 500) == pytest.approx(
        500 * match_probability(10_000, 300, 24, 20), rel=1e-9
    )
    assert any_match_probability(10_000, 300, 24, 20, 500) > 0


@given(sizes(), st.integers(1, 50))
@settings(max_examples=150, deadline=None)
def test_laws_of_the_formula(given_sizes: tuple[int, int, int, int], m: int) -> None:
    n, a, s, theta = given_sizes
    p = match_probability(n, a, s, theta)
    assert 0 <= p <= 1
    assert p == pytest.approx(match_probability(n, s, a, theta), rel=1e-10, abs=1e-300)
    assert match_probability(n, a, s, 0) == 1
    assert match_probability(n, a, s, min(s, a) + 1) == 0
    slack = 1 + 1e-9
    assert match_probability(n, a, s, theta + 1) <= p * slack
    assert match_probability(n + 1, a, s, theta) <= p * slack
    if s < n:
        assert match_probability(n, a, s + 1, theta) * slack >= p
    if a < n:
        assert match_probability(n, a + 1, s, theta) * slack >= p
    assert p <= any_match_probability(n, a, s, theta, m) * slack <= min(1, m * p) * slack**2
    b = np.arange(n + 1)
    share = overlap_probability(n, a, s, b)
    assert share.sum() == pytest.approx(1, rel=1e-10)
    mean = s * a / n
    assert share @ b == pytest.approx(mean, rel=1e-9, abs=1e-12)
    if n > 1:
        variance = s * a / n * (1 - a / n) * (n - s) / (n - 1)
        assert share @ (b - mean) ** 2 == pytest.approx(variance, rel=1e-8, abs=1e-9)


@given(sizes())
@settings(max_examples=150, deadline=None)
def test_bounds_hold(given_sizes: tuple[int, int, int, int]) -> None:
    n, a, s, theta = given_sizes
    assume(theta <= s)
    log, bounds = match_probability(n, a, s, theta, log=True), match_bounds(n, a, s, theta)
    assert log <= bounds["union"] + 1e-9
    assert log <= bounds["chernoff"] + 1e-9
    assert (
        bounds["binomial"] == pytest.approx(float(stats.binom.logsf(theta - 1, s, a / n)), rel=1e-8, abs=1e-9)
        or bounds["binomial"] < -600
    )
    if theta > s * a / n + 1:
        assert log <= bounds["binomial"] + 1e-9


def test_misses_by_simulation_and_as_the_complement() -> None:
    rng = np.random.default_rng(0)
    live = np.array([np.isin(np.arange(12), rng.choice(40, 15, replace=False)).sum() for _ in range(20_000)])
    for theta in (7, 9):  # 12 synapses, 15 of 40 cells lost
        p = miss_probability(40, 12, theta, 15)
        assert abs((12 - live < theta).mean() - p) < 4 * math.sqrt(p * (1 - p) / 20_000)
    assert miss_probability(40, 12, 4, 8) == 0  # whatever is lost, four synapses are left
    assert miss_probability(40, 12, 0, 40) == 0
    assert miss_probability(40, 12, 1, 40) == 1
    assert miss_probability(40, 12, 7, 15, exact=True) == 1 - match_probability(40, 25, 12, 7, exact=True)


def test_unions() -> None:
    np.testing.assert_allclose(
        union_match_probability(10_000, 200, 25, 15, [1, 2, 3, 4, 10]),
        [5.3e-20, 2.36e-14, 1.54e-11, 1.10e-9, 1.27e-4],
        rtol=0.01,
    )
    np.testing.assert_allclose(union_match_probability(1000, 200, 25, 15, [1, 2]), [1.0e-5, 0.0474], rtol=0.01)
    assert union_size(100, 100, 3) == 100
    assert union_size(100, 0, 3) == union_size(100, 30, 0) == 0
    assert union_size(10, 5, 2) == pytest.approx(7.5)
    many = [random_patterns(6, 500, 40, seed=i).any("sample").sum().item() for i in range(300)]
    assert np.mean(many) == pytest.approx(union_size(500, 40, 6), abs=4 * np.std(many) / math.sqrt(300))
    # Both kinds of union at once are the same by symmetry, if s and a are.
    assert union_match_probability(1000, 30, 30, 12, 3, of="activity") == pytest.approx(
        union_match_probability(1000, 30, 30, 12, 3), rel=1e-10
    )


@given(st.integers(20, 3000), st.integers(1, 12), st.integers(1, 20), st.sampled_from([1e-9, 1e-3, 0.3]))
@settings(max_examples=60, deadline=None)
def test_capacity_is_the_last_that_fits(n: int, a: int, theta: int, tol: float) -> None:
    s = min(20, n)
    for of in ("segment", "activity"):
        m = union_capacity(n, a, s, min(theta, s), tol, of=of)
        if math.isinf(m):
            assert union_match_probability(n, a, s, min(theta, s), 10**6, of=of) <= tol
            continue
        assert union_match_probability(n, a, s, min(theta, s), m + 1, of=of) > tol
        assert m == 0 or union_match_probability(n, a, s, min(theta, s), m, of=of) <= tol


def test_optimal_threshold_is_that_of_the_paper() -> None:
    found = optimal_threshold()
    assert found["false_match"].sizes == {"theta": 20, "n": 5, "sparsity": 6, "s": 7}
    np.testing.assert_allclose(
        found["median"].sel(theta=[3, 4, 6, 8, 9, 10, 12]),
        [0.01733, 1.989e-3, 1.201e-5, 3.33e-8, 1.35e-9, 4.80e-11, 3.41e-14],
        rtol=3e-3,
    )
    assert found["threshold"] == 8
    assert np.isnan(optimal_threshold({"sparsity": [0.5]}, thresholds=range(1, 10))["threshold"])
    both = total_error(6000, 128, 30, noise=[0.3, 0.5], segments=500)
    case, theta = 1, int(both.best[1])
    by_hand = [
        float(any_match_probability(6000, 128, 30, t, 500) + miss_probability(128, 30, t, 64)) for t in range(1, 31)
    ]
    assert theta == 1 + int(np.argmin(by_hand))
    np.testing.assert_allclose(both["total"][case], by_hand)


def test_random_patterns_are_uniform() -> None:
    x = random_patterns(20_000, 6, 3).values
    assert (x.sum(1) == 3).all()
    _, counts = np.unique(x, axis=0, return_counts=True)
    assert len(counts) == 20
    assert stats.chisquare(counts).pvalue > 1e-4
    clustered = correlated_patterns(4000, 30, 10, 4).values  # 7 clusters: two whole ones, half of a third
    assert (clustered.sum(1) == 10).all()
    assert np.corrcoef(clustered.T[clustered.any(0)]).max() <= 1 + 1e-9
    noisy = noisy_patterns(x[:500], 2, seed=1).values
    assert ((noisy & x[:500]).sum(1) == 1).all()
    assert (noisy.sum(1) == 3).all()
    np.testing.assert_array_equal(noisy_patterns(x[:5], 0), x[:5])


def test_overlaps_equal_the_dense_product() -> None:
    x = random_patterns(150, 300, 40)
    neuron = DendriticNeuron(300, 150, 15, 6).fit(x)
    dense = neuron.segments_.toarray()
    assert dense.sum(1).tolist() == [15] * 150
    assert (dense <= x.values).all()  # every synapse comes from a cell of the pattern
    fresh = random_patterns(77, 300, 40, seed=1)
    expected = fresh.values.astype(int) @ dense.T.astype(int)
    np.testing.assert_array_equal(neuron.segment_activity(fresh), expected)
    assert neuron.segment_activity(fresh).dims == ("sample", "segment")
    np.testing.assert_array_equal(neuron.predict(fresh), (expected >= 6).any(1))
    assert neuron.predict(x).all()
    # The same whatever patterns are made of.
    kinds = (fresh.values.astype(np.uint8), torch.from_numpy(fresh.values).double(), fresh.values.astype(np.float32))
    for same in kinds:
        np.testing.assert_array_equal(neuron.predict(same), neuron.predict(fresh))
    large = DendriticNeuron(5000, 1, 4000, 3000).fit(np.ones((1, 5000)))  # more than half precision counts
    assert large.segment_activity(np.ones((1, 5000))).item() == 4000


def test_responses_by_hand() -> None:
    x = random_patterns(60, 200, 30)
    overlap = DendriticNeuron(200, 30, 12, 6).fit(x[:30]).segment_activity(x).values.astype(float)
    by_hand = {
        "threshold": (overlap >= 6).sum(1),
        "sigmoid": (1 / (1 + np.exp(5 * (5.5 - overlap)))).sum(1),
        "power": ((overlap / 6) ** 10).sum(1),
    }
    for name, expected in by_hand.items():
        neuron = DendriticNeuron(200, 30, 12, 6, nonlinearity=name).fit(x[:30]).double()  # type: ignore[arg-type]
        np.testing.assert_allclose(neuron.response(torch.from_numpy(x.values)), expected, rtol=1e-10)


def test_mixed_segments_recall_every_pattern() -> None:
    x = random_patterns(40, 400, 60)
    neuron = DendriticNeuron(400, 10, 20, 15, mix=4).fit(x)
    own = neuron.segment_activity(x).values[np.arange(40), np.arange(40) // 4]
    assert (own >= 20).all()
    distinct = neuron.segments_.toarray().sum(1)
    assert (distinct == neuron.error_rates(60)["synapses"]).all()
    assert distinct.mean() == pytest.approx(union_size(400, 20, 4), abs=3)


def test_error_rates_are_those_that_are_met() -> None:
    x = random_patterns(200, 300, 40)
    neuron = DendriticNeuron(300, 210, 16, 5).fit(x)
    rates = neuron.error_rates(40, flipped=20)
    assert rates["miss"].isna().sum() == 10
    assert (rates["false_match"][200:] == 0).all()
    p, trials = rates["false_match"][0], 200 * 2000
    fresh = (neuron.segment_activity(random_patterns(2000, 300, 40, seed=1)) >= 5).values[:, :200].mean()
    assert abs(fresh - p) < 4 * math.sqrt(p * (1 - p) / trials)
    missed = np.mean(
        [
            (neuron.segment_activity(noisy_patterns(x, 20, seed=k)).values[:, :200].diagonal() < 5).mean()
            for k in range(10)
        ]
    )
    q = rates["miss"][0]
    assert abs(missed - q) < 4 * math.sqrt(q * (1 - q) / 2000)


def test_sites_are_recorded_and_changed() -> None:
    x = random_patterns(20, 300, 30)
    neuron = DendriticNeuron(300, 20, 15, 8).fit(x)
    inputs = torch.from_numpy(x.values).float()
    acts = nissl.record(neuron, inputs, at=["segments", "depolarised"])
    np.testing.assert_array_equal(acts["segments"], neuron.segment_activity(x))
    assert (acts["depolarised"] == 1).all()
    assert acts["depolarised"].shape == (20, 1)
    net = nissl.load(neuron)
    with nissl.intervene(net, {"segments": nissl.Ablate(units=[3])}):
        lesioned = net(inputs)[:, 0].numpy()
    assert (lesioned == (np.arange(20) != 3)).all()  # a lost segment is a lost pattern
    assert neuron(inputs).all()


def test_state_dict_safetensors_dtype_and_compile(tmp_path: Path) -> None:
    x = random_patterns(20, 300, 30)
    neuron = DendriticNeuron(300, 20, 15, 8).fit(x)
    save_file(neuron.state_dict(), tmp_path / "neuron.safetensors")
    other = DendriticNeuron(300, 20, 15, 8)
    assert not other.predict(x).any()  # silent before it stores anything
    other.load_state_dict(load_file(tmp_path / "neuron.safetensors"))
    np.testing.assert_array_equal(other.segment_activity(x), neuron.segment_activity(x))
    inputs = torch.from_numpy(x.values)
    assert neuron.double()(inputs.double()).dtype == torch.float64
    assert neuron.synapses.dtype == torch.int32
    compiled = torch.compile(neuron, backend="eager")
    torch.testing.assert_close(compiled(inputs), neuron(inputs))
    assert "20 in use" in repr(neuron)
    assert "0 in use" in repr(neuron.reset())
    again = DendriticNeuron(300, 20, 15, 8).fit(x)
    assert torch.equal(again.synapses, other.synapses)


def test_learning_rule_by_hand() -> None:
    x = np.zeros((1, 20), dtype=int)
    x[0, :8] = 1
    neuron = DendriticNeuron(20, 2, 4, 3)
    first = neuron.learn(x, [1])
    assert not first.depolarised[0]
    assert neuron.segments_.toarray()[:, :8].sum() == 4  # the miss recruited one segment, on cells of the pattern
    neuron.learn(x, [1])
    used = int((neuron.permanence.sum(1) > 0).nonzero()[0])
    torch.testing.assert_close(neuron.permanence[used], torch.full((4,), 0.52))
    # One of its cells is silent from now on: three synapses gain, one loses 0.0125 a time until it is replaced.
    silent = int(neuron.synapses[used, 0])
    y = x.copy()
    y[0, silent] = 0
    steps = math.ceil((0.52 - 0.15) / 0.0125)
    neuron.learn(np.repeat(y, steps + 1, 0), np.ones(steps + 1))
    assert silent not in neuron.synapses[used].tolist()
    assert (neuron.synapses[used] < 8).all()
    # False matches: active synapses decay until the segment is silent.
    before = neuron.permanence[used].clone()
    neuron.learn(y, [0])
    torch.testing.assert_close(neuron.permanence[used], before - 0.0125)
    neuron.learn(np.repeat(y, 200, 0), np.zeros(200))
    assert not neuron.predict(y).any()
    assert (neuron.permanence[used] == 0).sum() >= 2


def test_learning_finds_what_classes_have_in_common() -> None:
    # Of each wanted pattern 12 of 20 cells are always the same, among 400.
    rng = np.random.default_rng(0)
    core, wanted = np.arange(12), rng.random(400) < 0.5
    x = random_patterns(400, 400, 20).values
    x[wanted] = False
    for row in np.flatnonzero(wanted):
        x[row, core] = True
        x[row, rng.choice(np.arange(12, 400), 8, replace=False)] = True
    neuron = DendriticNeuron(400, 4, 16, 7)
    neuron.learn(x, wanted)
    fresh = random_patterns(500, 400, 20, seed=5).values
    held_out = fresh.copy()
    held_out[:, core] = True
    assert neuron.predict(held_out).values.mean() > 0.99
    assert neuron.predict(fresh).values.mean() < 0.01
    grown = neuron.segments_.toarray()[:, core].sum() / neuron.segments_.toarray().sum()
    assert grown > 3 * 12 / 400


def test_classifier_and_its_sweep() -> None:
    x, y = random_patterns(120, 2000, 40), np.repeat(["no", "yes"], 60)
    for kind in ("threshold", "sigmoid", "power"):
        model = DendriticClassifier(n_synapses=24, threshold=12, nonlinearity=kind).fit(x, y)  # type: ignore[arg-type]
        assert model.score(noisy_patterns(x, 8), y) == 1
    assert model.decision_function(x).dims == ("sample", "class")
    learnt = DendriticClassifier(n_segments=60, n_synapses=24, threshold=12, learning="permanences", epochs=2).fit(x, y)
    assert learnt.score(x, y) == 1
    assert DendriticClassifier(n_synapses=24).fit(x, np.random.default_rng(0).permutation(y)).score(x, y) < 0.7
    sweep = competition_sweep(n=[200, 300, 2000], a=[64, 128], patterns=100)
    assert np.isnan(sweep.sel(a=128, n=200))
    assert sweep.sel(a=64, n=2000) == 1
    assert sweep.sel(a=64, n=200) < 0.8


def test_benchmark_of_forty_dimensions() -> None:
    values = np.random.default_rng(0).normal(size=(400, 40))
    x = equal_frequency_code(values)
    assert x.shape == (400, 400)
    assert (x.sum("unit") == 40).all()
    assert set(x.sum("sample").values.tolist()) == {40}
    y = np.arange(400) % 2
    assert (
        DendriticClassifier(n_synapses=24, threshold=16).fit(x, y).score(x, y) == 1
    )  # arbitrary classes are remembered


def test_simulations_follow_theory() -> None:
    found = noise_sweep(n=1500, a=60, s=20, n_segments=200, thresholds=[6, 9], noise=[0.3, 0.6], repeats=5, n_fresh=500)
    p = found["miss_theory"]
    sigma = np.sqrt(p * (1 - p) / found.attrs["trials"])
    assert (abs(found["miss_own"] - p) <= 4 * sigma + 1e-12).all()
    assert (found["miss"] <= found["miss_own"]).all()
    assert (found["miss_elsewhere"] > 0.9).all()
    assert (found["false_match_theory"] >= 0).all()
    rising = correlation_sweep(clusters=[1, 4, 8], n_segments=100, n_fresh=1000)
    assert (rising["false_match"].diff("cluster") > 0).all()
    assert (rising["correlation"].diff("cluster") > 0).all()


def test_estimate_sdr_tells_rates_and_correlation_apart() -> None:
    random = estimate_sdr(random_patterns(400, 300, 24), n_surrogates=40)
    assert float(random["sparsity"]) == pytest.approx(0.08)
    assert float(random["observed"].sum()) == pytest.approx(1)
    assert float(random["null"].sum()) == pytest.approx(1)
    np.testing.assert_allclose(random["null"], stats.hypergeom.pmf(random.overlap, 300, 24, 24), atol=1e-12)
    assert abs(random["observed"] - random["null"]).max() < 0.01
    grouped = estimate_sdr(correlated_patterns(400, 304, 24, 8), n_surrogates=40)
    assert float(grouped["p"]) < 0.05
    assert float(grouped["variance"]) > 3 * float(grouped["variance_shifted"])
    # Cells of unequal rates overlap more than the null, and bind no more than their shifts.
    rng = np.random.default_rng(0)
    uneven = estimate_sdr(rng.random((400, 300)) < np.where(np.arange(300) < 30, 0.4, 0.01), n_surrogates=40)
    assert float(uneven["mean_overlap"]) > 3 * float(uneven["null_overlap"])
    assert float(uneven["variance"]) == pytest.approx(float(uneven["variance_shifted"]), rel=0.2)
    shifted = (uneven["shifted"] * uneven.overlap).sum()
    assert float(uneven["mean_overlap"]) == pytest.approx(float(shifted), rel=0.05)


def _stored(k: int, steps: int, *, seed: int = 0) -> tuple[SequenceMemory, torch.Tensor]:
    x = torch.from_numpy(random_patterns(k * steps, 600, 24, seed=seed).values).float().view(k, steps, 600)
    return SequenceMemory(600, 6, k * (steps - 1) * 24, 14, 8).fit(x), x


def test_sequences_are_remembered_in_context() -> None:
    a, b, c, d, x, y = torch.from_numpy(random_patterns(6, 600, 24).values).float()
    memory = SequenceMemory(600, 6, 200, 14, 8).fit(torch.stack([torch.stack([a, b, c, d]), torch.stack([x, b, c, y])]))
    assert torch.equal(memory(torch.stack([a, b, c])[None])[0], torch.stack([b, c, d]))
    assert torch.equal(memory(torch.stack([x, b, c])[None])[0], torch.stack([b, c, y]))
    assert torch.equal(memory(torch.stack([b, c])[None])[0, 1], torch.maximum(d, y))  # with no past, both
    assert "144 in use" in repr(memory)  # 3 transitions of 24 columns, twice
    before = memory.synapses.clone()
    memory.fit(torch.stack([a, b, c, d])[None])  # known already
    assert torch.equal(memory.synapses, before)
    memory.fit(torch.stack([a, b, x])[None])  # begins alike: shares its cells, and expects both afterwards
    assert f"{144 + int((x * (1 - c)).sum())} in use" in repr(memory)
    assert torch.equal(memory(torch.stack([a, b])[None])[0, 1], torch.maximum(c, x))


def test_sequence_memory_by_its_equations() -> None:
    memory, x = _stored(3, 5)
    noisy = torch.from_numpy(noisy_patterns(x.flatten(0, 1), 8).values).float().view_as(x)
    acts = nissl.record(memory, noisy, at=["active", "predicted", "segments"])
    dense = np.zeros((memory.n_segments, 3600), dtype=int)
    np.put_along_axis(dense, memory.synapses.numpy().astype(int), 1, 1)
    for sample in range(3):
        expected = np.zeros((600, 6), dtype=bool)
        for step in range(5):
            active = (noisy[sample, step].numpy()[:, None] > 0) & (expected | ~expected.any(1, keepdims=True))
            np.testing.assert_array_equal(acts["active"][sample, step], active.ravel())
            overlap = dense @ active.ravel()
            np.testing.assert_array_equal(acts["segments"].values[sample, step], overlap)
            expected = np.zeros(3600, dtype=bool)
            expected[memory.owner.numpy()[overlap >= 8]] = True
            np.testing.assert_array_equal(acts["predicted"][sample, step], expected)
            expected = expected.reshape(600, 6)
            np.testing.assert_array_equal(memory(noisy)[sample, step], expected.any(1))


def test_sequence_memory_tolerates_noise_as_the_formula_says() -> None:
    memory, x = _stored(20, 6)
    for lost in (8, 12):
        noisy = torch.from_numpy(noisy_patterns(x.flatten(0, 1), lost).values).float().view_as(x)
        met = float((memory(noisy)[:, :-1] * x[:, 1:]).sum() / x[:, 1:].sum())
        assert met == pytest.approx(1 - miss_probability(24, 14, 8, lost), abs=0.04)


def test_sequence_memory_steps_saves_and_is_changed(tmp_path: Path) -> None:
    memory, x = _stored(4, 6)
    whole, last = memory.run(x)
    first, state = memory.run(x[:, :2])
    save_file(state, tmp_path / "state.safetensors")
    rest, end = memory.run(x[:, 2:], load_file(tmp_path / "state.safetensors"))
    assert torch.equal(torch.cat([first, rest], 1), whole)
    assert torch.equal(end["predicted"], last["predicted"])
    state, steps = None, []
    for t in range(6):
        y, state = memory.step(x[:, t], state)
        steps.append(y)
    assert torch.equal(torch.stack(steps, 1), whole)
    other = SequenceMemory(600, 6, memory.n_segments, 14, 8)
    assert not other(x).any()
    other.load_state_dict(memory.state_dict())
    assert torch.equal(other.double()(x.double()).float(), whole)
    assert torch.equal(torch.compile(memory, backend="eager")(x), whole)
    # Nothing expected at the third step: at the fourth all cells of its columns fire, and the sequence goes on from there.
    net = nissl.load(memory)
    with nissl.intervene(net, {"predicted": nissl.Clamp(0.0, positions=2)}):
        lesioned = net(x)
    assert not lesioned[:, 2].any()
    assert torch.equal(lesioned[:, 3], whole[:, 3])
    with pytest.raises(InputError, match="lacks 'predicted'"):
        memory.run(x, {})


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: match_probability(100, 101, 10, 5), "a = 101 active cells"),
        (lambda: match_probability(100, 10, 101, 5), "s = 101 synapses"),
        (lambda: match_probability(100, 10, -1, 5), "whole numbers from 0"),
        (lambda: match_probability(100, 10.5, 10, 5), "round it first"),
        (lambda: match_probability(np.nan, 10, 10, 5), "nan"),
        (lambda: match_probability([1, 2, 3], [1, 1], 1, 1), "broadcast"),
        (lambda: match_probability("100", 10, 10, 5), "whole numbers"),
        (lambda: match_probability(100, 10, 10, 5, log=True, exact=True), "one of them"),
        (lambda: miss_probability(20, 21, 5, 3), "s = 21"),
        (lambda: miss_probability(20, 10, 5, 21), "flipped = 21"),
        (lambda: match_bounds(100, 10, 10, 11), "theta = 11"),
        (lambda: union_size(10, 11, 2), "s = 11"),
        (lambda: union_capacity(100, 10, 10, 5, 1.5), "between 0 and 1"),
        (lambda: optimal_threshold({"sparsity": [1.5]}), "0 to 1"),
        (lambda: optimal_threshold({"n": []}), "list of numbers"),
        (lambda: total_error(100, 10, 5, noise=2), "0 to 1"),
        (lambda: DendriticNeuron(0, 5, 5), "n_inputs=0"),
        (lambda: DendriticNeuron(10, 5, 11), "n_synapses=11"),
        (lambda: DendriticNeuron(10, 5, 5, 6), "threshold=6 of 5 synapses"),
        (lambda: DendriticNeuron(10, 5, 5, 0), "threshold=0"),
        (lambda: DendriticNeuron(10, 5, 5, power=0, nonlinearity="power"), "power"),
        (lambda: DendriticNeuron(10, 2, 3).fit(np.ones((3, 10))), "3 patterns for 2 segments"),
        (lambda: DendriticNeuron(10, 2, 3).fit(np.eye(2, 10)), "1 active cells for 3 synapses"),
        (lambda: DendriticNeuron(10, 2, 3).fit(np.full((2, 10), 0.5)), "hold 0.5"),
        (lambda: DendriticNeuron(10, 2, 3)(torch.full((2, 10), torch.nan)), "hold nan"),
        (lambda: DendriticNeuron(10, 2, 3)(torch.full((2, 10), 2)), "hold 2"),
        (lambda: DendriticNeuron(10, 2, 3).predict(np.ones((2, 9))), r"\(sample, 10\)"),
        (lambda: DendriticNeuron(10, 2, 3).predict(np.ones(10)), r"x\[None\]"),
        (lambda: DendriticNeuron(10, 2, 3).predict(np.ones((0, 10))), "one sample at least"),
        (lambda: DendriticNeuron(10, 2, 3).learn(np.ones((2, 10)), [1]), "shape"),
        (lambda: DendriticNeuron(10, 2, 3).learn(np.eye(2, 10), [1, 1]), "1 active cells"),
        (
            lambda: DendriticNeuron(10, 2, 3).learn(np.ones((1, 10)), [1], plasticity=Plasticity(connected=0.6)),
            "connected",
        ),
        (lambda: DendriticClassifier().fit(np.ones((2, 30)), [1, 1]), "one class"),
        (lambda: DendriticClassifier().fit(np.ones((2, 30)), [1]), "one a pattern"),
        (lambda: DendriticClassifier(learning="permanences").fit(np.ones((2, 30)), [0, 1]), "n_segments"),
        (lambda: SequenceMemory(10, 0, 5, 5), "n_cells=0"),
        (lambda: SequenceMemory(10, 2, 5, 11), "n_synapses=11"),
        (lambda: SequenceMemory(10, 2, 5, 5, 6), "threshold=6"),
        (lambda: SequenceMemory(10, 2, 5, 3).fit(np.ones((2, 10))), r"\(sequence, time, 10\)"),
        (lambda: SequenceMemory(10, 2, 5, 3).fit(np.ones((1, 2, 10))), "too few"),
        (lambda: SequenceMemory(10, 2, 5, 3).fit(np.eye(10)[None, :3]), "1 active columns"),
        (lambda: SequenceMemory(10, 2, 5, 3)(torch.zeros(1, 0, 10)), "at least one sample, one step"),
        (lambda: SequenceMemory(10, 2, 5, 3)(torch.full((1, 2, 10), torch.nan)), "NaN"),
        (lambda: SequenceMemory(10, 2, 5, 3)(torch.full((1, 2, 10), 0.5)), "hold 0.5"),
        (lambda: random_patterns(5, 10, 11), "a = 11"),
        (lambda: random_patterns(0, 10, 1), "1 or more"),
        (lambda: correlated_patterns(5, 100, 8, 9), "clusters of 9"),
        (lambda: correlated_patterns(5, 20, 19, 6), "whole clusters"),
        (lambda: noisy_patterns(random_patterns(5, 10, 3), 4), "0 to 3"),
        (lambda: noise_sweep(repeats=0), "repeats=0"),
        (lambda: equal_frequency_code(np.full((3, 2), np.nan)), "NaN"),
        (lambda: equal_frequency_code(np.ones((3, 2)), 1), "2 bins or more"),
        (lambda: estimate_sdr(np.full((10, 3), 0.5)), "other than 0 and 1"),
        (lambda: estimate_sdr(np.r_[np.full((1, 3), np.nan), np.ones((9, 3))]), "NaN"),
        (lambda: estimate_sdr(np.zeros((10, 3))), "nothing is active"),
        (lambda: estimate_sdr(np.ones((10, 3)), gap=9), "smaller gap"),
        (lambda: estimate_sdr(np.ones((10, 3)), gap=0), "gap=0"),
    ],
)
def test_bad_input_is_named(call: object, words: str) -> None:
    with pytest.raises(InputError, match=words):
        call()  # type: ignore[operator]


def test_unknown_names() -> None:
    with pytest.raises(UnknownNameError, match="sigmoid"):
        DendriticNeuron(10, 5, 5, nonlinearity="sigmoidal")  # type: ignore[arg-type]
    with pytest.raises(UnknownNameError, match="segment"):
        union_match_probability(100, 10, 10, 5, 2, of="segments")  # type: ignore[arg-type]
    with pytest.raises(UnknownNameError, match="sparsity"):
        optimal_threshold({"sparseness": [0.1]})


def test_float_thresholds_are_rounded_up() -> None:
    assert DendriticNeuron(100, 2, 25).threshold == 13
    assert DendriticNeuron(100, 2, 25, 12.2).threshold == 13
    assert DendriticNeuron(100, 2, 24).threshold == 12


def test_recorded_activity_of_a_network_is_a_code() -> None:
    acts = xr.Dataset({"activity": (("time", "unit"), (random_patterns(60, 50, 5).values).astype(float))})
    assert float(estimate_sdr(acts, n_surrogates=5)["a"]) == 5
