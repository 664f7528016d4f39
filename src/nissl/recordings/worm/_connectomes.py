"""The worm's connectomes: a list of them, one of them, all of them as one table."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from functools import lru_cache
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr
from scipy import sparse

from nissl.errors import InputError
from nissl.recordings._wiring.connectome import Connectome
from nissl.recordings._wiring.forms import edge_table, layers_from_edges
from nissl.recordings.worm._atlas import opened, signal_propagation
from nissl.recordings.worm._catalogue import Annotation, annotation, catalogue
from nissl.recordings.worm._cect import read_cache
from nissl.recordings.worm._files import data_file, version
from nissl.recordings.worm._names import LISTS, canonical_neurons, clean_name, mirrored_name
from nissl.recordings.worm._neurons import cell_categories, neurons

Matrix = Any  # scipy sparse, or dense where NaN marks pairs that were not looked at
MONOAMINES = ("Dopamine", "Octopamine", "Serotonin", "Tyramine")
_MUSCLE = re.compile(r"^BWM-([DV][LR])(\d+)$")  # muscles of the body wall have two names
_GENERAL = {
    "Generic_CS": "chemical",
    "Generic_GJ": "electrical",
    "Contact": "contact",
    "Functional": "functional",
    "Peptidergic": "peptide",
}


def connectomes() -> pd.DataFrame:
    """Every annotation that the installed packages carry: reference, animal, what its weights are, the file it is read
    from.

    Raises
    ------
    MissingExtraError
        Neither package is installed.

    Examples
    --------
    >>> connectomes().loc["Witvliet8", ["reference", "animal"]].tolist()
    ['Witvliet et al. 2021', 'hermaphrodite, adult, 45 h']
    """
    rows = [
        {
            "name": a.name,
            "reference": a.reference,
            "animal": a.animal,
            "weight": a.weight,
            "note": a.note,
            "package": a.package,
            "file": a.file,
        }
        for a in catalogue().values()
    ]
    return pd.DataFrame(rows).set_index("name")


def connectome(
    name: str, *, neurons: str | Iterable[str] | None = "hermaphrodite-300", split: bool = False
) -> Connectome:
    """One published wiring diagram of the worm.

    Parameters
    ----------
    name
        As `connectomes()` lists them, such as `Cook2019Herm`.
    neurons
        A list of canonical neurons by name (`hermaphrodite-300`, `hermaphrodite-302`), or names. Of these, those that
        the annotation has are kept, in canonical order. None keeps every cell that it has: neurons of the male,
        muscles, glia.
    split
        Keep transmitters, excitation and inhibition apart, each as a kind of its own, instead of adding them up under
        chemical and monoamine.

    Returns
    -------
    Connectome
        Kinds among chemical, electrical, monoamine, peptide, contact, functional. Its `table` holds class, type,
        transmitter and place.

    Raises
    ------
    UnknownNameError, MissingExtraError, InputError

    Examples
    --------
    >>> cook = connectome("Cook2019Herm")
    >>> len(cook), int((cook.chemical != 0).sum()), int((cook.electrical != 0).sum())
    (300, 3707, 2188)
    """
    described = annotation(name)
    if isinstance(neurons, str) and neurons not in LISTS:
        canonical_neurons(neurons)  # raises, with the lists that there are
    wanted = (
        canonical_neurons(neurons)
        if isinstance(neurons, str)
        else None
        if neurons is None
        else tuple(map(str, neurons))
    )
    names, layers = _read(name, split)
    if wanted is None:
        chosen = list(names)
    else:
        own = set(names)
        chosen = [n for n in wanted if n in own]
        if not chosen:
            raise InputError(
                f"none of the {len(wanted)} neurons asked for is in {name}, which has {', '.join(names[:6])} ..."
            )
    order = {n: i for i, n in enumerate(names)}
    place = np.array([order[n] for n in chosen])
    cut = {k: m[place][:, place] for k, m in layers.items()}
    source = f"{described.package} {version(described.package)}: {described.file} ({described.reference})"
    return Connectome(chosen, other=cut, name=name, sources=(source,), table=_table(chosen))


def edges(
    names: str | Iterable[str] | None = None, *, neurons: str | Iterable[str] | None = "hermaphrodite-300"
) -> pd.DataFrame:
    """All annotations as one table of edges.

    Parameters
    ----------
    names
        Which annotations; every one where None.
    neurons
        As for `connectome`.

    Returns
    -------
    pandas.DataFrame
        `annotation`, `source`, `target`, `kind`, `weight`; electrical connections in both directions. Text columns are
        categories, which keep half a million rows small.

    Examples
    --------
    >>> table = edges(["White_A", "White_L4"])
    >>> table.groupby(["annotation", "kind"], observed=True).size().to_dict()
    {('White_A', 'chemical'): 1414, ('White_A', 'electrical'): 526, ('White_L4', 'chemical'): 1291, ('White_L4',
    'electrical'): 570}
    """
    chosen = list(catalogue()) if names is None else [names] if isinstance(names, str) else list(names)
    for name in chosen:
        annotation(name)
    parts = []
    for name in chosen:
        try:
            rows = connectome(name, neurons=neurons).edges()
        except InputError:
            if names is not None:
                raise
            continue  # an annotation of other cells altogether
        parts.append(rows.assign(annotation=name))
    table = pd.concat(parts, ignore_index=True)
    table = pd.DataFrame(table, columns=["annotation", "source", "target", "kind", "weight"])
    return table.astype(dict.fromkeys(("annotation", "source", "target", "kind"), "category"))


def mirrored(connectome: Connectome) -> Connectome:
    """The same wiring with left and right exchanged; neurons of the middle stay.

    Examples
    --------
    >>> cook = connectome("Cook2019Herm")
    >>> float(round(cook.compare(mirrored(cook), n=20).table.loc["chemical", "jaccard"], 2))
    0.47
    """
    swapped = [mirrored_name(n, connectome.nodes) for n in connectome.nodes]
    out = connectome.select(swapped)
    return Connectome(
        connectome.nodes, other={k: xr.DataArray(out.matrix(k).values, dims=("target", "source")) for k in out.kinds},
        name=f"{connectome.name} mirrored", sources=connectome.sources, table=connectome.table,
    )  # fmt: skip


# Readers, one a form


@lru_cache(maxsize=64)
def _read(name: str, split: bool) -> tuple[tuple[str, ...], dict[str, Matrix]]:
    """Names of all cells, and matrices (target, source) by kind."""
    a = annotation(name)
    form, _, detail = a.form.partition(":")
    read = {"cache": _from_cache, "edges": _from_table, "square": _from_square, "ligands": _from_ligands, "signal": _from_signal,
            "pooled": _from_pooled, "white": _from_white}[form]  # fmt: skip
    return read(a, detail, split)


def _from_cache(a: Annotation, detail: str, split: bool) -> tuple[tuple[str, ...], dict[str, Matrix]]:
    names, matrices = read_cache(data_file(a.package, *a.file.split("/")))
    out: dict[str, Matrix] = {}
    for label, matrix in matrices.items():
        kind = _GENERAL.get(label) or (
            label if split else "monoamine" if label in MONOAMINES and not a.synaptic else "chemical"
        )
        turned = sparse.csr_array(matrix.T)
        out[kind] = out[kind] + turned if kind in out else turned
    return tuple(_cell(n) for n in names), out


def _from_table(a: Annotation, detail: str, split: bool) -> tuple[tuple[str, ...], dict[str, Matrix]]:
    text = pd.read_csv(
        data_file(a.package, *a.file.split("/")),
        sep="\t",
        header=None,
        skiprows=1,
        names=["source", "target", "kind", "weight"],
    )
    text["source"], text["target"] = text["source"].map(_cell), text["target"].map(_cell)
    return _of_edges(edge_table(text.query("weight != 0"), "chemical"))


def _from_ligands(a: Annotation, detail: str, split: bool) -> tuple[tuple[str, ...], dict[str, Matrix]]:
    rows = pd.read_csv(
        data_file(a.package, *a.file.split("/")),
        comment="#",
        header=None,
        usecols=[0, 1, 2],
        names=["source", "target", "ligand"],
    )
    rows["source"], rows["target"] = rows["source"].map(_cell), rows["target"].map(_cell)
    rows["kind"] = rows["ligand"].str.strip().str.capitalize() if split and detail == "monoamine" else detail
    return _of_edges(edge_table(rows.drop(columns="ligand"), detail))


def _of_edges(table: pd.DataFrame) -> tuple[tuple[str, ...], dict[str, Matrix]]:
    names = tuple(sorted(set(table["source"]) | set(table["target"])))
    return names, layers_from_edges(table, names)


def _from_square(a: Annotation, detail: str, split: bool) -> tuple[tuple[str, ...], dict[str, Matrix]]:
    table = pd.read_csv(data_file(a.package, *a.file.split("/")), index_col=0)
    names = tuple(_cell(n) for n in table.columns)
    if tuple(_cell(n) for n in table.index) != names:
        raise InputError(f"{a.file}: rows and columns are named differently")
    return names, {"monoamine": sparse.csr_array(table.to_numpy(float).T)}


def _from_pooled(a: Annotation, detail: str, split: bool) -> tuple[tuple[str, ...], dict[str, Matrix]]:
    with opened(a.file) as file:
        # The atlas' own order of names; its arrays are response by stimulus, that is (target, source).
        return _atlas_order(), {
            k: sparse.csr_array(file[f][:]) for k, f in (("chemical", "chem"), ("electrical", "gap"))
        }


def _from_white(a: Annotation, detail: str, split: bool) -> tuple[tuple[str, ...], dict[str, Matrix]]:
    content = json.loads(data_file(a.package, *a.file.split("/")).read_text(encoding="utf-8"))
    return _atlas_order(), {
        k: sparse.csr_array(np.array(content[k], dtype=float).T) for k in ("chemical", "electrical")
    }


def _from_signal(a: Annotation, detail: str, split: bool) -> tuple[tuple[str, ...], dict[str, np.ndarray]]:
    atlas = signal_propagation(detail)
    weight = np.where(atlas["significant"], np.nan_to_num(atlas["amplitude"]), 0.0)
    return tuple(map(str, atlas["target"].values)), {"functional": np.where(atlas["measured"], weight, np.nan)}


def _atlas_order() -> tuple[str, ...]:
    """The order of names in wormneuroatlas' files."""
    text = data_file("wormneuroatlas", "data", "neuron_ids.txt").read_text(encoding="utf-8")
    return tuple(_cell(line.split("\t")[1]) for line in text.splitlines() if "\t" in line)


def _cell(name: object) -> str:
    """Neurons in their canonical spelling; muscles and other cells as they are written."""
    cleaned = clean_name(name)
    muscle = _MUSCLE.match(cleaned)
    if muscle:
        return f"M{muscle[1]}{int(muscle[2]):02d}"
    return cleaned if cleaned in _hermaphrodite() else str(name).strip()


@lru_cache(maxsize=1)
def _hermaphrodite() -> frozenset[str]:
    return frozenset(canonical_neurons("hermaphrodite-302"))


def _table(names: list[str]) -> pd.DataFrame:
    """What is known of each cell; those that are no hermaphrodite neurons have a category only."""
    table = neurons().reindex(names)
    category = cell_categories()
    table["category"] = [category.get(n, "") for n in names]
    return table
