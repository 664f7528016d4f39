"""Retina-like populations whose functional types are known: centres, large centres, simple and complex cells.

Every neuron has the receptive field of its type with noise of its own, a position of its own and a gain of its own; its
response is a differentiable function of the stimulus, so that stimuli can be made for it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
import torch
import xarray as xr
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from nissl.errors import InputError


@dataclass(frozen=True)
class CellType:
    """What all cells of a type share.

    Attributes
    ----------
    name
        What it is called.
    kind
        `centre`: a disc with a surround of equal weight; `simple`: a Gabor; `complex`: the energy of two Gabors a quarter of a
        period apart.
    sign
        1 for cells that like light (ON), -1 for those that like darkness (OFF); centres and simple cells only.
    width
        Standard deviation of the centre, or of the Gabor's envelope, as a share of the canvas' side.
    orientation
        Of the Gabor's stripes, in degrees.
    frequency
        Of the Gabor, in cycles over the canvas' side.
    """

    name: str
    kind: Literal["centre", "simple", "complex"] = "centre"
    sign: int = 1
    width: float = 0.09
    orientation: float = 0.0
    frequency: float = 3.0


RETINA_TYPES = (
    CellType("ON"),
    CellType("OFF", sign=-1),
    CellType("large ON", width=0.22),
    CellType("complex 0", "complex", width=0.16, orientation=0.0, frequency=2.5),
    CellType("complex 60", "complex", width=0.16, orientation=60.0, frequency=3.5),
    CellType("complex 120", "complex", width=0.16, orientation=120.0, frequency=4.5),
)
"""The planted population of the benchmarks: six types."""

SIMPLE_AND_COMPLEX = tuple(
    CellType(f"{kind} {angle:.0f}", kind, width=0.16, orientation=angle, frequency=2.0)
    for angle in (0.0, 90.0)
    for kind in ("simple", "complex")
)
"""Two orientations, simple and complex: types whose most exciting stimuli coincide."""


class RetinaModel(nn.Module):
    """Responses of a population to stimuli, differentiable in the stimulus.

    A cell with one filter responds with a softplus of its filtered stimulus, a complex cell with the root of the
    energy (sum of squares) of its two filters; each times its gain.
    """

    filters: Tensor
    is_complex: Tensor
    gain: Tensor

    def __init__(
        self,
        filters: Float[Tensor, "part unit pixel"],
        is_complex: Float[Tensor, "unit"],
        gain: Float[Tensor, "unit"],
        sharpness: float = 4.0,
        unit_names: list[str] | None = None,
    ) -> None:
        super().__init__()
        self.unit_names = unit_names or [str(i) for i in range(len(gain))]
        self.sharpness = sharpness
        self.register_buffer("filters", filters)
        self.register_buffer("is_complex", is_complex)
        self.register_buffer("gain", gain)

    def forward(self, x: Float[Tensor, "stimulus 1 y x"]) -> Float[Tensor, "stimulus unit"]:
        """Responses to stimuli."""
        even, odd = torch.einsum("sp,fup->fsu", x.flatten(1), self.filters)
        rectified = functional.softplus(even, beta=self.sharpness)
        energy = (even.square() + odd.square() + 1e-6).sqrt()
        return self.gain * torch.where(self.is_complex > 0, energy, rectified)


@dataclass(frozen=True)
class Retina:
    """A population with known types.

    Attributes
    ----------
    model
        From stimuli `(stimulus, 1, y, x)` to responses `(stimulus, unit)`.
    types
        Index of each neuron's type among `names`, dims `(unit,)`.
    names
        Names of the types.
    centres
        Where each receptive field lies, in pixels from the middle of the canvas, dims `(unit, axis)`: y, then x.
    gain
        Of each neuron.
    canvas
        Shape of a stimulus.
    norm
        L2 norm of the natural stimuli.
    """

    model: RetinaModel = field(repr=False)
    types: xr.DataArray
    names: tuple[str, ...]
    centres: xr.DataArray = field(repr=False)
    gain: xr.DataArray = field(repr=False)
    canvas: tuple[int, int, int]
    norm: float

    def natural(self, n: int = 1000, *, seed: int = 0) -> Float[Tensor, "stimulus 1 y x"]:
        """Natural-like stimuli of this population's canvas and norm; see `natural_stimuli`."""
        return natural_stimuli(n, self.canvas, norm=self.norm, seed=seed)

    def record(
        self, stimuli: Float[Tensor, "stimulus 1 y x"], *, repeats: int = 1, rate: float = 0.0, seed: int = 0
    ) -> xr.DataArray:
        """Responses to stimuli as an experiment would measure them.

        Parameters
        ----------
        repeats
            How often each stimulus is shown.
        rate
            Spikes that a response of 1 stands for: counts are then Poisson. 0 gives the noise-free response.

        Returns
        -------
        xarray.DataArray
            Dims `(repeat, stimulus, unit)`.
        """
        with torch.no_grad():
            response = self.model(stimuli).numpy().astype(float)
        shape = (repeats, *response.shape)
        values = np.broadcast_to(response, shape).copy()
        if rate:
            values = np.random.default_rng(seed).poisson(values * rate).astype(float)
        return xr.DataArray(values, dims=("repeat", "stimulus", "unit"), coords={"unit": self.types["unit"]})


