"""Simulated worms: the truth is what it says it is."""

from __future__ import annotations

import numpy as np
import pytest

from nissl.errors import InputError
from nissl.recordings.simulate import worm_animals, worm_circuit, worm_labs
from nissl.recordings.simulate.worms import spelt

NAMES = [f"AB{i}" for i in range(1, 31)]


def test_same_seed_same_worms_and_another_seed_another() -> None:
    a, b, c = (worm_labs(NAMES, n_labs=2, duration=20, seed=s) for s in (3, 3, 4))
    assert a.latent.equals(b.latent)
    assert a.recordings["lab2"].equals(b.recordings["lab2"])
    assert not a.latent.equals(c.latent)


def test_laboratories_see_the_latent_worm_on_their_own_clocks() -> None:
    labs = worm_labs(NAMES, n_labs=4, duration=200, noise=0.05)
    intervals = [float(np.median(np.diff(r["time"]))) for r in labs.recordings.values()]
    assert intervals == pytest.approx(np.geomspace(0.1, 0.7, 4), rel=0.1)
    for lab, recording in labs.recordings.items():
        gaps = np.diff(recording["time"])
        assert (gaps > 0).all()
        assert gaps.std() / gaps.mean() == pytest.approx(0.2, abs=0.06)
        truth = labs.latent.sel(unit=labs.neurons[lab]).interp(time=recording["time"])
        for i in range(recording.sizes["unit"]):
            x, y = recording["activity"].values[:, i], truth.values[:, i]
            known = ~np.isnan(x)
            assert np.corrcoef(x[known], y[known])[0, 1] > 0.99
        assert 0.005 < np.isnan(recording["activity"].values).mean() < 0.08


def test_animals_share_the_circuit_and_nothing_else() -> None:
    worms = worm_animals(NAMES, n_animals=4, duration=100, labelled=0.5)
    assert worms.latent.dims == ("animal", "time", "unit")
    assert all(r.sizes["unit"] == 15 for r in worms.recordings.values())
    subsets = {tuple(n) for n in worms.neurons.values()}
    assert len(subsets) == 4
    flat = worms.latent.values.transpose(0, 2, 1).reshape(4, -1)
    assert np.abs(np.corrcoef(flat)[np.triu_indices(4, 1)]).mean() < 0.5


def test_activity_lives_on_and_follows_the_circuit() -> None:
    """Between two steps a neuron goes where its inputs, itself and its adaptation push it: the wiring must explain the drift."""
    for seed in range(4):
        worms = worm_animals(NAMES, n_animals=1, duration=150, labelled=1.0, tau=3.0, seed=seed)
        x = worms.latent.values[0]
        assert x[-1000:].std(0).min() > 0.05  # nobody has come to rest
        adapted = np.zeros_like(x)
        for t in range(1, len(x)):
            adapted[t] = adapted[t - 1] + 0.05 / 12 * (x[t - 1] - adapted[t - 1])
        drift = 0.05 / 3 * (np.tanh(x) @ worms.circuit.chemical.values.T - x - adapted)
        late = slice(1200, 1200 + 20 * ((len(x) - 1201) // 20))  # the adaptation of the start is forgotten
        # Over a second the drift outweighs the noise.
        by_second = lambda v, late=late: v[late].reshape(-1, 20, v.shape[1]).sum(1).ravel()  # noqa: E731
        got = by_second(np.diff(x, axis=0))
        assert np.corrcoef(got, by_second(drift))[0, 1] > 0.85
        wrong = 0.05 / 3 * (np.tanh(x) @ worms.circuit.chemical.values - x - adapted)
        assert abs(np.corrcoef(got, by_second(wrong))[0, 1]) < 0.5  # the transpose explains little


def test_circuit() -> None:
    circuit = worm_circuit(NAMES, inputs=6, gain=1.5)
    assert ((circuit.chemical != 0).sum("source") == 6).all()
    assert (np.diag(circuit.chemical) == 0).all()
    radius = np.abs(np.linalg.eigvals(worm_circuit([str(i) for i in range(400)], gain=1.5).chemical.values)).max()
    assert radius == pytest.approx(1.5, rel=0.15)


def test_spellings() -> None:
    assert [spelt("DB1", s) for s in ("plain", "padded", "lower case", "spaces")] == ["DB1", "DB01", "db1", " DB1 "]
    assert spelt("VA10", "padded") == "VA10"
    assert spelt("AWCL", "on and off") == "AWCOFF"


@pytest.mark.parametrize(
    "make",
    [
        lambda: worm_labs(NAMES[:5]),
        lambda: worm_labs(NAMES, duration=0),
        lambda: worm_labs(NAMES, dt=(0.5, 0.1)),
        lambda: worm_labs(NAMES, labelled=1.5),
        lambda: worm_labs(NAMES, n_labs=0),
        lambda: worm_animals(NAMES, tau=-1),
        lambda: worm_animals(NAMES, n_animals=0),
        lambda: worm_circuit(NAMES, inputs=30),
    ],
)
def test_bad_input(make) -> None:
    with pytest.raises(InputError):
        make()
