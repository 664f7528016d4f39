"""One door to every method."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import xarray as xr
from torch import nn

from nissl.attribution import captum_methods
from nissl.attribution.attention import attention, attention_rollout
from nissl.attribution.grad_cam import grad_cam
from nissl.attribution.guided import guided_backprop, guided_grad_cam
from nissl.errors import InputError, unknown
from nissl.models import Model, load


@dataclass(frozen=True)
class Method:
    """A row of the table: the function, and which kinds of input it can explain."""

    function: Callable[..., xr.DataArray]
    kinds: tuple[str, ...]


_ANY = ("image", "text", "tensor")

METHODS: dict[str, Method] = {
    "grad_cam": Method(grad_cam, ("image",)),
    "guided_backprop": Method(guided_backprop, ("image",)),
    "guided_grad_cam": Method(guided_grad_cam, ("image",)),
    "saliency": Method(captum_methods.saliency, _ANY),
    "input_x_gradient": Method(captum_methods.input_x_gradient, _ANY),
    "integrated_gradients": Method(captum_methods.integrated_gradients, _ANY),
    "deep_lift": Method(captum_methods.deep_lift, _ANY),
    "gradient_shap": Method(captum_methods.gradient_shap, _ANY),
    "kernel_shap": Method(captum_methods.kernel_shap, _ANY),
    "lime": Method(captum_methods.lime, _ANY),
    "occlusion": Method(captum_methods.occlusion, _ANY),
    "attention": Method(attention, ("image", "text")),
    "attention_rollout": Method(attention_rollout, ("image", "text")),
}


def attribute(
    model: Model | nn.Module, inputs: Any, target: Any = None, method: str = "grad_cam", **options: Any
) -> xr.DataArray:
    """Which parts of the input mattered to the target, by any method.

    Parameters
    ----------
    model
        The network.
    inputs
        A picture, a text, a tensor, or a batch of them.
    target
        As for `grad_cam`; for language models a next token.
    method
        One of `methods()`.
    **options
        The method's own.

    Returns
    -------
    xarray.DataArray
        `(y, x)` for a picture, `(position,)` with a `token` coordinate for a text, the input's own axes for a tensor; a
        batch adds `sample`, a list of targets adds `class` in front.

    Raises
    ------
    UnknownNameError
        No such method or option; the message lists the nearest.
    InputError
        A method that cannot explain this kind of input.

    Examples
    --------
    >>> import nissl, torch
    >>> net = nissl.load(torch.nn.Linear(3, 2))
    >>> attribute(net, torch.ones(1, 3), target=0, method="input_x_gradient").dims
    ('sample', 'unit')
    """
    if method not in METHODS:
        raise unknown("attribution method", method, METHODS)
    row = METHODS[method]
    allowed = list(inspect.signature(row.function).parameters)[3:]
    for option in options:
        if option not in allowed:
            raise unknown(f"option of {method}", option, allowed)
    model = load(model)
    kind = model.prepare(inputs).kind
    if kind not in row.kinds:
        fitting = ", ".join(methods(kind))
        raise InputError(
            f"{method} explains {' and '.join(row.kinds)} inputs, this is {kind}; for these there are {fitting}"
        )
    return row.function(model, inputs, target, **options)


def methods(kind: str | None = None) -> list[str]:
    """Names of all methods, or of those for `image`, `text` or `tensor` inputs.

    Examples
    --------
    >>> "attention_rollout" in methods("text")
    True
    """
    return [name for name, row in METHODS.items() if kind is None or kind in row.kinds]
