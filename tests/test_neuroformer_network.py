"""The network: probabilities that sum to one, causality, padding, order, caches, losses, connectivity by brute force."""

from __future__ import annotations

import math
from dataclasses import replace
from itertools import pairwise, product

import numpy as np
import pytest
import torch

from nissl.populations.neuroformer import Architecture, NeuroformerNetwork, companions, info_nce
from nissl.populations.neuroformer.connectivity import attention_sums, occlusion_sums
from nissl.populations.neuroformer.generation import draw, next_past, nucleus
from nissl.populations.neuroformer.losses import losses, total
from nissl.populations.neuroformer.scoring import window_log_likelihood
from nissl.populations.neuroformer.windows import Batch, Windows, open_windows


def _network(**change) -> NeuroformerNetwork:
    torch.manual_seed(0)
    return NeuroformerNetwork(
        Architecture(
            **({"n_units": 3, "window_bins": 5, "past_bins": 15, "bin_width": 0.01, "dim": 16, "heads": 2} | change)
        )
    ).eval()


def _windows(seed: int = 0, n_bins: int = 300, rate: float = 0.2) -> Windows:
    counts = np.random.default_rng(seed).poisson(rate, (n_bins, 3))
    return open_windows(
        counts, bin_width=0.01, window=0.05, max_events=100, ties="unit", silent="keep", seed=0, past=0.15, max_past=200
    )


def _batch() -> Batch:
    return _windows().batch(np.arange(3, 40))


@pytest.mark.parametrize("most", [1, 2, 3])
def test_probabilities_of_all_sequences_sum_to_one(most: int) -> None:
    network = _network(n_units=2, window_bins=2, max_events=most).double()
    events = list(product(range(2), range(2)))
    every = [s for n in range(most + 1) for s in product(events, repeat=n) if all(a[1] <= b[1] for a, b in pairwise(s))]
    ids, dts = torch.full((len(every), most + 2), 4), torch.full((len(every), most + 2), 4)
    for row, sequence in enumerate(every):
        units, times = [3, *(u for u, _ in sequence), 2], [3, *(t for _, t in sequence), 2]
        ids[row, : len(units)], dts[row, : len(times)] = torch.tensor(units), torch.tensor(times)
    none = torch.zeros(len(every), 0, dtype=torch.long)
    batch = Batch(ids, dts, none, none, none.bool())
    with torch.no_grad():
        found = network(batch)
        log_p = sum(window_log_likelihood(network, batch, found))
    assert torch.as_tensor(log_p).exp().sum().item() == pytest.approx(1, abs=1e-9)
    # The chain rule by hand, for one sequence.
    row = every.index(((0, 0),) if most == 1 else ((0, 0), (1, 1)))
    by_hand = 0.0
    for k in range(len(every[row]) + 1):
        with torch.no_grad():
            part = network.decode(
                ids[row : row + 1, : k + 1],
                dts[row : row + 1, : k + 1],
                network.context(
                    replace(batch, ids=ids[:1], past_ids=none[:1], past_dts=none[:1], past_real=none[:1].bool())
                ),
            )
        if k < most:
            by_hand += part.ids[0, -1].log_softmax(-1)[ids[row, k + 1]].item()
        if k < len(every[row]):
            by_hand += part.dts[0, -1, :-1].log_softmax(-1)[dts[row, k + 1]].item()
    assert by_hand == pytest.approx(torch.as_tensor(log_p)[row].item(), abs=1e-9)


def test_later_tokens_change_nothing_earlier() -> None:
    network, batch = _network(), _batch()
    k = 3
    ids, dts = batch.ids.clone(), batch.dts.clone()
    ids[:, k:], dts[:, k:] = torch.randint(0, 3, ids[:, k:].shape), 4
    with torch.no_grad():
        a, b = network(batch), network(replace(batch, ids=ids, dts=dts))
    assert (a.ids[:, :k] - b.ids[:, :k]).abs().max() < 1e-6
    assert (a.ids[:, k:] - b.ids[:, k:]).abs().max() > 1e-3


