"""A flow in two dimensions: the Navier-Stokes equation for vorticity, solved by Fourier modes."""

from __future__ import annotations

import math

import numpy as np
import torch
import xarray as xr
from jaxtyping import Complex, Float
from torch import Tensor
from tqdm import tqdm

from nissl.axes import positive_number, whole_number
from nissl.cache import cached_arrays
from nissl.errors import InputError, ModelError
from nissl.specimens._random_fields import fourier_field

HIGHEST = (
    20  # wave number drawn for a start: what a resolution of 64 holds in its products, so that finer ones add nothing
)


def navier_stokes(
    n_samples: int,
    size: int = 64,
    *,
    viscosity: float = 1e-3,
    duration: float = 5.0,
    snapshots: int = 5,
    forced: bool = True,
    step: float = 0.01,
    resolution: int | None = None,
    seed: int = 0,
    device: str = "cpu",
    progress: bool = True,
) -> xr.Dataset:
    """Vorticity of an incompressible flow on the unit square, periodic both ways.

    Solves `dw/dt + u . grad w = viscosity * Laplacian w + f` from Gaussian random fields, where `u` is the velocity of
    vorticity `w` and `f = 0.1 (sin 2 pi (x + y) + cos 2 pi (x + y))`.

    Parameters
    ----------
    n_samples
        How many flows.
    size
        Points along each side of what is returned.
    viscosity
        In squared sides per unit of time.
    duration, snapshots
        Until when, and at how many equally spaced times after the start the flow is kept.
    forced
        Whether `f` drives it; without, it comes to rest.
    step
        Of time. Halve it to see the error of time, which falls with its fourth power.
    resolution
        Points along each side on which it is solved, a multiple of `size`: by default the least that is at least 128. Small
        viscosity needs more.
    seed
        The same seed draws the same flows at every size, and at every resolution from 64 on: starts have wave numbers up to 20,
        and a coarser grid leaves some of them out. The first flows stay the same when `n_samples` grows.
    device
        Where it is computed, `cpu` or `cuda`; all samples go side by side.
    progress
        Show a bar where standard error is a terminal.

    Returns
    -------
    xarray.Dataset
        `vorticity` (sample, time, y, x), the start among the times. Kept in the cache folder.

    Raises
    ------
    InputError
        Settings that cannot be, or a device that is not there.
    ModelError
        The step is too long for the flow's speed; the message says which would do.

    Notes
    -----
    Products are taken on the grid and the upper third of the modes is left out of them, so that none is mistaken for
    another. Diffusion is solved exactly (integrating factor), the rest by the fourth-order Runge-Kutta method.

    References
    ----------
    Li et al. (2021), Fourier neural operator for parametric partial differential equations, section 5.3.

    Examples
    --------
    >>> flow = navier_stokes(1, 16, duration=0.1, snapshots=1, resolution=32)
    >>> flow["vorticity"].dims, flow.sizes["time"]
    (('sample', 'time', 'y', 'x'), 2)
    """
    n_samples, snapshots = whole_number("n_samples", n_samples, 1), whole_number("snapshots", snapshots, 1)
    size, seed, forced = whole_number("size", size, 4), whole_number("seed", seed, 0), bool(forced)
    viscosity, duration, step = (
        positive_number(name, value)
        for name, value in (("viscosity", viscosity), ("duration", duration), ("step", step))
    )
    finest = size * math.ceil(128 / size) if resolution is None else whole_number("resolution", resolution, 4)
    if finest % size:
        raise InputError(
            f"resolution={finest} is no multiple of size={size}, so that its points do not fall on those of the grid"
        )
    _check_device(device)

    def make() -> dict[str, np.ndarray]:
        rng = np.random.default_rng(seed)
        start = fourier_field(n_samples, finest, rng, n_modes=HIGHEST)
        keep = finest // size
        steps = math.ceil(duration / snapshots / step - 1e-9)
        flow = _Flow(finest, viscosity, duration / snapshots / steps, forced, device)
        modes = torch.fft.rfft2(torch.as_tensor(start, device=device))
        kept = [start[:, ::keep, ::keep]]
        with tqdm(total=steps * snapshots, unit="step", disable=None if progress else True) as bar:
            for _ in range(snapshots):
                for _ in range(steps):
                    modes = flow.advance(modes)
                    bar.update()
                flow.check(modes)
                kept.append(torch.fft.irfft2(modes, s=(finest, finest))[:, ::keep, ::keep].cpu().numpy())
        return {"vorticity": np.stack(kept, 1)}

    settings = dict(
        n_samples=n_samples, size=size, viscosity=viscosity, duration=duration, snapshots=snapshots, forced=forced, step=step,
        resolution=finest, seed=seed,
    )  # fmt: skip
    made = cached_arrays("navier-stokes", settings, make, version=2, names=("vorticity",))
    axis = np.arange(size) / size
    times = np.linspace(0, duration, snapshots + 1)
    return xr.Dataset(
        {"vorticity": (("sample", "time", "y", "x"), made["vorticity"])},
        {"time": times, "y": axis, "x": axis},
        {"equation": "Navier-Stokes", "boundary": "periodic", "viscosity": viscosity, "seed": seed},
    )