def retina(
    types: tuple[CellType, ...] = RETINA_TYPES,
    *,
    n_per_type: int = 15,
    size: int = 16,
    norm: float = 4.0,
    jitter: float = 0.35,
    position_jitter: float = 0.0,
    gain_sd: float = 0.5,
    random_filters: bool = False,
    seed: int = 0,
) -> Retina:
    """A retina-like population with known functional types.

    Parameters
    ----------
    types
        The types; `RETINA_TYPES` (six) and `SIMPLE_AND_COMPLEX` (four) are ready.
    n_per_type
        Neurons of each.
    size
        Side of the square canvas in pixels.
    norm
        L2 norm of stimuli.
    jitter
        Norm of the noise that is added to each neuron's filter of norm 1.
    position_jitter
        SD of the receptive fields' positions around the middle, in pixels.
    gain_sd
        SD of the logarithm of the gains.
    random_filters
        Give every neuron a filter of its own that has nothing to do with its type: the control without types.
    seed
        Another seed draws other neurons of the same types.

    Returns
    -------
    Retina

    Raises
    ------
    InputError
        No types, fewer than one neuron each, a canvas too small, negative noise.

    Examples
    --------
    >>> cells = retina(n_per_type=3)
    >>> cells.model(cells.natural(5)).shape
    torch.Size([5, 18])
    >>> cells.names[:3]
    ('ON', 'OFF', 'large ON')
    """
    if not types or n_per_type < 1 or size < 8 or min(jitter, position_jitter, gain_sd) < 0 or not norm > 0:
        raise InputError(
            f"a retina of {len(types)} types x {n_per_type} neurons on {size} x {size} pixels, norm {norm}, jitter {jitter}, position_jitter "
            f"{position_jitter}, gain_sd {gain_sd}: at least one type, one neuron, 8 pixels; nothing negative"
        )
    rng = np.random.default_rng(seed)
    kinds = [t for t in types for _ in range(n_per_type)]
    n = len(kinds)
    centres = position_jitter * rng.standard_normal((n, 2))
    clean = _filters(kinds, centres, size)
    noise = rng.standard_normal(clean.shape)
    noise /= np.linalg.norm(noise, axis=-1, keepdims=True)
    filters = noise if random_filters else clean + jitter * noise
    filters /= np.linalg.norm(filters, axis=-1, keepdims=True)
    is_complex = np.array([t.kind == "complex" for t in kinds])
    gain = np.exp(gain_sd * rng.standard_normal(n))
    names = [f"{t.name} #{i % n_per_type}" for i, t in enumerate(kinds)]
    unit = {"unit": names}
    parts = (torch.tensor(a, dtype=torch.float32) for a in (filters, is_complex, gain))
    model = RetinaModel(*parts, unit_names=names).eval()  # type: ignore[arg-type]
    return Retina(
        model,
        xr.DataArray(np.repeat(np.arange(len(types)), n_per_type), dims="unit", coords=unit, name="type"),
        tuple(t.name for t in types),
        xr.DataArray(centres, dims=("unit", "axis"), coords={**unit, "axis": ["y", "x"]}, attrs={"units": "pixel"}),
        xr.DataArray(gain, dims="unit", coords=unit),
        (1, size, size),
        norm,
    )


