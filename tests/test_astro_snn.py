"""Astrocytes beside spiking neurons: three forms of one memory, whole against step by step, generation, and bad input."""

from __future__ import annotations

import itertools
import warnings

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file
from scipy.signal import lfilter
from torch.nn.functional import cross_entropy

import nissl
from nissl.errors import InputError, UnknownNameError
from nissl.learning import token_recall, train
from nissl.nn import (
    LIF,
    AstrocyteMemory,
    AstrocyteModulatedUnit,
    AstroSNN,
    fading_memory,
    firing_rates,
    spike_rates,
)
from nissl.specimens import stories


def drawn(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def pairs(time: int, *, heads: int = 2, seed: int = 0) -> tuple[torch.Tensor, ...]:
    """Query, key and value, and a memory to begin with."""
    q, k = drawn(2, time, heads, 5, seed=seed), drawn(2, time, heads, 5, seed=seed + 1)
    return q, k, drawn(2, time, heads, 3, seed=seed + 2), drawn(2, heads, 3, 5, seed=seed + 3)


# --------------------------------------------------------------------------------------------------- three forms of a memory


@pytest.mark.parametrize("time", [1, 7, 64, 65, 200])
@pytest.mark.parametrize("begun", [True, False])
def test_step_parallel_and_chunked_forms_agree(time, begun):
    *qkv, memory = pairs(time)
    decay = torch.tensor([0.75, 1.0], dtype=torch.float64)
    results = []
    for form, chunk in (
        ("step", 1),
        ("parallel", 1),
        ("chunked", 64),
        ("chunked", 5),
        ("chunked", 1),
        ("chunked", 999),
    ):
        inputs = [v.clone().requires_grad_() for v in (*qkv, memory)]
        out, state = fading_memory(*inputs[:3], decay, inputs[3] if begun else None, form=form, chunk=chunk)
        ((out * drawn(*out.shape, seed=9)).sum() + (state * drawn(*state.shape, seed=8)).sum()).backward()
        results.append([out, state, *(v.grad for v in inputs if v.grad is not None)])
    for other in results[1:]:
        for a, b in zip(results[0], other, strict=True):
            torch.testing.assert_close(a, b, atol=1e-10, rtol=1e-9)


@settings(max_examples=30, deadline=None)
@given(time=st.integers(1, 40), chunk=st.integers(1, 50), decay=st.floats(0.01, 1.0))
def test_any_chunk_and_decay_agree_with_steps(time, chunk, decay):
    q, k, v, memory = pairs(time, seed=time)
    a, b = (fading_memory(q, k, v, decay, memory, form=f, chunk=chunk) for f in ("step", "chunked"))
    for x, y in zip(a, b, strict=True):
        torch.testing.assert_close(x, y, atol=1e-10, rtol=1e-9)


def test_without_decay_it_is_plain_linear_attention():
    q, k, v, _ = pairs(30)
    out, _ = fading_memory(q, k, v, 1.0)
    scores = torch.einsum("bihd,bjhd->bhij", q, k).tril()
    torch.testing.assert_close(out, torch.einsum("bhij,bjhd->bihd", scores, v), atol=1e-12, rtol=1e-12)


def test_one_pair_comes_back_faded_by_its_age():
    keys = torch.linalg.qr(drawn(8, 8)).Q.reshape(1, 8, 1, 8)
    values, query = torch.zeros(1, 8, 1, 4, dtype=torch.float64), keys[:, :1].expand(1, 8, 1, 8)
    values[0, 0, 0] = drawn(4)
    out, _ = fading_memory(query, keys, values, 0.9)
    for age in range(8):
        torch.testing.assert_close(out[0, age, 0], 0.9**age * values[0, 0, 0])


def test_long_texts_in_single_precision_neither_overflow_nor_lose_the_near_past():
    q, k, v = (drawn(1, 3000, 1, 4, seed=s).float() for s in range(3))
    for decay in (0.05, 0.75, 0.999):
        single, _ = fading_memory(q, k, v, decay)
        double, _ = fading_memory(q.double(), k.double(), v.double(), decay)
        assert torch.isfinite(single).all()
        torch.testing.assert_close(single.double(), double, atol=2e-3, rtol=1e-3)


def test_the_recorded_calcium_is_the_recurrence():
    memory = AstrocyteMemory(6, heads=2, seed=3).double()
    x = drawn(2, 70, 6)
    data = nissl.record(memory, x, at=["state", "output"])
    assert data["state"].dims == ("sample", "time", "head", "value", "key")
    np.testing.assert_allclose(data["state"].decay, memory.decay.numpy())
    q, k, v = (getattr(memory, n)(x).unflatten(-1, (2, 3)).detach() for n in ("query", "key", "value"))
    stored = torch.einsum("bthv,bthk->bthvk", v, k / 3**0.5).numpy()
    for head in range(2):
        expected = lfilter([1.0], [1.0, -float(memory.decay[head])], stored[:, :, head], axis=1)
        np.testing.assert_allclose(data["state"][:, :, head], expected, atol=1e-12)
    answer = torch.einsum("bthvk,bthk->bthv", torch.from_numpy(data["state"].values), q).flatten(2)
    np.testing.assert_allclose(data["output"], memory.norm(answer).detach(), atol=1e-10)


# -------------------------------------------------------------------------------------------------- whole, and step by step


@pytest.mark.parametrize(
    "kind",
    [{}, {"astrocytes": False}, {"reset": "soft", "learn_decay": True}, {"reset": "none", "chunk": 3}, {"norm": False}],
)
def test_a_unit_gives_the_same_spikes_whole_and_in_steps(kind):
    unit = AstrocyteModulatedUnit(12, heads=3, seed=1, **kind).double()
    x = drawn(3, 50, 12)
    whole, end = unit.run(x)
    state, steps = None, []
    for x_t in x.unbind(1):
        s, state = unit.step(x_t, state)
        steps.append(s)
    assert torch.equal(whole, torch.stack(steps, 1))
    assert set(whole.unique().tolist()) == {0.0, 1.0}
    for name in end:
        torch.testing.assert_close(end[name], state[name], atol=1e-10, rtol=1e-9)


def test_gradients_are_those_of_the_steps():
    grads = []
    for whole in (True, False):
        unit = AstrocyteModulatedUnit(8, heads=2, seed=1, surrogate="arctan", learn_decay=True).double()
        x = drawn(2, 20, 8).requires_grad_()
        if whole:
            spikes = unit(x)
        else:
            state, steps = unit.initial_state(x[:, 0]), []
            for x_t in x.unbind(1):
                s, state = unit.advance(x_t, state)
                steps.append(s)
            spikes = torch.stack(steps, 1)
        (spikes * drawn(2, 20, 8, seed=4)).sum().backward()
        grads.append([x.grad, *(p.grad for p in unit.parameters())])
    for a, b in zip(*grads, strict=True):
        torch.testing.assert_close(a, b, atol=1e-10, rtol=1e-8)


def test_the_future_changes_nothing_in_the_past():
    network = AstroSNN(20, 16, seed=2).double()
    ids = torch.randint(20, (2, 40), generator=torch.Generator().manual_seed(0))
    other = ids.clone()
    other[:, 25] = (other[:, 25] + 1) % 20
    a, b = network(ids), network(other)
    torch.testing.assert_close(a[:, :25], b[:, :25], atol=1e-12, rtol=0)
    assert not torch.allclose(a[:, 25:], b[:, 25:])


def test_spikes_reset_the_membrane_and_leave_the_calcium():
    unit = AstrocyteModulatedUnit(8, heads=2, threshold=1e-6, norm=False).double()  # neurons that fire nearly always
    free = AstrocyteModulatedUnit(8, heads=2, threshold=1e6, norm=False).double()  # neurons that never do
    x = drawn(1, 30, 8)
    (fired, a), (silent, b) = unit.run(x), free.run(x)
    assert fired.mean() > 0.5
    assert silent.sum() == 0
    torch.testing.assert_close(a["calcium"], b["calcium"])
    assert not torch.allclose(a["membrane"], b["membrane"])


def test_a_text_goes_on_where_its_state_was_saved(tmp_path):
    network = AstroSNN(20, 16, seed=2).double()
    ids = torch.randint(20, (2, 90), generator=torch.Generator().manual_seed(0))
    whole, end = network.run(ids)
    first, state = network.run(ids[:, :33])
    save_file(state, tmp_path / "state.safetensors")
    rest, again = network.run(ids[:, 33:], load_file(tmp_path / "state.safetensors"))
    torch.testing.assert_close(torch.cat([first, rest], 1), whole, atol=1e-9, rtol=1e-9)
    assert end.keys() == again.keys()
    assert sum(v[0].numel() for v in state.values()) == 2 * (16 + 16 * 16 // 2 + 32)


# ------------------------------------------------------------------------------------------------- as a text network of nissl


@pytest.fixture(scope="module")
def model() -> nissl.models.Model:
    return nissl.load(AstroSNN(20, 16, layers=2, heads=2, seed=4).double())


def plain_continuation(network: AstroSNN, prompt: list[int], n: int) -> list[int]:
    """The likeliest tokens, with the whole text read anew for each."""
    ids = list(prompt)
    for _ in range(n):
        ids.append(int(network(torch.tensor([ids]))[0, -1].argmax()))
    return ids


def test_generation_carries_on_what_was_read(model):
    prompts = [[1, 2, 3, 4], [5, 6], [7, 8], [9]]
    out = model.generate(prompts, max_new_tokens=12)
    for row, prompt in zip(out.tolist(), prompts, strict=True):
        assert row[4 - len(prompt) :] == plain_continuation(model.module, prompt, 12)
    assert model.generate([[1, 2]], max_new_tokens=0).tolist() == [[1, 2]]


def test_generated_text_is_recorded(model):
    data = nissl.record(model, [[1, 2, 3], [4, 5]], at="blocks.1.unit.neuron.spikes", generate=5)
    assert data.sizes["position"] == 8
    assert data["generated"].sum() == 10
    assert set(np.unique(data["blocks.1.unit.neuron.spikes"].values[0])) <= {0.0, 1.0}


def test_drawing_is_repeated_by_its_seed(model):
    ids = torch.tensor([[1, 2, 3]])
    a, b, c = (model.module.generate(ids, 15, do_sample=True, seed=s, temperature=2.0) for s in (0, 0, 1))
    assert torch.equal(a, b)
    assert not torch.equal(a, c)
    greedy = model.module.generate(ids, 15, do_sample=True, top_k=1)
    assert torch.equal(greedy, model.module.generate(ids, 15))


def test_a_text_ends_at_its_end():
    plain = AstroSNN(20, 16, seed=4)
    free = plain.generate(torch.tensor([[1, 2, 3]]), 12)[0, 3:].tolist()
    ending = AstroSNN(20, 16, seed=4, eos=free[2])
    out = ending.generate(torch.tensor([[1, 2, 3]]), 12)[0, 3:].tolist()
    assert out == free[: free.index(free[2]) + 1]


def test_interventions_act_in_the_text_and_while_it_is_written(model):
    site, ids = "blocks.0.unit.astrocyte.state", torch.arange(12)[None]
    with torch.no_grad():
        plain = model.module(ids)
        with nissl.intervene(model, {site: nissl.Clamp(0.0, positions=slice(5, 6))}):
            cut = model.module(ids)
            forgot = model.generate([[1, 2, 3, 4, 5, 6, 7]], max_new_tokens=10)
        assert torch.allclose(plain[:, :5], cut[:, :5])
        assert not torch.allclose(plain[:, 5:], cut[:, 5:])
        with nissl.intervene(model, {"blocks.*.spikes": nissl.Ablate("zero")}):
            silent = model.generate([[1, 2, 3]], max_new_tokens=4)
    # Without spikes only the embedding of the last token is left, so that the text is a walk of single tokens.
    step = [int(model.module.head(model.module.norm(model.module.embed.weight[t])).argmax()) for t in range(20)]
    assert silent[0, 3:].tolist() == [t := 3, *[t := step[t] for _ in range(4)]][1:]
    assert forgot.shape == (1, 17)


def test_padding_on_the_right_changes_nothing_before_it(model):
    a = nissl.record(model, [[1, 2, 3, 4, 5], [6, 7]], at="blocks.1.unit.neuron.membrane")
    b = nissl.record(model, [[6, 7]], at="blocks.1.unit.neuron.membrane")
    np.testing.assert_allclose(
        a["blocks.1.unit.neuron.membrane"][1, :2], b["blocks.1.unit.neuron.membrane"][0], atol=1e-9
    )
    with pytest.raises(InputError, match="right"):
        model.module(torch.tensor([[1, 2]]), attention_mask=torch.tensor([[0, 1]]))


def test_weights_survive_a_file(tmp_path):
    network = AstroSNN(20, 16, seed=1, learn_decay=True)
    save_file(network.state_dict(), tmp_path / "weights.safetensors")
    other = AstroSNN(20, 16, seed=2, learn_decay=True)
    ids = torch.arange(10)[None]
    assert not torch.equal(network(ids), other(ids))
    other.load_state_dict(load_file(tmp_path / "weights.safetensors"))
    assert torch.equal(network(ids), other(ids))
    assert "vocab=20" in repr(network)
    assert torch.equal(AstroSNN(20, 16, seed=1, learn_decay=True)(ids), network(ids))


def test_making_a_network_leaves_the_global_generator_alone():
    before = torch.get_rng_state()
    network = AstroSNN(20, 16)
    network.generate(torch.arange(5)[None], 5, do_sample=True)
    assert torch.equal(torch.get_rng_state(), before)


# --------------------------------------------------------------------------------------------------------------- learning


def test_a_delayed_symbol_is_recalled():
    network = AstroSNN(17, 32, seed=0)

    def loss(model, ids, answer):
        return cross_entropy(model(ids)[:, -1], answer)

    train(network, lambda g: token_recall(64, 10, seed=g), loss, steps=120, lr=5e-3, clip=1.0, progress=False)
    ids, answer = token_recall(256, 10, seed=123)
    assert (network(ids)[:, -1].argmax(-1) == answer).double().mean() > 0.95


def test_frozen_projections_and_lesioned_decays():
    network = AstroSNN(17, 16, frozen=True)
    astrocyte = network.blocks.get_submodule("0.unit.astrocyte")
    assert [p.requires_grad for p in (astrocyte.key.weight, astrocyte.value.weight, astrocyte.query.weight)] == [
        False
    ] * 3
    astrocyte.set_decay(0.5)
    assert astrocyte.decay.tolist() == [0.5, 0.5]
    learned = AstrocyteMemory(8, 2, learn_decay=True)
    learned.set_decay([0.5, 0.9])
    torch.testing.assert_close(learned.decay, torch.tensor([0.5, 0.9]))


def test_decays_span_the_time_scales():
    torch.testing.assert_close(AstrocyteMemory(9, 3).decay, 1 - torch.tensor([1 / 4, 1 / (4 * 32**0.5), 1 / 128]))
    assert AstrocyteMemory(4, 1).decay.tolist() == [1 - 1 / 128]


def test_rates_can_be_asked_for_and_warn():
    network = AstroSNN(17, 16)
    ids, _ = token_recall(8, 10)
    with spike_rates(network, warn=False) as rates:
        network(ids)
    assert list(rates) == ["blocks.0.unit.neuron", "blocks.0.mlp.neuron", "blocks.1.unit.neuron", "blocks.1.mlp.neuron"]
    sum(r.square().mean() for r in rates.values()).backward()
    assert network.embed.weight.grad.abs().sum() > 0
    silent = AstroSNN(17, 16, threshold=50.0)
    with pytest.warns(UserWarning, match="hardly ever"):
        silent.train()(ids)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        network.train()(ids)
    with pytest.warns(UserWarning, match="almost every"):
        firing_rates(np.ones((3, 4)))


def test_rates_of_a_recording():
    model = nissl.load(AstroSNN(17, 16))
    data = nissl.record(model, [[1, 2, 3, 4], [5, 6]], at="blocks.0.unit.neuron.spikes")["blocks.0.unit.neuron.spikes"]
    rates = firing_rates(data)
    assert rates.dims == ("unit",)
    np.testing.assert_allclose(rates, np.nanmean(data.values.reshape(-1, 16), 0))


def test_stories_come_back_to_what_they_named():
    found = stories(50, 65)
    assert found.ids.shape == (50, 65)
    assert (stories(50, 65).ids == found.ids).all()
    assert not (stories(50, 65, seed=1).ids == found.ids).all()
    words = found.text(0).split()
    assert len(words) == 65
    names = {"anna", "clara", "edith", "grace", "irene", "mary", "nora", "olive"}
    names |= {"adam", "ben", "frank", "henry", "jack", "martin", "peter", "tom"}
    assert len(names & set(words)) == 2
    with pytest.raises(InputError):
        stories(0)


# -------------------------------------------------------------------------------------------------------------- bad input


@pytest.mark.parametrize("decay", [0.0, -0.1, 1.01, float("nan"), [0.5, 0.5, 0.5], [0.5, 2.0]])
def test_decays_that_are_none(decay):
    with pytest.raises(InputError, match="decay"):
        AstrocyteMemory(8, 2, decay)


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: AstrocyteMemory(9, 2), "divide"), (lambda: AstrocyteModulatedUnit(8, 3), "divide"),
        (lambda: AstroSNN(10, 10, heads=4), "divide"), (lambda: AstroSNN(10, 8, tau=0.0), "tau"), (lambda: AstroSNN(10, 8, tau=0.5), "tau"),
        (lambda: AstroSNN(0), "vocab"), (lambda: AstroSNN(10, 8, eos=10), "eos"), (lambda: AstrocyteMemory(8, 2, 1.0, learn_decay=True), "learn"),
        (lambda: AstrocyteMemory(8, chunk=0), "chunk"), (lambda: AstrocyteModulatedUnit(0), "neurons"), (lambda: token_recall(0, 3), "n=0"),
        (lambda: firing_rates(np.full((3, 2), 0.5)), "0.5"), (lambda: firing_rates(np.full((3, 2), np.nan)), "NaN"),
        (lambda: firing_rates(np.ones((0, 2))), "at least one"), (lambda: fading_memory(drawn(1, 0, 1, 2), drawn(1, 0, 1, 2), drawn(1, 0, 1, 2), 1.0), "step"),
        (lambda: fading_memory(*pairs(3)[:3], 0.5, chunk=0), "chunk"),
    ],
)  # fmt: skip
def test_settings_that_make_no_network(make, said):
    with pytest.raises(InputError, match=said):
        make()


