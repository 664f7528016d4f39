"""Structure meets function: whether the wiring says anything of who moves with whom, beyond chance and beyond how many
connections each neuron has.
"""

from __future__ import annotations

import html
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr
from jaxtyping import Bool, Float
from tqdm import tqdm

from nissl.errors import InputError, unknown
from nissl.populations.structure.functional import Measure, functional_connectivity
from nissl.populations.structure.statistics import STATISTICS, Pairs
from nissl.recordings import Connectome
from nissl.recordings._traces import listed
from nissl.statistics import SurrogateTest, against, permutations, rewired

LEAST = 8  # units in common: with fewer, there are hardly any different orders of their names
NULLS = ("permuted", "rewired")


@dataclass(frozen=True)
class StructureFunction:
    """A wiring diagram beside a functional one.

    Attributes
    ----------
    table
        A row a kind of connection and statistic (and layer, where the functional side has several, such as the states
        of a model). `value` with its interval `low` to `high`; `permuted` and `rewired`: the statistic's mean under
        permuted names and under degree-preserving rewiring, and a p each; `edges` and `pairs` that it rests on,
        `p_edge` and `p_none`: share of functional pairs among connected and unconnected ones.
    tests
        `tests[layer][kind][null]` is the `SurrogateTest` of the three statistics.
    units
        Names that both sides have.
    structure, functional
        Names of the two sides.

    Notes
    -----
    `enrichment` is the share of connected pairs that are functionally connected, over that of unconnected pairs
    (of which half a one is counted where none is, so that it stays finite). `auc` is the probability that a connected
    pair has the stronger functional connection of the two when an unconnected one stands beside it. `rank_correlation`
    is Spearman's, between weights of all pairs, connected or not, and their functional strength.
    """

    table: pd.DataFrame
    tests: Mapping[str, Mapping[str, Mapping[str, SurrogateTest]]]
    units: tuple[str, ...]
    structure: str
    functional: str

    def __str__(self) -> str:
        rows = [
            f"{layer + ' ' if layer else ''}{kind} {statistic}: {r['value']:.3g} [{r['low']:.3g}, {r['high']:.3g}], permuted {r['permuted']:.3g} "
            f"(p {r['p_permuted']:.2g}), rewired {r['rewired']:.3g} (p {r['p_rewired']:.2g})"
            for (layer, kind, statistic), r in zip(
                self.table.index.to_list(), self.table.to_dict("records"), strict=True
            )
        ]
        return f"{self.structure} and {self.functional}, {len(self.units)} shared units\n" + "\n".join(rows)

    def _repr_html_(self) -> str:
        return (
            f"<b>{html.escape(self.structure)}</b> and <b>{html.escape(self.functional)}</b>: {len(self.units)} shared units"
            f"{self.table.round(3).to_html()}"
        )

    def plot(self, statistic: str = "enrichment", ax: Any = None) -> Any:
        """One statistic by kind with its interval, beside the middle 95% of both nulls."""
        from nissl.populations.structure.plot import plot

        if statistic not in STATISTICS:
            raise unknown("statistic", statistic, STATISTICS)
        return plot(self, statistic, ax)