def natural_stimuli(
    n: int,
    canvas: tuple[int, ...] = (1, 16, 16),
    *,
    norm: float | None = 4.0,
    seed: int = 0,
) -> Float[Tensor, "stimulus channel y x"]:
    """Natural-like pictures: Gaussian noise whose amplitude falls as one over spatial frequency, as in scenes.

    Parameters
    ----------
    n
        How many.
    canvas
        Shape of one, the last two axes being y and x; the axes before (channels, frames) are independent.
    norm
        L2 norm of each picture; None leaves unit variance.

    Examples
    --------
    >>> natural_stimuli(3, (1, 8, 8)).flatten(1).norm(dim=1).round(decimals=4).tolist()
    [4.0, 4.0, 4.0]
    """
    if n < 1 or len(canvas) < 2 or min(canvas) < 1 or min(canvas[-2:]) < 4:
        raise InputError(
            f"{n} pictures of shape {canvas}: at least one, with y and x (4 pixels or more) as their last axes"
        )
    y, x = canvas[-2:]
    spatial = np.hypot(np.fft.fftfreq(y)[:, None], np.fft.rfftfreq(x)[None])
    spatial[0, 0] = 1 / max(y, x)
    white = np.random.default_rng(seed).standard_normal((n, *canvas))
    pink = np.fft.irfft2(np.fft.rfft2(white) / spatial, s=(y, x))
    pink -= pink.mean((-2, -1), keepdims=True)
    flat = pink.reshape(n, -1)
    flat *= (math.sqrt(flat.shape[1]) if norm is None else norm) / np.linalg.norm(flat, axis=1, keepdims=True)
    return torch.tensor(pink, dtype=torch.float32)


def _filters(
    kinds: list[CellType], centres: Float[np.ndarray, "unit axis"], size: int
) -> Float[np.ndarray, "part unit pixel"]:
    """The filters without noise, each of norm 1: the second is the quarter-period partner, used by complex cells."""
    place = np.arange(size) - (size - 1) / 2
    y = place[None, :, None] - centres[:, 0, None, None]
    x = place[None, None, :] - centres[:, 1, None, None]
    width, sign, angle, frequency = (
        np.array([getattr(t, k) for t in kinds], float)[:, None, None]
        for k in ("width", "sign", "orientation", "frequency")
    )
    sd, angle = width * size, np.deg2rad(angle)
    envelope = np.exp(-(y**2 + x**2) / (2 * sd**2))
    surround = np.exp(-(y**2 + x**2) / (2 * (2 * sd) ** 2))
    centre = envelope / envelope.sum((1, 2), keepdims=True) - surround / surround.sum((1, 2), keepdims=True)
    phase = 2 * np.pi * frequency / size * (x * np.cos(angle) + y * np.sin(angle))
    is_centre = np.array([t.kind == "centre" for t in kinds])[:, None, None]
    even = sign * np.where(is_centre, centre, envelope * np.cos(phase))
    odd = np.where(is_centre, centre, envelope * np.sin(phase))
    filters = np.stack([even, odd]).reshape(2, len(kinds), -1)
    return filters / np.linalg.norm(filters, axis=-1, keepdims=True)
