"""What a probe says of its units (time constants, pairs) goes onto the recorded activity."""

from __future__ import annotations

import numpy as np
import xarray as xr

from nissl.activity._corpus import Question
from nissl.models import Model, Probe, Site

Told = dict[int, dict[str, np.ndarray]]  # axis -> coordinate -> values


def with_coordinates(dataset: xr.Dataset, model: Model, question: Question) -> xr.Dataset:
    """The dataset with the coordinates of its probes.

    Where sites of one size share an axis and differ in what they tell of it, the one that tells gets an axis of its own,
    such as `unit_memory`: nothing carries another's time constants. A second coordinate of one name becomes `tau_fast`.
    """
    told = {site.name: _told(model, site, question) for site in question.sites}
    for name, axes in told.items():
        leaf = name.rsplit(".", 1)[-1]
        for axis, coords in axes.items():
            dim = str(dataset[name].dims[axis])
            sharing = [other for other in told if other != name and dim in dataset[other].dims]
            if not all(_same(told[o].get(dataset[o].dims.index(dim), {}), coords) for o in sharing):
                own = f"{dim.split('_')[0]}_{leaf}"
                dataset = dataset.assign({name: dataset[name].rename({dim: own})})
                dim = own
            for label, values in coords.items():
                taken = label in dataset.coords and not (
                    dataset[label].dims == (dim,) and np.array_equal(dataset[label], values)
                )
                dataset = dataset.assign_coords({f"{label}_{leaf}" if taken else label: (dim, values)})
    return dataset


def _told(model: Model, site: Site, question: Question) -> Told:
    module = model.module.get_submodule(site.module)
    if not isinstance(module, Probe) or site.port != "output":
        return {}
    found: Told = {}
    for label, (dim, values) in module.coordinates().items():
        axis = module.dims.index(dim)
        units = question.selection.units_of(site, len(values)) if axis == site.axis("unit") else None
        found.setdefault(axis, {})[label] = values if units is None else values[units.numpy()]
    return found


def _same(a: dict[str, np.ndarray], b: dict[str, np.ndarray]) -> bool:
    return a.keys() == b.keys() and all(np.array_equal(a[k], b[k]) for k in a)
