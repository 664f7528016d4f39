"""How far two wiring diagrams agree, beside what permuted names give."""

from __future__ import annotations

import html
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pandas as pd
from scipy.stats import rankdata

from nissl.errors import InputError, unknown
from nissl.recordings._traces import listed
from nissl.statistics import SurrogateTest, against, permutations

if TYPE_CHECKING:
    from nissl.recordings._wiring.connectome import Connectome

STATISTICS = ("jaccard", "correlation", "rank_correlation")


@dataclass(frozen=True)
class ConnectomeComparison:
    """Agreement of two connectomes.

    Attributes
    ----------
    a, b
        Their names.
    table
        A row a kind: `shared` nodes, `edges_a` and `edges_b` among them, `jaccard` (edges in both over edges in
        either), `correlation` and `rank_correlation` of weights over all ordered pairs of shared nodes, and for each of
        the three its mean under permuted names and p.
    tests
        The `SurrogateTest` of each kind and statistic.
    """

    a: str
    b: str
    table: pd.DataFrame
    tests: Mapping[str, Mapping[str, SurrogateTest]]

    def __str__(self) -> str:
        parts = [
            f"{kind}: {row['shared']:.0f} shared nodes, Jaccard {row['jaccard']:.2f} (permuted {row['jaccard_permuted']:.2f}), "
            f"correlation {row['correlation']:.2f} ({row['correlation_permuted']:.2f})"
            for kind, row in self.table.iterrows()
        ]
        return f"{self.a} and {self.b}; " + "; ".join(parts)

    def _repr_html_(self) -> str:
        return f"<b>{html.escape(self.a)} and {html.escape(self.b)}</b>{self.table.round(3).to_html()}"


def compare_connectomes(
    a: Connectome | str,
    b: Connectome | str,
    *,
    kinds: list[str] | None = None,
    over: Literal["connected", "nodes"] = "connected",
    n: int = 200,
    seed: int = 0,
) -> ConnectomeComparison:
    """Overlap of edges and correlation of weights of two connectomes over the nodes that both have.

    Parameters
    ----------
    a, b
        Connectomes, or names of the worm's.
    kinds
        Those that both have where None.
    over
        `connected`: nodes that have a connection of the kind in both, since a reconstruction that lists a neuron
        without a single gap junction says little about its gap junctions; `nodes`: all names in common.
    n, seed
        Permutations of one connectome's names among the shared ones, rows and columns together.

    Raises
    ------
    InputError, UnknownNameError
        Fewer than five shared nodes, no kind in common, no edges.

    Notes
    -----
    Pairs that were not looked at in either are left out, and so is the diagonal of functional connections, where
    a neuron responds to its own stimulation.

    Examples
    --------
    >>> from nissl.recordings import Connectome
    >>> ring = np.roll(np.eye(8), 1, axis=0)
    >>> same = Connectome("abcdefgh", chemical=ring).compare(Connectome("abcdefgh", chemical=ring * 2))
    >>> same.table.loc["chemical", ["jaccard", "correlation"]].round(6).tolist()
    [1.0, 1.0]
    """
    from nissl.recordings._wiring.connectome import Connectome

    if over not in ("connected", "nodes"):
        raise unknown("set of nodes", over, ("connected", "nodes"))
    if n < 1:
        raise InputError(f"{n} permutations; give at least 1")
    a, b = (Connectome.from_package(x) if isinstance(x, str) else x for x in (a, b))
    common = [k for k in a.kinds if k in b.kinds]
    chosen = common if kinds is None else list(kinds)
    if not chosen:
        raise InputError(f"no kind in common: {a.name} has {', '.join(a.kinds)}, {b.name} has {', '.join(b.kinds)}")
    for kind in chosen:
        if kind not in common:
            raise unknown("kind in common", kind, common)
    found = {kind: _one_kind(a, b, kind, over, n, seed) for kind in chosen}
    table = pd.DataFrame([row for row, _ in found.values()], index=pd.Index(chosen, name="kind"))
    return ConnectomeComparison(a.name, b.name, table, {kind: tests for kind, (_, tests) in found.items()})


