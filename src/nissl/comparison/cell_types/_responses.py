"""The responses of any population as one differentiable function of the stimulus, normalised over natural stimuli."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal, cast

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from nissl.comparison.cell_types._geometry import Rotated
from nissl.comparison.cell_types._natural import natural_crops, sees_photographs
from nissl.comparison.cell_types._objective import Respond
from nissl.comparison.response_model import ResponseModel
from nissl.errors import InputError, ModelError
from nissl.models import Model, check_called_once, load, run_until
from nissl.models.sites import Site
from nissl.recordings.simulate import natural_stimuli

Reduce = Literal["centre", "mean"]

_N_NATURAL = 500
_BATCH = 256


class SiteResponses(nn.Module):
    """The units of one site of a network as a population: `(stimulus, *canvas)` to `(stimulus, unit)`, with gradient.

    Parameters
    ----------
    model
        What `nissl.load` gives, or anything that it takes.
    site
        Where to read, for example `features.12.conv`.
    reduce
        What one number stands for a unit that answers at many places (pixels of a map, positions of tokens, time):
        `centre` reads the place in the middle, as one records one neuron of a retinotopic population; `mean` averages over
        places, as a concept detector would be read.

    Examples
    --------
    >>> import nissl
    >>> net = nissl.load(torch.nn.Sequential(torch.nn.Conv2d(1, 4, 3), torch.nn.ReLU()))
    >>> SiteResponses(net, "0")(torch.zeros(2, 1, 9, 9)).shape
    torch.Size([2, 4])
    """

    def __init__(self, model: Model | nn.Module | str, site: str, reduce: Reduce = "centre") -> None:
        super().__init__()
        if reduce not in ("centre", "mean"):
            raise InputError(f"reduce={reduce!r}; allowed: 'centre' (the place in the middle) or 'mean' (over places)")
        loaded = load(model)
        loaded.sites[site]  # an unknown site is named, with its neighbours, before anything runs
        self.network = [loaded]  # in a list: the weights stay the network's own
        self.site = site
        self.reduce = reduce

    def forward(self, x: Float[Tensor, "stimulus *canvas"]) -> Float[Tensor, "stimulus unit"]:
        """Run the network as far as the site, with a graph back to the stimulus."""
        model = self.network[0]
        inputs = model.prepare(x.detach()).with_main(x)
        model.trace(inputs)
        check_called_once(model.sites[self.site])
        kept: list[tuple[Tensor, Site]] = []
        # Nothing is returned by the tap, so the network's own graph reaches back to the stimulus.
        with model.evaluating(), _weights_frozen(model.module):
            run_until(model, inputs, {self.site: lambda value, site: kept.append((value, site))})
        return self._one_number(*kept[0])

    def _one_number(self, value: Tensor, site: Site) -> Tensor:
        axis = site.axis("unit")
        if axis is None or value.dim() < 2:
            raise InputError(
                f"site {self.site!r} has shape {tuple(value.shape)} and no axis of units; choose another site"
            )
        value = value.movedim(axis, 1)
        if self.reduce == "mean":
            return value.flatten(2).mean(2) if value.dim() > 2 else value
        while value.dim() > 2:
            value = value[..., value.shape[-1] // 2]
        return value


@dataclass(frozen=True)
class Responses:
    """A population, ready: normalised responses `z = (response - mean) / sd`, and what they were normalised with.

    Attributes
    ----------
    raw
        Responses `(stimulus, unit)` of the chosen units.
    names
        Of the units.
    canvas
        Shape of a stimulus.
    natural
        The stimuli that mean and sd were taken over.
    natural_response
        Normalised responses to them.
    mean, sd
        Of every unit.
    """

    raw: Respond
    names: list[Any]
    canvas: tuple[int, ...]
    natural: Float[Tensor, "stimulus *canvas"]
    natural_response: Float[Tensor, "stimulus unit"]
    mean: Float[Tensor, "unit"]
    sd: Float[Tensor, "unit"]

    def __call__(self, x: Float[Tensor, "stimulus *canvas"]) -> Float[Tensor, "stimulus unit"]:
        return (self.raw(x) - self.mean) / self.sd

    @property
    def like(self) -> dict[str, Any]:
        """Type and device of stimuli."""
        return {"dtype": self.natural.dtype, "device": self.natural.device}


def population(
    model: Any,
    *,
    site: str | None = None,
    units: Sequence[int] | None = None,
    canvas: tuple[int, ...] | None = None,
    natural: Any = None,
    reduce: Reduce = "centre",
    rotations: int | Sequence[float] | None = None,
    floor: float | None = None,
    batch_size: int | None = None,
    seed: int = 0,
) -> Responses:
    """Make a population ready, and say what is wrong with it before work starts.

    Parameters are those of `DiscriminativeClustering.fit`.
    """
    raw = _as_function(model, site, reduce)
    like = _like(model, natural)
    if canvas is None and natural is None and isinstance(model, ResponseModel) and hasattr(model, "filters_"):
        canvas = model.filters_.shape[1:]
    shape = _canvas(canvas, natural)
    stimuli = _natural(raw, natural, shape, seed).to(**like)
    if rotations is not None:
        raw = Rotated(raw, rotations)
    _check_differentiable(raw, stimuli[:2], shape)
    with torch.no_grad():
        response = torch.cat([raw(part) for part in stimuli.split(batch_size or _BATCH)])
    chosen, names = _units(model, units, response.shape[1])
    if units is not None:
        whole, index = raw, torch.as_tensor(chosen, device=response.device)
        raw = lambda x: whole(x)[:, index]  # noqa: E731
        response = response[:, index]
    mean, sd = _moments(response, names, floor)
    return Responses(raw, names, shape, stimuli, (response - mean) / sd, mean, sd)


def _as_function(model: Any, site: str | None, reduce: Reduce) -> Respond:
    if isinstance(model, SiteResponses) and site is None:
        return model
    if site is not None:
        return SiteResponses(model, site, reduce)
    if isinstance(model, Model | str):
        raise InputError(
            "a network has many layers; say which one's units are meant, site=..., for example "
            + ", ".join(repr(s) for s in list(load(model).sites)[1:4])
        )
    if not callable(model):
        raise InputError(
            f"a model is a function from stimuli (stimulus, *canvas) to responses (stimulus, unit); got {type(model).__name__}"
        )
    if isinstance(model, nn.Module):
        return _evaluated(model)
    return cast("Respond", model)


def _evaluated(module: nn.Module) -> Respond:
    """The module without dropout and batch statistics; its mode and its weights' gradients come back as they were."""

    def respond(x: Tensor) -> Tensor:
        training = [m for m in module.modules() if m.training]
        for m in training:
            m.training = False
        try:
            with _weights_frozen(module):
                return module(x)
        finally:
            for m in training:
                m.training = True

    return respond