def structure_function(
    connectome: Connectome | str | xr.DataArray | Any,
    functional: Any,
    *,
    names: Sequence[str] | None = None,
    kinds: Iterable[str] | None = None,
    measure: Measure = "correlation",
    lag: float | None = None,
    significant: Any = None,
    top: float = 0.1,
    unmeasured: str = "leave out",
    n: int = 200,
    resamples: int = 500,
    seed: int = 0,
    progress: bool = True,
) -> StructureFunction:
    """Compare a connectome with the functional connectivity of a recording, of an atlas, or of a fitted model.

    Parameters
    ----------
    connectome
        A `Connectome`, the name of one of the worm's, or a matrix of weights `(target, source)`: a DataArray with
        names, or an array with `names`.
    functional
        - a recording: activity `(time, unit)`, of which functional connectivity is computed here;
        - a matrix `(target, source)` with names, such as a model's weights; with one more dimension in front (`state`,
          `head`), each layer is compared on its own;
        - the signal-propagation atlas, as `recordings.worm.signal_propagation` gives it, or a `Connectome` with
          functional connections: what counts as functional, and what was measured, is then known.
    names
        Of the rows and columns of a bare array on either side.
    kinds
        Kinds of connection; all structural ones where None.
    measure, lag
        For a recording: see `functional_connectivity`.
    significant
        Boolean `(target, source)`: what counts as functionally connected. Where None, the `top` share of pairs by
        absolute strength.
    top
        That share.
    unmeasured
        Pairs without a functional value: `leave out`, or `none`, which takes them for unconnected, as published figures
        often do.
    n
        Surrogates of each null.
    resamples
        For the 95% intervals, in which units are resampled.
    seed
        For all three.
    progress
        Whether to show a bar; rewiring takes most of the time.

    Returns
    -------
    StructureFunction

    Raises
    ------
    InputError, UnknownNameError
        Fewer than eight units in common (with what both sides are called), no pair that is functional or none that is
        not, a kind with fewer than two connections among the shared units.

    Notes
    -----
    Two nulls, because they ask two questions. Permuted names keep both diagrams and break which neuron is which.
    Rewiring (`statistics.rewired`) keeps each neuron's number of inputs and outputs as well, so that a few hubs which
    are well connected in both cannot make the difference. Where the functional side has no direction (correlations),
    neither has the structure: an edge either way counts. The diagonal is left out. Strength is absolute: excitation and
    inhibition both connect.

    Examples
    --------
    >>> from nissl.recordings.simulate.worms import worm_circuit
    >>> circuit = worm_circuit([f"N{i}" for i in range(30)], inputs=4)
    >>> noisy = circuit.chemical + np.random.default_rng(0).normal(scale=0.3, size=(30, 30))
    >>> result = structure_function(circuit, noisy, n=20, resamples=20)
    >>> bool(result.table.loc[("", "chemical", "auc"), "value"] > 0.8)
    True
    """
    if n < 1 or resamples < 2 or not 0 < top < 1:
        raise InputError(
            f"n={n}, resamples={resamples}, top={top}; give at least 1 surrogate, 2 resamples, and a share between 0 and 1"
        )
    if unmeasured not in ("leave out", "none"):
        raise unknown("treatment of unmeasured pairs", unmeasured, ("leave out", "none"))
    wiring = _wiring(connectome, names)
    layers, marks, label = _functional(functional, names, measure, lag, significant)
    shared = _shared(wiring, layers)
    wiring = wiring.select(shared)
    chosen = [k for k in wiring.kinds if k != "functional"] or list(wiring.kinds) if kinds is None else list(kinds)
    rows, tests = {}, {}
    bar = tqdm(total=len(layers) * len(chosen) * n, desc="rewiring", unit="graph", disable=None if progress else True)
    for layer, matrix in layers.items():
        strength = np.abs(_square(matrix, shared))
        mark = None if marks is None else _square(marks[layer], shared).astype(bool)
        if unmeasured == "none":
            strength = np.nan_to_num(strength)
        undirected = bool(
            np.array_equal(strength, strength.T, equal_nan=True) and (mark is None or np.array_equal(mark, mark.T))
        )
        pairs = Pairs(strength, _strongest(strength, top) if mark is None else mark, undirected)
        if not 0 < pairs.significant.sum() < len(pairs):
            raise InputError(
                f"{int(pairs.significant.sum())} of {len(pairs)} pairs are functionally connected; the comparison needs some that are and some that are not"
            )
        tests[layer] = {}
        for kind in chosen:
            found, tests[layer][kind] = _one_kind(wiring, kind, pairs, n, resamples, seed, bar)
            rows |= {(layer, kind, statistic): row for statistic, row in found.items()}
    bar.close()
    table = pd.DataFrame.from_dict(rows, orient="index")
    table.index = pd.MultiIndex.from_tuples(list(rows), names=["layer", "kind", "statistic"])
    return StructureFunction(table, tests, tuple(shared), wiring.name, label)


