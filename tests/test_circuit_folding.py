"""Folding: fewer boxes, the same network."""

from __future__ import annotations

from dataclasses import replace

import pytest
import sympy
import torch
from torch import nn

from nissl.diagrams import Array, Box, CircuitDiagram, Operation, circuit
from nissl.diagrams._constants import constants_folded
from nissl.diagrams.circuit import Axis
from nissl.diagrams.folding import collapse, expand, folded, highlight, to_depth, without_unused
from nissl.errors import InputError, UnknownNameError


class Block(nn.Module):
    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.mlp = nn.Sequential(nn.Linear(width, hidden), nn.GELU(), nn.Linear(hidden, width))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + self.mlp(x)


def network(*hidden: int) -> nn.Module:
    return nn.Sequential(*[Block(6, h) for h in hidden])


def drawn(module: nn.Module) -> CircuitDiagram:
    return circuit(module, torch.zeros(2, 3, 6), axes="batch time model")


def by_hand(n: int, *, skip: bool = False) -> CircuitDiagram:
    """A chain of `n` modules of two steps each; with `skip`, what the second one makes is used at the end as well."""
    arrays = {"x0": Array("x0", ("model",), role="input")}
    steps, boxes = [], {"": Box("", "Net")}
    for i in range(n):
        hidden, made = f"h{i}", f"x{i + 1}"
        arrays |= {hidden: Array(hidden, ("model",)), made: Array(made, ("model",))}
        path = f"blocks.{i}"
        boxes[path] = Box(path, "Block")
        steps += [
            Operation(f"exp{i}", "elementwise", "exp", (f"x{i}",), (hidden,), module=path, broadcast=("model",), elementwise=sympy.Integer(4)),
            Operation(f"sin{i}", "elementwise", "sin", (hidden,), (made,), module=path, broadcast=("model",), elementwise=sympy.Integer(4)),
        ]  # fmt: skip
    last = f"x{n}"
    if skip:
        arrays["y"] = Array("y", ("model",))
        steps.append(Operation("add", "elementwise", "+", (last, "x2"), ("y",), broadcast=("model",)))
        last = "y"
    return CircuitDiagram("chain", {"model": Axis("model", 4)}, arrays, tuple(steps), ("x0",), (last,), boxes=boxes)


def elementwise(d: CircuitDiagram) -> sympy.Expr:
    return sympy.Add(*(o.elementwise for o in d.operations))


@pytest.mark.parametrize("depth", [0, 1, 2, 9])
def test_costs_weights_inputs_and_outputs_stay_at_any_depth(depth: int) -> None:
    d = drawn(network(8, 9, 10))
    cut = to_depth(d, depth)
    assert sympy.expand(cut.flops() - d.flops()) == 0
    assert sympy.expand(elementwise(cut) - elementwise(d)) == 0
    assert (cut.inputs, cut.outputs) == (d.inputs, d.outputs)
    weights = {n for n, a in d.arrays.items() if a.role == "parameter"}
    assert {n for o in cut.operations for n in o.inputs if cut.arrays[n].role == "parameter"} == weights


def test_depth_opens_one_module_after_another() -> None:
    d = drawn(network(8, 9))
    assert [o.symbol for o in to_depth(d, 0).operations] == ["Block", "Block"]
    assert [o.kind for o in to_depth(d, 1).operations] == ["module", "elementwise"] * 2
    assert to_depth(d, 2).operations == d.operations
    for bad in (-1, 1.5, True):
        with pytest.raises(InputError, match="allowed: 0"):
            to_depth(d, bad)  # type: ignore[arg-type]


def test_a_collapsed_module_says_what_it_does_to_axes() -> None:
    d = drawn(network(8))
    box = next(o for o in collapse(d, "0.mlp").operations if o.kind == "module")
    assert box.broadcast == ("batch", "time")
    assert box.acted == ("model",)
    assert box.contracted == box.born == ()
    assert box.learned
    head = circuit(nn.Sequential(nn.Linear(6, 8), nn.ReLU()), torch.zeros(2, 6), axes="batch model")
    whole = collapse(head, "").operations[0]
    assert (whole.contracted, whole.broadcast) == (("model",), ("batch",))
    assert len(whole.born) == 1
    with pytest.raises(UnknownNameError, match=r"'0\.mpl'.*'0\.mlp"):
        collapse(d, "0.mpl")


def test_expanding_undoes_collapsing() -> None:
    d = drawn(network(8, 9))
    assert expand(collapse(d, "1.mlp"), "1.mlp", d).operations == d.operations
    with pytest.raises(UnknownNameError, match="box"):
        expand(d, "1.mlp", d)


