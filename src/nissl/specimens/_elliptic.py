"""Elliptic equations with their solutions: Darcy flow through random ground, and Poisson's equation with a known answer."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import xarray as xr
from jaxtyping import Float
from scipy.linalg import solveh_banded
from scipy.sparse import coo_array
from scipy.sparse.linalg import splu

from nissl.axes import Axis, positive_number, whole_number
from nissl.cache import cached_arrays
from nissl.errors import InputError, unknown
from nissl.specimens._random_fields import ground_field

NODES = {"dirichlet": "interior", "periodic": "periodic", "neumann": "closed"}


def darcy_flow(
    n_samples: int,
    size: int | tuple[int, int] = 31,
    *,
    seed: int = 0,
    contrast: tuple[float, float] = (3.0, 12.0),
    tau: float = 3.0,
    modes: int = 32,
) -> xr.Dataset:
    """Pressure of a flow through ground of two permeabilities, -div(a grad p) = 1 on the unit square, p = 0 on its edge.

    Parameters
    ----------
    n_samples
        How many grounds.
    size
        Interior nodes along each side, or along y and x; the spacing is 1 / (size + 1).
    seed
        The ground at a seed is one function, whatever the grid: a finer grid shows the same one closer. The first samples stay
        the same when `n_samples` grows.
    contrast
        The two permeabilities, below and above zero of a Gaussian field.
    tau
        Inverse length of that field, whose modes have variance (pi^2 |k|^2 + tau^2)^-2 and mean zero.
    modes
        Cosine modes along each axis.

    Returns
    -------
    xarray.Dataset
        `coefficient` and `pressure` (sample, y, x), with coordinates y and x in units of the domain, and `boundary` and the
        settings as attributes. Solved by the five-point scheme with harmonic means of the coefficient on the faces, of
        order 2 where the coefficient is smooth.

    Raises
    ------
    InputError
        No samples, nodes or modes; anything but two positive permeabilities; a seed that is no whole number.

    References
    ----------
    Li and others 2021, Fourier Neural Operator for Parametric Partial Differential Equations (section 5.2).

    Examples
    --------
    >>> flow = darcy_flow(4, 15)
    >>> dict(flow.sizes), np.unique(flow.coefficient).tolist()
    ({'sample': 4, 'y': 15, 'x': 15}, [3.0, 12.0])
    >>> bool((flow.pressure > 0).all())
    True
    """
    n_samples, modes, seed, (ny, nx) = *_whole(n_samples, modes, 2, seed), _sides(size, 1)
    if not isinstance(contrast, Sequence | np.ndarray) or len(contrast) != 2:
        raise InputError(
            f"contrast={contrast!r}; allowed: two positive permeabilities, below and above zero of the field"
        )
    low, high = (positive_number("permeability in contrast", c) for c in contrast)
    tau = positive_number("tau", tau)
    axes = [Axis.uniform(name, n, boundary="interior") for name, n in (("y", ny), ("x", nx))]
    settings = {
        "n_samples": n_samples, "size": [ny, nx], "seed": seed, "contrast": [low, high], "tau": tau, "modes": modes
    }  # fmt: skip

    def make() -> dict[str, np.ndarray]:
        noise = np.random.default_rng(seed).standard_normal((n_samples, modes, modes))
        coefficient = np.where(ground_field(noise, _points(axes[0]), _points(axes[1]), tau) >= 0, high, low)
        return {"coefficient": coefficient, "pressure": solve_elliptic(coefficient, np.ones_like(coefficient))}

    made = cached_arrays("darcy", settings, make, names=("coefficient", "pressure"))
    return _dataset(made, axes, {"equation": "-div(a grad p) = 1", "boundary": "dirichlet", **_attributes(settings)})


def poisson(
    n_samples: int, size: int | tuple[int, int] = 31, *, boundary: str = "dirichlet", modes: int = 6, seed: int = 0
) -> xr.Dataset:
    """Poisson's equation -Laplace(u) = f on the unit square, with random smooth f and the exact solution.

    Parameters
    ----------
    n_samples, size, seed
        As for `darcy_flow`.
    boundary
        `dirichlet` (u = 0, sines, interior nodes), `neumann` (no flux, cosines, nodes on the ends too), or `periodic`.
    modes
        Modes along each axis; their variance falls as |k|^-2 in the solution. The constant mode is absent, so that mean-free
        solutions are unique.

    Returns
    -------
    xarray.Dataset
        `source` and `solution` (sample, y, x), both exact at the nodes.

    Raises
    ------
    UnknownNameError
        Another boundary condition.
    InputError
        No samples or modes, a side of one node.

    Examples
    --------
    >>> problem = poisson(2, 32, boundary="periodic")
    >>> float(abs(problem.solution.mean(("y", "x"))).max()) < 1e-12
    True
    """
    if boundary not in NODES:
        raise unknown("boundary condition", boundary, NODES)
    n_samples, modes, seed, (ny, nx) = *_whole(n_samples, modes, 1, seed), _sides(size, 2)
    axes = [Axis.uniform(name, n, boundary=NODES[boundary]) for name, n in (("y", ny), ("x", nx))]
    (basis_y, wave), (basis_x, _) = (_eigenfunctions(_points(axis), boundary, modes) for axis in axes)
    squared = wave[:, None] ** 2 + wave**2
    there = squared > 0
    noise = np.random.default_rng(seed).standard_normal((n_samples, len(wave), len(wave))) * there
    solution = noise / np.where(there, squared, 1.0)
    fields = {"source": solution * squared, "solution": solution}
    made = {name: np.einsum("yk,skl,xl->syx", basis_y, c, basis_x, optimize=True) for name, c in fields.items()}
    return _dataset(made, axes, {"equation": "-laplace(u) = f", "boundary": boundary, "seed": seed, "modes": modes})


def solve_elliptic(
    coefficient: Float[np.ndarray, "sample y x"],
    source: Float[np.ndarray, "sample y x"],
    *,
    boundary: str = "dirichlet",
    lengths: Sequence[float] = (1.0, 1.0),
) -> Float[np.ndarray, "sample y x"]:
    """Solve -div(a grad u) = f by the five-point scheme with harmonic means of a on the faces, by a direct method.

    Parameters
    ----------
    coefficient, source
        a > 0 and f at the nodes: interior ones for `dirichlet`, those on the ends too for `neumann`, and those of a period.
    boundary
        `dirichlet` (u = 0), `neumann` (no flux) or `periodic`. In the last two f must have the mean zero, and so has u.
    lengths
        Of the domain along y and x.

    Raises
    ------
    UnknownNameError
        Another boundary condition.
    InputError
        Shapes that differ, coefficients that are not positive, a source whose mean is not zero where nothing can flow out.

    Examples
    --------
    >>> a = np.ones((1, 1, 63))
    >>> x = np.arange(1, 64) / 64
    >>> u = solve_elliptic(a, 8 * a, lengths=(1e6, 1.0))  # so wide that y does not matter
    >>> bool(np.allclose(u[0, 0], 4 * x * (1 - x)))
    True
    """
    if boundary not in NODES:
        raise unknown("boundary condition", boundary, NODES)
    a, f = np.asarray(coefficient, float), np.asarray(source, float)
    if a.ndim != 3 or a.shape != f.shape:
        raise InputError(f"coefficient {a.shape} and source {f.shape}; allowed: two arrays (sample, y, x) of one shape")
    if not (np.isfinite(a).all() and (a > 0).all() and np.isfinite(f).all()):
        raise InputError("the coefficient must be positive and finite everywhere, and the source finite")
    least = {"dirichlet": 1, "periodic": 1, "neumann": 2}[boundary]
    if min(a.shape[1:]) < least or not len(a) or (boundary == "periodic" and a[0].size < 2):
        raise InputError(f"coefficient {a.shape}; allowed: a sample, and for {boundary} {least} nodes a side, or more")
    if len(lengths) != 2:
        raise InputError(f"lengths={lengths}; allowed: those of the domain along y and along x")
    faces, volumes = _finite_volumes(a, boundary, [positive_number("length", length) for length in lengths])
    right = f * volumes
    if boundary != "dirichlet":
        surplus = np.abs(right.sum((1, 2))) / np.maximum(np.abs(right).sum((1, 2)), 1e-300)
        if surplus.max() > 1e-6:
            raise InputError(
                f"with boundary={boundary!r} nothing can flow out, so the source must have the mean zero; it is "
                f"{surplus.max():.2g} of its mean size. Subtract its mean (quadrature weights are half at the ends for neumann)"
            )
    u = _solve_banded(faces, right) if boundary == "dirichlet" else _solve_sparse(faces, right)
    if boundary != "dirichlet":
        u = u - (u * volumes).sum((1, 2), keepdims=True) / volumes.sum()
    return u


Faces = tuple[Float[np.ndarray, "sample face x"], Float[np.ndarray, "sample y face"]]


def _finite_volumes(a: np.ndarray, boundary: str, lengths: Sequence[float]) -> tuple[Faces, Float[np.ndarray, "y x"]]:
    """Conductance of the faces between neighbours (with those across the border at the end), and volumes of the cells."""
    cells = {"dirichlet": 1, "periodic": 0, "neumann": -1}[boundary]
    h = [length / (n + cells) for length, n in zip(lengths, a.shape[1:], strict=True)]
    ends = [np.ones(n) for n in a.shape[1:]]
    if boundary == "neumann":
        for width in ends:  # nodes on the border stand for half a cell
            width[[0, -1]] = 0.5
    mode = {"dirichlet": "edge", "periodic": "wrap"}.get(boundary)

    def conductance(axis: int) -> np.ndarray:
        around = [(0, 0)] * 3
        if mode is not None:
            around[axis] = (1, 1)
        wide = np.pad(a, around, mode=mode) if mode else a  # type: ignore[call-overload]
        ahead, behind = (np.take(wide, np.arange(wide.shape[axis] - 1) + i, axis) for i in (1, 0))
        between = 2 * ahead * behind / (ahead + behind)
        across = np.expand_dims(ends[2 - axis], axis - 1)  # how long the face is, in cells
        return between * across * h[2 - axis] / h[axis - 1]

    return (conductance(1), conductance(2)), h[0] * h[1] * ends[0][:, None] * ends[1]


def _solve_banded(faces: Faces, right: np.ndarray) -> np.ndarray:
    """Zero outside: symmetric and banded, with the shorter side as bandwidth."""
    over_y, over_x = faces
    if right.shape[2] > right.shape[1]:
        turned = _solve_banded((over_x.transpose(0, 2, 1), over_y.transpose(0, 2, 1)), right.transpose(0, 2, 1))
        return turned.transpose(0, 2, 1)
    n, ny, nx = right.shape
    bands = np.zeros((n, nx + 1, ny * nx))
    bands[:, 0] = (over_y[:, 1:] + over_y[:, :-1] + over_x[..., 1:] + over_x[..., :-1]).reshape(n, -1)
    if ny * nx == 1:  # no band beside the diagonal
        return right / bands[:, :1]
    beside = np.zeros((n, ny, nx))
    beside[..., :-1] = -over_x[..., 1:-1]
    bands[:, 1] += beside.reshape(n, -1)
    bands[:, nx, : (ny - 1) * nx] += -over_y[:, 1:-1].reshape(n, -1)
    solved = [
        solveh_banded(b, r, lower=True, overwrite_ab=True) for b, r in zip(bands, right.reshape(n, -1), strict=True)
    ]
    return np.stack(solved).reshape(right.shape)


def _solve_sparse(faces: Faces, right: np.ndarray) -> np.ndarray:
    """No outside: one node is held, since a constant can be added to every solution."""
    n, ny, nx = right.shape
    node = np.arange(ny * nx).reshape(ny, nx)
    wraps = faces[0].shape[1] == ny + 1
    pairs, weights = [], []
    for axis, conductance in enumerate(faces):
        if wraps:  # the first face is the last one's other side
            conductance = np.delete(conductance, 0, axis + 1)
            pairs.append(np.stack([node, np.roll(node, -1, axis)]).reshape(2, -1))
        else:
            length = node.shape[axis] - 1
            pairs.append(np.stack([np.take(node, np.arange(length) + i, axis) for i in (0, 1)]).reshape(2, -1))
        weights.append(conductance.reshape(n, -1))
    one, other = np.concatenate(pairs, 1)
    rows, columns = np.concatenate([one, other, one, other]), np.concatenate([other, one, one, other])
    solved = []
    for w, r in zip(np.concatenate(weights, 1), right.reshape(n, -1), strict=True):
        matrix = coo_array((np.concatenate([-w, -w, w, w]), (rows, columns)), shape=(node.size, node.size)).tocsc()
        rest = splu(matrix[1:, 1:].tocsc(), permc_spec="MMD_AT_PLUS_A", options={"SymmetricMode": True})
        solved.append(np.concatenate([[0.0], rest.solve(r[1:])]))
    return np.stack(solved).reshape(right.shape)


def _eigenfunctions(
    points: np.ndarray, boundary: str, modes: int
) -> tuple[Float[np.ndarray, "point mode"], np.ndarray]:
    """Eigenfunctions of the second derivative, and their wave numbers."""
    if boundary == "dirichlet":
        wave = np.pi * np.arange(1, modes + 1)
        return np.sin(points[:, None] * wave), wave
    if boundary == "neumann":
        wave = np.pi * np.arange(modes + 1)
        return np.cos(points[:, None] * wave), wave
    wave = 2 * np.pi * np.arange(1, modes + 1)
    turns = points[:, None] * wave
    return np.concatenate([np.ones((len(points), 1)), np.cos(turns), np.sin(turns)], 1), np.concatenate(
        [[0.0], wave, wave]
    )


def _whole(n_samples: int, modes: int, least: int, seed: int) -> tuple[int, int, int]:
    return whole_number("n_samples", n_samples, 1), whole_number("modes", modes, least), whole_number("seed", seed, 0)


def _sides(size: int | Sequence[int], least: int) -> tuple[int, int]:
    """Nodes along y and x."""
    sides = list(size) if isinstance(size, Sequence | np.ndarray) and np.ndim(size) else [size, size]
    if len(sides) != 2:
        raise InputError(f"size={size}; allowed: nodes along each side, or along y and x")
    ny, nx = (whole_number("size", side, least) for side in sides)
    return ny, nx


def _points(axis: Axis) -> np.ndarray:
    assert axis.points is not None
    return axis.points


def _attributes(settings: dict[str, object]) -> dict[str, object]:
    return {k: v for k, v in settings.items() if k not in ("n_samples", "size")}


def _dataset(arrays: dict[str, np.ndarray], axes: list[Axis], attrs: dict[str, object]) -> xr.Dataset:
    data = xr.Dataset(
        {name: (("sample", "y", "x"), values) for name, values in arrays.items()},
        {axis.name: axis.points for axis in axes},
        attrs,
    )
    for field in data.values():
        field.attrs["boundary"] = attrs["boundary"]
    return data
