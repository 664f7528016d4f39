"""The places where activity can be read and changed, and how they are called."""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Literal

from torch import nn

from nissl.errors import InputError, unknown
from nissl.models.architectures import base_path, block_count, family_of
from nissl.models.probe import TIME_AXES, Probe

Port = Literal["output", "input", "heads", "query", "key", "value", "pattern"]

# An axis may be found by a name that is not its own.
_ALIASES = {"unit": ("unit", "class", "key_position"), "position": ("position", *TIME_AXES)}
_TOKENS = ("sample", "position", "unit")
_HEADS = ("sample", "position", "head", "unit")
_PATTERN = ("sample", "head", "position", "key_position")


@dataclass(frozen=True)
class Site:
    """One place in a network.

    Attributes
    ----------
    name
        As a person writes it: `resid.3`, `features.12.conv`, `features.12:in`, `relu#1`.
    module
        Dotted path of the module that is hooked; empty for the network itself.
    port
        What of the module is meant: its output, its input, or one of the parts of an attention module.
    call
        Which call of the module in one pass, counted from 0; None means every call.
    dims
        Names of the axes; None for a raw module until the first run.
    shape
        Shape in the first run (one sample); None until then.
    calls
        How often the module runs in one pass; None until the first run.
    span
        For a network that runs step by step under an intervention: the first step of the value that a tap sees, and how many
        steps the pass has (None where nobody knows). None where the value is whole.
    """

    name: str
    module: str
    port: Port = "output"
    call: int | None = None
    dims: tuple[str, ...] | None = None
    shape: tuple[int, ...] | None = None
    calls: int | None = None
    span: tuple[int, int | None] | None = None

    def axis(self, name: str) -> int | None:
        """Which axis has this name; None where there is none, or before the first run. `unit` also finds what counts as
        units elsewhere: classes, and the key positions of an attention pattern; `position` also finds time.
        """
        names = _ALIASES.get(name, (name,))
        return next((self.dims.index(n) for n in names if n in self.dims), None) if self.dims else None

    @property
    def layer(self) -> int | None:
        """Number of the block for canonical names, else None."""
        found = re.fullmatch(r"[a-z]+\.(\d+)", self.name)
        return int(found.group(1)) if found else None


@dataclass(frozen=True)
class Visit:
    """One call of one module in the first run: which call it was, and the shapes of its first tensor and of its
    output.
    """

    module: str
    call: int
    given: tuple[int, ...] | None
    gave: tuple[int, ...] | None