def test_a_module_that_runs_twice_is_two_boxes() -> None:
    shared = nn.Sequential(nn.Linear(6, 6), nn.Tanh())

    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.part, self.between = shared, nn.ReLU()

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.part(self.between(self.part(x)))

    d = circuit(Twice(), torch.zeros(2, 6), axes="batch model")
    boxes = [o for o in collapse(d, "part").operations if o.kind == "module"]
    assert len(boxes) == 2
    assert len({b.name for b in boxes}) == 2


def test_equal_siblings_fold_and_the_cost_stays_the_wholes() -> None:
    d = drawn(network(*[8] * 7))
    few = folded(d)
    assert few.boxes["0"].repeats == 7
    assert len(few.operations) == len(d.operations) // 7
    assert sympy.expand(few.flops() - d.flops()) == 0
    assert sympy.expand(elementwise(few) - elementwise(d)) == 0
    assert few.arrays[few.outputs[0]].axes == d.arrays[d.outputs[0]].axes


def test_siblings_of_another_size_or_setting_do_not_fold() -> None:
    few = folded(drawn(network(8, 8, 9, 9, 9)))
    assert (few.boxes["0"].repeats, few.boxes["2"].repeats) == (2, 3)
    norms = nn.Sequential(*[nn.Sequential(nn.LayerNorm(6, eps=e), nn.ReLU()) for e in (1e-5, 1e-5, 1e-3)])
    few = folded(drawn(norms))
    assert few.boxes["0"].repeats == 2
    assert few.boxes["2"].repeats == 1


def test_what_is_needed_from_the_middle_of_a_run_stays() -> None:
    assert folded(by_hand(6)).boxes["blocks.0"].repeats == 6
    held = folded(by_hand(6, skip=True))
    assert [held.boxes[p].repeats for p in ("blocks.0", "blocks.2")] == [2, 4]
    add = held.operations[-1]
    assert len(set(add.inputs)) == 2
    d = by_hand(4)
    kept = folded(replace(d, feedback=frozenset({"x2"})))
    assert [kept.boxes[p].repeats for p in ("blocks.0", "blocks.2")] == [2, 2]


def test_axes_that_are_born_in_each_block_become_one() -> None:
    d = drawn(network(*[8] * 5))
    hidden = {a for o in d.operations for a in o.born}
    few = folded(d)
    assert len({a for o in few.operations for a in o.born} - {"model"}) == 1
    assert len(hidden - {"model"}) in (1, 5)


def test_folding_twice_changes_nothing_more() -> None:
    for d in (drawn(network(*[8] * 4)), by_hand(9, skip=True)):
        once = folded(d)
        assert [o.name for o in folded(once).operations] == [o.name for o in once.operations]


def test_what_comes_from_sizes_alone_is_one_box_before_the_part_that_needs_it() -> None:
    axes = {"time": Axis("time", 4), "time'": Axis("time'", 4)}
    arrays = {"x": Array("x", ("time", "time'"), role="input"), "r": Array("r", ("time",)), "c": Array("c", ("time'",))}
    arrays |= {n: Array(n, ("time", "time'")) for n in ("mask", "a", "b", "y")}
    steps = (
        Operation("exp", "elementwise", "exp", ("x",), ("a",), module="layers.0"),
        Operation("rows", "creation", "arange", (), ("r",)),
        Operation("cols", "creation", "arange", (), ("c",)),
        Operation("compare", "elementwise", "<", ("r", "c"), ("mask",)),
        Operation("add", "elementwise", "+", ("a", "mask"), ("b",), module="layers.0"),
        Operation("again", "elementwise", "+", ("b", "mask"), ("y",), module="layers.1"),
    )
    d = CircuitDiagram("masked", axes, arrays, steps, ("x",), ("y",))
    found = constants_folded(d)
    assert [o.symbol for o in found.operations] == ["from sizes", "exp", "+", "+"]
    assert found.operations[0].outputs == ("mask",)
    # Made by the first layer for all of them: it belongs to their parent.
    inner = tuple(replace(o, module="layers.0") if o.name in ("rows", "cols", "compare") else o for o in steps)
    found = constants_folded(replace(d, operations=inner))
    assert [o.module for o in found.operations] == ["layers", "layers.0", "layers.0", "layers.1"]


def test_outputs_that_nobody_takes_go() -> None:
    arrays = {n: Array(n, ("model",), role="input" if n == "x" else "activation") for n in ("x", "y", "z", "w")}
    steps = (
        Operation("norm", "normalisation", "norm", ("x",), ("y", "z")),
        Operation("exp", "elementwise", "exp", ("y",), ("w",)),
    )
    d = CircuitDiagram("d", {"model": Axis("model", 3)}, arrays, steps, ("x",), ("w",))
    assert without_unused(d).operations[0].outputs == ("y",)
    assert set(without_unused(d).arrays) == {"x", "y", "w"}


