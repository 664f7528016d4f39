"""Explain a photograph: run every method and every test that the report shows."""

from __future__ import annotations

import platform
import sys
import time
from collections.abc import Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import torch
import xarray as xr
from PIL import Image
from torch import nn
from tqdm import tqdm

import nissl
from nissl import specimens
from nissl.attribution import (
    attribute,
    channel_importance,
    channel_text,
    exemplars,
    grad_cam,
    guided_grad_cam,
    methods,
)
from nissl.errors import InputError, ModelError, unknown
from nissl.evaluation import agreement, deletion, insertion, weight_randomisation
from nissl.interventions import Ablate, intervene
from nissl.models import Frame, Model, load, open_image
from nissl.report.explanation import Channels, Explanation

if TYPE_CHECKING:
    from collections.abc import Iterator


METHODS = ("grad_cam", "integrated_gradients", "occlusion")
_COPIES = 10  # of each map without information, for the curves
_STEPS = 10
_CHANNELS = 4  # shown for, half as many against


def explain(
    model: Model | nn.Module | str,
    image: Any,
    *,
    target: str | int | None = None,
    rival: str | int | None = None,
    methods: Sequence[str] = METHODS,
    seed: int = 0,
    progress: bool = True,
) -> Explanation:
    """Explain a photograph and test the explanation.

    Parameters
    ----------
    model
        An image classifier, or the name of one.
    image
        A photograph: name of a sample, path, PIL image or array.
    target, rival
        Classes to explain; by default the two best.
    methods
        Attribution methods to set side by side, the first of which is the main one.
    seed
        For everything random.
    progress
        Show a bar where standard error is a terminal.

    Returns
    -------
    Explanation
        With `.save(path)`, `.plot()`, `.verdict` and the figures themselves.

    Raises
    ------
    InputError, UnknownNameError, ModelError
        An unusable photograph, unknown class or method, a network without class names.

    Examples
    --------
    >>> import nissl
    >>> nissl.explain("efficientnet-lite0", "chelsea").save("report.html")  # doctest: +SKIP
    """
    model = load(model)
    title, photo = _photograph(image)
    _check(model, methods)
    seconds: dict[str, float] = {}
    with tqdm(total=6, disable=not (progress and sys.stderr.isatty()), desc="explaining", leave=False) as bar:

        @contextmanager
        def step(name: str) -> Iterator[None]:
            bar.set_postfix_str(name)
            begin = time.perf_counter()
            yield
            seconds[name] = time.perf_counter() - begin
            bar.update()

        with step("looking"):
            inputs = model.prepare(photo)
            model.trace(inputs)
            classes = _classes(model, inputs)
            chosen = _class(model, target, classes["class"].iloc[0])
            other = _class(model, rival, next(c for c in classes["class"] if c != chosen))
        with step("Grad-CAM"):
            maps = _maps(model, photo, chosen, other)
            main = maps["grad_cam"]
            assert main is not None
        with step("channels"):
            channels = _channels(model, photo, chosen, title, str(main.attrs["site"]), seed)
        with step("other methods"):
            compared = {name: _compared(model, photo, chosen, name, seed) for name in methods}
        with step("tests"):
            options = {"steps": _STEPS, "control_repeats": _COPIES, "seed": seed}
            falling = {n: deletion(model, photo, m, chosen, **options) for n, m in compared.items()}
            rising = {n: insertion(model, photo, m, chosen, **options) for n, m in compared.items()}
            agreed = agreement({n: m.values[None] for n, m in compared.items()}, seed=seed)
        with step("random weights"):
            scrambled = weight_randomisation(
                model,
                lambda m: grad_cam(m, photo, chosen, main.attrs["site"]).values[None],
                layers=_stages(model),
                seed=seed,
            )
    frame = (inputs.frames or [Frame(photo.width, photo.height, 0, 0, photo.width, photo.height)])[0]
    return Explanation(
        photo, frame, title, model.name, classes, chosen, other, maps, _where(main, frame), channels, compared, agreed, falling, rising, scrambled,
        _facts(model, photo, inputs, str(main.attrs["site"]), seed), seconds,
    )  # fmt: skip


