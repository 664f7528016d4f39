"""Taps: the one way to read or change activity while a network runs.

A tap is a forward hook that acts only in the thread that set it, sees its site in the layout that `Site.dims` names,
and is removed when its block ends, however it ends. The network is never rewritten: its figures are its own.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from nissl.errors import InputError, ModelError
from nissl.models.attention import AttentionTap, listen
from nissl.models.outputs import main_tensor, replace_main
from nissl.models.probe import Probe
from nissl.models.sites import Site

if TYPE_CHECKING:
    from nissl.models.inputs import Inputs
    from nissl.models.model import Model

_state = threading.local()

TapFunction = Callable[[Tensor, Site], "Tensor | None"]

_CHANNELS_FIRST = (
    nn.Conv1d, nn.ConvTranspose1d, nn.MaxPool1d, nn.AvgPool1d, nn.AdaptiveAvgPool1d, nn.AdaptiveMaxPool1d,
)  # fmt: skip


class StopForward(BaseException):
    """Raised inside a tap to end the forward pass; `run_until` catches it. Not an `Exception`, so that no model
    swallows it.
    """


@contextmanager
def tap(model: Model, taps: Mapping[str, TapFunction], *, in_time: bool = False) -> Iterator[None]:
    """Read or change sites while the block runs.

    Parameters
    ----------
    model
        The network.
    taps
        For each site name a function `(value, site) -> tensor or None`. `value` has the axes `site.dims`; a returned
        tensor takes its place, None leaves it.
    in_time
        At a `Probe`, act on every moment before the next one is computed, so that a change has its consequences; the value
        then holds one step, and `site.span` says which. Otherwise the whole value is seen once.

    Raises
    ------
    UnknownNameError
        A site that does not exist.

    Examples
    --------
    >>> import nissl, torch
    >>> net = nissl.load(torch.nn.Sequential(torch.nn.Linear(2, 2), torch.nn.ReLU()))
    >>> with tap(net, {"0": lambda value, site: torch.zeros_like(value)}):
    ...     net(torch.ones(1, 2)).sum().item()
    0.0
    """
    sites = [(model.sites[name], fn) for name, fn in taps.items()]
    # The per-head view edits the projection's output, so it must come before whoever reads that output.
    sites.sort(key=lambda pair: pair[0].port != "heads")
    with ExitStack() as stack:
        for site, fn in sites:
            stack.callback(_install(model, site, fn, in_time))
        yield


def run_until(model: Model, inputs: Inputs, taps: Mapping[str, TapFunction]) -> None:
    """One forward pass that ends as soon as every tap has fired as often as its module runs.

    Raises
    ------
    ModelError
        A site whose module does not run in the pass.
    """
    model.trace(inputs)
    missing: dict[str, int] = {
        name: 1 if model.sites[name].call is not None else model.sites[name].calls or 0 for name in taps
    }
    never = [name for name, calls in missing.items() if not calls]
    if never:
        raise ModelError(
            f"site {never[0]!r} is never reached: its module does not run in a forward pass of this network"
            + _stepped(model, never[0])
        )

    def watched(name: str) -> TapFunction:
        def fn(value: Tensor, site: Site) -> Tensor | None:
            result = taps[name](value, site)
            missing[name] -= 1
            if not any(missing.values()):
                raise StopForward
            return result

        return fn

    with tap(model, {name: watched(name) for name in taps}):
        try:
            model.forward(inputs)
        except StopForward:
            return
    late = next(name for name, calls in missing.items() if calls)
    raise ModelError(
        f"site {late!r} was not reached in this pass, though it was in the first one; record it alone, or inside the branch"
    )


@contextmanager
def muted() -> Iterator[None]:
    """Let no tap of this thread fire while the block runs: for a look at the network as it is, inside somebody's
    intervention.
    """
    before = getattr(_state, "muted", False)
    _state.muted = True
    try:
        yield
    finally:
        _state.muted = before


def _stepped(model: Model, name: str) -> str:
    if not isinstance(model.module.get_submodule(model.sites[name].module), Probe):
        return ""
    return "; steps that you take in a loop of your own are seen whole where nissl.nn.unroll takes them"


def axes(site: Site, value: Tensor, module: nn.Module | None = None) -> tuple[str, ...]:
    """The names of the axes of a value read at a site."""
    if isinstance(module, Probe) and len(module.dims) == value.dim():
        return module.dims
    if site.dims is not None and len(site.dims) == value.dim():
        return site.dims
    if site.name == "logits":
        named = {
            1: ("sample",),
            2: ("sample", "class"),
            3: ("sample", "position", "class"),
            4: ("sample", "class", "y", "x"),
        }
    else:
        third = ("sample", "unit", "time") if isinstance(module, _CHANNELS_FIRST) else ("sample", "position", "unit")
        named = {0: (), 1: ("sample",), 2: ("sample", "unit"), 3: third, 4: ("sample", "unit", "y", "x")}
        named[5] = ("sample", "unit", "z", "y", "x")
    return named.get(value.dim(), ("sample", *(f"axis_{i}" for i in range(1, value.dim()))))


def _install(model: Model, site: Site, fn: TapFunction, in_time: bool) -> Callable[[], None]:
    """Hook one site; returns the function that removes the hook."""
    module = model.module.get_submodule(site.module)
    here = threading.get_ident()
    count = _CallCounter(model.module, site.call)

    def fire(value: Tensor) -> Tensor | None:
        return fn(value, site if site.dims else replace(site, dims=axes(site, value, module)))

    def mine() -> bool:
        return threading.get_ident() == here and not getattr(_state, "muted", False) and count.matches()

    if in_time and isinstance(module, Probe) and site.port == "output":
        return module.add_edit(
            lambda v, start, total: fn(v, replace(site, dims=module.dims, span=(start, total))), mine
        )
    if site.port in ("query", "key", "value", "pattern"):
        return listen(module, AttentionTap(site.port, fire, mine))
    if site.port == "input":
        handle = module.register_forward_pre_hook(
            lambda _, args, kwargs: _edit_input(args, kwargs, fire, site) if mine() else None, with_kwargs=True
        )
    elif site.port == "heads":
        heads = model.config.num_attention_heads
        handle = module.register_forward_hook(
            lambda m, args, output: _edit_heads(m, args[0], output, heads, fire) if mine() else None  # type: ignore[arg-type]
        )
    else:
        handle = module.register_forward_hook(
            lambda _, args, output: _edit_output(output, fire, site) if mine() else None
        )

    def remove() -> None:
        handle.remove()
        count.remove()

    return remove


class _CallCounter:
    """Counts the calls of one module within one pass of the network, for sites such as `relu#2`."""

    def __init__(self, root: nn.Module, call: int | None) -> None:
        self.call, self.seen, self.handle = call, 0, None
        self.thread = threading.get_ident()
        if call is not None:
            self.handle = root.register_forward_pre_hook(lambda *_: self._reset())

    def _reset(self) -> None:
        if threading.get_ident() == self.thread:
            self.seen = 0

    def matches(self) -> bool:
        if self.call is None:
            return True
        self.seen += 1
        return self.seen - 1 == self.call

    def remove(self) -> None:
        if self.handle is not None:
            self.handle.remove()


def _edit_output(output: Any, fire: Callable[[Tensor], Tensor | None], site: Site) -> Any:
    value = main_tensor(output)
    if value is None:
        raise ModelError(
            f"site {site.name!r} gives no tensor but {type(output).__name__}; choose a module inside or around it"
        )
    replaced = fire(value)
    return None if replaced is None else replace_main(output, replaced)


def _edit_input(
    args: tuple, kwargs: dict, fire: Callable[[Tensor], Tensor | None], site: Site
) -> tuple[tuple, dict] | None:
    place = next((i for i, a in enumerate(args) if isinstance(a, Tensor)), None)
    if place is not None:
        replaced = fire(args[place])
        return None if replaced is None else ((*args[:place], replaced, *args[place + 1 :]), kwargs)
    key = next((k for k, v in kwargs.items() if isinstance(v, Tensor)), None)
    if key is None:
        raise ModelError(f"site {site.name!r}: the module is called without a tensor; choose a module inside it")
    replaced = fire(kwargs[key])
    return None if replaced is None else (args, {**kwargs, key: replaced})


def _edit_heads(
    module: nn.Module, mixed: Tensor, output: Tensor, heads: int, fire: Callable[[Tensor], Tensor | None]
) -> Tensor | None:
    """What each head writes: its slice of the mixed values times its slice of the output projection."""
    matrix: Any = module.weight
    weight = matrix if type(module).__name__ == "Conv1D" else matrix.T  # (head * unit in, unit out)
    split = mixed.unflatten(-1, (heads, -1))
    each = torch.einsum("...hd,hdu->...hu", split, weight.unflatten(0, (heads, -1)).to(split.dtype))
    replaced = fire(each)
    # The change alone is added, so that an untouched output stays bit for bit what the network computed.
    return None if replaced is None else output + (replaced - each).sum(-2)


def check_called_once(site: Site) -> None:
    """Refuse a site whose module runs several times in one pass, unless a call was chosen."""
    if site.call is None and (site.calls or 1) > 1:
        raise InputError(
            f"site {site.name!r} runs {site.calls} times in one pass; say which: {site.name + '#0'!r} to "
            f"{f'{site.name}#{(site.calls or 1) - 1}'!r}"
        )
