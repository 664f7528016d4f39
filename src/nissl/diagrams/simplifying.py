"""Leave out of a diagram what only moves numbers for the computer's sake."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from nissl.diagrams._contracting import Contracting, cut
from nissl.diagrams._tidying import made_once, read, renamed
from nissl.diagrams.circuit import CircuitDiagram, Operation
from nissl.diagrams.tracing.views import ONE, View, Views

_ALONG = ("_softmax", "_log_softmax", "_safe_softmax", "cumsum")


def simplified(diagram: CircuitDiagram, parts: Mapping[str, Sequence[str]] | None = None) -> CircuitDiagram:
    """The same network, read as one would write it.

    Transposes, views and copies vanish into the equations of the products that read them; what is left of them is an unbinding of
    one axis, a binding, or a crossing of wires before an operator that needs it. What depends on sizes alone (positions, masks) is
    one `creation` each, whose operators stand in its arguments (`_steps.run_steps`). What nothing reads is left out, unless it
    costs products, so that the total of `flops` does not change.

    Parameters
    ----------
    diagram
        With every operator.
    parts
        By name of an axis, those that it is bound from. None reads them from the operations.
    """
    known = {k: tuple(v) for k, v in parts.items()} if parts is not None else _parts(diagram)
    return read(made_once(_Rewriting(diagram, Views(known)).run()))


def _parts(diagram: CircuitDiagram) -> dict[str, tuple[str, ...]]:
    """Of every axis that is bound or unbound alone in an operation, the parts."""
    found: dict[str, tuple[str, ...]] = {}
    for o in diagram.operations:
        if o.kind != "rearrangement" or len(o.inputs) != 1 or len(o.outputs) != 1:
            continue
        for before, after in ((o.inputs[0], o.outputs[0]), (o.outputs[0], o.inputs[0])):
            left, right = diagram.arrays[before].axes, diagram.arrays[after].axes
            whole = [a for a in right if a not in left and a != ONE]
            pieces = tuple(a for a in left if a not in right and a != ONE)
            if len(whole) == 1 and len(pieces) > 1:
                found.setdefault(whole[0], pieces)
    return found


class _Rewriting(Contracting):
    """Goes through the operations once and writes them anew."""

    def run(self) -> CircuitDiagram:
        for operation in self.diagram.operations:
            if not any(way(operation) for way in (self._moved, self.equation, self._commuting, self._selected)):
                self._kept(operation)
        outputs = tuple(self.concrete(n) for n in self.diagram.outputs)
        return replace(
            self.diagram,
            operations=tuple(self.done),
            outputs=outputs,
            arrays=self.arrays,
            axes=self.axes,
            sizes=self.sizes,
        )

    def _moved(self, o: Operation) -> bool:
        """A rearrangement is put off until something needs it."""
        inputs = [
            n for n in o.inputs if all(self.axes[a].size for a in self.diagram.arrays[n].axes)
        ]  # not what is empty
        if o.kind != "rearrangement" or len(inputs) != 1 or len(o.outputs) != 1:
            return False
        o = replace(o, inputs=tuple(inputs))
        before, after = self.diagram.arrays[o.inputs[0]], self.diagram.arrays[o.outputs[0]]
        if before.dtype != after.dtype:
            return False
        view = self.views.after(self.seen(o.inputs[0]), o, after.axes)
        if view is None:
            return False
        self.view[o.outputs[0]] = view
        return True

    def _kept(self, o: Operation) -> None:
        new = {n: self.concrete(n) for n in o.inputs}
        if o.target in (
            "aten.view.default",
            "aten._unsafe_view.default",
        ):  # what it reads may lie otherwise in memory now
            o = replace(o, target="aten.reshape.default")
        self.done.append(renamed(o, new))
        for name in o.outputs:
            self.arrays[name] = self.stored(self.arrays[name], new)

    def _commuting(self, o: Operation) -> bool:
        """What acts on each index, or along one axis that is whole, can as well act before the array was rearranged."""
        data = [n for n in o.inputs if self.diagram.arrays[n].role not in ("parameter", "constant")]
        old = self.diagram.arrays
        if len(data) != 1 or not o.outputs or old[o.outputs[0]].axes != old[data[0]].axes:
            return False
        view, operator = self.seen(data[0]), o.target.split(".")[1] if "." in o.target else ""
        if view.plain or view.copied:
            return False
        arguments = o.arguments
        if (
            o.kind == "elementwise"
            and not o.acted
            and len(o.inputs) == 1
            and len(o.outputs) == 1
            and operator != "batch_norm"
        ):
            pass
        elif operator in _ALONG and isinstance(arguments[1], int):
            group = view.outer[arguments[1] % len(view.outer)]
            if group not in view.inner:
                return False
            arguments = (arguments[0], view.inner.index(group), *arguments[2:])
        elif operator in ("native_layer_norm", "_fused_rms_norm"):
            n = len(arguments[1])
            if view.inner[-n:] != view.outer[-n:] or any(self.uses[x] for x in o.outputs[1:]):
                return False
            o = replace(o, outputs=o.outputs[:1])
        else:
            return False
        axes = self.arrays[view.source].axes
        out = o.outputs[0]
        self.arrays[out] = self.stored(replace(self.arrays[out], axes=axes), {data[0]: view.source})
        self.view[out] = View(out, view.inner, view.outer)
        along = tuple(a for a in dict.fromkeys(axes) if a not in o.acted and a != ONE)
        self.done.append(renamed(replace(o, arguments=arguments, broadcast=along), {data[0]: view.source}))
        return True

    def _selected(self, o: Operation) -> bool:
        """One index is picked of an axis that its source has, perhaps bound with others, without crossing wires first."""
        if o.target != "aten.select.int" or self.seen(o.inputs[0]).plain or self.seen(o.inputs[0]).copied:
            return False
        view = self.seen(o.inputs[0])
        dim = o.arguments[1] % len(view.outer)
        chosen = view.outer[dim]
        pieces = [cut(g, view.outer) for g in view.inner]
        if len(chosen) != 1 or any(c is None for c in pieces):
            return False
        shape = tuple(g for c in pieces if c is not None for g in c)
        source = self.shaped(View(view.source, view.inner, shape), shape, [self.name(g) for g in shape])
        at = shape.index(chosen)
        axes = self.arrays[source].axes
        out = o.outputs[0]
        rest = axes[:at] + axes[at + 1 :]
        self.arrays[out] = replace(self.arrays[out], axes=rest, storage=self.arrays[source].storage)
        self.view[out] = View(out, shape[:at] + shape[at + 1 :], view.outer[:dim] + view.outer[dim + 1 :])
        along = tuple(a for a in dict.fromkeys(rest) if a != ONE)
        moved = replace(o, arguments=(o.arguments[0], at, o.arguments[2]), broadcast=along)
        self.done.append(renamed(moved, {o.inputs[0]: source}))
        return True