def _check_device(device: str) -> None:
    try:
        torch.zeros(1, dtype=torch.float64, device=device).cpu()
    except (RuntimeError, AssertionError, TypeError) as error:
        raise InputError(f"device={device!r} cannot be used here: {error}; try 'cpu'") from error


class _Flow:
    """One step of the equation in Fourier space."""

    def __init__(self, size: int, viscosity: float, step: float, forced: bool, device: str) -> None:
        whole, half = (
            f(size, 1 / size, device=device, dtype=torch.float64) for f in (torch.fft.fftfreq, torch.fft.rfftfreq)
        )
        self.size, self.step = size, step
        self.ky, self.kx = 2j * torch.pi * whole[:, None], 2j * torch.pi * half  # derivatives
        laplacian = (self.ky**2 + self.kx**2).real
        self.stream = -1 / laplacian.where(laplacian != 0, torch.inf)
        self.decay = torch.exp(0.5 * step * viscosity * laplacian)  # over half a step
        self.kept = (whole.abs()[:, None] < size / 3) & (half < size / 3)
        grid = torch.arange(size, device=device, dtype=torch.float64) / size
        diagonal = 2 * torch.pi * (grid[:, None] + grid)
        self.force = torch.fft.rfft2(0.1 * (diagonal.sin() + diagonal.cos())) if forced else torch.zeros_like(self.kx)

    def velocity(self, modes: Complex[Tensor, "sample ky kx"]) -> tuple[Tensor, Tensor]:
        """Of the incompressible flow with this vorticity, along x and y."""
        stream = self.stream * modes
        return self._grid(self.ky * stream), self._grid(-self.kx * stream)

    def rate(self, modes: Complex[Tensor, "sample ky kx"]) -> Complex[Tensor, "sample ky kx"]:
        """Change by transport and force."""
        u, v = self.velocity(modes)
        transport = u * self._grid(self.kx * modes) + v * self._grid(self.ky * modes)
        return self.force - self.kept * torch.fft.rfft2(transport)

    def advance(self, modes: Complex[Tensor, "sample ky kx"]) -> Complex[Tensor, "sample ky kx"]:
        """Runge-Kutta on what is left when diffusion is divided out."""
        e, h, f = self.decay, self.step, self.rate
        a = f(modes)
        b = f(e * (modes + h / 2 * a))
        c = f(e * modes + h / 2 * b)
        d = f(e**2 * modes + h * e * c)
        return e**2 * modes + h / 6 * (e**2 * a + 2 * e * (b + c) + d)

    def check(self, modes: Complex[Tensor, "sample ky kx"]) -> None:
        """Nothing may cross more than a cell a step."""
        u, v = self.velocity(modes)
        fastest = float(torch.maximum(u.abs().amax(), v.abs().amax()))
        if not math.isfinite(fastest) or fastest * self.step * self.size > 1:
            hint = f"step={0.5 / fastest / self.size:.1g}" if math.isfinite(fastest) else f"step={self.step / 4:.1g}"
            raise ModelError(f"the flow crosses more than a cell in a step of {self.step:g}; try {hint}")

    def _grid(self, modes: Complex[Tensor, "sample ky kx"]) -> Float[Tensor, "sample y x"]:
        return torch.fft.irfft2(modes, s=(self.size, self.size))