def _photograph(image: Any) -> tuple[str, Image.Image]:
    if isinstance(image, str) and image in specimens.photos():
        return image, specimens.photo(image)
    if isinstance(image, str) and not Path(image).suffix and not Path(image).exists():
        raise unknown("photograph", image, specimens.photos(), hint="there is no file of that name either")
    return (Path(image).name if isinstance(image, str | Path) else "photograph"), open_image(image)


def _check(model: Model, chosen: Sequence[str]) -> None:
    if model.kind != "image" or not model.classes:
        raise InputError(f"{model.name!r} is no image classifier with class names; a report on a photograph needs one")
    for name in chosen:
        if name not in methods("image"):
            raise unknown("attribution method for pictures", name, methods("image"))
    if len(chosen) < 2:
        raise InputError("name two methods or more, so that they can be compared")


def _classes(model: Model, inputs: Any) -> pd.DataFrame:
    with torch.no_grad(), model.evaluating():
        scores = model(inputs)[0]
    probability, index = scores.softmax(-1).topk(min(5, len(scores)))
    assert model.classes is not None
    return pd.DataFrame({"class": [model.classes[i] for i in index.tolist()], "probability": probability.tolist()})


def _class(model: Model, given: str | int | None, default: str) -> str:
    assert model.classes is not None
    return default if given is None else model.classes[model.class_index(given)]


def _maps(model: Model, photo: Image.Image, target: str, rival: str) -> dict[str, xr.DataArray | None]:
    """Every map of the first part; None where all the evidence has the other sign."""
    found: dict[str, xr.DataArray | None] = {"grad_cam": grad_cam(model, photo, target)}
    asked = {
        "guided": lambda: guided_grad_cam(model, photo, target),
        "counterfactual": lambda: grad_cam(model, photo, target, counterfactual=True),
        "rival_grad_cam": lambda: grad_cam(model, photo, rival),
        "rival_guided": lambda: guided_grad_cam(model, photo, rival),
        "rival_counterfactual": lambda: grad_cam(model, photo, rival, counterfactual=True),
    }
    for name, make in asked.items():
        try:
            found[name] = make()
        except ModelError:
            found[name] = None
    return found


def _compared(model: Model, photo: Image.Image, target: str, method: str, seed: int) -> xr.DataArray:
    """A method's map of evidence for the target: what speaks against it is cut off, as Grad-CAM does."""
    options = {"seed": seed} if method in ("gradient_shap", "kernel_shap", "lime") else {}
    heat = attribute(model, photo, target, method, **options)
    positive = heat.clip(min=0)
    if method in (
        "integrated_gradients",
        "input_x_gradient",
        "gradient_shap",
        "deep_lift",
        "saliency",
        "guided_backprop",
    ):
        # These speak of single pixels; a little blur makes them comparable with maps of regions.
        from scipy.ndimage import gaussian_filter

        positive = positive.copy(data=gaussian_filter(positive.values, positive.sizes["y"] / 56))
    return positive