def test_texts_and_states_that_are_none():
    network = AstroSNN(10, 8)
    for ids, said in (
        (torch.zeros(1, 0, dtype=torch.long), "at least one"), (torch.zeros(3), "token ids"), (torch.tensor([[10]]), "0 to 9"),
        (torch.tensor([[-1]]), "-1"), (torch.zeros(1, 3), "token ids"),
    ):  # fmt: skip
        with pytest.raises(InputError, match=said):
            network(ids)
    assert network(torch.zeros(2, 1, dtype=torch.long)).shape == (2, 1, 10)
    state = network.initial_state(2)
    state["0.calcium"][0, 0, 0, 0] = torch.nan
    with pytest.raises(InputError, match="NaN"):
        network.run(torch.zeros(2, 3, dtype=torch.long), state)
    with pytest.raises(InputError, match="another batch"):
        network.run(torch.zeros(3, 3, dtype=torch.long), network.initial_state(2))
    with pytest.raises(UnknownNameError, match="calcum"):
        network.run(torch.zeros(2, 3, dtype=torch.long), {"0.calcum": torch.zeros(2)})


def test_generation_refuses_what_it_cannot_continue():
    network, ids = AstroSNN(10, 8), torch.zeros(2, 3, dtype=torch.long)
    for options, said in itertools.chain(
        [
            ({"max_new_tokens": -1}, "max_new_tokens"),
            ({"do_sample": True, "temperature": 0.0}, "temperature"),
            ({"top_k": 11}, "top_k"),
        ],
        [
            ({"attention_mask": torch.tensor([[1, 1, 0], [1, 1, 1]])}, "left"),
            ({"attention_mask": torch.ones(2, 2)}, "shape"),
        ],
    ):
        with pytest.raises(InputError, match=said):
            network.generate(ids, **options)
    assert isinstance(network.blocks.get_submodule("0.unit.neuron"), LIF)


@pytest.mark.parametrize("decay", [0.0, -0.5, 1.5, float("nan")])
def test_decays_that_are_none_are_refused(decay):
    x = torch.randn(1, 6, 1, 2)
    with pytest.raises(InputError, match="decay"):
        fading_memory(x, x, x, decay)


def test_a_learned_decay_never_reaches_its_ends():
    for logit in (-90.0, 90.0):
        memory = AstrocyteMemory(4, 1, 0.5, learn_decay=True)
        memory.decay_logit.data.fill_(logit)
        assert 0 < memory.decay.item() < 1
        out = memory(torch.randn(1, 9, 4))
        out.sum().backward()
        assert torch.isfinite(out).all()
        assert torch.isfinite(memory.decay_logit.grad).all()
