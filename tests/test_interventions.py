"""Interventions: closed forms, selectors, gradients, generation, and that nothing stays hooked."""

from __future__ import annotations

import gc
import threading

import numpy as np
import pytest
import torch
import transformers
from torch import nn

import nissl
from nissl.errors import InputError, UnknownNameError

IDS = [[5, 6, 7, 8], [9, 10]]


@pytest.fixture
def lm() -> nissl.Model:
    torch.manual_seed(0)
    config = transformers.GPT2Config(
        n_embd=32, n_layer=2, n_head=4, vocab_size=50, n_positions=32, bos_token_id=1, eos_token_id=2
    )
    return nissl.load(transformers.GPT2LMHeadModel(config))


@pytest.fixture
def net() -> nissl.Model:
    torch.manual_seed(0)
    return nissl.load(nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2)))


def value_at(model: nissl.Model, inputs: object, site: str) -> torch.Tensor:
    kept = {}
    with torch.no_grad(), nissl.models.tap(model, {site: lambda v, s: kept.__setitem__("v", v.clone())}):
        model(inputs)
    return kept["v"]


def clean(model: nissl.Model) -> bool:
    return not any(
        m._forward_hooks or m._forward_pre_hooks or type(getattr(m, "config", None)).__name__ == "_Routed"
        for m in model.module.modules()
    )


def test_clamp_is_exact_and_the_rest_follows_the_weights(net: nissl.Model) -> None:
    x = torch.randn(5, 3)
    hidden = net.module[1](net.module[0](x)).detach()
    hidden[:, 2] = 8.0
    with nissl.intervene(net, {"1": nissl.Clamp(units=[2], value=8.0)}):
        torch.testing.assert_close(net(x), net.module[2](hidden))


def test_clamp_takes_one_value_for_each_unit_in_the_order_given(net: nissl.Model) -> None:
    with nissl.intervene(net, {"1": nissl.Clamp([1.0, 2.0], units=[3, 0])}):
        value = value_at(net, torch.randn(2, 3), "1")
    assert value[:, [3, 0]].tolist() == [[1.0, 2.0]] * 2


def test_zero_ablation_of_all_hidden_units_leaves_the_bias(net: nissl.Model) -> None:
    with nissl.intervene(net, {"1": nissl.Ablate()}):
        torch.testing.assert_close(net(torch.randn(4, 3)), net.module[2].bias.expand(4, 2))


def test_mean_ablation_does_not_count_padding(lm: nissl.Model) -> None:
    before = value_at(lm, IDS, "neurons.0")
    mean = torch.cat([before[0], before[1, :2]]).mean(0)
    with nissl.intervene(lm, {"neurons.0": nissl.Ablate("mean")}):
        after = value_at(lm, IDS, "neurons.0")
    torch.testing.assert_close(after[0], mean.expand(4, -1))


def test_mean_ablation_from_a_reference(lm: nissl.Model) -> None:
    reference = torch.randn(7, 3, 128)
    with nissl.intervene(lm, {"neurons.0": nissl.Ablate("mean", reference=reference)}):
        torch.testing.assert_close(value_at(lm, IDS, "neurons.0")[0, 1], reference.mean((0, 1)))


def test_resampling_gives_every_sample_another_ones_activity(net: nissl.Model) -> None:
    x = torch.randn(6, 3)
    before = value_at(net, x, "1")
    with nissl.intervene(net, {"1": nissl.Ablate("resample", seed=3)}):
        after = value_at(net, x, "1")
    source = (after[:, None] == before[None]).all(-1).float().argmax(1)
    assert sorted(source.tolist()) == list(range(6))
    assert (source != torch.arange(6)).all()


def test_patching_everything_gives_the_other_prompts_output(lm: nissl.Model) -> None:
    clean_ids, other_ids = [[5, 6, 7, 8]], [[11, 12, 13, 14]]
    source = value_at(lm, clean_ids, "resid.1")
    with torch.no_grad(), nissl.intervene(lm, {"resid.1": nissl.Patch(source)}):
        torch.testing.assert_close(lm(other_ids), lm(clean_ids), atol=1e-6, rtol=1e-6)


def test_patching_one_position_leaves_the_others(lm: nissl.Model) -> None:
    source = value_at(lm, [[5, 6, 7, 8]], "resid.1")
    before = value_at(lm, [[11, 12, 13, 14]], "resid.1")
    with nissl.intervene(lm, {"resid.1": nissl.Patch(source, positions=2)}):
        after = value_at(lm, [[11, 12, 13, 14]], "resid.1")
    expected = before.clone()
    expected[:, 2] = source[:, 2]
    torch.testing.assert_close(after, expected)


