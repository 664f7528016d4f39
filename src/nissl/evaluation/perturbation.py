"""Deletion and insertion: if the evidence lies where a map says, taking it away must hurt and giving it must help.

Petsiuk et al. 2018, "RISE: Randomized Input Sampling for Explanation of Black-box Models". The inputs are changed in
the order of the map, strongest first, and the score is followed; a good map makes the deletion curve fall early (small
area) and the insertion curve rise early (large area).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
import xarray as xr
from jaxtyping import Float
from torch import Tensor, nn

from nissl.attribution import blurred
from nissl.errors import InputError, unknown
from nissl.evaluation._maps import as_maps, as_rows
from nissl.evaluation.controls import shifted, shuffled
from nissl.models import Inputs, Model, Target, class_scores, load, resolve_target
from nissl.statistics import Measured, measure

Kind = Literal["deletion", "insertion"]
_BASELINES = ("blur", "mean", "zero")


@dataclass(frozen=True)
class Curve:
    """A deletion or insertion curve beside that of its control.

    Attributes
    ----------
    kind
        `deletion` or `insertion`.
    curve, control
        Score over the share of the input that was changed: `(sample, fraction)`, and `(repeat, sample, fraction)` for
        copies of the map without information.
    area
        Area under each, a number a sample, with intervals.
    """

    kind: Kind
    curve: xr.DataArray
    control: xr.DataArray
    area: Measured

    @property
    def better(self) -> bool:
        """Whether the map surely beats its control: a smaller area for deletion, a larger one for insertion."""
        return self.area.difference_high < 0 if self.kind == "deletion" else self.area.difference_low > 0

    @property
    def beats(self) -> float:
        """The share of the control's copies that have a worse mean area: what can be said of a single sample, too."""
        fraction = self.curve["fraction"].values
        own = np.trapezoid(self.curve.mean("sample"), fraction)
        copies = np.trapezoid(self.control.mean("sample"), fraction, axis=-1)
        return float((copies > own if self.kind == "deletion" else copies < own).mean())

    def _repr_html_(self) -> str:
        return f"<b>{self.kind}</b>: {self.area._repr_html_()}"


def deletion(model: Model | nn.Module, inputs: Any, attribution: Any, target: Any = None, **options: Any) -> Curve:
    """Take the input away, strongest attributions first.

    Parameters
    ----------
    model, inputs
        The network and what was explained.
    attribution
        `(y, x)` or `(sample, y, x)` for pictures (any size), `(position,)` or `(sample, position)` for texts.
    target
        As for `nissl.attribution.attribute`.
    **options
        `steps=20`: points of the curve. `baseline`: what takes the place of pixels, `blur`, `mean` (of the picture) or
        `zero` (of the normalised picture); for texts a token id, by default that of the tokenizer's mask, unknown or
        padding token. `normalize=True`: follow the probability of the class and not its score. `control_repeats=5`:
        copies of the map without information. `batch_size=32`. `seed=0`.

    Raises
    ------
    InputError, UnknownNameError
        Attributions that do not fit the inputs, NaN, an unknown baseline, a text without a token to put in.

    Examples
    --------
    >>> import nissl, torch
    >>> net = nissl.load(torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(12, 2)), name="tiny")
    >>> x = torch.rand(2, 3, 2, 2)
    >>> deletion(net, {"input": x}, torch.rand(2, 2, 2), target=0, steps=4, baseline="zero").curve.dims
    ('sample', 'fraction')
    """
    return _curve("deletion", model, inputs, attribution, target, **options)


def insertion(model: Model | nn.Module, inputs: Any, attribution: Any, target: Any = None, **options: Any) -> Curve:
    """Give the input back to an empty one, strongest attributions first; see `deletion`."""
    return _curve("insertion", model, inputs, attribution, target, **options)


def _curve(
    kind: Kind,
    model: Model | nn.Module,
    inputs: Any,
    attribution: Any,
    target: Any,
    *,
    steps: int = 20,
    baseline: Any = None,
    normalize: bool = True,
    control_repeats: int = 5,
    batch_size: int = 32,
    seed: int = 0,
) -> Curve:
    model = load(model)
    ready = model.prepare(inputs)
    if steps < 1 or control_repeats < 1:
        raise InputError(f"steps={steps}, control_repeats={control_repeats}; allowed: 1 or more")
    targets = resolve_target(model, target, ready)
    if len(targets) > 1:
        raise InputError(f"{len(targets)} targets; follow one at a time")
    rows, copies = _rows(ready, attribution, control_repeats, seed)
    empty = _empty(model, ready, baseline)
    fraction = np.linspace(0, 1, steps + 1)
    scores = np.stack(
        [
            _follow(kind, model, ready, empty, part, fraction, targets[0], normalize, batch_size)
            for part in (rows, *copies)
        ]
    )
    about = {"target": targets[0].label}
    curve = xr.DataArray(scores[0], dims=("sample", "fraction"), coords={"fraction": fraction}, attrs=about)
    control = xr.DataArray(
        scores[1:], dims=("repeat", "sample", "fraction"), coords={"fraction": fraction}, attrs=about
    )
    areas = np.trapezoid(scores, fraction, axis=-1)
    return Curve(kind, curve, control, measure(f"area under the {kind} curve", areas[0], areas[1:].mean(0), seed=seed))


