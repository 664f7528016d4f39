"""Running a box in time, with what flowed through it labelled."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, Literal

import numpy as np
import torch
import xarray as xr
from torch import Tensor

from nissl.diagrams.wiring.box import Box
from nissl.diagrams.wiring.kinds import System
from nissl.diagrams.wiring.opening import flatten
from nissl.diagrams.wiring.running import Run
from nissl.diagrams.wiring.types import InterfaceMismatch, Space, Type, Values, bare, named, no_port
from nissl.diagrams.wiring.wires import Port
from nissl.errors import InputError


def run(
    system: Box,
    inputs: Any = None,
    steps: int | None = None,
    *,
    directions: Any = None,
    record: Literal["outer", "wires"] = "outer",
) -> xr.Dataset:
    """Let a system, or a learner, run.

    Parameters
    ----------
    system
        A `System`, `Learner` or `Lens`, nested or not. It is not changed: `after` gives it as it is at the end.
    inputs
        What a system hears, or a learner's source says: by port an array (time, ...); an array alone where there is one port; or a function of the step.
    steps
        How many; as many as there are inputs by default.
    directions
        For a learner: what comes in at its target, likewise, or a function of its output and the step.
    record
        `outer`: the ports of the whole. `wires`: every wire inside too, called `box.port`, or `box/inner.port` where boxes are nested.

    Returns
    -------
    xr.Dataset
        A variable a port or wire, of axes (time, ...) as the port's type names them; `attrs["units"]` is its unit. What a system says at a step is read
        out before it hears that step's input.

    Raises
    ------
    InputError
        No number of steps, too few inputs, values that are not finite.
    InterfaceMismatch
        Ports that are not there, values of another type.

    Examples
    --------
    >>> from nissl.diagrams.wiring import Interface
    >>> number = Space((), "float64", unit="mV")
    >>> leak = System(Interface({"v": number}, {"i": number}), torch.ones((), dtype=torch.float64), lambda v: v, lambda v, i: 0.5 * v + i)
    >>> v = run(leak, {"i": torch.tensor([0.0, 1.0, 0.0])}).v
    >>> v.values.tolist(), v.units
    ([1.0, 0.5, 1.25], 'mV')
    """
    if record not in ("outer", "wires"):
        raise InputError(f"record={record!r}; allowed: 'outer', 'wires'")
    flat = flatten(system) if record == "wires" and system.nested is not None else system
    kept: dict[str, list[Any]] = {}
    types: dict[str, Type] = dict(system.target.output)
    wires: dict[str, int] = {}
    if record == "wires" and flat.nested is not None:
        runner: Run = flat._flow.__self__  # type: ignore[attr-defined]
        for name in flat.nested.wiring.boxes:
            for port, type_ in flat.nested.wiring.sources(name)["out"].items():
                types[f"{name}.{port}"], wires[f"{name}.{port}"] = type_, runner.place[Port(name, "out", port)]
    for y, values, _ in _steps(flat, inputs, steps, directions):
        for name in system.target.output:
            kept.setdefault(name, []).append(y[name])
        for name, place in wires.items():
            kept.setdefault(name, []).append(values[place])
    return xr.Dataset({name: _array(name, types[name], v) for name, v in kept.items()})


def after(system: Box, inputs: Any = None, steps: int | None = None, *, directions: Any = None) -> Any:
    """The system as it is after running; arguments as of `run`.

    Examples
    --------
    >>> from nissl.diagrams.wiring import Interface
    >>> number = Space((), "float64")
    >>> total = System(Interface(number, number), torch.zeros((), dtype=torch.float64), lambda s: s, lambda s, u: s + u)
    >>> after(total, torch.ones(5)).state.item()
    5.0
    """
    state = system.state
    for _, _, after_it in _steps(system, inputs, steps, directions):
        state = after_it
    return system.at(state)


def _steps(box: Box, inputs: Any, steps: int | None, directions: Any) -> Iterator[tuple[Values, list, Any]]:
    """Output, values on all wires, and next state, at every step."""
    closed = isinstance(box, System)
    if closed and directions is not None:
        raise InputError("a system has no target to give directions at; give them as inputs")
    x_at = _feed("inputs", {} if closed else box.source.output, None if closed else inputs)
    d_at = _feed(
        "inputs" if closed else "directions",
        box.target.input,
        inputs if closed else directions,
        choosy=bool(box.target.when),
    )
    lengths = [f.length for f in (x_at, d_at) if f.length is not None]
    if steps is None:
        if not lengths:
            raise InputError("how many steps? give steps=, or inputs as arrays over time")
        steps = min(lengths)
    if isinstance(steps, bool) or not isinstance(steps, int | np.integer):
        raise InputError(f"steps={steps!r}; allowed: a whole number")
    if steps < 0 or any(n < steps for n in lengths):
        raise InputError(f"steps={steps}, while inputs last {min(lengths, default=0)}")
    state = box.state
    for step in range(steps):
        x = x_at(step, {})
        if box.nested is None:
            (y, back), values = box._flow(state, x), []
        else:
            y, back, values = box._flow.__self__.watched(state, x)  # type: ignore[attr-defined]
        there = box.target.directions(y)
        given = d_at(step, y)
        _, change = back(named(there, {n: given[n] for n in there if n in given}, box.label))
        state = box._learn(state, change)
        yield y, values, state


class _Feed:
    """Values of some ports at each step."""

    def __init__(self, ports: Mapping[str, Type], at: Callable[[int, Values], Values], length: int | None) -> None:
        self.ports, self.at, self.length = ports, at, length

    def __call__(self, step: int, y: Values) -> Values:
        return self.at(step, y)


def _feed(what: str, ports: Mapping[str, Type], given: Any, choosy: bool = False) -> _Feed:
    if callable(given):
        said: Callable[..., Any] = given
        if what == "directions":
            return _Feed(ports, lambda step, y: named(ports, said(bare(y), step), what), None)
        return _Feed(ports, lambda step, y: said(step) if choosy else named(ports, said(step), what), None)
    if not ports:
        if given is not None and not (isinstance(given, Mapping) and not given):
            raise InterfaceMismatch(f"{what} are given, but the box hears nothing")
        return _Feed(ports, lambda step, y: {}, None)
    if given is None:
        raise InputError(f"{what} are needed at ports {sorted(ports)}")
    if not isinstance(given, Mapping):
        if len(ports) != 1:
            raise InterfaceMismatch(f"{what}: one array for ports {sorted(ports)}; give a mapping by name")
        given = dict.fromkeys(ports, given)
    for name in given:
        if name not in ports:
            raise no_port(str(name), ports, "port")
    if missing := ports.keys() - given.keys():
        raise InterfaceMismatch(f"{what}: nothing is given at {sorted(missing)}")
    series = {n: _series(n, ports[n], v) for n, v in given.items()}
    return _Feed(ports, lambda step, y: {n: v[step] for n, v in series.items()}, min(len(v) for v in series.values()))


def _series(name: str, type_: Type, given: Any) -> Any:
    if not isinstance(type_, Space):
        for value in given:
            if not type_.holds(value):
                raise InterfaceMismatch(f"port {name!r} ({type_}) was given {value!r}")
        return list(given)
    values = given if isinstance(given, Tensor) else torch.as_tensor(np.asarray(given))
    dtype = getattr(torch, type_.dtype)
    if torch.promote_types(values.dtype, dtype) != dtype:
        raise InterfaceMismatch(f"port {name!r} ({type_}) was given {values.dtype}; convert it first")
    values = values.to(dtype)
    if not values.dim() or not type_.holds(
        values[0] if len(values) else values.new_zeros([1] * bool(type_.batch) + list(type_.shape))
    ):
        raise InterfaceMismatch(
            f"port {name!r} ({type_}) was given an array of shape {tuple(values.shape)}; allowed: (time, ...) of that type"
        )
    if values.is_floating_point() and not bool(torch.isfinite(values).all()):
        raise InputError(f"inputs at port {name!r} are not finite")
    return values


def _array(name: str, type_: Type, values: list[Any]) -> xr.DataArray:
    time = {"time": np.arange(len(values))}
    if not isinstance(type_, Space):
        held = np.empty(len(values), dtype=object)
        held[:] = values
        return xr.DataArray(held, time, ["time"])
    axes = [a.name for a in type_.axes] or [f"{name}_{i}" for i in range(len(type_.shape))]
    dims = ["time", *([type_.batch] if type_.batch else []), *axes]
    points = {a.name: a.points for a in type_.axes if a.points is not None}
    return xr.DataArray(
        torch.stack(values).detach().cpu().numpy(),
        time | points,
        dims,
        attrs={"units": type_.unit} if type_.unit else {},
    )