def test_negative_positions_count_from_each_samples_own_end(lm: nissl.Model) -> None:
    before = value_at(lm, IDS, "resid.1")
    with nissl.intervene(lm, {"resid.1": nissl.Clamp(0.0, positions=-1)}):
        after = value_at(lm, IDS, "resid.1")
    zero = (after == 0).all(-1)
    assert zero.tolist() == [[False, False, False, True], [False, True, False, False]]
    torch.testing.assert_close(after[~zero], before[~zero])


def test_steering_adds_the_direction(lm: nissl.Model) -> None:
    direction = torch.randn(32)
    before = value_at(lm, IDS, "resid.1")
    with nissl.intervene(lm, {"resid.1": nissl.Steer(direction, strength=2.0, positions=slice(1, None))}):
        after = value_at(lm, IDS, "resid.1")
    torch.testing.assert_close(after[0, 1:], before[0, 1:] + 2 * direction)
    torch.testing.assert_close(after[:, 0], before[:, 0])


def test_a_head_alone(lm: nissl.Model) -> None:
    before = value_at(lm, IDS, "heads.1")
    attn = value_at(lm, IDS, "attn.1")
    with nissl.intervene(lm, {"heads.1": nissl.Ablate(heads=[2])}):
        torch.testing.assert_close(value_at(lm, IDS, "attn.1"), attn - before[:, :, 2], atol=1e-6, rtol=1e-5)


def test_the_pattern_can_be_set_under_fused_attention(lm: nissl.Model) -> None:
    assert lm.module.config._attn_implementation == "sdpa"
    uniform = torch.tril(torch.ones(4, 4))
    uniform = (uniform / uniform.sum(1, keepdim=True)).expand(1, 4, 4, 4)
    ids = [[5, 6, 7, 8]]
    values = value_at(lm, ids, "value.0")
    with nissl.intervene(lm, {"pattern.0": nissl.Patch(uniform)}):
        mixed = value_at(lm, ids, "transformer.h.0.attn.c_proj:in")
    expected = torch.einsum("nhqk,nkhd->nqhd", uniform, values).flatten(2)
    torch.testing.assert_close(mixed, expected, atol=1e-6, rtol=1e-5)


def test_any_callable_a_list_and_globs(lm: nissl.Model) -> None:
    with nissl.intervene(lm, {"neurons.*": [lambda v: v * 0 + 1, lambda v, site: v + (site.layer or 0)]}):
        assert value_at(lm, IDS, "neurons.1").unique().tolist() == [2.0]
        assert value_at(lm, IDS, "neurons.0").unique().tolist() == [1.0]
    assert clean(lm)


def test_nested_interventions_are_carried_out_from_the_outside_in(net: nissl.Model) -> None:
    with nissl.intervene(net, {"1": nissl.Clamp(1.0)}):
        with nissl.intervene(net, {"1": lambda v: v * 3}):
            assert value_at(net, torch.ones(1, 3), "1").unique().tolist() == [3.0]
        assert value_at(net, torch.ones(1, 3), "1").unique().tolist() == [1.0]
    assert clean(net)


def test_gradients_flow_through(net: nissl.Model) -> None:
    direction = torch.zeros(4, requires_grad=True)
    with nissl.intervene(net, {"1": nissl.Steer(direction)}):
        net(torch.ones(1, 3))[0, 1].backward()
    torch.testing.assert_close(direction.grad, net.module[2].weight[1])


def test_a_training_step_inside_a_block_leaves_a_clamped_unit_untrained(net: nissl.Model) -> None:
    with nissl.intervene(net, {"1": nissl.Clamp(0.0, units=0)}):
        net(torch.ones(3, 3)).sum().backward()
    assert net.module[0].weight.grad[0].abs().sum() == 0
    assert net.module[2].weight.grad[:, 0].abs().sum() == 0


def test_generation_feels_an_intervention_at_every_step(lm: nissl.Model) -> None:
    bias = torch.zeros(50)
    bias[17] = 1e4
    with nissl.intervene(lm, {"logits": lambda v: v + bias}):
        out = lm.generate(IDS, max_new_tokens=5)
    assert out[:, -5:].unique().tolist() == [17]
    assert lm.generate(IDS, max_new_tokens=5)[:, -5:].unique().tolist() != [17]


def test_positions_mean_the_same_token_while_generating_with_a_cache(lm: nissl.Model) -> None:
    """Steering at position 1 must act on the prompt's second real token only, left padding and cache or not."""
    direction = torch.randn(32) * 5
    with nissl.intervene(lm, {"resid.1": nissl.Steer(direction, positions=1)}):
        together = lm.generate(IDS, max_new_tokens=6)
        alone = [lm.generate([ids], max_new_tokens=6) for ids in IDS]
        uncached = lm.generate(IDS, max_new_tokens=6, use_cache=False)
    assert together[:, -6:].tolist() == [a[0, -6:].tolist() for a in alone] == uncached[:, -6:].tolist()


