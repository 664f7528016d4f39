"""The public collection's consensus of connectomes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr

from nissl.errors import InputError, unknown
from nissl.recordings._wiring.connectome import Connectome
from nissl.recordings.worm._hub_files import hub_files
from nissl.recordings.worm._names import canonical_neurons, clean_name
from nissl.recordings.worm._neurons import neurons

HUB = "qsimeon/celegans_connectome_data"
WEIGHTS = {"mean_gap_weight": "electrical", "mean_chem_weight": "chemical", "functional_weight": "functional"}
ENDS = (("from_neuron", "neuron1"), ("to_neuron", "neuron2"))


def read_hub_connectome(path: str | Path | Sequence[str | Path] = HUB) -> Connectome:
    """The consensus edge table of the public collection as a connectome.

    Parameters
    ----------
    path
        A csv or parquet file with columns `from_neuron`, `to_neuron`, `mean_gap_weight`, `mean_chem_weight` and, where
        it has them, `functional_weight` and `uncertainty` (`Connectome.consensus_table` writes the same); or a hub data
        set by its id, which needs a network.

    Returns
    -------
    Connectome
        On the 300 canonical neurons. `evidence["uncertainty"]` holds the table's own.

    Raises
    ------
    InputError, UnknownNameError, StoreError
        Missing columns, a neuron that is on no list, a pair listed twice.
    """
    table = pd.concat([_table(f) for f in _files(path)], ignore_index=True)
    names, place = canonical_neurons(), {n: i for i, n in enumerate(canonical_neurons())}
    ends = []
    for options in ENDS:
        column = next((c for c in options if c in table.columns), None)
        if column is None:
            raise unknown("column of the consensus table", options[0], map(str, table.columns))
        cleaned = [clean_name(n) for n in table[column]]
        for name in cleaned:
            if name not in place:
                raise unknown("neuron", name, names)
        ends.append(np.array([place[n] for n in cleaned]))
    source, target = ends
    pairs = np.unique(target * len(names) + source, return_counts=True)[1]
    if (pairs > 1).any():
        raise InputError(
            f"{(pairs > 1).sum()} ordered pair(s) are listed twice; give one of the collection's tables, not several"
        )
    found = [c for c in WEIGHTS if c in table.columns]
    if not found:
        raise unknown("column of the consensus table", "mean_chem_weight", map(str, table.columns))
    layers = {WEIGHTS[c]: _square(table[c], target, source, len(names), 0.0) for c in found}
    evidence = None
    if "uncertainty" in table.columns:
        spread = _square(table["uncertainty"], target, source, len(names), np.nan)
        evidence = xr.Dataset(
            {"uncertainty": (("target", "source"), spread)}, {"target": list(names), "source": list(names)}
        )
    about = neurons("hermaphrodite-300")
    return Connectome(names, other=layers, name="consensus", sources=(str(path),), table=about, evidence=evidence)


def _files(path: str | Path | Sequence[str | Path]) -> list[Path]:
    text = str(path)
    if text.endswith(".csv"):
        return hub_files(path, ".csv")
    try:
        return hub_files(path, ".parquet")
    except InputError:
        return hub_files(path, ".csv")


def _table(file: Path) -> pd.DataFrame:
    return pd.read_csv(file) if file.suffix == ".csv" else pd.read_parquet(file)


def _square(column: Any, target: np.ndarray, source: np.ndarray, n: int, empty: float) -> np.ndarray:
    out = np.full((n, n), empty)
    values = np.asarray(pd.to_numeric(column, errors="coerce"), dtype=float)
    out[target, source] = np.nan_to_num(values) if empty == 0 else values
    return out
