"""What a quadratic neuron computes, as a symmetric matrix, and the filters that its eigenvectors are."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
import torch
import xarray as xr
from torch import Tensor, nn

from nissl.errors import InputError, ModelError
from nissl.nn.quadratic.layers import Quadratic, QuadraticConv2d
from nissl.nn.quadratic.relinear import _quadratic_layers

LARGEST = 2**27  # numbers in all matrices together: 1 GiB


def quadratic_form(layer: nn.Module, units: int | Sequence[int] | None = None) -> xr.Dataset:
    """What each unit of a quadratic layer computes, as h(x) = xᵀAx + a·x + a0.

    Parameters
    ----------
    layer
        A `QuadraticLinear` or `QuadraticConv2d`.
    units
        Which units; all where None.

    Returns
    -------
    xarray.Dataset
        `A` (unit, input, input_2), symmetric: a matrix of rank 2 (the interaction) plus a diagonal; `a` (unit, input); `a0` (unit,). float64. For
        a convolution x is the patch under the kernel, flattened, and `input` carries its `channel` (within the group), `y` and `x`.

    Raises
    ------
    InputError
        Not a quadratic layer, units that do not exist, or so many that their matrices take over 1 GiB.
    ModelError
        Weights that are NaN or infinite.

    Examples
    --------
    >>> from nissl.nn.quadratic import QuadraticLinear
    >>> form = quadratic_form(QuadraticLinear(3, 2, init="random"))
    >>> dict(form.sizes)
    {'unit': 2, 'input': 3, 'input_2': 3}
    """
    if not isinstance(layer, Quadratic):
        raise InputError(f"{type(layer).__name__} given; quadratic_form takes a QuadraticLinear or QuadraticConv2d")
    if not all(bool(p.isfinite().all()) for p in layer.parameters()):
        raise ModelError("the layer's weights are NaN or infinite; training has diverged")
    n, width = len(layer.weight_r), layer.weight_r[0].numel()
    chosen = np.arange(n)[:] if units is None else np.atleast_1d(np.asarray(units))
    if chosen.dtype.kind not in "iu" or chosen.ndim != 1 or not ((chosen >= 0) & (chosen < n)).all():
        raise InputError(f"units={units!r}; this layer has {n}, so 0 to {n - 1}")
    if len(chosen) * width**2 > LARGEST:
        raise InputError(
            f"{len(chosen)} matrices of {width} x {width} take over 1 GiB; give units=range({LARGEST // width**2 or 1})"
        )
    (w_r, b_r), (w_g, b_g), (w_b, c) = (_of(layer, name, chosen) for name in "rgb")
    if layer.compact:
        b_g = np.ones(len(chosen))
    outer = w_r[:, :, None] * w_g[:, None, :]
    form = (outer + outer.transpose(0, 2, 1)) / 2
    form[:, range(width), range(width)] += w_b
    found = {
        "A": (("unit", "input", "input_2"), form),
        "a": (("unit", "input"), b_g[:, None] * w_r + b_r[:, None] * w_g),
        "a0": ("unit", b_r * b_g + c),
    }
    return xr.Dataset(found, {"unit": chosen, **_places(layer)})


def energy_filters(layer: nn.Module, unit: int, k: int = 3) -> xr.DataArray:
    """The strongest eigenvectors of a unit's matrix A: the filters of its energy model.

    A unit adds eigenvalue times squared response of each filter. Filters of positive eigenvalue excite it whichever
    their sign, as in a complex cell; those of negative eigenvalue suppress it. They compare with the filters that spike-triggered covariance
    finds in a recording.

    Parameters
    ----------
    layer
        A `QuadraticLinear` or `QuadraticConv2d`.
    unit
        Which unit.
    k
        How many of each sign, at most; a sign may have fewer.

    Returns
    -------
    xarray.DataArray
        (component, input), or (component, channel, y, x) for a convolution; of norm 1. Excitatory filters first, each kind from its strongest; coordinates
        `eigenvalue` and `kind` ("excitatory" or "suppressive") along `component`.

    Raises
    ------
    InputError
        As `quadratic_form`, or k below 1.

    References
    ----------
    Adelson, Bergen 1985, Spatiotemporal energy models for the perception of motion; Schwartz, Pillow, Rust, Simoncelli 2006, Spike-triggered
    neural characterization.

    Examples
    --------
    >>> from nissl.nn.quadratic import QuadraticLinear
    >>> filters = energy_filters(QuadraticLinear(16, 4, init="random"), unit=0, k=1)
    >>> filters.kind.values.tolist()
    ['excitatory', 'suppressive']
    """
    if not isinstance(k, int) or k < 1:
        raise InputError(f"k={k!r}; allowed: whole numbers from 1")
    form = quadratic_form(layer, unit)
    values, vectors = np.linalg.eigh(form["A"].values[0])
    zero = len(values) * np.finfo(float).eps * np.abs(values).max()
    up, down = np.flatnonzero(values > zero)[::-1][:k], np.flatnonzero(values < -zero)[:k]
    order = np.concatenate([up, down])
    filters = vectors.T[order]
    dims = ("component", "input")
    if isinstance(layer, QuadraticConv2d):
        filters, dims = filters.reshape(len(order), *layer.weight_r.shape[1:]), ("component", "channel", "y", "x")
    coords = {
        "eigenvalue": ("component", values[order]),
        "kind": ("component", np.array(["excitatory"] * len(up) + ["suppressive"] * len(down), dtype="<U11")),
    }
    return xr.DataArray(filters, coords, dims, name="filter", attrs={"unit": int(unit)})


def largest_preactivation(model: nn.Module, *inputs: Any) -> pd.Series:
    """The largest |h| of each quadratic layer in one pass: where a network that diverges does so.

    Parameters
    ----------
    model
        A network with quadratic layers.
    inputs
        What it is called with.

    Returns
    -------
    pandas.Series
        One number a layer, by its name, in the order of the pass; infinite or NaN where numbers overflowed. A layer called twice shows its larger.

    Raises
    ------
    ModelError
        The network has no quadratic layer.

    Examples
    --------
    >>> from nissl.nn.quadratic import QuadraticLinear
    >>> deep = nn.Sequential(*(QuadraticLinear(8, 8, init="random") for _ in range(9)))
    >>> largest_preactivation(deep, 10 * torch.ones(4, 8)).isin([float("inf"), float("nan")]).any().item()
    True
    """
    layers = _quadratic_layers(model)
    found: dict[str, float] = {}

    def see(path: str) -> Any:
        def hook(module: nn.Module, given: Any, output: Tensor) -> None:
            most = float(output.detach().abs().max()) if output.numel() else 0.0
            found[path] = float(np.maximum(found.get(path, 0.0), most))  # NaN stays NaN

        return hook

    handles = [layer.register_forward_hook(see(path)) for path, layer in layers.items()]
    try:
        with torch.no_grad():
            model(*inputs)
    finally:
        for handle in handles:
            handle.remove()
    return pd.Series(found, name="largest |h|", dtype=float).rename_axis("layer")


def _of(layer: Quadratic, name: str, chosen: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Weights (unit, input) and biases (unit,) of one map, zero where it has none."""
    weight, bias = getattr(layer, f"weight_{name}"), getattr(layer, f"bias_{name}")
    width = layer.weight_r[0].numel()
    full = np.zeros((len(chosen), width)) if weight is None else _numpy(weight).reshape(-1, width)[chosen]
    return full, np.zeros(len(chosen)) if bias is None else _numpy(bias)[chosen]


def _numpy(value: Tensor) -> np.ndarray:
    return value.detach().cpu().double().numpy()


def _places(layer: Quadratic) -> dict[str, Any]:
    if not isinstance(layer, QuadraticConv2d):
        return {}
    places = np.indices(tuple(layer.weight_r.shape[1:])).reshape(3, -1)
    return {name: ("input", place) for name, place in zip(("channel", "y", "x"), places, strict=True)}
