"""Top examples against brute force, whatever the batch size."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import transformers
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

import nissl
from nissl.activity import TopExamples, top_examples
from nissl.errors import InputError, UnknownNameError


@pytest.fixture(scope="module")
def lm() -> nissl.Model:
    torch.manual_seed(0)
    config = transformers.GPT2Config(
        n_embd=16, n_layer=1, n_head=2, vocab_size=60, n_positions=16, bos_token_id=1, eos_token_id=2
    )
    return nissl.load(transformers.GPT2LMHeadModel(config))


@pytest.fixture(scope="module")
def texts() -> list[list[int]]:
    rng = np.random.default_rng(0)
    return [rng.integers(3, 60, rng.integers(1, 12)).tolist() for _ in range(60)]


def test_equals_brute_force(lm: nissl.Model, texts: list[list[int]]) -> None:
    acts = nissl.record(lm, texts, "neurons.0")["neurons.0"]
    top = top_examples(lm, texts, "neurons.0", k=7)
    peak = acts.max("position")
    for unit in range(64):
        order = np.argsort(-peak.values[:, unit], kind="stable")[:7]
        np.testing.assert_array_equal(top["sample"][unit], order)
        np.testing.assert_array_equal(top["position"][unit], np.nanargmax(acts.values[order, :, unit], 1))
        np.testing.assert_allclose(top["value"][unit], peak.values[order, unit], atol=1e-6)
    np.testing.assert_allclose(top["mean"], acts.mean(("sample", "position")), atol=1e-5)
    np.testing.assert_allclose(top["std"], acts.std(("sample", "position")), atol=1e-5)
    np.testing.assert_allclose(
        top["active"], (acts > 0).sum(("sample", "position")) / acts.notnull().sum(("sample", "position"))
    )


def test_the_batch_size_and_streaming_do_not_matter(lm: nissl.Model, texts: list[list[int]]) -> None:
    options = dict(k=5, n_random=6, n_quantiles=3, per_quantile=2, units=[3, 9], seed=4)
    reference = top_examples(lm, texts, "neurons.0", batch_size=60, **options)
    for size, inputs in ((1, texts), (7, iter(texts))):
        xr.testing.assert_allclose(
            top_examples(lm, inputs, "neurons.0", batch_size=size, **options), reference, atol=1e-5
        )
    assert reference["unit"].values.tolist() == [3, 9]
    assert len(set(reference["random_sample"].values.tolist())) == 6


@given(data=st.data(), n=st.integers(1, 30), k=st.integers(1, 8), size=st.integers(1, 9))
@settings(max_examples=40, deadline=None)
def test_ties_keep_the_order_of_the_corpus(data: st.DataObject, n: int, k: int, size: int) -> None:
    values = np.array(data.draw(st.lists(st.integers(0, 3), min_size=n, max_size=n)), dtype=np.float32)
    found = TopExamples(k=k)
    for start in range(0, n, size):
        found.update(xr.DataArray(values[start : start + size, None], dims=("sample", "unit")))
    assert found.result()["sample"].values[0].tolist() == np.argsort(-values, kind="stable")[:k].tolist()


def test_quantile_samples_cover_the_active_range() -> None:
    rng = np.random.default_rng(0)
    values = np.where(rng.random((4000, 3)) < 0.5, rng.random((4000, 3)), 0).astype(np.float32)
    found = TopExamples(k=1, n_quantiles=4, per_quantile=5)
    for part in np.array_split(values, 9):
        found.update(xr.DataArray(part, dims=("sample", "unit")))
    result = found.result()
    drawn = result["quantile_value"].values
    assert (drawn > 0).all()
    np.testing.assert_array_equal(drawn, values[result["quantile_sample"].values, np.arange(3)[:, None, None]])
    np.testing.assert_allclose(drawn.mean((0, 2)), [0.125, 0.375, 0.625, 0.875], atol=0.08)


def test_few_active_examples_come_once() -> None:
    found = TopExamples(k=9, n_quantiles=3, per_quantile=2)
    found.update(xr.DataArray([[0.0], [2.0], [0.0], [1.0]], dims=("sample", "unit")))
    result = found.result()
    drawn = result["quantile_sample"].values.ravel()
    assert sorted(drawn[drawn >= 0].tolist()) == [1, 3]
    assert result.sizes["rank"] == 4


def test_places_of_pictures() -> None:
    model = nissl.load(nn.Sequential(nn.Conv2d(1, 2, 1)))
    with torch.no_grad():
        model.module[0].weight[:] = torch.tensor([1.0, -1.0])[:, None, None, None]
        model.module[0].bias[:] = 0
    x = torch.zeros(3, 1, 4, 5)
    x[1, 0, 2, 3], x[2, 0, 0, 4] = 5, -7
    top = top_examples(model, x, "0", k=1)
    assert top["sample"].values.ravel().tolist() == [1, 2]
    assert (top["y"].values.ravel().tolist(), top["x"].values.ravel().tolist()) == ([2, 0], [3, 4])
    assert (top.attrs["height"], top.attrs["width"]) == (4, 5)


def test_bad_questions(lm: nissl.Model, texts: list[list[int]]) -> None:
    with pytest.raises(InputError, match="k=0"):
        top_examples(lm, texts, "neurons.0", k=0)
    with pytest.raises(InputError, match="one"):
        top_examples(lm, texts, ["neurons.0", "resid.0"])
    with pytest.raises(UnknownNameError, match="'max'"):
        top_examples(lm, texts, "neurons.0", pool="maximum")
    with pytest.raises(InputError, match="head"):
        top_examples(lm, texts, "heads.0")
    with pytest.raises(InputError, match="empty"):
        top_examples(lm, [], "neurons.0")