def test_padding_never_matters() -> None:
    network, batch = _network(predict={"speed": 0}, contrast=("spikes", "stimulus"), clip=(2, 4)), _batch()
    batch = replace(batch, stimulus=torch.randn(len(batch.ids), 2, 4), targets={"speed": torch.randn(len(batch.ids))})
    wide = replace(
        batch,
        ids=torch.nn.functional.pad(batch.ids, (0, 7), value=5), dts=torch.nn.functional.pad(batch.dts, (0, 7), value=7),
        past_ids=torch.nn.functional.pad(torch.where(batch.past_real, batch.past_ids, 1), (0, 6), value=2),
        past_dts=torch.nn.functional.pad(torch.where(batch.past_real, batch.past_dts, 3), (0, 6), value=1),
        past_real=torch.nn.functional.pad(batch.past_real, (0, 6)),
    )  # fmt: skip
    with torch.no_grad():
        a, b = network(batch), network(wide)
        la, lb = losses(network, batch, a), losses(network, wide, b)
    assert (a.ids - b.ids[:, : a.ids.shape[1]]).abs().max() < 1e-5
    assert (a.predicted["speed"] - b.predicted["speed"]).abs().max() < 1e-5
    assert (a.aligned["spikes"] - b.aligned["spikes"]).abs().max() < 1e-5
    for name, value in la.items():
        assert value.item() == pytest.approx(lb[name].item(), abs=1e-5)


def test_order_of_context_without_positions_never_matters() -> None:
    network, batch = _network(clip=(6, 4)), _batch()
    batch = replace(batch, stimulus=torch.randn(len(batch.ids), 6, 4))
    order = torch.randperm(batch.past_ids.shape[1])
    frames = torch.randperm(6)
    moved = replace(
        batch, past_ids=batch.past_ids[:, order], past_dts=batch.past_dts[:, order], past_real=batch.past_real[:, order], stimulus=batch.stimulus[:, frames]
    )  # fmt: skip
    with torch.no_grad():
        assert (network(batch).ids - network(moved).ids).abs().max() > 1e-4
        network.past_slot.weight.zero_()
        network.past_time.zero_()
        network.stimulus_encoder.position.zero_()
        assert (network(batch).ids - network(moved).ids).abs().max() < 1e-5


def test_an_empty_past_is_no_nan() -> None:
    network, batch = _network(), _batch()
    empty = replace(batch, past_real=torch.zeros_like(batch.past_real))
    for weights in (False, True):
        assert torch.isfinite(network(empty, weights=weights).ids).all()


def test_fused_attention_is_the_attention_that_is_shown() -> None:
    network, batch = _network(layers=(2, 2, 1, 2)), _batch()
    with torch.no_grad():
        fused, shown = network(batch), network(batch, weights=True)
    assert (fused.ids - shown.ids).abs().max() < 1e-5
    assert [len(shown.attention[k]) for k in ("state", "past", "final")] == [2, 2, 2]
    torch.testing.assert_close(shown.attention["past"][0].sum(-1), torch.ones_like(shown.attention["past"][0][..., 0]))


def test_cached_keys_give_the_same_predictions() -> None:
    network, batch = _network(clip=(3, 4), layers=(1, 1, 1, 2)), _batch()
    batch = replace(batch, stimulus=torch.randn(len(batch.ids), 3, 4))
    with torch.no_grad():
        context, cache = network.context(batch), {}
        whole = network.decode(batch.ids[:, :-1], batch.dts[:, :-1], context)
        for k in range(batch.ids.shape[1] - 1):
            step = network.decode(batch.ids[:, k : k + 1], batch.dts[:, k : k + 1], context, first_slot=k, cache=cache)
            assert (step.ids[:, 0] - whole.ids[:, k]).abs().max() < 1e-5


def test_what_is_called_spikes_does_not_know_the_stimulus() -> None:
    network, batch = _network(clip=(3, 4), contrast=("spikes", "stimulus")), _batch()
    a = network(replace(batch, stimulus=torch.randn(len(batch.ids), 3, 4)))
    b = network(replace(batch, stimulus=torch.randn(len(batch.ids), 3, 4)))
    assert (a.aligned["spikes"] - b.aligned["spikes"]).abs().max() < 1e-6
    assert (a.aligned["stimulus"] - b.aligned["stimulus"]).abs().max() > 1e-2
    assert (a.ids - b.ids).abs().max() > 1e-3