def test_a_unit_reaches_what_is_downstream_and_nothing_else() -> None:
    class Two(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b, self.c = nn.Linear(6, 7), nn.Linear(6, 7), nn.Linear(7, 2)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.c(torch.relu(self.a(x)) + torch.tanh(self.b(x)))

    d = circuit(Two(), torch.zeros(4, 6), axes="batch model")
    reach = highlight(d, "a", 6)
    assert reach.axis == d.arrays[reach.array].axes[-1]
    reached = [o.symbol for o in d.operations if o.name in reach.operations]
    assert reached == ["relu", "+", "linear"]
    # Compared with torch: what changes when the unit does.
    with pytest.raises(InputError, match="0 to 6"):
        highlight(d, "a", 7)
    with pytest.raises(InputError):
        highlight(d, "a", -1)
    with pytest.raises(UnknownNameError):
        highlight(d, "z", 0)


def test_ten_thousand_modules() -> None:
    d = by_hand(10_000)
    assert folded(d).boxes["blocks.0"].repeats == 10_000
    assert len(to_depth(d, 0).operations) == 10_000
    from nissl.diagrams.drawing import to_svg

    assert "× 10000" in to_svg(d)


@pytest.mark.parametrize("n", [2, 3, 20])
def test_equal_layers_in_a_row_fold_though_every_one_begins_an_axis(n: int) -> None:
    net = nn.Sequential(nn.Linear(6, 4), *[nn.Linear(4, 4) for _ in range(n)], nn.Linear(4, 3))
    whole = circuit(net, (2, 6))
    once = folded(whole)
    assert [o.symbol for o in once.operations] == ["linear"] * 3
    assert once.boxes["1"].repeats == n
    assert once.flops() == whole.flops()
    first, middle, last = once.operations
    assert middle.inputs[0] == first.outputs[0]
    assert last.inputs[0] == middle.outputs[0]
    assert set(middle.born) == set(once.arrays[middle.outputs[0]].axes) - {"batch"} == set(last.contracted)
    deep = folded(circuit(nn.Sequential(*[nn.Sequential(nn.Linear(4, 4), nn.ReLU()) for _ in range(n)]), (2, 4)))
    assert [o.symbol for o in deep.operations] == ["linear", "relu"]


def test_axes_that_change_places_do_not_fold() -> None:
    class Turn(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x.transpose(1, 2).softmax(-1)

    d = circuit(nn.Sequential(*[Turn() for _ in range(3)]), torch.zeros(2, 4, 4), axes="batch y x")
    assert len([o for o in folded(d).operations if o.symbol == "softmax"]) == 3


class Cut(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.l = nn.Linear(4, 6)

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, ...]:
        y = self.l(x)
        a, b = y.chunk(2, -1)
        z = torch.cat([x, y], -1)
        return a.exp(), b.sin(), y[:, 2].tan(), y[:, ::3].cos(), z[:, 4].log(), y.unbind(-1)[1].sinh()


@pytest.mark.parametrize("unit", range(6))
def test_a_unit_is_followed_through_cuts_and_joins(unit: int) -> None:
    d = circuit(Cut(), (2, 4))
    reach = highlight(d, "l", unit)
    found = {o.symbol for o in d.operations if o.name in reach.operations and o.kind == "elementwise"}
    lit = {
        "exp": unit < 3,
        "sin": unit >= 3,
        "tan": unit == 2,
        "cos": unit % 3 == 0,
        "log": unit == 0,
        "sinh": unit == 1,
    }
    assert found == {k for k, v in lit.items() if v}


class Broken(nn.Module):
    """Between the two steps of `part`, which the network calls as functions, runs one that needs neither."""

    def __init__(self) -> None:
        super().__init__()
        self.part = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.part(x) + x


def test_what_breaks_a_module_up_is_done_before_it_where_it_can_be() -> None:
    d = circuit(Broken(), (2, 4))
    steps = list(d.operations)
    extra = Operation("e", "elementwise", "exp", (d.inputs[0],), ("e",), broadcast=("batch", "feature"))
    arrays = {**d.arrays, "e": Array("e", d.arrays[d.inputs[0]].axes)}
    apart = replace(d, operations=(steps[0], extra, *steps[1:]), arrays=arrays, outputs=(*d.outputs, "e"))
    assert [o.symbol for o in to_depth(apart, 0).operations] == ["exp", "Sequential", "+"]
    assert len(expand(to_depth(apart, 0), "part", apart).operations) == len(apart.operations)
