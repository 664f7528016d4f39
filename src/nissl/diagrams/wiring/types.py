"""Types of ports, the values that they hold, and the error of those that do not fit."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from nissl.axes import Axis
from nissl.errors import DiagramError, InputError, nearest


class InterfaceMismatch(DiagramError, TypeError):  # noqa: N818
    """Two ends that cannot be wired together, or a value that is not of its port's type."""


def _default_dtype() -> str:
    return str(torch.get_default_dtype()).removeprefix("torch.")


@dataclass(frozen=True)
class Space:
    """All arrays of one shape and dtype: the type of a port.

    Attributes
    ----------
    shape
        Full shape but for the batch axis; nothing is ever broadcast to fit.
    dtype
        As torch names it; torch's default where none is given.
    unit
        Of the values.
    batch
        Name of a leading axis of any size; none where empty.
    axes
        Named axes, one for each of `shape`, which they give where it is left out.

    Raises
    ------
    InputError
        A dtype that torch does not have, negative sizes, axes that are not those of the shape.

    Examples
    --------
    >>> print(Space((3,), "float64", unit="mV"))
    float64[3] mV
    """

    shape: tuple[int, ...] = ()
    dtype: str = field(default_factory=_default_dtype)
    unit: str = ""
    batch: str = ""
    axes: tuple[Axis, ...] = ()

    def __post_init__(self) -> None:
        given = (self.shape,) if isinstance(self.shape, int) else self.shape
        if isinstance(given, str) or not all(isinstance(n, int) for n in given):
            raise InputError(f"shape {self.shape!r}; allowed: whole numbers, such as (3, 4)")
        shape = tuple(given)
        sizes = tuple(a.size for a in self.axes)
        object.__setattr__(self, "shape", shape or sizes)
        object.__setattr__(self, "dtype", str(self.dtype).removeprefix("torch."))
        if self.axes and sizes != self.shape:
            raise InputError(f"axes {[a.name for a in self.axes]} have sizes {sizes}, the shape is {self.shape}")
        if any(n < 0 for n in self.shape):
            raise InputError(f"shape {self.shape}; sizes are at least 0")
        if not isinstance(getattr(torch, self.dtype, None), torch.dtype):
            raise InputError(f"dtype {self.dtype!r} is not one of torch's, such as float32, float64 or int64")
        object.__setattr__(self, "_dtype", getattr(torch, self.dtype))

    @classmethod
    def like(cls, value: Tensor, *, batch: str = "", unit: str = "") -> Space:
        """The type of a tensor; with `batch` its first axis is the batch."""
        return cls(tuple(value.shape[1:] if batch else value.shape), str(value.dtype), unit, batch)

    def fits(self, other: Type) -> bool:
        """Whether values of one are values of the other. Names of axes count where both have them."""
        return self == other or (
            isinstance(other, Space)
            and (self.shape, self.dtype, self.unit, self.batch) == (other.shape, other.dtype, other.unit, other.batch)
            and not (self.axes and other.axes)
        )

    def holds(self, value: Any) -> bool:
        """Whether a value is of this type."""
        if not isinstance(value, Tensor) or value.dtype != self._dtype:  # type: ignore[attr-defined]
            return False
        shape = value.shape[1:] if self.batch else value.shape
        return shape == self.shape and value.dim() == len(self.shape) + bool(self.batch)

    def __str__(self) -> str:
        sizes = [self.batch] if self.batch else []
        sizes += [f"{a.name}={a.size}" for a in self.axes] or [str(n) for n in self.shape]
        return f"{self.dtype}[{', '.join(sizes)}]" + (f" {self.unit}" if self.unit else "")


@dataclass(frozen=True)
class Finite:
    """A finite set: the type of a port that says one of a few things.

    Examples
    --------
    >>> print(Finite("open", "shut"))
    one of 'open', 'shut'
    """

    values: tuple[Any, ...]

    def __init__(self, *values: Any) -> None:
        object.__setattr__(self, "values", values)

    def fits(self, other: Type) -> bool:
        """Whether both are the same set."""
        return isinstance(other, Finite) and (self.values is other.values or set(self.values) == set(other.values))

    def holds(self, value: Any) -> bool:
        """Whether a value is in the set."""
        return value in self.values

    def __str__(self) -> str:
        return "one of " + ", ".join(repr(v) for v in self.values[:6]) + (", ..." if len(self.values) > 6 else "")


Type = Space | Finite
Values = dict[str, Any]


def as_ports(given: Any, name: str) -> dict[str, Type]:
    """Ports from what people write: nothing, a type, a size or shape (one port called `name`), or a mapping from names."""
    if given is None or (isinstance(given, tuple) and not given):
        return {}
    if isinstance(given, Mapping):
        return {str(n): as_type(t) for n, t in given.items()}
    return {name: as_type(given)}


def as_type(given: Any) -> Type:
    """A type from a type, a size or a shape."""
    if isinstance(given, (Space, Finite)):
        return given
    if isinstance(given, int):
        return Space((given,))
    if isinstance(given, (tuple, list, torch.Size)):
        return Space(tuple(given))
    raise InputError(f"{given!r} is no type of a port; allowed: Space, Finite, a size, a shape")


def describe(port: str, type_: Type) -> str:
    """A port with its type, for people."""
    return f"{port!r} ({type_})"


def no_port(port: str, allowed: Iterable[str], what: str) -> InterfaceMismatch:
    """The error for a port that is not there, with the nearest that is."""
    options = list(allowed)
    near = nearest(port, options, n=3)
    rest = (
        "nearest: " + ", ".join(map(repr, near))
        if near
        else "there are: " + (", ".join(map(repr, options[:10])) or "none")
    )
    return InterfaceMismatch(f"there is no {what} {port!r}; {rest}")


def check(ports: Mapping[str, Type], values: Values, who: str) -> Values:
    """Values as they are, if each is of its port's type."""
    if values.keys() != ports.keys():
        raise InterfaceMismatch(f"{who}: given ports {sorted(values)}, allowed exactly {sorted(ports)}")
    batches: dict[str, int] = {}
    for name, type_ in ports.items():
        value = values[name]
        if not type_.holds(value):
            raise InterfaceMismatch(f"{who}: port {describe(name, type_)} was given {what_is(value)}")
        if isinstance(type_, Space) and type_.batch and batches.setdefault(type_.batch, len(value)) != len(value):
            raise InterfaceMismatch(
                f"{who}: port {describe(name, type_)} was given {len(value)} along {type_.batch!r}, others {batches[type_.batch]}"
            )
    return values


def what_is(value: Any) -> str:
    """Type of a value, for people."""
    return (
        f"{str(value.dtype).removeprefix('torch.')}{list(value.shape)}"
        if isinstance(value, Tensor)
        else _short(repr(value))
    )


def _short(text: str) -> str:
    return text if len(text) <= 80 else f"{text[:77]}..."


def bare(values: Values) -> Any:
    """What people's functions see: a value alone where there is one port, a mapping by name otherwise."""
    return next(iter(values.values())) if len(values) == 1 else values


def named(ports: Mapping[str, Type], value: Any, who: str) -> Values:
    """The way back, checked."""
    if len(ports) == 1 and not (isinstance(value, dict) and value.keys() == ports.keys()):
        value = dict.fromkeys(ports, value)
    elif not ports and value is None:
        value = {}
    if not isinstance(value, Mapping):
        raise InterfaceMismatch(f"{who}: given {what_is(value)}, allowed a mapping from {sorted(ports)}")
    return check(ports, dict(value), who)