@contextmanager
def _weights_frozen(module: nn.Module) -> Iterator[None]:
    """No graph for the weights: only the stimulus is to be changed."""
    free = [p for p in module.parameters() if p.requires_grad]
    for p in free:
        p.requires_grad_(False)
    try:
        yield
    finally:
        for p in free:
            p.requires_grad_(True)


def _like(model: Any, natural: Any) -> dict[str, Any]:
    """Type and device of stimuli: the weights', or the natural stimuli's where a function has no weights."""
    if isinstance(model, SiteResponses):
        model = model.network[0]
    module = model.module if isinstance(model, Model) else model
    if isinstance(module, nn.Module):
        for tensor in (*module.parameters(), *module.buffers()):
            if tensor.is_floating_point():
                return {"dtype": tensor.dtype, "device": tensor.device}
    if isinstance(natural, Tensor) and natural.is_floating_point():
        return {"dtype": natural.dtype, "device": natural.device}
    return {"dtype": torch.float32, "device": torch.device("cpu")}


def _canvas(canvas: tuple[int, ...] | None, natural: Any) -> tuple[int, ...]:
    given = None if natural is None else tuple(np.shape(natural)[1:])
    if canvas is None and given is None:
        raise InputError(
            "say what a stimulus looks like: canvas=(channel, y, x), or natural=stimuli of shape (stimulus, *canvas)"
        )
    shape = given if canvas is None else tuple(int(c) for c in canvas)
    assert shape is not None  # one of the two is given
    if not shape or min(shape) < 1:
        raise InputError(f"canvas {shape} is no shape of a stimulus; for example (1, 16, 16)")
    if given is not None and given != shape:
        raise InputError(
            f"natural stimuli have shape {given}, the canvas is {shape}; make them equal, or leave canvas out"
        )
    return shape