def test_contrastive_loss_against_its_formula() -> None:
    same = torch.ones(12, 4) / 2
    assert info_nce(same, same).item() == pytest.approx(math.log(12), abs=1e-6)
    a, b = (torch.nn.functional.normalize(torch.randn(9, 5), dim=-1) for _ in range(2))
    similarity = (a @ b.T).double().numpy() / 0.3
    rows = -np.mean(np.diag(similarity) - np.log(np.exp(similarity).sum(1)))
    columns = -np.mean(np.diag(similarity) - np.log(np.exp(similarity).sum(0)))
    assert info_nce(a, b, temperature=0.3).item() == pytest.approx(rows, abs=1e-5)
    assert info_nce(a, b, temperature=0.3, symmetric=True).item() == pytest.approx((rows + columns) / 2, abs=1e-5)


def test_weights_of_losses() -> None:
    parts = {k: torch.tensor(v) for k, v in {"id": 1.0, "dt": 10.0, "contrast": 100.0, "speed": 1000.0}.items()}
    assert total(parts).item() == pytest.approx(0.25 * 100 + 0.75 * (0.6 + 4) + 1000)
    assert total({k: parts[k] for k in ("id", "dt")}).item() == pytest.approx(4.6)
    assert total(parts, ("speed",)).item() == 1000


def test_attention_sums_by_brute_force() -> None:
    network, windows = _network(), _windows()
    index = np.arange(3, 30)
    batch = windows.batch(index)
    with torch.no_grad():
        shown = network(batch, weights=True).attention
    past, final = shown["past"][-1].mean(1).numpy(), shown["final"][-1].mean(1).numpy()
    for source in ("past", "current", "both"):
        expected = np.zeros((2, 3, 3))
        for b in range(len(index)):
            for q in range(batch.ids.shape[1] - 1):
                target = int(batch.ids[b, q + 1])
                if target >= 3:
                    continue
                if source != "current":
                    for k in range(batch.past_ids.shape[1]):
                        if batch.past_real[b, k]:
                            expected[:, target, int(batch.past_ids[b, k])] += past[b, q, k + 1], 1
                if source != "past":
                    for k in range(1, q + 1):
                        expected[:, target, int(batch.ids[b, k])] += final[b, q, k], 1
        sums, pairs = attention_sums(network, windows, index, source=source)
        np.testing.assert_allclose(sums, expected[0], atol=1e-4)
        np.testing.assert_array_equal(pairs, expected[1])
    # Rows of N_a hold all the attention that left predictions of that unit, but for the null token's.
    sums, _ = attention_sums(network, windows, index)
    targets = batch.ids[:, 1:].numpy()
    mass = [past[..., 1:].sum(-1)[targets == j].sum() for j in range(3)]
    np.testing.assert_allclose(sums.sum(1), mass, rtol=1e-5)


def test_rollout_passes_on_everything() -> None:
    """With nothing but cross-attention to the past, attention to past and current tokens adds up to one."""
    network, windows = _network(layers=(1, 2, 1, 2)), _windows()
    from nissl.populations.neuroformer.connectivity import _rollout

    with torch.no_grad():
        shown = network(windows.batch(np.arange(3, 20)), weights=True).attention
    past, current = _rollout({k: [p.mean(1) for p in v] for k, v in shown.items()})
    torch.testing.assert_close(past.sum(-1) + current.sum(-1), torch.ones(past.shape[:2]))
    assert current.triu(1).abs().max() == 0


def test_occlusion_by_brute_force() -> None:
    network, windows = _network(), _windows()
    index = np.arange(3, 30)
    sums, pairs = occlusion_sums(network, windows, index, progress=False)
    expected = np.zeros((2, 3, 3))
    for w in index:
        batch = windows.batch(np.array([w]))
        for source in range(3):
            here = batch.past_real & (batch.past_ids == source)
            if not here.any():
                continue
            with torch.no_grad():
                full = network(batch).ids.log_softmax(-1)[0]
                hidden = network(replace(batch, past_real=batch.past_real & ~here)).ids.log_softmax(-1)[0]
            for q, target in enumerate(batch.ids[0, 1:].tolist()):
                if target < 3:
                    expected[:, target, source] += (full[q, target] - hidden[q, target]).item(), 1
    np.testing.assert_allclose(sums, expected[0], atol=1e-4)
    np.testing.assert_array_equal(pairs, expected[1])