def _one_kind(
    wiring: Connectome, kind: str, pairs: Pairs, n: int, resamples: int, seed: int, bar: tqdm
) -> tuple[dict[str, dict[str, float]], dict[str, SurrogateTest]]:
    matrix = np.nan_to_num(wiring.matrix(kind).values)
    np.fill_diagonal(matrix, 0.0)
    if pairs.undirected:
        matrix = np.where(np.abs(matrix) >= np.abs(matrix.T), matrix, matrix.T)
        matrix = np.tril(matrix) + np.tril(matrix, -1).T
    pair, weights = pairs.edges(matrix)
    if len(pair) < 2 or len(pair) > len(pairs) - 2:
        raise InputError(
            f"{wiring.name} has {len(pair)} {kind} connection(s) among {len(pairs)} measured pairs of the {len(wiring)} shared units; the comparison needs two or more, and two or more "
            "pairs without one"
        )
    value = pairs.statistics(pair, weights)
    permuted = np.array(
        [pairs.statistics(*e) for e in pairs.relabelled(matrix, permutations(len(wiring), n, seed=seed))]
    )
    swapped = np.array([pairs.statistics(*pairs.edges(m)) for m in _rewired(matrix, n, seed, bar)])
    nulls = {
        name: against(value, chance, name=f"{kind} against {name}")
        for name, chance in zip(NULLS, (permuted, swapped), strict=True)
    }
    low, high = np.nanquantile(
        pairs.bootstrap(matrix[pairs.target, pairs.source], resamples, seed), [0.025, 0.975], axis=0
    )
    hits = pairs.significant[pair].sum()
    shares = {
        "edges": len(pair),
        "pairs": len(pairs),
        "p_edge": hits / len(pair),
        "p_none": (pairs.significant.sum() - hits) / (len(pairs) - len(pair)),
    }
    rows = {}
    for i, statistic in enumerate(STATISTICS):
        row = {"value": value[i], "low": low[i], "high": high[i]}
        for name, test in nulls.items():
            row |= {name: test.mean[i], f"p_{name}": test.p[i]}
        rows[statistic] = row | shares
    return rows, nulls


