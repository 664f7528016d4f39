"""Operations from one column to another, and how they are put together."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from nissl.diagrams._equations import Terms, column, written
from nissl.diagrams.circuit import CircuitDiagram
from nissl.diagrams.expressions._building import Building, Size, resolved
from nissl.errors import DiagramError, InputError

Build = Callable[[Building, tuple[str, ...]], tuple[str, ...]]


@dataclass(frozen=True)
class Expression:
    """An operation from one column to another.

    Attributes
    ----------
    inputs, outputs
        Axes of each array of the columns.
    sizes
        Of axes, where they are known.
    build
        Puts its operations into a diagram.

    Examples
    --------
    >>> from nissl.diagrams.expressions import contract, linear, softmax
    >>> attention = contract("y k, x k -> y x", k=4) @ softmax("x")
    >>> attention
    y k, x k -> y x
    >>> linear("m -> k", "w", m=16, k=4) @ linear("m -> n", "v")
    Traceback (most recent call last):
    ...
    nissl.errors.DiagramError: the column 'k' does not go into the column 'm'; ...

    References
    ----------
    Abbott 2024, "Neural Circuit Diagrams".
    """

    inputs: Terms
    outputs: Terms
    sizes: Mapping[str, Size]
    build: Build

    def __repr__(self) -> str:
        return f"{written(self.inputs)} -> {written(self.outputs)}"

    def __matmul__(self, other: Expression | Rule) -> Expression:
        """First this, then the other: as one reads a diagram, from left to right."""
        if isinstance(other, Rule):
            other = other.on(self.outputs, self.sizes)
        if self.outputs != other.inputs:
            raise DiagramError(
                f"the column {written(self.outputs)!r} does not go into the column {written(other.inputs)!r}; arrays and the "
                "names and order of their axes must agree: rearrange, or broadcast along what is missing"
            )
        sizes = agreed(self, other)
        return Expression(
            self.inputs, other.outputs, sizes, lambda net, names: other.build(net, self.build(net, names))
        )

    def __add__(self, other: Expression) -> Expression:
        """Both side by side, each on its own arrays."""
        n = len(self.inputs)

        def build(net: Building, names: tuple[str, ...]) -> tuple[str, ...]:
            return self.build(net, names[:n]) + other.build(net, names[n:])

        return Expression(self.inputs + other.inputs, self.outputs + other.outputs, agreed(self, other), build)

    def diagram(self, name: str = "expression", **example: int) -> CircuitDiagram:
        """The diagram.

        Parameters
        ----------
        name
            Its title.
        **example
            Numbers for the sizes that are free.

        Raises
        ------
        InputError
            A size that is missing, or not free.
        """
        net = Building(self.sizes)
        stems = [str(i) for i in range(len(self.inputs))] if len(self.inputs) > 1 else [""]
        inputs = tuple(net.array(f"x{s}", axes) for s, axes in zip(stems, self.inputs, strict=False))
        outputs = self.build(net, inputs)
        return net.ending(name, inputs, outputs, example)


@dataclass(frozen=True)
class Rule:
    """An operation that goes on any column: it acts on some axes, and runs along all others."""

    where: Callable[[Terms, Mapping[str, Size]], Expression]

    def on(self, axes: str | Terms, sizes: Mapping[str, Size] | None = None) -> Expression:
        """The expression that it is on one column."""
        return self.where(column(axes) if isinstance(axes, str) else axes, sizes or {})

    def __matmul__(self, other: Rule) -> Rule:
        """First this, then the other."""
        return Rule(lambda axes, sizes: self.on(axes, sizes) @ other)


def two_sides(axes: str) -> tuple[str, str]:
    if axes.count("->") != 1:
        raise DiagramError(f"{axes!r} needs one arrow, such as 'm -> k h'")
    before, after = axes.split("->")
    return before, after


def two_columns(axes: str) -> tuple[Terms, Terms]:
    before, after = two_sides(axes)
    return column(before), column(after)


def checked(sizes: Mapping[str, Size], terms: Sequence[Sequence[str]]) -> dict[str, Size]:
    known = {a for t in terms for a in t}
    for axis, size in sizes.items():
        if axis not in known:
            raise InputError(f"a size is given for {axis!r}, which is not among the axes {', '.join(sorted(known))}")
        if not isinstance(size, (str, tuple)) and (isinstance(size, bool) or not isinstance(size, int) or size < 1):
            raise InputError(
                f"{axis}={size!r}; allowed: a whole number of at least 1, or the name of an axis of the same size"
            )
    return dict(sizes)


def agreed(one: Expression, other: Expression) -> dict[str, Size]:
    return merged(one.sizes, other.sizes, written(one.outputs), written(other.inputs))


def merged(one: Mapping[str, Size], other: Mapping[str, Size], first: str, second: str) -> dict[str, Size]:
    """Sizes of two columns together; an axis that is said to be as large as another takes the number that either knows.

    Raises
    ------
    DiagramError
        One axis has two sizes.
    """
    found = {**other, **one}
    for axis in sorted(one.keys() & other.keys()):
        if one[axis] == other[axis]:
            continue
        for given in (one[axis], other[axis]):  # "as large as" is passed on, and the number kept
            if isinstance(given, str) and given not in found:
                found[given] = next(g for g in (one[axis], other[axis]) if g != given)
        sizes = [resolved(axis, {**found, axis: given}) for given in (one[axis], other[axis])]
        if sizes[0] != sizes[1]:
            raise DiagramError(
                f"axis {axis!r} has size {sizes[0]} in the column {first!r} and {sizes[1]} in the column {second!r}"
            )
        found[axis] = next((g for g in (one[axis], other[axis]) if isinstance(g, int)), one[axis])
    return found
