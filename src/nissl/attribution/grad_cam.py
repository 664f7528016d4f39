"""Grad-CAM: where the evidence for an output lies, and which channels carry it.

Selvaraju et al. 2017, "Grad-CAM: Visual Explanations from Deep Networks via Gradient-based Localization", equations 1
and 2. With A the activity of a layer with a spatial layout and y the score of the target, the importance of channel k
is the mean over places of dy/dA_k, and the map is the positive part of the sum of the channels weighted by their
importance.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
import xarray as xr
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from nissl.attribution._question import Question, answer, ask
from nissl.attribution._spatial import as_map, default_site
from nissl.errors import InputError, ModelError
from nissl.models import Model, Site, check_called_once, tap

_BATCH = 32


def grad_cam(
    model: Model | nn.Module,
    image: Any,
    target: Any = None,
    site: str | None = None,
    upsample: bool = True,
    *,
    counterfactual: bool = False,
    batch_size: int = _BATCH,
) -> xr.DataArray:
    """Where the evidence for a target lies.

    Parameters
    ----------
    model
        A network with a spatial layer: convolutional, or a vision transformer.
    image
        A photograph (PIL image, path, array `(y, x, channel)`), a prepared tensor `(sample, channel, y, x)`, or a list
        of photographs.
    target
        A class name or index, a callable on the output (a caption's log-probability, an answer's score, a regression),
        an integer array (one class a sample), a list of targets (one forward pass serves all), or None for each
        picture's top class.
    site
        Where to look; by default the last place with a spatial layout that the target depends on.
    upsample
        Bilinearly to the network's input; False gives the layer's own grid.
    counterfactual
        Explain the negative of the target: the regions whose removal would raise it.
    batch_size
        Pictures in one pass.

    Returns
    -------
    xarray.DataArray
        `(y, x)` for one picture, `(sample, y, x)` for a batch, with a leading `class` axis for a list of targets. Zero
        or positive, in units of the target's score. `y` and `x` are pixels of the photograph, so that the map drawn
        with them lies right on it.

    Raises
    ------
    ModelError
        The target does not depend on the site, or all the evidence is negative (a batch with only some such maps warns
        instead).
    InputError, UnknownNameError
        An unusable picture, an unknown class or site (with the nearest names), a site without spatial layout.

    Examples
    --------
    >>> import nissl
    >>> net = nissl.load("efficientnet-lite0")
    >>> heat = nissl.attribution.grad_cam(net, nissl.specimens.photo("chelsea"), target="Egyptian cat")
    >>> heat.dims
    ('y', 'x')
    """
    question, site = _open(model, image, target, site)
    sign = -1.0 if counterfactual else 1.0
    maps: list[Tensor] = []
    for part in _layers(question, site, batch_size):
        alpha = sign * part.gradient.mean((-2, -1))  # equation 1: (target, sample, unit)
        # Equation 2, as one matrix product: (target, sample, unit) x (sample, unit, y, x).
        maps.append(torch.einsum("tnk,nkyx->tnyx", alpha, part.activity).relu())
    heat = torch.cat(maps, dim=1)
    _check_zero(question, heat, site, counterfactual)
    if upsample:
        heat = functional.interpolate(heat, size=question.inputs.main.shape[-2:], mode="bilinear", align_corners=False)
    return answer(question, heat, ("y", "x"), "grad_cam", site=site, counterfactual=counterfactual)


def channel_importance(
    model: Model | nn.Module, image: Any, target: Any = None, site: str | None = None, *, batch_size: int = _BATCH
) -> xr.DataArray:
    """How much each channel of a layer matters to a target, with sign: Grad-CAM's neuron importance weights (equation
    1).

    Parameters
    ----------
    model, image, target, site, batch_size
        As for `grad_cam`.

    Returns
    -------
    xarray.DataArray
        `(unit,)` for one picture, `(sample, unit)` for a batch, with a leading `class` axis for a list of targets: the
        mean over places of the gradient of the score by the channel. Positive channels speak for the target, negative
        ones against it.

    Examples
    --------
    >>> import nissl
    >>> net = nissl.load("efficientnet-lite0")
    >>> channel_importance(net, nissl.specimens.photo("coffee"), target="espresso").sizes["unit"]
    1280
    """
    question, site = _open(model, image, target, site)
    alpha = torch.cat([part.gradient.mean((-2, -1)) for part in _layers(question, site, batch_size)], dim=1)
    return answer(question, alpha, ("unit",), "channel_importance", site=site)


@dataclass(frozen=True)
class _Layer:
    """A batch's activity at the site, and the gradients of every target by it, both as maps."""

    activity: Float[Tensor, "sample unit y x"]
    gradient: Float[Tensor, "target sample unit y x"]


