"""Holding interventions in force while a network runs."""

from __future__ import annotations

import inspect
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import Any

from torch import Tensor

from nissl.errors import InputError
from nissl.interventions._kinds import Intervention
from nissl.interventions._selecting import Tokens
from nissl.models import Model, Site, tap


@contextmanager
def intervene(model: Model, interventions: Mapping[str, Any]) -> Iterator[Model]:
    """Hold interventions in force while the block runs.

    Parameters
    ----------
    model
        The network.
    interventions
        For each site (or glob of sites) a `Clamp`, `Ablate`, `Patch`, `Steer`, any callable `f(value)` or `f(value,
        site)` that returns the new activity (or None to leave it), or a list of these, carried out in order.

    Yields
    ------
    Model
        The same network; nothing stays hooked after the block, also when its body raises, and other threads see the
        network as it is.

    Raises
    ------
    UnknownNameError
        A site that does not exist.
    InputError
        Units, positions or heads that the site does not have, a patch that does not fit.

    Examples
    --------
    >>> import nissl, torch
    >>> net = nissl.load(torch.nn.Sequential(torch.nn.Linear(2, 2), torch.nn.ReLU()))
    >>> with nissl.intervene(net, {"1": nissl.Ablate("zero")}):
    ...     net(torch.ones(1, 2)).tolist()
    [[0.0, 0.0]]
    """
    tokens = Tokens()
    taps: dict[str, Callable[[Tensor, Site], Tensor | None]] = {}
    for pattern, given in interventions.items():
        chain = list(given) if isinstance(given, list | tuple) else [given]
        for site in model.sites.find(pattern):
            for one in chain:
                if isinstance(one, Intervention):
                    one.check(site)
            taps[site.name] = _chained(
                [*([taps[site.name]] if site.name in taps else []), *(_bound(o, tokens) for o in chain)]
            )
    with ExitStack() as stack:
        stack.callback(_watch_tokens(model, tokens).remove)
        stack.enter_context(tap(model, taps, in_time=True))
        yield model


def _bound(intervention: Any, tokens: Tokens) -> Callable[[Tensor, Site], Tensor | None]:
    if isinstance(intervention, Intervention):
        return lambda value, site: intervention(value, site, tokens)
    if not callable(intervention):
        raise InputError(
            f"{intervention!r} is no intervention; allowed: Clamp, Ablate, Patch, Steer, or a function of the activity"
        )
    if _positional(intervention) == 1:
        return lambda value, _: intervention(value)  # type: ignore[return-value]
    return intervention  # type: ignore[return-value]


def _positional(function: Callable[..., Any]) -> int:
    """How many required positional arguments a callable takes; 2 where it cannot be told."""
    try:
        parameters = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):
        return 1  # a builtin such as torch.relu
    plain = [p for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD) and p.default is p.empty]
    return 2 if any(p.kind is p.VAR_POSITIONAL for p in parameters) or len(plain) >= 2 else 1


def _chained(functions: list[Callable[[Tensor, Site], Tensor | None]]) -> Callable[[Tensor, Site], Tensor | None]:
    def fn(value: Tensor, site: Site) -> Tensor:
        for function in functions:
            replaced = function(value, site)
            if replaced is None:
                continue
            if replaced.shape != value.shape:
                raise InputError(
                    f"the intervention at {site.name!r} returned shape {tuple(replaced.shape)} for {tuple(value.shape)}; keep the shape"
                )
            value = replaced
        return value

    return fn


def _watch_tokens(model: Model, tokens: Tokens) -> Any:
    """Note, at each pass of this thread, which columns are padding and how many tokens are in the cache."""
    here = threading.get_ident()

    def note(_: Any, args: tuple, kwargs: dict) -> None:
        if threading.get_ident() == here:
            mask = kwargs.get("attention_mask")
            tokens.mask = mask if isinstance(mask, Tensor) and mask.dim() == 2 else None
            cache = kwargs.get("past_key_values")
            tokens.past = int(cache.get_seq_length()) if cache is not None and hasattr(cache, "get_seq_length") else 0

    return model.module.register_forward_pre_hook(note, with_kwargs=True)
