"""Wiring diagrams of the worm: cect's cache files read by nissl against a JSON reader, and 500 comparisons with permuted
names against doing them one by one.
"""

from __future__ import annotations

import json

import numpy as np
from timing import in_turn, table

from nissl.recordings import worm
from nissl.recordings.worm._cect import read_cache
from nissl.recordings.worm._files import data_file
from nissl.statistics import permutations

FILES = ("Wang2024HermReader", "Cook2019HermReader", "WitvlietDataReader8")


def main() -> str:
    paths = [data_file("cect", "cache", f"{name}.json") for name in FILES]

    def by_json() -> list[dict[str, np.ndarray]]:
        return [{k: np.array(m) for k, m in json.loads(path.read_bytes())["connections"].items()} for path in paths]

    megabytes = sum(p.stat().st_size for p in paths) / 1e6
    reading = in_turn({"nissl": lambda: [read_cache(p) for p in paths], "json and numpy": by_json}, rounds=7)

    a, b = worm.connectome("Witvliet7"), worm.connectome("Witvliet8")

    def one_by_one() -> list[float]:
        out = []
        for kind in ("chemical", "electrical"):
            x, y = a.matrix(kind).values, b.matrix(kind).values
            for order in permutations(len(a), 500):
                z = y[np.ix_(order, order)]
                out += [
                    ((x != 0) & (z != 0)).sum() / ((x != 0) | (z != 0)).sum(),
                    np.corrcoef(x.ravel(), z.ravel())[0, 1],
                ]
        return out

    comparing = in_turn(
        {"nissl (with rank correlation)": lambda: a.compare(b, over="nodes", n=500), "numpy, one by one": one_by_one},
        rounds=5,
    )
    return (
        table(f"Reading three of cect's cache files ({megabytes:.0f} MB)", reading, "nissl")
        + "\n"
        + table("Two connectomes against 500 permutations of their names", comparing, "nissl (with rank correlation)")
    )


if __name__ == "__main__":
    print(main())