@dataclass
class Sites(Mapping[str, Site]):
    """All sites of a network, searchable: a mapping from name to `Site`.

    Iterating gives the canonical names in the order of the network, then the module paths. Names that are valid but not
    listed: `path:in` (a module's input) and `path#k` (its k-th call in one pass). `visits` holds the modules of the
    first run in the order in which they finished.

    Examples
    --------
    >>> from torch import nn
    >>> sites = Sites.of(nn.Sequential(nn.Linear(2, 3), nn.ReLU()))
    >>> [s.name for s in sites.find(["0", "1:in"])]
    ['0', '1:in']
    """

    canonical: dict[str, Site]
    modules: dict[str, Site]
    visits: list[Visit] = field(default_factory=list)

    @classmethod
    def of(cls, module: nn.Module) -> Sites:
        """The sites of a module, from its family's row and its own module names."""
        modules = {
            path: Site(path, path, dims=m.dims if isinstance(m, Probe) else None)
            for path, m in module.named_modules()
            if path
        }
        canonical = _canonical(module)
        if "logits" not in modules:
            canonical["logits"] = Site("logits", "")
        return cls(canonical, modules)

    def __getitem__(self, name: str) -> Site:
        if name in self.canonical:
            return self.canonical[name]
        if name in self.modules:
            return self.modules[name]
        path, port, call = _parse(name)
        if path in self.modules and (port or call is not None):
            module = self.modules[path]
            if call is not None and module.calls is not None and call >= module.calls:
                raise InputError(
                    f"site {name!r}: {path!r} runs {module.calls} times in one pass, so #0 to #{module.calls - 1}"
                )
            return replace(
                module,
                name=name,
                port="input" if port else "output",
                call=call,
                dims=None if port else module.dims,
                shape=None if port else module.shape,
            )
        raise unknown("site", name, self)

    def __iter__(self) -> Iterator[str]:
        yield from self.canonical
        yield from self.modules

    def __len__(self) -> int:
        return len(self.canonical) + len(self.modules)

    def __contains__(self, name: object) -> bool:
        try:
            self[str(name)]
        except (KeyError, InputError):
            return False
        return True

    def find(self, at: str | Iterable[str]) -> list[Site]:
        """Sites by name or glob, in the order asked for, each once.

        Parameters
        ----------
        at
            A name, a glob (`neurons.*`, `features.*.conv:in`), or several of them. `*` spans dots.

        Raises
        ------
        UnknownNameError
            A name or glob that matches nothing; the message lists the nearest names.
        InputError
            Nothing was asked for.
        """
        patterns = [at] if isinstance(at, str) else list(at)
        if not patterns:
            raise InputError("no site asked for; name at least one, for example " + ", ".join(list(self)[:3]))
        found: dict[str, Site] = {}
        for pattern in patterns:
            names = [pattern] if pattern in self else self._match(pattern)
            found.update({name: self[name] for name in names})
        return list(found.values())

    def _match(self, pattern: str) -> list[str]:
        stem, suffix = re.fullmatch(r"(.*?)((?::in)?(?:#\d+)?)", pattern).groups()  # type: ignore[union-attr]
        if not any(c in stem for c in "*?["):
            raise unknown("site", pattern, self)
        among = self.modules if suffix else self
        names = [name + suffix for name in among if fnmatch.fnmatchcase(name, stem)]
        if not names:
            raise unknown("site", pattern, self, hint="the glob matches nothing")
        return names

    def learn(self, path: str, **facts: object) -> None:
        """Note what a run showed of a module or a canonical site (dims, shape, calls)."""
        table = self.canonical if path in self.canonical else self.modules
        table[path] = replace(table[path], **facts)  # type: ignore[arg-type]

    def __repr__(self) -> str:
        shown = []
        for name in list(self)[:60]:
            site = self[name]
            size = "" if site.dims is None else f"  ({', '.join(site.dims)})"
            size += "" if site.shape is None else f"  {site.shape}"
            shown.append(f"  {name}{size}")
        more = f"\n  ... and {len(self) - 60} more" if len(self) > 60 else ""
        return f"{len(self)} sites\n" + "\n".join(shown) + more


def _parse(name: str) -> tuple[str, str, int | None]:
    path, port, call = re.fullmatch(r"(.*?)(:in)?(?:#(\d+))?", name).groups()  # type: ignore[union-attr]
    return path, port or "", None if call is None else int(call)


def _canonical(module: nn.Module) -> dict[str, Site]:
    family = family_of(module)
    if family is None:
        return {}
    base, count = base_path(module), block_count(module, family)
    sites = [Site("embed", base + family.embed, dims=_TOKENS, calls=1)]
    for layer in range(count):
        block = f"{base}{family.blocks}.{layer}"
        attention, attn_out, mlp_out = (f"{block}.{p}" for p in (family.attention, family.attn_out, family.mlp_out))
        sites += [
            Site(f"resid.{layer}", block, "input", dims=_TOKENS, calls=1),
            Site(f"query.{layer}", attention, "query", dims=_HEADS, calls=1),
            Site(f"key.{layer}", attention, "key", dims=_HEADS, calls=1),
            Site(f"value.{layer}", attention, "value", dims=_HEADS, calls=1),
            Site(f"pattern.{layer}", attention, "pattern", dims=_PATTERN, calls=1),
            Site(f"heads.{layer}", attn_out, "heads", dims=_HEADS, calls=1),
            Site(f"attn.{layer}", attn_out, dims=_TOKENS, calls=1),
            Site(f"neurons.{layer}", mlp_out, "input", dims=_TOKENS, calls=1),
            Site(f"mlp.{layer}", mlp_out, dims=_TOKENS, calls=1),
        ]
    sites.append(Site(f"resid.{count}", f"{base}{family.blocks}.{count - 1}", dims=_TOKENS, calls=1))
    return {site.name: site for site in sites}