def _one_kind(
    a: Connectome, b: Connectome, kind: str, over: str, n: int, seed: int
) -> tuple[dict[str, Any], dict[str, SurrogateTest]]:
    theirs = set(_nodes(b, kind, over))
    shared = [x for x in _nodes(a, kind, over) if x in theirs]
    if len(shared) < 5:
        raise InputError(
            f"{kind}: {a.name} and {b.name} share {len(shared)} node(s) ({listed(shared)}); a comparison needs 5. Are the names spelt alike?"
        )
    x, y = (c.select(shared).matrix(kind).values for c in (a, b))
    if kind == "functional":
        np.fill_diagonal(x, np.nan)
    orders = permutations(len(shared), n, seed=seed)
    value, chance = _agreement(x, y, orders)
    tests = {s: against(value[i], chance[:, i], name=f"{kind} {s}") for i, s in enumerate(STATISTICS)}
    row: dict[str, Any] = {
        "shared": len(shared),
        "edges_a": int((np.nan_to_num(x) != 0).sum()),
        "edges_b": int((np.nan_to_num(y) != 0).sum()),
    }
    for statistic, test in tests.items():
        row |= {statistic: test.effect, f"{statistic}_permuted": test.mean, f"{statistic}_p": test.p}
    return row, tests


def _nodes(c: Connectome, kind: str, over: str) -> list[str]:
    layer = c.sparse(kind)
    if layer.nnz == 0:
        raise InputError(f"{c.name} has no {kind} connection")
    if over == "nodes":
        return list(c.nodes)
    there = layer.astype(bool)
    touched = (there.sum(0) > 0) | (there.sum(1) > 0)
    return [name for name, yes in zip(c.nodes, np.asarray(touched).ravel(), strict=True) if yes]


def _agreement(x: np.ndarray, y: np.ndarray, orders: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Jaccard, correlation and rank correlation over the pairs looked at in both: as they are, and with the second
    one's nodes in each order.
    """
    orders = np.vstack([np.arange(len(x)), orders])
    if np.isnan(x).any() or np.isnan(y).any():
        found = np.array([_over_measured(x, y[order[:, None], order]) for order in orders])
    else:
        found = _over_all(x, y, orders)
    return found[0], found[1:]


def _over_measured(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    both = ~(np.isnan(x) | np.isnan(y))
    x, y = x[both], y[both]
    there_x, there_y = x != 0, y != 0
    either = (there_x | there_y).sum()
    jaccard = (there_x & there_y).sum() / either if either else np.nan
    return np.array([jaccard, _correlation(x, y), _correlation(rankdata(x), rankdata(y))])


def _over_all(x: np.ndarray, y: np.ndarray, orders: np.ndarray) -> np.ndarray:
    """The same for all orders at once. Sums, squares and ranks do not depend on the order, and products are zero beside
    the first one's edges, so only these are looked up.
    """
    row, column = np.nonzero(x)
    moved = orders[:, row], orders[:, column]
    there = y != 0
    common = there[moved].sum(1)
    either = len(row) + there.sum() - common
    ranks = [rankdata(m).reshape(m.shape) - 0.5 * (1 + (m == 0).sum()) - (m < 0).sum() for m in (x, y)]
    found = [common / np.maximum(either, 1)]
    for a, b in ((x, y), ranks):
        product = (b[moved] * a[row, column]).sum(1)
        scale = a.std() * b.std()
        found.append((product / a.size - a.mean() * b.mean()) / scale if scale > 0 else np.full(len(orders), np.nan))
    return np.stack(found, axis=1)


def _correlation(x: np.ndarray, y: np.ndarray) -> float:
    x, y = x - x.mean(), y - y.mean()
    scale = np.sqrt((x @ x) * (y @ y))
    return float(x @ y / scale) if scale > 0 else np.nan
