"""What a model of gains is given, checked before any work starts."""

from __future__ import annotations

from typing import Any

import numpy as np
import xarray as xr
from jaxtyping import Float

from nissl.errors import InputError


def plain(x: Any) -> np.ndarray:
    """Values of anything array-like, float64; torch tensors leave their device."""
    if hasattr(x, "detach"):
        x = x.detach().cpu().numpy()
    return np.asarray(x, dtype=float)


def as_drive(drive: Any, unit: Any = None) -> xr.DataArray:
    """Drive as (unit, stimulus), float64, with unit names."""
    if isinstance(drive, xr.Dataset):
        if "drive" not in drive:
            raise InputError(f"a Dataset with {', '.join(map(str, drive.data_vars))}; wanted: drive (unit, stimulus)")
        drive = drive["drive"]
    if isinstance(drive, xr.DataArray):
        if set(drive.dims) != {"unit", "stimulus"}:
            raise InputError(f"drive with dims {drive.dims}; allowed: ('unit', 'stimulus')")
        out = drive.transpose("unit", "stimulus").astype(float)
    else:
        values = plain(drive)
        if values.ndim != 2:
            raise InputError(f"drive of shape {values.shape}; give (unit, stimulus)")
        out = xr.DataArray(values, dims=("unit", "stimulus"))
    if 0 in out.shape:
        raise InputError(f"drive of shape {out.shape}; give at least one unit and one stimulus")
    if "unit" not in out.coords:
        if unit is not None and len(unit) != out.sizes["unit"]:
            raise InputError(f"a drive of {out.sizes['unit']} units; {len(unit)} were fitted")
        out = out.assign_coords(unit=np.arange(out.sizes["unit"]) if unit is None else np.asarray(unit))
    if not np.isfinite(out).all():
        bad = out["unit"].values[~np.isfinite(out.values).all(1)]
        raise InputError(f"drive of {len(bad)} units is NaN or infinite: {_named(bad)}; drop or fill them first")
    if (names := out["unit"].to_numpy()).size != len(set(names.tolist())):
        raise InputError("unit names of the drive are not unique")
    return out


def as_recurrent(
    recurrent: Any, unit: np.ndarray, what: str = "recurrent weights"
) -> Float[np.ndarray, "target source"]:
    """Weights (or a decoder) in the order of the drive's units; None is a network without recurrence."""
    n = len(unit)
    if recurrent is None:
        return np.zeros((n, n))
    if isinstance(recurrent, xr.DataArray) and {"target", "source"} == set(recurrent.dims):
        recurrent = recurrent.transpose("target", "source")
        for dim in ("target", "source"):
            if dim in recurrent.coords and not np.array_equal(recurrent[dim].values, unit):
                absent = sorted(set(map(str, unit)) - set(map(str, recurrent[dim].values)))
                if absent:
                    raise InputError(f"{what} lack {len(absent)} units of the drive along {dim}: {_named(absent)}")
                recurrent = recurrent.sel({dim: unit})
    weights = plain(recurrent)
    if weights.shape != (n, n):
        raise InputError(f"{what} of shape {weights.shape} for {n} units; give ({n}, {n}), target by source")
    if not np.isfinite(weights).all():
        raise InputError(f"{what} hold NaN or infinity; missing connections are 0")
    return weights


def in_order_of(like: Any, x: Any) -> Any:
    """A labelled array with the entries of each named axis in the order they have in `like`; anything else as it is."""
    if not (isinstance(x, xr.DataArray) and isinstance(like, xr.DataArray)):
        return x
    for dim in set(x.dims) & set(x.indexes) & set(like.indexes):
        names, own = like[dim].values, x[dim].values
        if own.shape != names.shape or np.array_equal(own, names):
            continue  # what has another length is refused by whoever asks, with its shape
        if own.dtype.kind == names.dtype.kind == "f" and np.allclose(own, names):
            continue
        absent = sorted(set(map(str, names)) - set(map(str, own)))
        if absent:
            raise InputError(
                f"an axis {dim} without {_named(absent)}, which the responses have; give the same names, in any order"
            )
        x = x.sel({dim: names})
    return x


def as_probability(probability: Any, n: int, like: Any = None) -> Float[np.ndarray, "stimulus"]:
    """Probabilities of the stimuli, matched by name with those of `like`; None is the uniform context."""
    if probability is None:
        return np.full(n, 1 / n)
    p = plain(in_order_of(like, probability))
    if p.shape != (n,):
        raise InputError(f"probabilities of shape {p.shape} for {n} stimuli; give one a stimulus")
    if not np.isfinite(p).all() or (p < 0).any():
        raise InputError("probabilities must be finite and at least 0")
    if abs(p.sum() - 1) > 1e-6:
        raise InputError(f"probabilities sum to {p.sum():.6g}, not 1; divide them by their sum")
    return p / p.sum()


def as_contrast(contrast: Any, n: int, like: Any = None) -> Float[np.ndarray, "stimulus"]:
    """What the drive is multiplied by: one number, or one a stimulus, matched by name with those of `like`."""
    c = plain(in_order_of(like, contrast))
    if c.shape not in ((), (n,)) or not np.isfinite(c).all() or (c < 0).any():
        raise InputError(f"contrast of shape {c.shape}; give one number at least 0, or one for each of {n} stimuli")
    return np.broadcast_to(c, n)


def layer_drive(model: Any, data: Any, site: str, **options: Any) -> xr.DataArray:
    """What a layer of a network drives its units with: its recorded activity as `(unit, stimulus)`, one stimulus a sample.

    Space and positions are averaged. With it, gains of a trained layer can be set anew for inputs of another distribution:
    ``GainControl().fit(layer_drive(model, x, "hidden:in"), probability=p)``.

    Parameters
    ----------
    model
        A `nissl.load`ed network or any torch module.
    data
        Its inputs, one sample a stimulus.
    site
        Where to read, such as "hidden" or "hidden:in".
    options
        Further arguments of `nissl.record`.

    Examples
    --------
    >>> import torch
    >>> layer = torch.nn.Sequential(torch.nn.Linear(3, 5), torch.nn.ReLU())
    >>> layer_drive(layer, torch.rand(4, 3), "0").shape
    (5, 4)
    """
    from nissl.activity import record

    acts = record(model, data, site, **{"progress": False, **options})[site]
    # Whatever is neither sample nor unit is place; padded places are NaN.
    places = [d for d in acts.dims if d != "sample" and not str(d).startswith("unit")]
    acts = acts.mean(places, skipna=True)
    unit = next(str(d) for d in acts.dims if d != "sample")
    acts = acts.rename({unit: "unit", "sample": "stimulus"})
    return as_drive(acts.drop_vars([c for c in acts.coords if c not in ("unit", "stimulus")]))


def _named(names: Any, most: int = 5) -> str:
    names = list(names)
    return ", ".join(map(str, names[:most])) + (f" and {len(names) - most} more" if len(names) > most else "")
