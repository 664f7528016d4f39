"""Types, not places and not orientations: receptive fields moved to the middle, responses maximised over rotations."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
import xarray as xr
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional

from nissl.errors import InputError


class Rotated(nn.Module):
    """A population's greatest response over rotations of the stimulus, for types that no orientation defines.

    Parameters
    ----------
    model
        From stimuli `(stimulus, ..., y, x)` to responses `(stimulus, unit)`.
    rotations
        How many angles, evenly over the circle, or the angles in degrees. Quarter turns of a square canvas are exact,
        others bilinear; what turns in from outside the canvas is 0.

    Examples
    --------
    >>> upright = lambda x: x[:, 0, 0, 1:2]
    >>> x = torch.tensor([[[[0.0, 0, 0], [5, 0, 0], [0, 0, 0]]]])
    >>> Rotated(upright, 4)(x).item()
    5.0
    """

    def __init__(self, model: Callable[[Tensor], Tensor], rotations: int | Sequence[float]) -> None:
        super().__init__()
        self.respond: Callable[[Tensor], Tensor] = model
        angles = np.arange(rotations) * 360 / rotations if isinstance(rotations, int) and rotations > 0 else rotations
        if isinstance(angles, int) or not len(angles) or not np.isfinite(angles).all():
            raise InputError(f"rotations={rotations!r}: give how many angles (at least 1), or the angles in degrees")
        self.angles = [float(a) for a in angles]

    def forward(self, x: Tensor) -> Tensor:
        """Greatest responses."""
        if x.dim() < 3:
            raise InputError(
                f"only stimuli with y and x as their last axes can be turned, not those of shape {tuple(x.shape[1:])}"
            )
        turned = torch.stack([_turned(x, a) for a in self.angles])
        return self.respond(turned.flatten(0, 1)).unflatten(0, (len(self.angles), len(x))).amax(0)


class Centred(nn.Module):
    """A population whose receptive fields all lie in the middle: every unit sees the stimulus moved to its own place.

    Parameters
    ----------
    model
        From stimuli `(stimulus, ..., y, x)` to responses `(stimulus, unit)`.
    centres
        Where each receptive field lies, `(unit, axis)`: pixels from the middle of the canvas, y then x, as
        `receptive_field_centres` gives them. Rounded to whole pixels.

    Notes
    -----
    Costs one pass through the model for every different place. Up to half a pixel of displacement is left, which tells small
    receptive fields apart: let them cover several pixels.
    """

    of_unit: Tensor

    def __init__(self, model: Callable[[Tensor], Tensor], centres: Any) -> None:
        super().__init__()
        values = np.asarray(centres, dtype=float)
        if values.ndim != 2 or values.shape[1] != 2 or not np.isfinite(values).all():
            raise InputError(
                f"centres of shape {values.shape}; give (unit, 2) pixels from the middle, y then x, without NaN"
            )
        self.respond: Callable[[Tensor], Tensor] = model
        places, of_unit = np.unique(np.rint(values).astype(int), axis=0, return_inverse=True)
        self.places: Int[np.ndarray, "place 2"] = places
        self.register_buffer("of_unit", torch.as_tensor(of_unit.ravel()))
        if hasattr(model, "unit_names"):
            self.unit_names = model.unit_names

    def forward(self, x: Tensor) -> Tensor:
        """Responses to stimuli that every unit sees in its own receptive field."""
        moved = torch.stack([_moved(x, int(y), int(x_)) for y, x_ in self.places])
        response = self.respond(moved.flatten(0, 1)).unflatten(0, (len(self.places), len(x)))
        if response.shape[-1] != len(self.of_unit):
            raise InputError(f"{len(self.of_unit)} centres for {response.shape[-1]} units; give one a unit")
        index = self.of_unit.to(response.device).expand(1, len(x), -1)
        return response.gather(0, index)[0]


def receptive_field_centres(
    model: Callable[[Tensor], Tensor], natural: Float[Tensor, "stimulus *canvas"], *, patch: int = 3
) -> xr.DataArray:
    """Where each unit's receptive field lies, for any differentiable model.

    The map of a unit is the mean square over natural stimuli of the gradient of its response by each pixel, smoothed over
    `patch` pixels; its centre is the map's centre of mass, counting what exceeds a fifth of the maximum.

    Parameters
    ----------
    model
        From stimuli `(stimulus, ..., y, x)` to responses `(stimulus, unit)`.
    natural
        Stimuli to look around, 50 or more.
    patch
        Side of the square that maps are averaged over.

    Returns
    -------
    xarray.DataArray
        Dims `(unit, axis)`: pixels from the middle of the canvas, y then x.

    Raises
    ------
    InputError
        A unit that no pixel moves.
    """
    x = natural.detach().requires_grad_()
    with torch.enable_grad():
        response = model(x)
        # One backward pass a unit: any model can do that, and a unit's gradient over all stimuli comes at once.
        maps = []
        for unit in range(response.shape[1]):
            (gradient,) = torch.autograd.grad(response[:, unit].sum(), x, retain_graph=True)
            maps.append(gradient.square().mean(0).flatten(0, -3).sum(0))
    field = torch.stack(maps)[:, None]
    field = functional.avg_pool2d(field, patch, 1, patch // 2, count_include_pad=False)[
        :, 0, : x.shape[-2], : x.shape[-1]
    ]
    peak = field.amax((1, 2), keepdim=True)
    dead = (peak.flatten() <= 0) | ~torch.isfinite(peak.flatten())
    if dead.any():
        raise InputError(
            f"no pixel moves unit(s) {dead.nonzero().flatten().tolist()[:8]}: they have no receptive field"
        )
    mass = (field - 0.2 * peak).clamp_min(0)
    mass = mass / mass.sum((1, 2), keepdim=True)
    y, x_ = (torch.arange(n, dtype=mass.dtype, device=mass.device) - (n - 1) / 2 for n in field.shape[1:])
    centres = torch.stack([(mass.sum(2) * y).sum(1), (mass.sum(1) * x_).sum(1)], 1)
    names = list(getattr(model, "unit_names", range(len(centres))))
    return xr.DataArray(
        centres.cpu().numpy().astype(float),
        dims=("unit", "axis"),
        coords={"unit": names, "axis": ["y", "x"]},
        attrs={"units": "pixel"},
    )


def centred(model: Callable[[Tensor], Tensor], natural: Float[Tensor, "stimulus *canvas"]) -> Centred:
    """The population with every receptive field in the middle of the canvas: `receptive_field_centres`, then `Centred`.

    Without it, clusters of a population whose receptive fields tile the visual field are places, not types.

    Examples
    --------
    >>> from nissl.recordings.simulate import retina
    >>> cells = retina(n_per_type=2, position_jitter=2.0)
    >>> centred(cells.model, cells.natural(50))(cells.natural(3)).shape
    torch.Size([3, 12])
    """
    return Centred(model, receptive_field_centres(model, natural))


def _turned(x: Tensor, degrees: float) -> Tensor:
    quarter, rest = divmod(degrees % 360, 90)
    if rest == 0 and x.shape[-1] == x.shape[-2]:
        return torch.rot90(x, int(quarter), (-2, -1))
    angle = np.deg2rad(degrees)
    height, width = x.shape[-2:]
    # Grid coordinates run from -1 to 1 along both axes, whatever their length in pixels.
    matrix = x.new_tensor(
        [[np.cos(angle), -np.sin(angle) * height / width, 0.0], [np.sin(angle) * width / height, np.cos(angle), 0.0]]
    )
    planes = x.reshape(len(x), -1, height, width)
    grid = functional.affine_grid(matrix[None].expand(len(x), 2, 3), list(planes.shape), align_corners=False)
    return functional.grid_sample(planes, grid, align_corners=False).reshape(x.shape)


def _moved(x: Tensor, down: int, right: int) -> Tensor:
    """The stimulus moved by whole pixels; 0 comes in from outside."""
    height, width = x.shape[-2:]
    if abs(down) >= height or abs(right) >= width:
        return torch.zeros_like(x)
    return functional.pad(x, (right, -right, down, -down))