def test_nothing_is_left_after_an_exception_a_dropped_generator_or_a_bad_site(lm: nissl.Model) -> None:
    with (
        pytest.raises(ZeroDivisionError),
        nissl.intervene(lm, {"pattern.0": nissl.Ablate(), "resid.1": nissl.Ablate()}),
    ):
        lm(IDS)
        raise ZeroDivisionError
    assert clean(lm)

    def stream():
        with nissl.intervene(lm, {"key.0": nissl.Ablate(), "mlp.0": nissl.Ablate()}):
            for ids in IDS:
                yield lm([ids])

    running = stream()
    next(running)
    assert not clean(lm)
    del running
    gc.collect()
    assert clean(lm)

    with (
        pytest.raises(UnknownNameError, match=r"resid\.1"),
        nissl.intervene(lm, {"resid.0": nissl.Ablate(), "resd.1": nissl.Ablate()}),
    ):
        pass
    assert clean(lm)


def test_an_error_inside_an_intervention_leaves_nothing(lm: nissl.Model) -> None:
    def broken(value: torch.Tensor) -> torch.Tensor:
        raise RuntimeError("mine")

    with pytest.raises(RuntimeError, match="mine"), nissl.intervene(lm, {"query.1": broken}):
        lm(IDS)
    assert clean(lm)


def test_another_thread_sees_the_network_as_it_is(lm: nissl.Model) -> None:
    with torch.no_grad():
        bare = lm(IDS)
    inside, done = threading.Event(), threading.Event()
    seen: dict[str, torch.Tensor] = {}

    def meddle() -> None:
        with (
            torch.no_grad(),
            nissl.intervene(lm, {"resid.1": nissl.Ablate(), "pattern.0": nissl.Ablate(), "heads.0": nissl.Ablate()}),
        ):
            inside.set()
            done.wait(10)
            seen["meddled"] = lm(IDS)

    thread = threading.Thread(target=meddle)
    thread.start()
    inside.wait(10)
    with torch.no_grad():
        assert torch.equal(lm(IDS), bare)
    done.set()
    thread.join()
    assert not torch.allclose(seen["meddled"], bare)
    assert clean(lm)


def test_two_threads_at_once(net: nissl.Model) -> None:
    results: dict[float, bool] = {}

    def clamp(number: float) -> None:
        good = True
        for _ in range(50):
            with torch.no_grad(), nissl.intervene(net, {"1": nissl.Clamp(number)}):
                good &= value_at(net, torch.ones(2, 3), "1").unique().tolist() == [number]
        results[number] = good

    threads = [threading.Thread(target=clamp, args=(float(i),)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == dict.fromkeys(map(float, range(4)), True)
    assert clean(net)


@pytest.mark.parametrize(
    ("site", "intervention", "message"),
    [
        ("resid.0", lambda: nissl.Clamp(1.0, units=[32]), "32"),
        ("resid.0", lambda: nissl.Clamp(1.0, heads=[0]), "no heads"),
        ("heads.0", lambda: nissl.Ablate(heads=[4]), "0 to 3"),
        ("resid.0", lambda: nissl.Clamp([1.0, 2.0], units=[1]), "2 values for 1"),
        ("resid.0", lambda: nissl.Steer(np.ones(5)), "32 units"),
        ("resid.0", lambda: nissl.Patch(np.ones((3, 4, 32))), "3 samples"),
        ("resid.0", lambda: nissl.Patch(np.ones((1, 4, 31))), "31"),
        ("resid.0", lambda: nissl.Clamp(0.0, positions=[9]), "4 tokens"),
        ("resid.0", lambda: lambda v: v[:, :1], "keep the shape"),
        ("resid.0", lambda: "zero", "no intervention"),
    ],
)
def test_what_does_not_fit_is_named(lm: nissl.Model, site: str, intervention, message: str) -> None:
    with pytest.raises(InputError, match=message), nissl.intervene(lm, {site: intervention()}):
        lm(IDS)
    assert clean(lm)


def test_an_unknown_ablation_lists_the_known() -> None:
    with pytest.raises(UnknownNameError, match="'mean'"):
        nissl.Ablate("meen")


def test_calls_of_a_module_that_runs_twice() -> None:
    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.act = nn.ReLU()

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.act(self.act(x) - 1)

    model = nissl.load(Twice())
    x = torch.tensor([[3.0]])
    with nissl.intervene(model, {"act#0": nissl.Clamp(5.0)}):
        assert model(x).item() == model(x).item() == 4.0
    with nissl.intervene(model, {"act": nissl.Clamp(5.0)}):
        assert model(x).item() == 5.0
    model.trace(model.prepare(x))
    with pytest.raises(InputError, match="#0 to #1"):
        model.sites["act#2"]
