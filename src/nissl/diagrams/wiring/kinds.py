"""Lenses, systems that live on an interface, and learners that live between two."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from nissl.diagrams.wiring.box import Back, Box
from nissl.diagrams.wiring.interface import CLOSED, Interface
from nissl.diagrams.wiring.types import Values, bare, named


class Lens(Box):
    """A way to see one interface as another: positions go forward, directions come back.

    Parameters
    ----------
    source, target
        Interfaces.
    get
        From a position of the source to one of the target.
    put
        From a position of the source and a direction of the target there to a direction of the source.

    Notes
    -----
    Functions see a value alone where an interface has one port, and a dictionary by name otherwise. Composition: get composes, and
    put(b, e) = put_1(b, put_2(get_1(b), e)); for lenses of differentiable functions this is the chain rule.

    Raises
    ------
    InterfaceMismatch
        When used: a value that is not of its port's type.

    References
    ----------
    Spivak, Hosgood 2021, Deep neural networks as nested dynamical systems.

    Examples
    --------
    >>> from nissl.diagrams.wiring import real
    >>> t = real(2, dtype="float64")
    >>> square = Lens.differentiable(lambda x: x**2, t, t)
    >>> x = torch.tensor([1.0, 3.0], dtype=torch.float64)
    >>> (square >> square).put(x, torch.ones_like(x))
    tensor([  4., 108.], dtype=torch.float64)
    """

    def __init__(
        self, source: Interface, target: Interface, get: Callable, put: Callable, *, label: str = "lens"
    ) -> None:
        def flow(state: None, x: Values) -> tuple[Values, Back]:
            y = named(target.output, get(bare(x)), label)

            def back(dy: Values) -> tuple[Values, None]:
                return named(source.directions(x), put(bare(x), _bare(target, dy)), label), None

            return y, back

        self._set(source, target, None, flow, lambda state, change: state, label=label)

    @classmethod
    def differentiable(cls, f: Callable, source: Interface, target: Interface, *, label: str = "") -> Lens:
        """Get = f, put(x, dy) = J_f(x)^T dy by `torch.func.vjp`.

        Parameters
        ----------
        f
            From a tensor (or a dictionary by name) to one.
        source, target
            Interfaces whose ports carry directions of the values' own types.
        """
        label = label or getattr(f, "__name__", "function").strip("<>")

        def flow(state: None, x: Values) -> tuple[Values, Back]:
            y, pull = torch.func.vjp(f, bare(x))  # type: ignore[misc]
            y = named(target.output, y, label)
            return y, lambda dy: (named(source.input, pull(bare(dy))[0], label), None)

        return cls.of(source, target, None, flow, lambda state, change: state, label=label)

    def get(self, x: Any) -> Any:
        """Forward."""
        return bare(self._flow(None, named(self.source.output, x, self.label))[0])

    def put(self, x: Any, direction: Any) -> Any:
        """Backward."""
        y, back = self._flow(None, named(self.source.output, x, self.label))
        return bare(back(named(self.target.directions(y), direction, self.label))[0])


class System(Box):
    """A dynamical system on an interface: a Moore machine, whose input may depend on its output.

    Parameters
    ----------
    interface
        What it says and hears.
    state
        At first.
    readout
        From a state to a position: what it says depends on its state only.
    update
        From a state and a direction to the next state.

    Notes
    -----
    s' = update(s, d) for a direction d at readout(s). Where inputs depend on the position, `update` gets a dictionary by name.

    Raises
    ------
    InterfaceMismatch
        When run: a value that is not of its port's type.

    References
    ----------
    Spivak, Hosgood 2021, Deep neural networks as nested dynamical systems.

    Examples
    --------
    >>> from nissl.diagrams.wiring import Space, run
    >>> number = Space((), "float64")
    >>> leak = System(Interface(number, number), torch.zeros((), dtype=torch.float64), lambda s: s, lambda s, u: 0.5 * s + u)
    >>> run(leak, torch.ones(4)).value.values.tolist()
    [0.0, 1.0, 1.5, 1.75]
    """

    def __init__(
        self, interface: Interface, state: Any, readout: Callable, update: Callable, *, label: str = "system"
    ) -> None:
        def flow(state: Any, x: Values) -> tuple[Values, Back]:
            return named(interface.output, readout(state), label), lambda d: ({}, d)

        def learn(state: Any, change: Values) -> Any:
            return update(state, _bare(interface, change)) if interface.input else update(state)

        self._set(CLOSED, interface, state, flow, learn, label=label, additive=False)
        self.functions = (readout, update)

    @property
    def interface(self) -> Interface:
        """What it says and hears."""
        return self.target

    def readout(self, state: Any = None) -> Any:
        """What it says in a state, the present one by default."""
        return bare(self._flow(self.state if state is None else state, {})[0])

    def update(self, direction: Any = None) -> System:
        """The system after one direction."""
        return self.step(None, direction)[2]


class Learner(Box):
    """A system between two interfaces: its state is read out as a whole lens, and learns from what flows through.

    Parameters
    ----------
    source, target
        Interfaces.
    state
        At first.
    get
        From a state and a position of the source to one of the target.
    put
        From a state, a position of the source and a direction of the target to a direction of the source.
    update
        From a state, position and direction to the next state. With `change` given: from a state and a sum of changes.
    change
        From a state, position and direction to a change that may be summed over places where the box is used, and over samples.

    Notes
    -----
    A system on the internal hom [p, q]: its positions are lenses, its directions at a lens are pairs of a position of p and a direction of q.

    Raises
    ------
    InterfaceMismatch
        When used: a value that is not of its port's type.

    References
    ----------
    Spivak, Hosgood 2021, Deep neural networks as nested dynamical systems.

    Examples
    --------
    >>> from nissl.diagrams.wiring import after, real
    >>> t = real(dtype="float64")
    >>> gain = Learner(t, t, 1.0, get=lambda w, x: w * x, put=lambda w, x, dy: w * dy, update=lambda w, x, dy: w + 0.1 * float(x * dy))
    >>> y, dx, after = gain.step(torch.tensor(2.0, dtype=torch.float64), lambda y: 5.0 - y)
    >>> y.item(), dx.item(), round(after.state, 3)
    (2.0, 3.0, 1.6)
    """

    def __init__(
        self,
        source: Interface,
        target: Interface,
        state: Any,
        get: Callable,
        put: Callable,
        update: Callable,
        *,
        change: Callable | None = None,
        label: str = "learner",
    ) -> None:
        def flow(state: Any, x: Values) -> tuple[Values, Back]:
            y = named(target.output, get(state, bare(x)), label)

            def back(dy: Values) -> tuple[Values, Any]:
                seen = (state, bare(x), _bare(target, dy))
                dx = named(source.directions(x), put(*seen), label)
                return dx, seen[1:] if change is None else change(*seen)

            return y, back

        def learn(state: Any, change_: Any) -> Any:
            return update(state, *change_) if change is None else update(state, change_)

        self._set(source, target, state, flow, learn, label=label, additive=change is not None)

    def readout(self, state: Any = None) -> Lens:
        """The lens that it is in a state, the present one by default: what a system on [source, target] says."""
        state = self.state if state is None else state
        return Lens.of(
            self.source, self.target, None, lambda _, x: self._lens_flow(state, x), lambda s, c: s, label=self.label
        )

    def _lens_flow(self, state: Any, x: Values) -> tuple[Values, Back]:
        y, back = self._flow(state, x)
        return y, lambda dy: (back(dy)[0], None)

    def get(self, x: Any) -> Any:
        """Forward, in the present state."""
        return self.readout().get(x)

    def put(self, x: Any, direction: Any) -> Any:
        """Backward, in the present state."""
        return self.readout().put(x, direction)


def _bare(interface: Interface, values: Values) -> Any:
    return values if interface.when else bare(values)


def kind_of(source: Interface, state: Any) -> type[Box]:
    """What a box of that source and state is called."""
    if not source.output and not source.input:
        return System
    return Lens if state is None else Learner
