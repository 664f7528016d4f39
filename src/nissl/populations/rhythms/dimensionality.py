"""How many dimensions activity fills, beside how many as many unrelated units would fill."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Float

from nissl.populations.rhythms._chance import over_shifts
from nissl.populations.rhythms._signals import as_signals
from nissl.populations.rhythms.synchrony import complete
from nissl.statistics import against


def dimensionality(
    recording: Any,
    *,
    standardise: bool = True,
    share: float = 0.9,
    n_surrogates: int = 200,
    min_shift: float | None = None,
    rate: float | None = None,
    variable: str | None = None,
    seed: int = 0,
) -> pd.DataFrame:
    """Dimensions of a population's activity by four measures, against units shifted apart.

    Shifted units keep their own spectra and lose their relations, so slow units, which always look related over a short recording,
    are judged fairly.

    Parameters
    ----------
    recording
        Traces `([trial,] time, unit)`, two units or more; moments at which any unit is missing are left out.
    standardise
        Give every unit a variance of one, so that loud units do not make the activity look simple.
    share
        Of the variance, for `components`.
    min_shift
        Least shift in seconds (tokens); a tenth of the recording by default.

    Returns
    -------
    pandas.DataFrame
        Indexed by measure: `effect`, `surrogate_mean`, `surrogate_sd`, `z`, `p` (of as few dimensions by chance). Measures:
        `participation ratio` (sum of eigenvalues)^2 / sum of squares; `entropy`, exp of the eigenvalues' entropy; `components` that hold `share`
        of the variance; `parallel analysis`, eigenvalues above the 95th percentile of the surrogates' of the same rank (no p: its
        control is built in).

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> x = rng.normal(size=(2000, 3)) @ rng.normal(size=(3, 30)) + 0.1 * rng.normal(size=(2000, 30))
    >>> found = dimensionality(x)
    >>> int(found.effect["parallel analysis"]), bool(found.p["participation ratio"] < 0.01)
    (3, True)

    Notes
    -----
    Participation ratio: Gao et al. 2017. Parallel analysis: Horn 1965. A recording that drifts from one end to the other is
    not stationary, and shifting it puts a step into it: detrend it first.
    """
    signals = as_signals(recording, rate=rate, variable=variable, min_units=2)
    x, least = complete(signals, min_shift)
    x = x - x.mean(0)
    if standardise:
        x = x / x.std(0)

    def spectrum(copies: np.ndarray) -> np.ndarray:
        return np.linalg.eigvalsh(np.swapaxes(copies, -1, -2) @ copies / copies.shape[-2])[..., ::-1]

    own = spectrum(x[None])[0]
    null = over_shifts(spectrum, x, n_surrogates, min_shift=least, seed=seed)
    rows = {}
    for name, measure in {
        "participation ratio": participation_ratio,
        "entropy": _entropy,
        "components": lambda v: (np.cumsum(v, -1) < share * v.sum(-1, keepdims=True)).sum(-1) + 1.0,
    }.items():
        test = against(float(measure(own)), measure(null), name=name, tail="less")
        rows[name] = [test.effect, test.mean, test.sd, test.z, test.p]
    above = own > np.quantile(null, 0.95, axis=0)
    # Leading eigenvalues only: the first that chance reaches ends the count.
    rows["parallel analysis"] = [
        float(np.argmin(above) if not above.all() else len(own)),
        np.nan,
        np.nan,
        np.nan,
        np.nan,
    ]
    return pd.DataFrame.from_dict(
        rows, orient="index", columns=["effect", "surrogate_mean", "surrogate_sd", "z", "p"]
    ).rename_axis("measure")


def participation_ratio(eigenvalues: Float[np.ndarray, "... component"]) -> Float[np.ndarray, "..."]:
    """(sum of eigenvalues)^2 / sum of their squares: 1 for a line, N for a ball in N dimensions.

    Examples
    --------
    >>> float(participation_ratio(np.array([2.0, 2.0, 0.0])))
    2.0
    """
    values = np.asarray(eigenvalues, dtype=float)
    return values.sum(-1) ** 2 / (values**2).sum(-1)


def _entropy(eigenvalues: np.ndarray) -> np.ndarray:
    share = np.clip(eigenvalues, 0, None)
    share = share / share.sum(-1, keepdims=True)
    return np.exp(-np.where(share > 0, share * np.log(np.where(share > 0, share, 1)), 0).sum(-1))