def _natural(raw: Any, natural: Any, canvas: tuple[int, ...], seed: int) -> Tensor:
    if natural is None:
        if len(canvas) < 2 or min(canvas[-2:]) < 4:
            raise InputError(
                f"there are no natural stimuli of shape {canvas} ready; give natural=stimuli (stimulus, *canvas) as the units meet them"
            )
        network = raw.network[0] if isinstance(raw, SiteResponses) else None
        if network is not None and sees_photographs(network, canvas):
            try:
                return natural_crops(network, canvas, _N_NATURAL, seed=seed)  # type: ignore[arg-type]
            except InputError:  # a canvas larger than the network's pictures, or a network of unknown preprocessing
                pass
        return natural_stimuli(_N_NATURAL, canvas, norm=None, seed=seed)
    stimuli = natural if isinstance(natural, Tensor) else torch.as_tensor(np.asarray(natural, dtype=np.float32))
    if len(stimuli) < 10:
        raise InputError(
            f"{len(stimuli)} natural stimuli say too little about a unit's range; give at least 10, better 500"
        )
    if not bool(torch.isfinite(stimuli).all()):
        raise InputError("the natural stimuli hold NaN or infinite values")
    return stimuli.detach()


def _check_differentiable(raw: Respond, x: Tensor, canvas: tuple[int, ...]) -> None:
    probe = x.clone().requires_grad_()
    try:
        with torch.enable_grad():
            response = raw(probe)
    except (InputError, ModelError):
        raise
    except Exception as error:  # whatever somebody's model raises
        if "numpy()" in str(error) or "requires grad" in str(error):
            raise ModelError(
                f"the model is not differentiable: it leaves torch on the way ({error}); write it in torch, or fit a ResponseModel to its responses"
            ) from error
        raise InputError(
            f"the model does not take stimuli of shape (stimulus, {', '.join(map(str, canvas))}): {error}"
        ) from error
    if not isinstance(response, Tensor):
        raise ModelError(
            f"the model returns {type(response).__name__}, not a torch tensor: it is not differentiable; write it in torch, or fit a ResponseModel to its responses"
        )
    if response.dim() != 2 or len(response) != len(x):
        raise InputError(
            f"the model gives responses of shape {tuple(response.shape)} for {len(x)} stimuli; they must be (stimulus, unit)"
            + ("; name a site to have its places reduced" if response.dim() > 2 else "")
        )
    if not response.requires_grad:
        raise ModelError(
            "the model is not differentiable: its responses have no gradient by the stimulus (detach, no_grad, rounding, numpy)"
        )
    gradient = torch.autograd.grad(response.sum(), probe, allow_unused=True)[0]
    if gradient is None:
        raise ModelError("the model's responses do not depend on the stimulus")


def _units(model: Any, units: Sequence[int] | None, n: int) -> tuple[list[int], list[Any]]:
    names = list(getattr(model, "unit_names", range(n)))
    if units is None:
        return list(range(n)), names
    chosen = [int(u) for u in units]
    outside = [u for u in chosen if not 0 <= u < n]
    if outside or len(set(chosen)) < len(chosen) or not chosen:
        raise InputError(
            f"units={chosen[:10]}...: the model has {n} units, 0 to {n - 1}; name each once"
            + (f"; {outside[:5]} do not exist" if outside else "")
        )
    return chosen, [names[u] for u in chosen]


def _moments(response: Tensor, names: list[Any], floor: float | None) -> tuple[Tensor, Tensor]:
    exact = response.double()
    bad = (~torch.isfinite(exact)).any(0)
    if bad.any():
        raise InputError(
            f"NaN or infinite responses to natural stimuli from {_listed(names, bad)}; leave them out with units=[...]"
        )
    mean, sd = exact.mean(0), exact.std(0)
    constant = sd <= 1e-6 * exact.abs().amax(0)
    if constant.any():
        raise InputError(
            f"{_listed(names, constant)} answer all {len(exact)} natural stimuli alike, so their responses cannot be normalised; leave them out "
            "with units=[...], or give natural stimuli that drive them"
        )
    least = 0.01 * mean.abs() if floor is None else torch.full_like(sd, floor)
    return mean.to(response.dtype), torch.maximum(sd, least).to(response.dtype)


def _listed(names: list[Any], mask: Tensor) -> str:
    some = [repr(n) for n, m in zip(names, mask.tolist(), strict=True) if m]
    return f"{len(some)} of {len(names)} units ({', '.join(some[:8])}{', ...' if len(some) > 8 else ''})"
