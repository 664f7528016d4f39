"""Captum's methods on pictures, texts and plain tensors.

Captum computes; what is added here is what it leaves to the user: text goes in through the embedding site, superpixels
and tokens are the features of the perturbation methods, baselines have sensible defaults, and answers have named axes.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any, Literal

import captum.attr as captum
import numpy as np
import torch
import xarray as xr
from torch import Tensor, nn

from nissl.attribution._deep_lift import AsModule, copied
from nissl.attribution._features import Baseline, baseline_of, groups
from nissl.attribution._question import Question, answer, ask
from nissl.errors import InputError, ModelError
from nissl.models import Inputs, Model, Target, class_scores, tap


def saliency(model: Model | nn.Module, inputs: Any, target: Any = None, *, batch_size: int = 32) -> xr.DataArray:
    """Size of the gradient of the score (Simonyan et al. 2014); over colour channels or embedding units the largest
    magnitude.
    """
    return _run(model, inputs, target, "saliency", lambda f: captum.Saliency(f).attribute, batch_size, reduce="largest")


def input_x_gradient(
    model: Model | nn.Module, inputs: Any, target: Any = None, *, batch_size: int = 32
) -> xr.DataArray:
    """Input times gradient (Shrikumar et al. 2016), summed over channels; exact for a linear network with baseline
    zero.
    """
    return _run(model, inputs, target, "input_x_gradient", lambda f: captum.InputXGradient(f).attribute, batch_size)


def integrated_gradients(
    model: Model | nn.Module,
    inputs: Any,
    target: Any = None,
    *,
    baseline: Baseline = "zero",
    n_steps: int = 32,
    batch_size: int = 4,
) -> xr.DataArray:
    """Gradients integrated along the straight line from a baseline (Sundararajan et al. 2017).

    Parameters
    ----------
    baseline
        `zero` (of the normalised picture: mid grey; of an embedding: the null vector), `blur` (pictures), or a number.
    n_steps
        Points of the Gauss-Legendre quadrature; attributions sum to score minus baseline score up to its error.
    """

    def method(forward: Callable) -> Callable:
        explain = captum.IntegratedGradients(forward)
        return lambda x, **k: explain.attribute(
            x, baselines=baseline_of(x, baseline), n_steps=n_steps, internal_batch_size=32, **k
        )

    return _run(model, inputs, target, "integrated_gradients", method, batch_size, baseline=str(baseline))


def deep_lift(
    model: Model | nn.Module, inputs: Any, target: Any = None, *, baseline: Baseline = "zero", batch_size: int = 16
) -> xr.DataArray:
    """Differences from a baseline, propagated by the rescale rule (Shrikumar et al. 2017).

    The rule applies to activation modules; activations that a network computes by bare functions (those of most Hugging
    Face transformers) pass their gradient instead.
    """

    def method(forward: Callable, module: nn.Module) -> Callable:
        explain = captum.DeepLift(AsModule(forward, module))
        return lambda x, **k: explain.attribute(x, baselines=baseline_of(x, baseline), **k)

    return _run(model, inputs, target, "deep_lift", method, batch_size, on_copy=True, baseline=str(baseline))


def gradient_shap(
    model: Model | nn.Module,
    inputs: Any,
    target: Any = None,
    *,
    n_samples: int = 16,
    noise: float = 0.1,
    seed: int = 0,
    batch_size: int = 4,
) -> xr.DataArray:
    """Expected gradients between noisy inputs and baselines, zero and blurred (Lundberg and Lee 2017; Erion et al.
    2019).
    """

    def method(forward: Callable) -> Callable:
        explain = captum.GradientShap(forward)

        def run(x: Tensor, **k: Any) -> Tensor:
            pool = (
                torch.cat([torch.zeros_like(x[:1]), baseline_of(x, "blur")])
                if x.dim() == 4
                else torch.zeros_like(x[:1])
            )
            return explain.attribute(x, baselines=pool, n_samples=n_samples, stdevs=noise, **k)

        return run

    return _run(model, inputs, target, "gradient_shap", method, batch_size, seed=seed)


def kernel_shap(
    model: Model | nn.Module,
    inputs: Any,
    target: Any = None,
    *,
    features: Any = 50,
    n_samples: int = 200,
    baseline: Baseline = "zero",
    seed: int = 0,
) -> xr.DataArray:
    """Shapley values of superpixels, tokens or entries, by weighted regression (Lundberg and Lee 2017).

    Parameters
    ----------
    features
        For pictures: about how many superpixels, or a label map `(y, x)`. Tokens and tensor entries are features by
        themselves.
    n_samples
        Coalitions tried for each sample.
    """
    return _perturb(model, inputs, target, "kernel_shap", captum.KernelShap, features, n_samples, baseline, seed)


def lime(
    model: Model | nn.Module,
    inputs: Any,
    target: Any = None,
    *,
    features: Any = 50,
    n_samples: int = 200,
    baseline: Baseline = "zero",
    seed: int = 0,
) -> xr.DataArray:
    """Weights of a sparse linear model fitted around the input (Ribeiro et al. 2016); parameters as for
    `kernel_shap`.
    """
    return _perturb(model, inputs, target, "lime", captum.Lime, features, n_samples, baseline, seed)


def occlusion(
    model: Model | nn.Module,
    inputs: Any,
    target: Any = None,
    *,
    window: int | None = None,
    stride: int | None = None,
    baseline: Baseline = "zero",
    batch_size: int = 8,
) -> xr.DataArray:
    """Drop of the score when a window is covered (Zeiler and Fergus 2014).

    Parameters
    ----------
    window
        Side of the window in pixels, or number of tokens or entries; by default an eighth of the picture, or one.
    stride
        Steps between windows; by default half the window for pictures, one for texts and tensors.
    """
    sized = window

    def method(forward: Callable) -> Callable:
        explain = captum.Occlusion(forward)

        def run(x: Tensor, **k: Any) -> Tensor:
            if x.dim() == 4:
                side = sized or max(1, x.shape[-1] // 8)
                step = stride or max(1, side // 2)
                shape, strides = (x.shape[1], side, side), (x.shape[1], step, step)
            else:
                side, step = sized or 1, stride or 1
                shape, strides = (side, *x.shape[2:]), (step, *x.shape[2:])
            return explain.attribute(
                x,
                sliding_window_shapes=shape,
                strides=strides,
                baselines=baseline_of(x, baseline),
                perturbations_per_eval=4,
                **k,
            )

        return run

    return _run(model, inputs, target, "occlusion", method, batch_size, reduce="mean", baseline=str(baseline))


# ------------------------------------------------------------------------------------------------------------- running


@dataclass(frozen=True)
class _Batch:
    """What captum varies: pixels, entries or embeddings; and what it must repeat beside it."""

    varied: Tensor
    extras: tuple[Tensor, ...]
    forward: Callable[..., Tensor]


def _run(
    model: Model | nn.Module,
    inputs: Any,
    target: Any,
    name: str,
    method: Callable[..., Callable],
    batch_size: int,
    *,
    reduce: Literal["sum", "mean", "largest"] = "sum",
    on_copy: bool = False,
    seed: int | None = None,
    **attrs: Any,
) -> xr.DataArray:
    question = ask(model, inputs, target)
    working = replace(question, model=copied(question.model)) if on_copy else question
    rows = []
    with _seeded(seed), working.model.evaluating(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # captum warns of gradients it needed and set itself
        for start in range(0, question.inputs.n, batch_size):
            part = question.inputs[start : start + batch_size]
            targets = [t.take(slice(start, start + batch_size)) for t in question.targets]
            rows.append(torch.stack([_one(working.model, part, t, method, on_copy) for t in targets]))
    return _answer(question, torch.cat(rows, dim=1), name, reduce, **attrs)


def _one(model: Model, inputs: Inputs, target: Target, method: Callable[..., Callable], on_copy: bool) -> Tensor:
    batch = _batch(model, inputs, target)
    attribute = method(batch.forward, model.module) if on_copy else method(batch.forward)
    index = None if target.index is None else target.index
    values = attribute(
        batch.varied.detach().clone().requires_grad_(), target=index, additional_forward_args=batch.extras or None
    )
    if not torch.isfinite(values).all():
        raise ModelError(f"the attributions of {model.name!r} are not finite; check its weights, or try float32")
    return values.detach()


def _batch(model: Model, inputs: Inputs, target: Target) -> _Batch:
    """The tensor to vary and the forward function of it; captum repeats the extras row by row with it."""
    if inputs.kind == "text":
        return _text_batch(model, inputs, target)
    others = {k: v for k, v in inputs.tensors.items() if k != inputs.main_name}
    if not inputs.main.is_floating_point():
        raise InputError(f"an input of type {inputs.main.dtype} cannot be varied; give floating-point numbers")

    def forward(x: Tensor, *extras: Tensor) -> Tensor:
        ready = replace(inputs, tensors={inputs.main_name: x, **dict(zip(others, extras, strict=True))}, frames=None)
        return _scores(model.forward(ready), ready, target)

    return _Batch(inputs.main, tuple(others.values()), forward)


def _text_batch(model: Model, inputs: Inputs, target: Target) -> _Batch:
    """Tokens are no numbers: their embeddings are varied, and put in where the network looks them up."""
    site = _embedding_site(model)
    kept: list[Tensor] = []
    with torch.no_grad(), tap(model, {site: lambda value, _: kept.append(value.detach().clone())}):
        model.forward(inputs)
    names = list(inputs.tensors)
    mask = inputs.mask if inputs.mask is not None else torch.ones_like(inputs.main, dtype=torch.bool)

    def forward(x: Tensor, real: Tensor, *tensors: Tensor) -> Tensor:
        ready = Inputs(dict(zip(names, tensors, strict=True)), inputs.main_name, "text", real.bool())
        with tap(model, {site: lambda value, _: x}):
            return _scores(model.forward(ready), ready, target)

    embedded = kept[0].expand(inputs.n, *kept[0].shape[1:])
    return _Batch(embedded, (mask, *inputs.tensors.values()), forward)


def _embedding_site(model: Model) -> str:
    """Where token embeddings come out: the canonical site, or the first embedding that sees the ids."""
    if "embed" in model.sites.canonical:
        return "embed"
    embeddings = [p for p, m in model.module.named_modules() if isinstance(m, nn.Embedding)]
    if not embeddings:
        raise InputError(f"{model.name!r} has no embedding layer, so its tokens cannot be varied")
    return embeddings[0]


def _scores(output: Any, inputs: Inputs, target: Target) -> Tensor:
    """All classes where captum picks the target's (it knows how it repeated the samples), else the callable's
    number.
    """
    return class_scores(output, inputs) if target.index is not None else target.score(output, inputs)


def _answer(question: Question, values: Tensor, name: str, reduce: str, **attrs: Any) -> xr.DataArray:
    inputs = question.inputs
    reducers = {"sum": lambda v, d: v.sum(d), "mean": lambda v, d: v.mean(d), "largest": lambda v, d: v.abs().amax(d)}
    if inputs.kind == "text":
        return answer(question, reducers[reduce](values, -1), ("position",), name, **attrs)
    if values.dim() == 5:  # target, sample, channel, y, x
        return answer(question, reducers[reduce](values, 2), ("y", "x"), name, **attrs)
    values = values.abs() if reduce == "largest" else values
    plain = {1: ("unit",), 2: ("position", "unit")}.get(
        values.dim() - 2, tuple(f"axis_{i}" for i in range(1, values.dim() - 1))
    )
    return answer(question, values, plain, name, **attrs)


# ------------------------------------------------------------------------------------------------- perturbation methods


def _perturb(
    model: Model | nn.Module,
    inputs: Any,
    target: Any,
    name: str,
    kind: type,
    features: Any,
    n_samples: int,
    baseline: Baseline,
    seed: int,
) -> xr.DataArray:
    """LIME and kernel SHAP fit one regression a sample, over groups of entries."""

    def method(forward: Callable) -> Callable:
        explain = kind(forward)

        def run(x: Tensor, **k: Any) -> Tensor:
            grouped = groups(x, features)
            if int(grouped.max()) == 0:
                return torch.zeros_like(x)
            return explain.attribute(
                x.detach(),
                feature_mask=grouped,
                baselines=baseline_of(x, baseline),
                n_samples=n_samples,
                perturbations_per_eval=16,
                **k,
            )

        return run

    return _run(model, inputs, target, name, method, 1, reduce="mean", seed=seed, baseline=str(baseline))


@contextmanager
def _seeded(seed: int | None) -> Iterator[None]:
    """Captum draws from the global generators: they are seeded for the call and put back."""
    if seed is None:
        yield
        return
    state = np.random.get_state()  # noqa: NPY002  captum itself draws from it
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        np.random.seed(seed)  # noqa: NPY002
        try:
            yield
        finally:
            np.random.set_state(state)  # noqa: NPY002


__all__ = [
    "deep_lift", "gradient_shap", "input_x_gradient", "integrated_gradients", "kernel_shap", "lime", "occlusion", "saliency",
]  # fmt: skip