def test_the_nucleus_is_the_smallest_set_that_holds_its_share() -> None:
    logits = torch.randn(50, 9)
    p = logits.softmax(-1)
    kept = nucleus(logits, top_p=0.8)
    for row, cut in zip(p, kept, strict=True):
        ranked = row.sort(descending=True).values
        n = int((ranked.cumsum(0) < 0.8).sum()) + 1
        assert (cut > 0).sum() == n
        torch.testing.assert_close(cut.max(), ranked[0] / ranked[:n].sum())
    torch.testing.assert_close(nucleus(logits, temperature=2.0), (logits / 2).softmax(-1))


def test_drawn_windows_follow_the_network() -> None:
    """Frequencies of whole windows in many draws, against their probabilities."""
    network = _network(n_units=2, window_bins=2, max_events=2)
    none = torch.zeros(20_000, 0, dtype=torch.long)
    batch = Batch(none, none, none, none, none.bool())
    with torch.no_grad():
        ids, dts = draw(
            network,
            network.context(batch),
            20_000,
            temperature=(1, 1),
            top_p=(1, 1),
            generator=torch.Generator().manual_seed(0),
        )
        assert ((dts[:, 2] >= dts[:, 1]) | (ids[:, 2] >= 2)).all()
        rows, counts = torch.cat([ids, dts], 1).unique(dim=0, return_counts=True)
        w = ids.shape[1]
        few = none[: len(rows)]
        found = Batch(rows[:, :w], rows[:, w:], few, few, few.bool())
        p = torch.as_tensor(sum(window_log_likelihood(network, found, network(found)))).exp()
    assert p.sum().item() == pytest.approx(1, abs=1e-3)
    assert (counts / 20_000 - p).abs().max() < 4 * math.sqrt(0.25 / 20_000)


def test_the_past_of_the_next_window_is_what_was_generated() -> None:
    windows = _windows(rate=0.15)
    for w in range(3, 20):
        now, after = windows.batch(np.array([w])), windows.batch(np.array([w + 1]))
        ids, dts, real = next_past([now.past_ids, now.past_dts, now.past_real], now.ids, now.dts, windows)
        np.testing.assert_array_equal(ids[real].numpy(), after.past_ids[after.past_real].numpy())
        np.testing.assert_array_equal(dts[real].numpy(), after.past_dts[after.past_real].numpy())


def test_glm_and_partial_correlation_against_trusted_packages() -> None:
    from sklearn.linear_model import LinearRegression, PoissonRegressor

    rng = np.random.default_rng(1)
    x = rng.poisson(0.3, (1500, 3))
    x[2:, 1] += rng.poisson(0.5 * x[:-2, 0])
    weights, intercept = companions.fit_poisson_glm(x.astype(float), 4, bands=2, ridge=2.0)
    banded = companions._banded(x, 4, 2).reshape(len(x) - 4, -1)
    trusted = PoissonRegressor(alpha=2.0 / len(banded), max_iter=2000, tol=1e-9).fit(banded, x[4:, 1])
    np.testing.assert_allclose(weights[1].ravel(), trusted.coef_, atol=2e-3)
    assert intercept[1] == pytest.approx(trusted.intercept_, abs=2e-3)
    past = companions._past_counts(x, 4)
    rest = np.delete(past, 0, axis=1)
    a, b = (v - LinearRegression().fit(rest, v).predict(rest) for v in (past[:, 0], x[4:, 1]))
    assert companions.partial_correlation(x.astype(float), 4)[1, 0] == pytest.approx(np.corrcoef(a, b)[0, 1], abs=1e-3)
    assert weights.sum(2)[1, 0] > 3 * np.abs(weights.sum(2)[0, 1])
