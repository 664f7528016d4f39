"""The signal-propagation atlas (Randi et al. 2023): what each neuron does when another is stimulated."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import xarray as xr
from jaxtyping import Float

from nissl.errors import InputError, MissingExtraError, unknown
from nissl.recordings.worm._files import INSTALL, data_file, version
from nissl.recordings.worm._names import canonical_neurons, clean_name

STRAINS = ("wt", "unc31")
STATES = ("not measured", "not significant", "significant")


def signal_propagation(strain: str = "wt", q: float = 0.05, *, neurons: Iterable[str] | None = None) -> xr.Dataset:
    """Responses of every neuron to the optogenetic stimulation of every other one.

    Parameters
    ----------
    strain
        `wt`, or `unc31`, which lacks the release of dense core vesicles.
    q
        Least false discovery rate at which a response counts as none.
    neurons
        A subset; all 300 in canonical order where None.

    Returns
    -------
    xarray.Dataset
        All variables with dimensions `(target, source)`: response of the target to a stimulus of the source. The
        diagonal is the neuron's response to its own stimulation.

        - `amplitude`: mean response in dF/F; NaN where not measured.
        - `q`: false discovery rate of a response. `q_equal`: that of the two neurons *not* being connected, of the
          equivalence test.
        - `observations`: how often the pair was observed.
        - `state`: 0 not measured, 1 measured and not significant, 2 significant. `significant` and `measured` say the
          same as booleans. "Not significant" is not "no connection", and most pairs were never measured. A pair counts
          as measured where it has a q value: some were observed too seldom to have one.

    Raises
    ------
    UnknownNameError, InputError, MissingExtraError
        An unknown strain or neuron; q not within (0, 1].

    Examples
    --------
    >>> atlas = signal_propagation("wt", q=0.05)
    >>> int(atlas.significant.sum()), bool(atlas.measured.sel(source="AIAL").any()), bool(atlas.measured.sel(target="AIAL").any())
    (1310, False, True)

    Notes
    -----
    AIAL was never stimulated and often observed: its column is empty and its row is not, which fixes the orientation.
    """
    if strain not in STRAINS:
        raise unknown("strain", strain, STRAINS)
    if not (np.isfinite(q) and 0 < q <= 1):
        raise InputError(f"q = {q}; give a false discovery rate above 0 and at most 1")
    with opened("data/funatlas.h5") as file:
        names = _names(file)
        group = file[strain]
        raw = {k: group[k][:] for k in ("dFF", "q", "q_eq", "occ1")}
    chosen = _chosen(neurons)
    own = {n: i for i, n in enumerate(names)}
    place = np.array([own[n] for n in chosen])
    cut = {k: v[np.ix_(place, place)] for k, v in raw.items()}
    measured = np.isfinite(cut["q"])
    significant = measured & (np.nan_to_num(cut["q"], nan=1.0) < q)
    dims = ("target", "source")
    out = xr.Dataset(
        {
            "amplitude": (dims, np.where(measured, cut["dFF"], np.nan), {"quantity": "dF/F"}),
            "q": (dims, cut["q"]),
            "q_equal": (dims, cut["q_eq"]),
            "observations": (dims, cut["occ1"]),
            "state": (
                dims,
                measured.astype(np.int8) + significant,
                {"flag_values": [0, 1, 2], "flag_meanings": STATES},
            ),
            "significant": (dims, significant),
            "measured": (dims, measured),
        },
        coords={"target": chosen, "source": chosen},
    )
    out.attrs.update(
        strain=strain, q=q, source=f"wormneuroatlas {version('wormneuroatlas')}: data/funatlas.h5 (Randi et al. 2023)"
    )
    return out


def propagation_kernel(
    target: str, source: str, strain: str = "wt", *, times: Float[np.ndarray, "time"] | None = None
) -> xr.DataArray:
    """Impulse response of one neuron to another, as fitted to the atlas' recordings.

    Parameters
    ----------
    target, source
        The neuron that responds and the one that is stimulated.
    times
        Seconds after the stimulus; 0 to 60 s in steps of 0.1 s where None.

    Returns
    -------
    xarray.DataArray
        `(time,)`, in the units of the fit: a sum of terms `factor * t**power * exp(-g t)`.

    Raises
    ------
    UnknownNameError, InputError
        The pair was never measured, or has no fit (its kernel is empty); negative times.

    Examples
    --------
    >>> kernel = propagation_kernel("M3R", "M3L", times=np.array([0.0, 1.0, 10.0]))
    >>> kernel.sizes["time"], bool(np.isfinite(kernel).all())
    (3, True)
    """
    if strain not in STRAINS:
        raise unknown("strain", strain, STRAINS)
    at = np.arange(0, 60.05, 0.1) if times is None else np.asarray(times, dtype=float)
    if at.ndim != 1 or not np.isfinite(at).all() or (at < 0).any():
        raise InputError("times of a kernel are seconds after the stimulus: one axis, finite, none below 0")
    response, stimulus = _chosen([target, source], twice=True)
    with opened("data/funatlas.h5") as file:
        own = _names(file)
        flat = np.asarray(file[strain]["kernels"][own.index(response), own.index(stimulus)], dtype=float)
    terms = flat.reshape(-1, 4)
    terms = terms[terms[:, 1] != 0]
    if len(terms) == 0:
        raise InputError(
            f"no kernel of {target} for a stimulus of {source} in {strain}: the pair was never measured, or no response was fitted"
        )
    rate, factor, power = terms[:, 0, None], terms[:, 1, None], terms[:, 2, None]
    values = (factor * at**power * np.exp(-rate * at)).sum(0)
    return xr.DataArray(
        values,
        dims="time",
        coords={"time": at},
        name="kernel",
        attrs={"target": target, "source": source, "strain": strain},
    )


def opened(file: str) -> Any:
    """An HDF5 file of wormneuroatlas."""
    try:
        import h5py
    except ImportError as error:
        raise MissingExtraError(
            f"the worm's atlases are HDF5 files; pip install h5py (part of nissl[worm]), and `{INSTALL}`"
        ) from error
    return h5py.File(data_file("wormneuroatlas", *file.split("/")), "r")


def _names(file: Any) -> list[str]:
    return [clean_name(n.decode()) for n in file["neuron_ids"][:]]


def _chosen(neurons: Iterable[str] | None, *, twice: bool = False) -> list[str]:
    known = canonical_neurons()
    if neurons is None:
        return list(known)
    chosen = [clean_name(n) for n in neurons]
    for name in chosen:
        if name not in known:
            raise unknown("neuron", name, known)
    if not chosen or (len(set(chosen)) < len(chosen) and not twice):
        raise InputError("neurons of the atlas: give at least one, each once")
    return chosen