def _rewired(
    matrix: Float[np.ndarray, "target source"], n: int, seed: int, bar: tqdm, most: int = 2_000_000
) -> Iterable[np.ndarray]:
    """Rewired copies, a memory's worth at a time."""
    step = max(1, most // matrix.size)
    for start in range(0, n, step):
        yield from rewired(matrix, min(step, n - start), seed=seed + 7919 * start)
        bar.update(min(step, n - start))


def _strongest(strength: Float[np.ndarray, "target source"], top: float) -> Bool[np.ndarray, "target source"]:
    off = strength[~np.eye(len(strength), dtype=bool)]
    known = off[~np.isnan(off)]
    if known.size == 0:
        raise InputError(
            "not one pair of the shared units has a functional value; are they all constant, or never recorded together?"
        )
    bound = np.quantile(known, 1 - top)
    return (
        np.nan_to_num(strength, nan=-np.inf) > bound
        if (known > bound).any()
        else np.nan_to_num(strength, nan=-np.inf) >= bound
    )


# The two sides, whatever they come as


def _wiring(connectome: Any, names: Sequence[str] | None) -> Connectome:
    if isinstance(connectome, Connectome):
        return connectome
    if isinstance(connectome, str):
        return Connectome.from_package(connectome)
    if isinstance(connectome, xr.DataArray):
        matrix = connectome.rename(connectome.name or "structure")
        if set(matrix.dims) != {"target", "source"} or "target" not in matrix.coords:
            raise InputError(
                f"wiring with dimensions {tuple(map(str, matrix.dims))}; give a matrix ('target', 'source') with names"
            )
        return Connectome([str(x) for x in matrix["target"].values], other={"structure": matrix}, name=str(matrix.name))
    if names is None:
        raise InputError("wiring as a bare array; give names=[...] of its rows and columns, or a Connectome")
    return Connectome(names, other={"structure": connectome}, name="structure")


def _functional(
    functional: Any, names: Sequence[str] | None, measure: Measure, lag: float | None, significant: Any
) -> tuple[dict[str, xr.DataArray], dict[str, xr.DataArray] | None, str]:
    """Matrices (target, source) by layer, what counts as connected where that is known, and a name."""
    if isinstance(functional, Connectome):
        kind = "functional" if "functional" in functional.kinds else functional.kinds[0]
        matrix = functional.matrix(kind)
        return {"": matrix}, _marks(significant, matrix, matrix.fillna(0.0) != 0), functional.name
    if isinstance(functional, xr.Dataset) and {"amplitude", "significant", "measured"} <= set(functional.data_vars):
        matrix = functional["amplitude"].where(functional["measured"])
        return (
            {"": matrix},
            _marks(significant, matrix, functional["significant"]),
            f"signal propagation ({functional.attrs.get('strain', '')})",
        )
    if isinstance(functional, xr.DataArray) and {"target", "source"} <= set(functional.dims):
        rest = [d for d in functional.dims if d not in ("target", "source")]
        if len(rest) > 1:
            raise InputError(
                f"functional weights with dimensions {tuple(map(str, functional.dims))}; allowed: target, source, and one more, such as state"
            )
        label = str(functional.name or "functional weights")
        if not rest:
            return {"": functional}, _marks(significant, functional, None), label
        values = functional[rest[0]].values if rest[0] in functional.coords else range(functional.sizes[rest[0]])
        layers = {f"{rest[0]} {v}": functional.isel({rest[0]: i}) for i, v in enumerate(values)}
        return (
            layers,
            None if significant is None else {k: _as_matrix(significant, m) for k, m in layers.items()},
            label,
        )
    square = (
        not isinstance(functional, xr.DataArray | xr.Dataset)
        and np.ndim(functional) == 2
        and np.shape(functional) == (len(names or ()),) * 2
    )
    if square:
        matrix = xr.DataArray(
            np.asarray(functional, dtype=float),
            dims=("target", "source"),
            coords={"target": list(names or ()), "source": list(names or ())},
        )
        return {"": matrix}, _marks(significant, matrix, None), "functional weights"
    if not isinstance(functional, xr.DataArray | xr.Dataset) and not hasattr(functional, "stack"):
        if names is None:
            raise InputError(
                "activity as a bare array; give names=[...] of its units, or a DataArray (time, unit) with names"
            )
        functional = xr.DataArray(
            np.asarray(functional, dtype=float), dims=("time", "unit"), coords={"unit": list(names)}
        )
    matrix = functional_connectivity(functional, measure, lag=lag)
    return {"": matrix}, _marks(significant, matrix, None), f"{measure} of activity"


def _marks(given: Any, matrix: xr.DataArray, own: xr.DataArray | None) -> dict[str, xr.DataArray] | None:
    if given is not None:
        return {"": _as_matrix(given, matrix)}
    return None if own is None else {"": own}


def _as_matrix(given: Any, like: xr.DataArray) -> xr.DataArray:
    if isinstance(given, xr.DataArray):
        return given
    if np.shape(given) != like.shape:
        raise InputError(f"significant has shape {np.shape(given)}, the functional matrix {like.shape}")
    return like.copy(data=np.asarray(given, dtype=bool))


def _shared(wiring: Connectome, layers: Mapping[str, xr.DataArray]) -> list[str]:
    first = next(iter(layers.values()))
    for dim in ("target", "source"):
        if dim not in first.coords:
            raise InputError(
                "functional weights without names; give coordinates target and source, which are matched with the connectome's"
            )
    theirs = [str(x) for x in first["target"].values]
    if len(set(theirs)) < len(theirs) or sorted(theirs) != sorted(str(x) for x in first["source"].values):
        raise InputError("functional weights whose targets and sources are not the same names, each once")
    own = set(theirs)
    shared = [x for x in wiring.nodes if x in own]
    if len(shared) < LEAST:
        raise InputError(
            f"{len(shared)} unit(s) in common; this needs {LEAST}. {wiring.name} has {listed(wiring.nodes)}, the functional side {listed(theirs)}; for worms, "
            "recordings.worm.clean_names brings labels into the same spelling"
        )
    return shared


def _square(matrix: xr.DataArray, shared: Sequence[str]) -> np.ndarray:
    place = {d: {str(x): i for i, x in enumerate(matrix[d].values)} for d in ("target", "source")}
    rows, columns = ([place[d][x] for x in shared] for d in ("target", "source"))
    return matrix.transpose("target", "source").values[np.ix_(rows, columns)].astype(float)
