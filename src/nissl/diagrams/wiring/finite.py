"""Interfaces of finite sets, where lenses can be listed and a learner's type is an interface itself."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

from nissl.diagrams.wiring.interface import Depending, Interface, each
from nissl.diagrams.wiring.kinds import Lens
from nissl.diagrams.wiring.types import Finite, Values, bare


def directions(interface: Interface, position: Values) -> list[Values]:
    """All directions at a position of a finite interface."""
    return list(each(interface.directions(position)))


def count_lenses(source: Interface, target: Interface) -> int:
    """How many lenses there are between finite interfaces.

    Notes
    -----
    The product over positions i of the source of the sum over positions j of the target of |p[i]|^|q[j]|; for monomials B y^A -> D y^C that is
    (|D| |A|^|C|)^|B|.

    Examples
    --------
    >>> two, three = Finite(0, 1), Finite(0, 1, 2)
    >>> count_lenses(Interface(two, three), Interface(two, two))
    324
    """
    targets = [len(directions(target, j)) for j in target.positions()]
    total = 1
    for i in source.positions():
        here = len(directions(source, i))
        total *= sum(here**there for there in targets)
    return total


def lenses(source: Interface, target: Interface) -> Iterator[Lens]:
    """Every lens between finite interfaces.

    Examples
    --------
    >>> bit = Interface(Finite(0, 1), Finite(0, 1))
    >>> len(list(lenses(bit, bit)))
    64
    """
    places = list(source.positions())
    options = []
    for i in places:
        here = directions(source, i)
        options.append([
            (j, dict(zip(map(_key, there), back, strict=True)))
            for j in target.positions()
            for there in [directions(target, j)]
            for back in itertools.product(here, repeat=len(there))
        ])  # fmt: skip
    for choice in itertools.product(*options):
        yield _table(source, target, dict(zip(map(_key, places), choice, strict=True)))


def hom(source: Interface, target: Interface) -> Interface:
    """The internal hom [source, target] of small finite interfaces: its positions are lenses, its directions pairs of a position of the source and a
    direction of the target there.

    Examples
    --------
    >>> bit = Interface(Finite(0, 1), Finite(0, 1))
    >>> whole = hom(bit, bit)
    >>> position = next(whole.positions())
    >>> len(list(whole.positions())), len(directions(whole, position))
    (64, 4)
    """
    all_ = tuple(lenses(source, target))
    pairs = {
        lens: {
            "value": Finite(
                *(
                    (_key(i), _key(d))
                    for i in source.positions()
                    for d in directions(target, _position(target, lens, i))
                )
            )
        }
        for lens in all_
    }
    return Interface({"lens": Finite(*all_)}, when=[Depending("lens", pairs)])


def _position(target: Interface, lens: Lens, i: Values) -> Values:
    got = lens.get(bare(i))
    return dict.fromkeys(target.output, got) if len(target.output) == 1 else got or {}


def _key(values: Values) -> tuple:
    return tuple(sorted(values.items()))


def _table(source: Interface, target: Interface, table: dict) -> Lens:
    """The lens that a table says."""

    def flow(state: None, x: Values):
        j, back = table[_key(x)]
        return dict(j), lambda d: (dict(back[_key(d)]), None)

    return Lens.of(source, target, None, flow, lambda state, change: state, label="table")