def _channels(model: Model, photo: Image.Image, target: str, title: str, site: str, seed: int) -> Channels:
    activity = nissl.record(model, [photo], site, progress=False)[site].isel(sample=0, drop=True)
    alpha = channel_importance(model, photo, target, site)
    if activity.dims != ("unit", "y", "x"):
        raise InputError(f"site {site!r} has axes {activity.dims}; the report needs a convolutional network")
    # First-order effect of taking the channel away: gradient times activity, summed over places.
    contribution = alpha.values * activity.sum(("y", "x")).values
    order = np.argsort(-contribution)
    shown = [*order[:_CHANNELS], *order[::-1][: _CHANNELS // 2][::-1]]
    table = pd.DataFrame(
        {"unit": shown, "contribution": contribution[shown], "peak": activity.max(("y", "x")).values[shown]}
    )
    others = {name: specimens.photo(name) for name in specimens.photos() if name != title}
    examples = exemplars(model, shown, others, site, k=3)
    names = {
        int(str(u)): f"channel {u} (also strong in {_listed(g['picture'].head(2))})"
        for u, g in examples.groupby("unit", sort=False)
    }
    ranked = xr.DataArray(contribution, dims="unit", attrs={"target": target})
    ablated, control = _ablation(model, photo, target, site, activity, order, seed)
    return Channels(
        table,
        activity.isel(unit=shown).assign_coords(unit=shown),
        examples,
        channel_text(ranked, names, k=2),
        ablated,
        control,
    )


def _ablation(
    model: Model,
    photo: Image.Image,
    target: str,
    site: str,
    activity: xr.DataArray,
    order: np.ndarray,
    seed: int,
    draws: int = 20,
) -> tuple[float, np.ndarray]:
    """What setting the supporting channels to zero costs, and what as many other channels of the nearest mean activity
    cost.
    """
    inputs = model.prepare(photo)
    index = model.class_index(target)

    def score(units: Any) -> float:
        with torch.no_grad(), model.evaluating(), intervene(model, {site: Ablate(units=list(units))}):
            return float(model(inputs)[0, index])

    with torch.no_grad(), model.evaluating():
        whole = float(model(inputs)[0, index])
    supporting = order[:_CHANNELS]
    mean = activity.mean(("y", "x")).values
    rest = np.setdiff1d(order, supporting)
    rng = np.random.default_rng(seed)
    costs = []
    for _ in range(draws):
        near = [rng.choice(rest[np.argsort(np.abs(mean[rest] - mean[u]))[:20]]) for u in supporting]
        costs.append(whole - score(near))
    return whole - score(supporting), np.array(costs)


def _where(heat: xr.DataArray, frame: Frame) -> dict[str, Any]:
    """Where most of the evidence lies: the smallest set of places that holds half of it, in words and as a box in the
    photograph.
    """
    values = np.clip(heat.values, 0, None)
    total = values.sum()
    bright = values >= 0.5 * values.max()
    y, x = heat["y"].values, heat["x"].values
    rows, columns = np.flatnonzero(bright.any(1)), np.flatnonzero(bright.any(0))
    centre_y = float((values.sum(1) * y).sum() / total / frame.height)
    centre_x = float((values.sum(0) * x).sum() / total / frame.width)
    across = "left" if centre_x < 0.4 else "right" if centre_x > 0.6 else "centre"
    down = "upper" if centre_y < 0.4 else "lower" if centre_y > 0.6 else "middle"
    words = {("middle", "centre"): "in the middle"}.get(
        (down, across), f"in the {down} {across}" if across != "centre" else f"in the {down} part"
    )
    if down == "middle" and across != "centre":
        words = f"on the {across}"
    return {
        "words": words,
        "inside": float(values[bright].sum() / total),
        "area": float(bright.mean()),
        "left": float(x[columns[0]]), "top": float(y[rows[0]]), "right": float(x[columns[-1]]), "bottom": float(y[rows[-1]]),
    }  # fmt: skip


def _stages(model: Model, most: int = 5) -> list[str]:
    """A few layers from the output down; the head first."""
    own = [p for p, m in model.module.named_modules() if p and next(m.parameters(recurse=False), None) is not None][
        ::-1
    ]
    return [own[i] for i in np.unique(np.linspace(0, len(own) - 1, min(most, len(own))).astype(int))]


def _facts(model: Model, photo: Image.Image, inputs: Any, site: str, seed: int) -> dict[str, str]:
    weights = sum(p.numel() for p in model.module.parameters())
    return {
        "Network": f"{model.name}, {weights / 1e6:.2f} million weights, {len(model.classes or [])} classes",
        "Photograph": f"{photo.width} x {photo.height} pixels",
        "Seen by the network": " x ".join(map(str, inputs.main.shape[-2:])) + " pixels",
        "Site of Grad-CAM": site,
        "Device": f"{model.device}, {torch.get_num_threads()} threads"
        if model.device.type == "cpu"
        else str(model.device),
        "Seed": str(seed),
        "Versions": f"nissl {nissl.__version__}, torch {torch.__version__}, Python {platform.python_version()}",
    }


def _listed(names: Any) -> str:
    names = [str(n).replace("_", " ") for n in names]
    return " and ".join(names)


__all__ = ["METHODS", "explain"]
