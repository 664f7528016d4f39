"""Evolution strategies: the direction they take, candidates side by side, signs, checkpoints."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.base import clone
from torch import nn

from nissl.errors import InputError, ModelError, StoreError
from nissl.learning import Candidates, EvolutionStrategies, swim
from nissl.nn import WormSwimmer


def flat(module: nn.Module) -> torch.Tensor:
    return torch.cat([p.detach().flatten() for p in module.parameters()])


def towards_three(module, seed):
    return -float((flat(module) - 3).square().sum())


def search(**settings) -> EvolutionStrategies:
    return EvolutionStrategies(**{"population": 8, "sigma": 0.1, "generations": 6, "progress": False} | settings)


def test_the_first_step_is_the_equation_written_out():
    start, seen = nn.Linear(3, 2), []

    def fitness(candidates, seed):
        seen.append([flat(c) for c in candidates])
        return [towards_three(c, 0) for c in candidates]

    found = search(together=True, generations=1, lr=0.07, weight_decay=0.005, population=10).fit(start, fitness).module_
    noise = torch.stack(seen[0]) - flat(start)
    torch.testing.assert_close(noise[5:], -noise[:5], atol=1e-6, rtol=0)  # mirrored
    scores = np.array([-float((w - 3).square().sum()) for w in seen[0]])
    ranks = torch.as_tensor(scores.argsort().argsort() / 9 - 0.5, dtype=torch.float32)
    uphill = (ranks[:, None] * noise).sum(0) / (10 * 0.1)
    assert (uphill.abs() < 1).all()
    twin = nn.Parameter(flat(start))
    adam = torch.optim.Adam([twin], lr=0.07, weight_decay=0.005)
    twin.grad = -uphill
    adam.step()
    torch.testing.assert_close(flat(found), twin.detach(), atol=1e-5, rtol=1e-5)
    assert torch.equal(flat(start), flat(start))


def test_disturbances_have_the_size_asked_for_and_the_direction_is_clipped():
    sizes = []

    def fitness(candidates, seed):
        spread = torch.stack([flat(c) for c in candidates])
        sizes.append(float((spread - spread.mean(0)).std()))
        return np.arange(len(candidates))

    search(population=64, sigma=0.3, generations=3, together=True).fit(nn.Linear(10, 10), fitness)
    np.testing.assert_allclose(sizes, 0.3, rtol=0.05)
    one = nn.Linear(1, 1, bias=False)  # with a huge sigma the direction is far beyond 1
    found = search(population=2, sigma=1e4, generations=1, weight_decay=0.0).fit(one, towards_three).module_
    assert torch.isfinite(flat(found)).all()


def test_equals_move_nothing_and_order_is_all_that_counts():
    start = nn.Linear(4, 1)
    still = search(weight_decay=0.0).fit(start, lambda m, s: 1.0)
    assert torch.equal(flat(still.module_), flat(start))
    plain = search().fit(start, towards_three)
    bent = search().fit(start, lambda m, s: np.exp(towards_three(m, s) / 10))
    assert torch.equal(flat(plain.module_), flat(bent.module_))


def test_it_finds_a_maximum_without_a_gradient():
    found = search(generations=120, lr=0.2, weight_decay=0.0, population=16).fit(nn.Linear(3, 2), towards_three)
    np.testing.assert_allclose(flat(found.module_), 3, atol=0.3)
    assert dict(found.history_.sizes) == {"generation": 120}
    assert found.history_["mean"][-1] > found.history_["mean"][0] + 30
    assert (found.history_["worst"] <= found.history_["mean"]).all()
    worse = search(generations=120, lr=0.2, weight_decay=0.0, population=16).fit(
        nn.Linear(3, 2), lambda m, s: np.random.default_rng(abs(hash(flat(m)[0].item()))).random()
    )
    assert abs(flat(worse.module_) - 3).max() > 0.5  # a fitness that knows nothing


def test_candidates_side_by_side_are_candidates_one_by_one():
    net = nn.Sequential(nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, 2))
    generator = torch.Generator().manual_seed(0)
    weights = {k: torch.randn(3, *p.shape, generator=generator) for k, p in net.named_parameters()}
    many, x = Candidates(net, weights), torch.randn(6, 4, generator=generator)
    one_by_one = torch.cat([c(x[2 * i : 2 * i + 2]) for i, c in enumerate(many)])
    torch.testing.assert_close(many(x), one_by_one.detach())
    assert len(many) == 3
    with pytest.raises(InputError, match="dealt out"):
        many(x[:5])
    worms = Candidates(
        WormSwimmer(), {f"w_{k}": torch.rand(4) * s for k, s in (("prop", 1), ("osc", 1), ("ipsi", 1), ("contra", -1))}
    )
    together = swim(worms, steps=30, n_bodies=4)
    q = torch.as_tensor(together["angle"][2, 7].to_numpy() / (np.pi / 3), dtype=torch.float32)[None]
    np.testing.assert_allclose(together["command"][2, 7], worms[2](q, torch.tensor([[7.0]]))[0].detach(), atol=1e-5)


def test_weights_stay_on_their_half_line():
    def wants_less(module, seed):
        return -float(module.w_prop.detach()) + float(module.w_contra.detach())

    worm = search(generations=40, lr=0.2).fit(WormSwimmer().set_weights(prop=0.2, contra=-0.2), wants_less).module_
    assert (worm.w_prop.item(), worm.w_contra.item()) == (0.0, 0.0)
    free = search(generations=40, lr=0.2).fit(WormSwimmer(signed=False).set_weights(prop=0.2), wants_less).module_
    assert free.w_prop.item() < -1


def test_a_run_goes_on_to_the_bit(tmp_path):
    path = tmp_path / "search.pt"
    told = []

    def fitness(module, seed):
        told.append(seed)
        return towards_three(module, seed) + np.random.default_rng(seed).random()

    start = nn.Linear(3, 2, bias=False)
    with torch.no_grad():
        start.weight.copy_(torch.arange(6.0).reshape(2, 3))
    whole = search(generations=7).fit(start, fitness)
    assert len(set(told[:56])) == 7  # one number a generation
    calls = []

    def killed(module, seed):
        calls.append(seed)
        if len(calls) > 4 * 8 + 3:
            raise KeyboardInterrupt
        return fitness(module, seed)

    with pytest.raises(KeyboardInterrupt):
        search(generations=7, checkpoint=path, every=2).fit(start, killed)
    resumed = search(generations=7, checkpoint=path, every=2).fit(start, fitness)
    assert torch.equal(flat(resumed.module_), flat(whole.module_))
    np.testing.assert_array_equal(resumed.history_["mean"], whole.history_["mean"])
    with pytest.raises(InputError, match=r"sigma was 0\.1 and is 0\.2"):
        search(sigma=0.2, checkpoint=path).fit(start, fitness)
    with pytest.raises(InputError, match="module"):
        search(checkpoint=path).fit(nn.Linear(3, 3, bias=False), fitness)
    path.write_bytes(b"nothing")
    with pytest.raises(StoreError, match="damaged"):
        search(checkpoint=path).fit(start, fitness)


def test_a_search_can_be_driven_from_outside():
    start = nn.Linear(2, 1)
    ascent = search(lr=0.2, weight_decay=0.0).begin(start)
    for _ in range(80):
        ascent.tell([towards_three(one, 0) for one in ascent.ask()])
    np.testing.assert_allclose(flat(ascent.module), 3, atol=0.3)
    assert not torch.equal(flat(ascent.module), flat(start))
    with pytest.raises(InputError, match="ask for them first"):
        ascent.tell(np.arange(8))


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"population": 5}, "even"),
        ({"population": 0}, "even"),
        ({"sigma": 0.0}, "above 0"),
        ({"lr": -1.0}, "above 0"),
        ({"generations": 0}, "from 1"),
    ],
)
def test_settings_that_cannot_be(settings, words):
    with pytest.raises(InputError, match=words):
        search(**settings).fit(nn.Linear(1, 1), towards_three)


def test_networks_and_fitness_that_cannot_be():
    with pytest.raises(InputError, match="no trainable weight"):
        search().fit(nn.ReLU(), towards_three)
    with pytest.raises(InputError, match=r"\(8,\) is needed"):
        search(together=True).fit(nn.Linear(1, 1), lambda c, s: 1.0)
    with pytest.raises(ModelError, match="NaN"):
        search().fit(nn.Linear(1, 1), lambda m, s: float("nan"))
    assert clone(search(sigma=0.4)).sigma == 0.4
