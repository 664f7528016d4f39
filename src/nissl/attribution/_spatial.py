"""Where a network still knows where things are: its last spatial layer, its grid of tokens."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from nissl.errors import InputError, ModelError
from nissl.models import Inputs, Model, Site, Target, tap


def default_site(model: Model, inputs: Inputs, target: Target) -> str:
    """The last place with a spatial layout that the target still depends on.

    For a convolutional network that is the last map before pooling, after the activation. For a vision transformer it
    is the last block whose patch tokens reach the output: where the class token is read, the patch tokens that leave
    the last block have no gradient.

    Raises
    ------
    InputError
        The network has no spatial layer.
    """
    site = _last_map(model)
    if site is not None:
        return site
    sites = _token_sites(model, inputs)
    if not sites:
        raise InputError(
            f"{model.name!r} has no spatial layer for inputs of shape {tuple(inputs.main.shape)}; name a site whose output is (sample, unit, "
            "y, x) or a grid of tokens"
        )
    return _last_with_gradient(model, inputs, target, sites)


def as_map(value: Tensor, site: Site, model: Model, inputs: Inputs) -> Tensor:
    """Activity of a site as `(sample, unit, y, x)`: token grids are laid out, class and register tokens dropped.

    Raises
    ------
    InputError
        The site has no spatial layout.
    """
    if value.dim() == 4:
        return value
    if value.dim() == 3:
        grid = token_grid(model, inputs, value.shape[1])
        if grid is not None:
            h, w = grid
            return value[:, value.shape[1] - h * w :].transpose(1, 2).unflatten(2, (h, w))
    raise InputError(
        f"site {site.name!r} has shape {tuple(value.shape)}, which is no map; choose one with axes (sample, unit, y, x) or a grid of tokens"
    )


def token_grid(model: Model, inputs: Inputs, positions: int) -> tuple[int, int] | None:
    """Rows and columns of patches among `positions` tokens of a picture; None where they form no grid.

    The patches come last; class, distillation and register tokens stand before them.
    """
    if inputs.kind != "image" or inputs.main.dim() != 4:
        return None
    height, width = inputs.main.shape[-2:]
    patch = _patch_size(model)
    if patch is not None:
        h, w = height // patch[0], width // patch[1]
        if 0 < h * w <= positions <= h * w + 32:
            return h, w
    # Hierarchical transformers coarsen their grid: the scale that fits with the fewest tokens to spare.
    for spare in range(9):
        for scale in (2**i for i in range(1, 8)):
            h, w = height // scale, width // scale
            if h * w == positions - spare and h * w > 1:
                return h, w
    return None


def _patch_size(model: Model) -> tuple[int, int] | None:
    size = getattr(model.config, "patch_size", None)
    if size is None:
        stems = (m for m in model.module.modules() if isinstance(m, nn.Conv2d))
        stem = next((m for m in stems if m.kernel_size == m.stride and math.prod(m.stride) > 1), None)
        size = None if stem is None else stem.stride
    if size is None:
        return None
    return (size, size) if isinstance(size, int) else (int(size[0]), int(size[1]))


def _last_map(model: Model) -> str | None:
    """The last map of more than one place, by what the first run showed; a pooling layer's input where one follows."""
    visits = model.sites.visits
    maps = [i for i, v in enumerate(visits) if v.gave and len(v.gave) == 4 and v.gave[2] * v.gave[3] > 1]
    # A patch embedding is a map, too, but what follows it are tokens: then the network is a transformer.
    if not maps or any(v.gave and len(v.gave) == 3 and v.gave[1] > 1 for v in visits[maps[-1] :]):
        return None
    last = visits[maps[-1]]
    for later in visits[maps[-1] + 1 :]:
        module = model.module.get_submodule(later.module)
        if later.given == last.gave and "Pool" in type(module).__name__ and model.sites[later.module].calls == 1:
            return f"{later.module}:in"
    return last.module if model.sites[last.module].calls == 1 else f"{last.module}#{last.call}"


def _token_sites(model: Model, inputs: Inputs) -> list[str]:
    """Sites whose tokens form a grid, in the order of the network: the residual stream, else the members of module
    lists.
    """
    residual = [name for name in model.sites.canonical if name.startswith("resid.")]
    if residual and inputs.kind == "image":
        return residual
    lists = {path for path, m in model.module.named_modules() if isinstance(m, nn.ModuleList | nn.Sequential)}
    return [
        v.module
        for v in model.sites.visits
        if v.gave
        and len(v.gave) == 3
        and v.module.rpartition(".")[0] in lists
        and model.sites[v.module].calls == 1
        and token_grid(model, inputs, v.gave[1]) is not None
    ]


def _last_with_gradient(model: Model, inputs: Inputs, target: Target, sites: Sequence[str]) -> str:
    """The last of `sites` whose patch tokens have a gradient for the first sample."""
    one = inputs[:1]
    kept: dict[str, Tensor] = {}

    def keep(value: Tensor, site: Site) -> Tensor:
        tracked = value if value.requires_grad else value.detach().requires_grad_()
        kept[site.name] = tracked
        return tracked

    with torch.enable_grad(), model.evaluating(), tap(model, dict.fromkeys(sites, keep)):
        score = target.take(slice(1)).score(model.forward(one), one).sum()
    gradients = torch.autograd.grad(score, list(kept.values()), allow_unused=True)
    for name, gradient in reversed(list(zip(kept, gradients, strict=True))):
        if gradient is not None and as_map(gradient, model.sites[name], model, one).abs().max() > 0:
            return name
    raise ModelError(f"the target {target.label!r} of {model.name!r} depends on none of its patch tokens")