def _open(model: Model | nn.Module, image: Any, target: Any, site: str | None) -> tuple[Question, str]:
    question = ask(model, image, target)
    inputs = question.inputs
    if inputs.main.dim() != 4:
        raise InputError(
            f"a map over a picture needs pictures; {question.model.name!r} got an input of shape {tuple(inputs.main.shape)}"
        )
    if site is None:
        return question, default_site(question.model, inputs, question.targets[0])
    check_called_once(question.model.sites[site])
    return question, site


def _layers(question: Question, site: str, batch_size: int) -> Iterator[_Layer]:
    """Forward to the site without a graph, from there on with one, and backward only to the site."""
    model = question.model
    for start in range(0, question.inputs.n, batch_size):
        rows = slice(start, start + batch_size)
        inputs = question.inputs[rows]
        kept: list[Tensor] = []

        def begin_graph(value: Tensor, _: Site, kept: list[Tensor] = kept) -> Tensor:
            torch.set_grad_enabled(True)  # until the surrounding no_grad block ends
            kept.append(value.detach().requires_grad_())
            return kept[0].clone()  # a layer that works in place must not overwrite the leaf

        with model.evaluating(), torch.no_grad(), tap(model, {site: begin_graph}):
            output = model.forward(inputs)
            scores = [t.take(rows).score(output, inputs) for t in question.targets]
        if not kept:
            raise ModelError(f"site {site!r} was not reached; its module does not run for this input")
        gradients = [_gradient(score, kept[0], last=i == len(scores) - 1) for i, score in enumerate(scores)]
        if any(g is None for g in gradients) or any(bool((g == 0).all()) for g in gradients if g is not None):
            raise ModelError(_no_gradient(question, site))
        maps = [as_map(g, model.sites[site], model, inputs) for g in gradients if g is not None]
        if any(bool((m == 0).all()) for m in maps):
            raise ModelError(_no_gradient(question, site))
        yield _Layer(as_map(kept[0].detach(), model.sites[site], model, inputs), torch.stack(maps))


def _gradient(score: Tensor, leaf: Tensor, *, last: bool) -> Tensor | None:
    """The gradient of each sample's score by its own activity: samples do not interact, so their sum serves all."""
    if not score.requires_grad:
        return None
    return torch.autograd.grad(score.sum(), leaf, retain_graph=not last, allow_unused=True)[0]


def _no_gradient(question: Question, site: str) -> str:
    return (
        f"Grad-CAM at {site!r} would be zero everywhere: the target has no gradient there. Either nothing after the site depends on it (in a vision "
        "transformer that reads its class token, the patch tokens that leave the last block go nowhere: choose an earlier block), or the output "
        f"is saturated. Without site=..., {question.model.name!r} gets a site that has one"
    )


def _check_zero(question: Question, heat: Tensor, site: str, counterfactual: bool) -> None:
    """A map that is zero because all evidence is negative is an answer, but never a silent one."""
    empty = (heat == 0).flatten(2).all(2)  # (target, sample)
    if not empty.any():
        return
    labels = [t.label for t, row in zip(question.targets, empty, strict=True) if row.any()]
    samples = empty.any(0).nonzero()[:, 0].tolist()
    other = "counterfactual=False" if counterfactual else "counterfactual=True"
    message = (
        f"Grad-CAM for {', '.join(map(repr, labels))} at {site!r} is zero everywhere in sample(s) {samples}: there the weighted channels "
        f"speak {'for' if counterfactual else 'against'} the target at every place; {other} shows where"
    )
    if empty.all():
        raise ModelError(message)
    warnings.warn(message, stacklevel=3)
