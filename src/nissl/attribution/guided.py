"""Guided backpropagation and guided Grad-CAM.

Springenberg et al. 2015, "Striving for Simplicity: The All Convolutional Net": at every rectifier the gradient passes
only where the forward activity and the incoming gradient are both positive. Selvaraju et al. 2017 multiply the result
with the upsampled Grad-CAM map.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import xarray as xr
from torch import Tensor, nn
from torch.nn import functional
from torch.overrides import TorchFunctionMode

from nissl.attribution._question import answer, ask
from nissl.attribution.grad_cam import grad_cam
from nissl.models import Model

# Every way in which torch rectifies, smooth relatives included; modules such as nn.ReLU6 end in one of these.
_RECTIFIERS: set[Callable[..., Any]] = {
    torch.relu, torch.relu_, Tensor.relu, Tensor.relu_, functional.relu, functional.relu_, functional.relu6, functional.silu, functional.gelu,
    functional.elu, functional.celu, functional.selu, functional.leaky_relu, functional.leaky_relu_, functional.prelu, functional.hardswish,
    functional.hardtanh, functional.hardtanh_, functional.softplus, functional.mish, functional.rrelu,
}  # fmt: skip


class _Guide(TorchFunctionMode):
    """While it is on, the gradient that enters a rectifier from above is cut where it or the rectifier's activity is
    not positive.
    """

    def __torch_function__(self, func: Callable, types: Any, args: tuple = (), kwargs: dict | None = None) -> Any:
        output = func(*args, **(kwargs or {}))
        if func in _RECTIFIERS and output.requires_grad:
            active = output.detach() > 0
            output.register_hook(lambda gradient: gradient.clamp(min=0) * active)
        return output


def guided_backprop(
    model: Model | nn.Module, image: Any, target: Any = None, *, keep_channels: bool = False, batch_size: int = 32
) -> xr.DataArray:
    """Which pixels excite the target through positive paths only.

    Parameters
    ----------
    model, image, target, batch_size
        As for `grad_cam`.
    keep_channels
        Return the signed gradient of every colour channel; by default the largest magnitude over the channels.

    Returns
    -------
    xarray.DataArray
        `(y, x)` or `(sample, y, x)`, with a leading `class` axis for a list of targets; `keep_channels` adds `channel`
        before `y`.

    Examples
    --------
    >>> import nissl
    >>> net = nissl.load("efficientnet-lite0")
    >>> guided_backprop(net, nissl.specimens.photo("coffee"), "espresso").dims
    ('y', 'x')
    """
    question = ask(model, image, target)
    rows: list[Tensor] = []
    for start in range(0, question.inputs.n, batch_size):
        part = slice(start, start + batch_size)
        inputs = question.inputs[part]
        pixels = inputs.main.detach().clone().requires_grad_()
        ready = inputs.with_main(pixels)
        with torch.enable_grad(), question.model.evaluating():
            with _Guide():
                # A copy, because a network may begin with an operation in place.
                output = question.model.forward(ready.with_main(pixels * 1))
            scores = [t.take(part).score(output, ready) for t in question.targets]
        rows.append(torch.stack([torch.autograd.grad(s.sum(), pixels, retain_graph=True)[0] for s in scores]))
    gradient = torch.cat(rows, dim=1)
    if keep_channels:
        return answer(question, gradient, ("channel", "y", "x"), "guided_backprop")
    return answer(question, gradient.abs().amax(2), ("y", "x"), "guided_backprop")


def guided_grad_cam(
    model: Model | nn.Module,
    image: Any,
    target: Any = None,
    site: str | None = None,
    *,
    keep_channels: bool = False,
    batch_size: int = 32,
) -> xr.DataArray:
    """Guided backpropagation, kept where Grad-CAM finds evidence: fine detail that depends on the class.

    Parameters
    ----------
    model, image, target, site, batch_size
        As for `grad_cam`.
    keep_channels
        As for `guided_backprop`.

    Returns
    -------
    xarray.DataArray
        The product of `guided_backprop` and the upsampled `grad_cam` map, with the axes of the former.
    """
    heat = grad_cam(model, image, target, site, batch_size=batch_size)
    guided = guided_backprop(model, image, target, keep_channels=keep_channels, batch_size=batch_size)
    product = (guided * heat).transpose(*guided.dims).rename("guided_grad_cam")
    return product.assign_attrs({**heat.attrs, "method": "guided_grad_cam"})