def _rows(
    ready: Inputs, attribution: Any, repeats: int, seed: int
) -> tuple[Float[np.ndarray, "sample place"], np.ndarray]:
    """Attributions as rows of places, and copies without information."""
    if ready.kind == "text":
        rows = as_rows(attribution)
        width = ready.main.shape[1]
        if rows.shape != (ready.n, width):
            raise InputError(f"attributions of shape {rows.shape} for {ready.n} texts of up to {width} tokens")
        if ready.mask is not None:
            rows = np.where(ready.mask.cpu().numpy(), rows, np.nan)
        return rows, shuffled(rows, repeats, seed=seed)
    if ready.main.dim() != 4:
        raise InputError(f"inputs of shape {tuple(ready.main.shape)}; deletion and insertion take pictures and texts")
    maps = as_maps(attribution, (ready.main.shape[-2], ready.main.shape[-1]))
    if len(maps) != ready.n:
        raise InputError(f"{len(maps)} maps for {ready.n} pictures; give one a picture")
    copies = shifted(maps, repeats, seed=seed)
    return maps.reshape(len(maps), -1), copies.reshape(repeats, len(maps), -1)


def _follow(
    kind: Kind,
    model: Model,
    ready: Inputs,
    empty: Tensor,
    rows: Float[np.ndarray, "sample place"],
    fraction: Float[np.ndarray, "fraction"],
    target: Target,
    normalize: bool,
    batch_size: int,
) -> Float[np.ndarray, "sample fraction"]:
    """The score of every sample at every fraction; samples and fractions share the passes."""
    order = torch.from_numpy((-np.nan_to_num(rows, nan=-np.inf)).argsort(1, kind="stable").argsort(1)).to(
        ready.main.device
    )
    places = torch.from_numpy((~np.isnan(rows)).sum(1)).to(ready.main.device)
    levels = torch.from_numpy(fraction).to(ready.main.device)
    index = torch.arange(ready.n).repeat_interleave(len(fraction))
    level = levels.repeat(ready.n)
    found: list[Tensor] = []
    with torch.no_grad(), model.evaluating():
        for start in range(0, len(index), batch_size):
            which = index[start : start + batch_size]
            part = ready[which]
            cut = (level[start : start + batch_size] * places[which]).round()
            changed = order[which] < cut[:, None]
            changed = changed.reshape(len(which), 1, *part.main.shape[-2:]) if part.main.dim() == 4 else changed
            away, kept = (empty[which], part.main) if kind == "deletion" else (part.main, empty[which])
            mixed = part.with_main(torch.where(changed, away, kept))
            found.append(_score(model, mixed, target.take(which.to(ready.main.device)), normalize))
    return torch.cat(found).reshape(ready.n, len(fraction)).double().cpu().numpy()


def _score(model: Model, inputs: Inputs, target: Target, normalize: bool) -> Float[Tensor, "sample"]:
    output = model.forward(inputs)
    if target.index is None or not normalize:
        return target.score(output, inputs)
    return class_scores(output, inputs).softmax(-1).gather(-1, target.index[:, None].to(inputs.main.device))[:, 0]


def _empty(model: Model, ready: Inputs, baseline: Any) -> Tensor:
    """The inputs without content."""
    x = ready.main
    if ready.kind == "text":
        token = _blank_token(model) if baseline is None else baseline
        if not isinstance(token, int):
            raise InputError(f"baseline={baseline!r}; for texts it is a token id")
        return torch.full_like(x, token)
    baseline = baseline or "blur"
    if baseline not in _BASELINES:
        raise unknown("baseline", baseline, _BASELINES)
    if baseline == "blur":
        return blurred(x)
    return torch.zeros_like(x) if baseline == "zero" else x.mean((-2, -1), keepdim=True).expand_as(x)


def _blank_token(model: Model) -> int:
    for name in ("mask_token_id", "unk_token_id", "pad_token_id"):
        token = getattr(model.tokenizer, name, None)
        if isinstance(token, int):
            return token
    raise InputError(f"{model.name!r} has no token that stands for nothing; give baseline=TOKEN_ID")
