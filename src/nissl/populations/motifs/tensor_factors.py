"""Non-negative factors of an array of any order: sums of products of profiles, one profile an axis.

The solver is hierarchical alternating least squares (HALS): one row of one factor at a time, each in closed form. What
costs is the product of the array with all factors but one. Two things make it cheap here: all restarts go through one
matrix product, and the axes are split into two halves, so that a sweep passes twice over the array however many axes it
has. A step along the line from the last sweep to this one is tried before each sweep and kept where it lowers the loss,
which costs nothing when it does, because the product that tells is the first product of the sweep.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from math import prod
from typing import Any

import numpy as np
from jaxtyping import Bool, Float
from tqdm import tqdm

from nissl.errors import InputError
from nissl.populations.motifs._cp_problems import (
    Complete,
    Factors,
    Incomplete,
    Patterned,
    all_grams,
    khatri_rao,
    product_of,
    varying_axes,
)
from nissl.statistics import match

INNER = 3  # passes over the rows of a factor for each product with the array
MARGIN = 0.01  # explained variance within which two starts count as equally good


@dataclass(frozen=True)
class TensorFactors:
    """A non-negative canonical polyadic model: x is about the sum over r of weight_r times the outer product of column r.

    Attributes
    ----------
    weights
        Size of each component, largest first.
    factors
        One array (place, component) an axis of the tensor, columns of unit norm.
    explained_variance
        1 - |x - model|^2 / |x|^2 over the entries that are not missing (not centred).
    losses
        |x - model|^2 / |x|^2 after each sweep; never rises.
    converged
        Whether the tolerance was met before the sweeps ran out.
    stability
        Mean similarity with this one (see `factor_similarity`) of the other restarts that came as far: within `MARGIN` of its explained
        variance. NaN where none did.
    runs
        The other restarts, best first.
    """

    weights: Float[np.ndarray, "component"]
    factors: tuple[Float[np.ndarray, "place component"], ...]
    explained_variance: float
    losses: Float[np.ndarray, "sweep"]
    converged: bool
    stability: float = float("nan")
    runs: tuple[TensorFactors, ...] = field(default=(), repr=False)

    @property
    def reached(self) -> int:
        """How many starts, this one among them, came as far."""
        return 1 + sum(self.explained_variance - run.explained_variance < MARGIN for run in self.runs)

    @property
    def n_components(self) -> int:
        """Number of components."""
        return len(self.weights)

    def model(self) -> Float[np.ndarray, "..."]:
        """The array that the factors stand for."""
        shape = tuple(len(f) for f in self.factors)
        left, right = khatri_rao([f.T for f in self.factors[:-1]]), self.factors[-1]
        return ((left.T * self.weights) @ right.T).reshape(shape)


def nonnegative_cp(
    x: Float[np.ndarray, "..."],
    n_components: int,
    *,
    mask: Bool[np.ndarray, "..."] | None = None,
    init: str | Sequence[np.ndarray] = "mixed",
    n_restarts: int = 10,
    tol: float = 1e-6,
    max_sweeps: int = 500,
    seed: int = 0,
    progress: bool = True,
) -> TensorFactors:
    """Non-negative canonical polyadic factors of an array with two or more axes, with missing entries left out.

    Minimises |mask * (x - model)|^2 over factors >= 0. Arrays in float32 are worked on in float32, all others in float64.

    Parameters
    ----------
    x
        Non-negative array. NaN is missing.
    n_components
        Number of components.
    mask
        True where an entry counts; entries that are NaN never do.
    init
        "mixed" (the first start from singular vectors, the others random), "svd" (a single start), "random", or one array
        (place, component) an axis (a single start).
    n_restarts
        Number of starts; the one with the least loss is returned, the others are its `runs`.
    tol
        A start has converged when a sweep changes the relative error |x - model| / |x| by less.
    max_sweeps
        Most sweeps a start.
    seed
        Of the random starts.
    progress
        A progress bar over restarts, where there is a terminal and the starts run one after another.

    Raises
    ------
    InputError
        Negative or infinite entries, an array without an entry, fewer than two axes, a slice that is missing throughout, or more
        components than the array can need.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> truth = [rng.random((n, 2)) ** 4 for n in (6, 7, 8)]
    >>> x = np.einsum("ir,jr,kr->ijk", *truth)
    >>> found = nonnegative_cp(x, 2, n_restarts=3, progress=False)
    >>> round(found.explained_variance, 3), found.model().shape
    (1.0, (6, 7, 8))

    Notes
    -----
    Cichocki and Phan (2009), "Fast local algorithms for large scale nonnegative matrix and tensor factorizations"; the step
    along the line follows Ang, Cohen, Hien and Gillis (2021), "Extrapolated alternating algorithms for approximate canonical
    polyadic decomposition". What is missing along whole axes (a neuron that an animal lacks) is left out of the least squares
    exactly; single missing entries are filled with the model before each sweep, which never raises the loss over the others.
    """
    x, missing = _checked(x, mask, n_components)
    starts = _starts(x, missing, n_components, init, n_restarts, np.random.default_rng(seed))
    varying = [] if missing is None else varying_axes(missing)
    if missing is None:
        runs = _descend(Complete(x), starts, tol, max_sweeps)
    elif len(varying) < x.ndim:
        runs = _descend(Patterned(x, missing, varying), starts, tol, max_sweeps)
    else:
        # Each start fills in its own numbers, so they go one after another, through one buffer.
        problem = Incomplete(x, missing)
        each = ([f[[s]] for f in starts] for s in range(len(starts[0])))
        bar = tqdm(each, total=len(starts[0]), desc="starts", disable=None if progress else True, leave=False)
        runs = [run for start in bar for run in _descend(problem, start, tol, max_sweeps)]
    best, *others = sorted(runs, key=lambda run: -run.explained_variance)
    # A start that ended in a worse hollow tells of the search; only those that came as far tell whether the answer is unique.
    alike = [factor_similarity(best, o) for o in others if best.explained_variance - o.explained_variance < MARGIN]
    stability = float(np.mean(alike)) if alike else float("nan")
    return TensorFactors(
        best.weights, best.factors, best.explained_variance, best.losses, best.converged, stability, tuple(others)
    )


def factor_similarity(a: TensorFactors, b: TensorFactors) -> float:
    """How alike two models are, from 0 to 1: the product of the cosines over axes, averaged over best-matched components.

    Examples
    --------
    >>> x = np.outer([1.0, 2.0], [1.0, 0.0, 3.0])
    >>> one, two = (nonnegative_cp(x, 1, n_restarts=1, seed=s, init="random") for s in (0, 1))
    >>> round(factor_similarity(one, two), 6)
    1.0
    """
    cosines = product_of(p.T @ q for p, q in zip(a.factors, b.factors, strict=True))
    return float(np.mean(match(cosines).scores))


def _checked(x: np.ndarray, mask: np.ndarray | None, n_components: int) -> tuple[np.ndarray, np.ndarray | None]:
    """The array with zeros where it is missing, and where that is (None where nothing is)."""
    x = np.asarray(x)
    x = np.ascontiguousarray(x, dtype=np.float32 if x.dtype == np.float32 else np.float64)
    if x.ndim < 2 or x.size == 0:
        raise InputError(f"an array of shape {x.shape}; factors need at least two axes and one entry along each")
    missing = np.isnan(x)
    if mask is not None:
        if np.shape(mask) != x.shape:
            raise InputError(f"a mask of shape {np.shape(mask)} for an array of shape {x.shape}")
        missing |= ~np.asarray(mask, bool)
    for axis in range(x.ndim):
        empty = np.flatnonzero(missing.all(tuple(a for a in range(x.ndim) if a != axis)))
        if len(empty):
            raise InputError(f"axis {axis} is missing throughout at {_few(empty)}; leave these places out")
    if not missing.any():
        missing = None
    else:
        x = np.where(missing, x.dtype.type(0), x)
    low, high = x.min(), x.max()
    if low < 0:
        raise InputError(
            f"a tensor with negative entries (least {low:.3g}); non-negative factors need values of at least 0"
        )
    if not np.isfinite(high):
        raise InputError("a tensor with infinite entries; mask them")
    if high == 0:
        raise InputError("a tensor that is zero throughout has no factors")
    most = x.size // max(x.shape)
    if not 1 <= int(n_components) <= most:
        raise InputError(
            f"{n_components} components; an array of shape {x.shape} needs at least 1 and at most {most} (the product of its "
            "smaller axes)"
        )
    return x, missing


def _few(places: np.ndarray) -> str:
    return ", ".join(map(str, places[:5])) + (f" and {len(places) - 5} more" if len(places) > 5 else "")


def _starts(
    x: np.ndarray,
    missing: np.ndarray | None,
    rank: int,
    init: str | Sequence[np.ndarray],
    n: int,
    rng: np.random.Generator,
) -> Factors:
    """Factors (restart, component, place) to start from."""
    if not isinstance(init, str):
        given = [np.asarray(f, dtype=x.dtype) for f in init]
        if [f.shape for f in given] != [(d, rank) for d in x.shape] or any((f < 0).any() for f in given):
            raise InputError(
                f"init of shapes {[f.shape for f in given]}; give non-negative arrays of shapes {[(d, rank) for d in x.shape]}"
            )
        return [f.T[None].copy() for f in given]
    if init not in ("mixed", "svd", "random"):
        raise InputError(f"init {init!r}; allowed: 'mixed', 'svd', 'random', or one array (place, component) an axis")
    if n < 1:
        raise InputError(f"{n} restarts; at least one is needed")
    n = 1 if init == "svd" else n
    starts = [rng.random((n, rank, d)).astype(x.dtype) for d in x.shape]
    if init != "random":
        filled = x if missing is None else np.where(missing, x.sum() / (x.size - missing.sum()), x)
        for axis, start in enumerate(starts):
            start[0] = _singular_start(filled, axis, rank, start[0], rng)
    return starts


def _singular_start(x: np.ndarray, axis: int, rank: int, spare: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """The larger of the positive and the negative part of each leading singular vector (Boutsidis and Gallopoulos 2008),
    zeros filled a little; components beyond the axis' length are random.
    """
    u = _leading_vectors(x, axis, rank, rng)
    positive, negative = u.clip(min=0), (-u).clip(min=0)
    larger = (positive**2).sum(1) >= (negative**2).sum(1)
    out = spare / np.sqrt(spare.shape[1])
    out[: len(u)] = np.where(larger[:, None], positive, negative) + 0.01 * out[: len(u)]
    return out


def _leading_vectors(x: np.ndarray, axis: int, rank: int, rng: np.random.Generator, most: int = 1000) -> np.ndarray:
    """Left singular vectors (vector, place) of the array flattened onto one axis."""
    n, before = x.shape[axis], prod(x.shape[:axis])
    if n > most:
        from sklearn.utils.extmath import randomized_svd

        svd: Any = randomized_svd
        flat = np.moveaxis(x, axis, 0).reshape(n, -1)
        return svd(flat, min(rank, *flat.shape), n_iter=2, random_state=int(rng.integers(2**31)))[0].T
    # A short axis: eigenvectors of the products of its places, summed in blocks, so that no second array is made.
    parts, gram = x.reshape(before, n, -1), np.zeros((n, n))
    rows = max(1, 2**20 // parts[0].size)
    for i in range(0, before, rows):
        block = parts[i : i + rows]
        gram += np.tensordot(block, block, axes=([0, 2], [0, 2]))
    return np.linalg.eigh(gram)[1][:, ::-1][:, :rank].T


def _descend(problem: Complete, factors: Factors, tol: float, max_sweeps: int) -> list[TensorFactors]:
    """Sweep until every restart has converged; those that have leave the batch."""
    factors = [f.copy() for f in factors]
    loss, product = problem.prepare(factors)
    _scale(problem, factors, product)
    loss, product = problem.prepare(factors)
    n = len(loss)
    alive, step = np.arange(n), np.full(n, 0.5)
    histories: list[list[float]] = [[] for _ in range(n)]
    done: dict[int, TensorFactors] = {}
    for sweep in range(max_sweeps):
        before, factors = factors, _sweep(problem, [f.copy() for f in factors], product)
        _balance(factors)
        # Try further along the line from the last sweep; where that is worse, go back to what the sweep itself gave.
        further = _further(before, factors, step if sweep else 0 * step)
        new, product = problem.prepare(further)
        worse = new > loss
        step = np.where(worse, step / 2, np.minimum(step * 1.2, 20.0))
        if worse.any():
            new[worse], product[worse] = problem.prepare([f[worse] for f in factors])
        # Where even a sweep does not help, rounding is all that is left.
        stuck = new > loss
        new = np.where(stuck, loss, new)
        factors = [
            np.where(stuck[:, None, None], b, np.where(worse[:, None, None], f, t))
            for b, f, t in zip(before, factors, further, strict=True)
        ]
        for s, value in zip(alive, new, strict=True):
            histories[s].append(float(value))
        finished = stuck | (np.sqrt(loss) - np.sqrt(new) < tol)
        last = sweep == max_sweeps - 1
        for s in np.flatnonzero(finished | last):
            done[alive[s]] = _finished([f[s] for f in factors], histories[alive[s]], bool(finished[s]))
        keep = ~finished
        alive, step, loss, product = alive[keep], step[keep], new[keep], product[keep]
        factors = [f[keep] for f in factors]
        if last or not len(alive):
            break
    return [done[s] for s in range(n)]


def _further(before: Factors, now: Factors, step: np.ndarray) -> Factors:
    """From the last sweep through this one, and on by a step a restart."""
    ends = (f + step[:, None, None].astype(f.dtype) * (f - b) for b, f in zip(before, now, strict=True))
    return [np.maximum(end, _floor(end.dtype)) for end in ends]


def _sweep(problem: Complete, factors: Factors, product: np.ndarray) -> Factors:
    """Every factor once, in place: those of the left axes from `product`, then those of the right."""
    grams = all_grams(factors)
    for first, last in ((0, problem.half), (problem.half, len(factors))):
        if first:
            product = problem.towards_right(factors)
        side = problem.shape[first:last]
        for axis in range(first, last):
            others = [a for a in range(first, last) if a != axis]
            target = _contract(product.reshape(*product.shape[:2], *side), axis - first, [factors[a] for a in others])
            _rows(factors[axis], target, problem.gram(factors, grams, axis))
            grams[axis] = all_grams([factors[axis]])[0]
    return factors


def _contract(product: np.ndarray, keep: int, factors: Factors) -> np.ndarray:
    """Sum a product (restart, component, places...) over all its axes but one, each weighted by its factor."""
    if not factors:
        return product
    product = np.moveaxis(product, keep + 2, 2)
    weights = khatri_rao(factors)
    return (product.reshape(*product.shape[:3], -1) @ weights[..., None])[..., 0]


def _rows(factor: np.ndarray, target: np.ndarray, gram: np.ndarray) -> None:
    """Closed-form update of each row with the others held, `INNER` times over, in place."""
    gram = gram.astype(factor.dtype)
    floor = _floor(factor.dtype)
    for _ in range(INNER):
        for r in range(factor.shape[1]):
            if gram.shape[-1] == 1:
                step = target[:, r] - (gram[:, r, None, :, 0] @ factor)[:, 0]
            else:
                step = target[:, r] - (gram[:, r] * factor).sum(1)
            # A place about which hardly anything is known takes a shorter step, which lowers the loss as well.
            slope = gram[:, r, r]
            slope = np.maximum(slope, 1e-6 * slope.mean(-1, keepdims=True) + np.finfo(factor.dtype).tiny)
            np.maximum(factor[:, r] + step / slope, floor, out=factor[:, r])


def _floor(dtype: np.dtype) -> float:
    """Instead of zero while the solver runs: a row that were zero throughout could not come back."""
    return 1e-12 if dtype == np.float32 else 1e-16


def _balance(factors: Factors) -> None:
    """Give the factors of one component the same norm, in place; the model stays."""
    norms = [np.linalg.norm(f.astype(np.float64), axis=2, keepdims=True) for f in factors]
    size = product_of(norms) ** (1 / len(factors))
    for f, norm in zip(factors, norms, strict=True):
        f *= (size / norm).astype(f.dtype)


def _scale(problem: Complete, factors: Factors, product: np.ndarray) -> None:
    """Multiply each restart by the one number that fits the array best, in place."""
    inner = np.einsum("srp,srp->s", product, khatri_rao(factors[: problem.half]), dtype=np.float64)
    best = np.maximum(inner / problem.square(factors), np.finfo(np.float32).tiny) ** (1 / len(factors))
    for f in factors:
        f *= best[:, None, None].astype(f.dtype)


def _finished(factors: list[np.ndarray], losses: list[float], converged: bool) -> TensorFactors:
    """Unit columns, sorted by weight, in float64, with the floor taken away again."""
    columns = [np.where(f <= 10 * _floor(f.dtype), 0, f).astype(np.float64).T for f in factors]
    norms = np.stack([np.linalg.norm(c, axis=0) for c in columns])
    weights = norms.prod(0)
    order = np.argsort(-weights, kind="stable")
    unit = tuple((c / np.where(n > 0, n, 1))[:, order] for c, n in zip(columns, norms, strict=True))
    return TensorFactors(weights[order], unit, 1 - losses[-1], np.array(losses), converged)
