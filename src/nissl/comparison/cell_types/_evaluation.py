"""Is a clustering true? Confusions on held-out units, and the usual way beside it: clusters of responses to fixed stimuli."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
import xarray as xr
from sklearn.cluster import KMeans
from sklearn.decomposition import PCA
from sklearn.metrics.cluster import contingency_matrix
from sklearn.mixture import GaussianMixture

from nissl.comparison.cell_types._quality import cluster_means
from nissl.errors import InputError


def response_confusion(responses: Any, labels: Any, *, relative: bool = False) -> xr.DataArray:
    """Mean response of every cluster to every stimulus; a good solution is diagonal.

    Parameters
    ----------
    responses
        Normalised responses, dims `(stimulus, unit)`, in the order of the clusters: `DiscriminativeClustering.respond` gives
        those of held-out units.
    labels
        Cluster of every unit; -1 counts nowhere.
    relative
        Divide every row by its diagonal.

    Returns
    -------
    xarray.DataArray
        Dims `(stimulus, cluster)`; NaN for a cluster without units.

    Examples
    --------
    >>> response_confusion([[2.0, 4.0, 0.0], [0.0, 1.0, 5.0]], [0, 0, 1]).values.tolist()
    [[3.0, 0.0], [0.5, 5.0]]
    """
    values, given = np.asarray(responses, dtype=float), np.asarray(labels)
    if values.ndim != 2 or given.shape != values.shape[1:]:
        raise InputError(
            f"responses of shape {values.shape} and {given.shape} labels; give (stimulus, unit) and one label a unit"
        )
    if given.dtype.kind not in "iu" or given.max() >= len(values):
        raise InputError(
            f"labels must be integers from 0 to {len(values) - 1} (stimuli are in the order of the clusters), or -1"
        )
    means = cluster_means(values, given.astype(int), len(values))
    if relative:
        means = means / np.diag(means)[:, None]
    number = {"stimulus": np.arange(len(values)), "cluster": np.arange(len(values))}
    units = "share of own cluster's" if relative else "SD"
    return xr.DataArray(
        means, dims=("stimulus", "cluster"), coords=number, name="mean response", attrs={"units": units}
    )


def assignment_confusion(labels: Any, reference: Any) -> xr.DataArray:
    """Which share of every reference type was given to which cluster.

    Parameters
    ----------
    labels, reference
        Cluster (perhaps -1: unassigned) and type of every unit.

    Returns
    -------
    xarray.DataArray
        Dims `(cluster, type)`; every column sums to one.

    Examples
    --------
    >>> assignment_confusion([0, 0, 1, 1], ["ON", "ON", "ON", "OFF"]).sel(type="OFF").values.tolist()
    [0.0, 1.0]
    """
    found, known = np.asarray(labels), np.asarray(reference)
    if found.shape != known.shape or found.ndim != 1 or not found.size:
        raise InputError(f"{found.shape} labels and {known.shape} reference types; give one of each a unit")
    counts = contingency_matrix(known, found).T.astype(float)
    coords = {"cluster": np.unique(found), "type": np.unique(known)}
    return xr.DataArray(counts / counts.sum(0), dims=("cluster", "type"), coords=coords, name="share")


def cluster_responses(
    responses: Any,
    n_clusters: int,
    *,
    method: Literal["kmeans", "gaussian mixture"] = "gaussian mixture",
    n_components: int = 10,
    seed: int = 0,
) -> xr.DataArray:
    """Cluster units by their responses to fixed stimuli: what was done before, and what has to be beaten.

    Parameters
    ----------
    responses
        Dims `(stimulus, unit)`, normalised.
    n_clusters
        How many.
    method
        k-means, or a mixture of Gaussians with diagonal covariance as in Baden et al. 2016.
    n_components
        Principal components that units are described by.

    Returns
    -------
    xarray.DataArray
        Cluster of every unit, dims `(unit,)`.
    """
    values = np.asarray(responses, dtype=float)
    if values.ndim != 2 or not np.isfinite(values).all():
        raise InputError(f"responses of shape {values.shape}; give (stimulus, unit) without NaN")
    n = values.shape[1]
    if not 1 <= n_clusters <= n:
        raise InputError(f"{n_clusters} clusters for {n} units")
    if method not in ("kmeans", "gaussian mixture"):
        raise InputError(f"method={method!r}; allowed: 'kmeans', 'gaussian mixture'")
    features = PCA(min(n_components, n, len(values)), random_state=seed).fit_transform(values.T)
    if method == "kmeans":
        labels = KMeans(n_clusters, n_init=10, random_state=seed).fit_predict(features)  # type: ignore[arg-type]
    else:
        mixture = GaussianMixture(n_clusters, covariance_type="diag", n_init=10, reg_covar=1e-3, random_state=seed)
        labels = mixture.fit_predict(features)
    coords = (
        {"unit": responses["unit"].values} if isinstance(responses, xr.DataArray) and "unit" in responses.coords else {}
    )
    return xr.DataArray(labels, dims="unit", coords=coords, name="cluster")
