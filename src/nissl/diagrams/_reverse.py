"""Goes through a diagram from its end, and writes down each operation's derivative, transposed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import sympy

from nissl.diagrams import _equations
from nissl.diagrams._derivatives import RULES, needless
from nissl.diagrams._operators import SHAPE, VJP
from nissl.diagrams.circuit import Array, CircuitDiagram, Operation, Ref

_EQUATIONS = ("linear", "contraction")


class Reverse:
    """A diagram of the way back in the making.

    Attributes
    ----------
    needed
        Arrays through which a gradient flows to those that are wanted.
    grads
        For every array, what has come back to it so far.
    """

    def __init__(self, diagram: CircuitDiagram, needed: set[str]) -> None:
        self.diagram, self.needed = diagram, needed
        self.arrays: dict[str, Array] = {}
        self.operations: list[Operation] = []
        self.grads: dict[str, list[str]] = {}
        self.seeds: dict[str, str] = {}
        self._taken: set[str] = set()

    def seed(self, name: str) -> None:
        """What comes back to an output is given from outside."""
        self.seeds[name] = self.array(name, role="input")
        self.grads[name] = [self.seeds[name]]

    def array(self, like: str, **changes: Any) -> str:
        """A new array for a gradient of `like`."""
        name, k = f"{like}.grad", 1
        while name in self.arrays or name in self.diagram.arrays:
            k += 1
            name = f"{like}.grad.{k}"
        own = self.diagram.arrays[like]
        self.arrays[name] = replace(own, **({"name": name, "role": "activation", "storage": name} | changes))
        return name

    def of(self, name: str) -> Array:
        """An array of either pass."""
        return self.arrays.get(name) or self.diagram.arrays[name]

    def collected(self, name: str) -> str | None:
        """All that has come back to an array, summed."""
        parts = self.grads.get(name, [])
        while len(parts) > 1:
            left, right, *rest = parts
            out = self.array(name)
            axes = self.of(out).axes
            self._append(
                Operation(
                    self.name("+"), "elementwise", "+", (left, right), (out,),
                    broadcast=axes, elementwise=self.diagram.elements(name), target="aten.add.Tensor",
                    arguments=(Ref(left), Ref(right)),
                )
            )  # fmt: skip
            parts = [out, *rest]
        if parts:
            self.grads[name] = parts
        return parts[0] if parts else None

    def step(self, operation: Operation) -> None:
        """Write down what an operation does to what comes back."""
        if not any(n in self.needed for n in operation.inputs):
            return
        back = [self.collected(n) if n in self.needed else None for n in operation.outputs]
        if not any(back):
            return
        if operation.kind in _EQUATIONS and operation.equation:
            self._bent(operation, str(back[0]))
            return
        if operation.kind == "rearrangement" and self._moved_back(operation, str(back[0])):
            return
        rule = RULES.get(operator_name(operation))
        if rule is None or not rule(self, operation, back):
            self.transposed(operation, back)

    def contribute(self, name: str, grad: str) -> None:
        """What comes back to an array from one of its readers."""
        self.grads.setdefault(name, []).append(grad)

    def emit(
        self, operation: Operation, target: str, arguments: Sequence[Any], to: Sequence[str | None], **changes: Any
    ) -> None:
        """An operation of the way back with an output for each array in `to`; None where an output is not wanted."""
        read = list(_references((arguments, changes.get("options", {}))))
        outputs = tuple(self.array(n) if n is not None else self._spare(operation, i) for i, n in enumerate(to))
        fields: dict[str, Any] = {
            "kind": operation.kind if operation.kind not in _EQUATIONS else "contraction",
            "symbol": f"{operation.symbol}ᵀ",
            "acted": operation.acted,
            "contracted": operation.born,
            "born": operation.contracted,
            "broadcast": operation.broadcast,
            "module": operation.module,
            "line": operation.line,
            "elementwise": operation.elementwise,
            "learned": any(self.of(n).role == "parameter" for n in read),
            "options": {},
        } | changes
        name = self.name(f"{operation.name}.back")
        self._append(
            Operation(
                name,
                inputs=tuple(dict.fromkeys(read)),
                outputs=outputs,
                target=target,
                arguments=tuple(arguments),
                **fields,
            )
        )
        for n, out in zip(to, outputs, strict=True):
            if n is not None:
                self.contribute(n, out)

    def transposed(self, operation: Operation, back: Sequence[str | None]) -> None:
        """The derivative of one torch operator, by torch, reading no more of the forward pass than it depends on."""
        positions = list(_references((operation.arguments, operation.options)))
        wrt = [i for i, n in enumerate(_references(operation.arguments)) if n in self.needed]
        skip = needless(operator_name(operation), positions, wrt)

        counter = iter(range(len(positions)))

        def put(value: Any) -> Any:
            if isinstance(value, Ref):
                place = next(counter)
                array = self.diagram.arrays[value.array]
                if place in skip and array.dtype.startswith(("float", "bfloat", "complex")):
                    return (SHAPE, f"torch.{array.dtype}", *(self.diagram.size(a) for a in array.axes))
                return value
            return tuple(put(v) for v in value) if isinstance(value, (tuple, list)) else value

        arguments = put(tuple(operation.arguments))
        grads = tuple(None if g is None else Ref(g) for g in back)
        to = [positions[i] for i in wrt]
        self.emit(
            operation, VJP, (operation.target, arguments, tuple(wrt), grads), to,
            options=dict(operation.options), flops=operation.flops * _products_back(operation, wrt),
        )  # fmt: skip

    def alias(self, name: str, like: str) -> str:
        """Another name for an array."""
        out = self.array(like, storage=self.of(name).storage)
        axes = self.of(name).axes
        self._append(
            Operation(
                self.name("="), "rearrangement", "=", (name,), (out,), broadcast=axes, target="aten.alias.default",
                arguments=(Ref(name),),
            )
        )  # fmt: skip
        return out

    def cast(self, operation: Operation, grad: str, dtype: str) -> str:
        """What comes back, in another type."""
        if self.of(grad).dtype == dtype:
            return grad
        out = self.array(operation.outputs[0], dtype=dtype)
        self._append(
            Operation(
                self.name(f"{operation.name}.back"), "elementwise", f"{operation.symbol}ᵀ", (grad,), (out,), operation.module,
                broadcast=self.of(grad).axes, target="aten._to_copy.default", arguments=(Ref(grad),),
                options={"dtype": f"torch.{dtype}"}, line=operation.line,
            )
        )  # fmt: skip
        return out

    def summed(self, operation: Operation, grad: str, name: str, kept: Sequence[int]) -> None:
        """What comes back to an array that was shared along further axes: the sum over them."""
        axes = self.of(grad).axes
        dims = tuple(i for i in range(len(axes)) if i not in kept)
        if not dims:
            self.contribute(name, grad)
            return
        self.emit(
            operation, "aten.sum.dim_IntList", (Ref(grad), dims, False), [name],
            kind="reduction", symbol="sum", acted=(), contracted=tuple(axes[i] for i in dims), born=(),
            broadcast=tuple(axes[i] for i in kept), elementwise=sympy.Mul(*(self.diagram.size(a) for a in axes)),
        )  # fmt: skip

    def _moved_back(self, operation: Operation, grad: str) -> bool:
        """Wires that cross cross back; copies are summed; what was bound is unbound. False where names do not tell how."""
        if len(operation.inputs) != 1 or len(operation.outputs) != 1:
            return False
        before, after = (self.diagram.arrays[n].axes for n in (operation.inputs[0], operation.outputs[0]))
        if len(set(before)) < len(before) or len(set(after)) < len(after):
            return False
        if set(before) < set(after):
            kept = [i for i, a in enumerate(after) if a in before]
            if [after[i] for i in kept] != list(before):
                return False
            self.summed(operation, grad, operation.inputs[0], kept)
            return True
        if operation.target and set(before) != set(after):
            return False
        self.emit(operation, "", [Ref(grad)], operation.inputs)
        return True

    def _bent(self, operation: Operation, grad: str) -> None:
        """A product: each operand gets the product of what comes back and the others, along the wires that it had."""
        terms, out = _equations.split(operation.equation)
        for i, (name, term) in enumerate(zip(operation.inputs, terms, strict=False)):
            if name not in self.needed:
                continue
            others = [j for j in range(len(terms)) if j != i]
            there = set(out).union(*(terms[j] for j in others))
            if len(set(term)) < len(term) or not set(term) <= there:
                self._by_torch(operation, grad, i)
                continue
            bent = _equations.join([out, *(terms[j] for j in others)], term)
            cost, steps = _equations.products(bent, self._size_of(operation, terms, out))
            kind = "contraction" if len(terms) > 1 else "rearrangement" if set(term) == set(out) else "contraction"
            self.emit(
                operation, "aten.permute.default" if kind == "rearrangement" else "", [Ref(grad), *(Ref(operation.inputs[j]) for j in others)]
                if kind != "rearrangement" else [Ref(grad), tuple(out.index(a) for a in term)], [name],
                kind=kind, equation="" if kind == "rearrangement" else bent,
                contracted=tuple(a for a in dict.fromkeys((*out, *there)) if a not in term),
                born=tuple(a for a in term if a not in out), broadcast=tuple(a for a in term if a in out), acted=(),
                flops=operation.flops if len(terms) == 2 else cost, elementwise=steps if len(terms) != 2 else sympy.Integer(0),
            )  # fmt: skip
        for name in operation.inputs[len(terms) :]:
            if name in self.needed:
                own = self.of(name).axes
                kept = [out.index(a) for a in own] if set(own) <= set(out) else range(len(out) - len(own), len(out))
                self.summed(operation, grad, name, sorted(kept))

    def _by_torch(self, operation: Operation, grad: str, i: int) -> None:
        """A product in which an axis stands twice or ends by itself."""
        terms, out = _equations.split(operation.equation)
        letters = {
            a: chr(97 + k) if k < 26 else chr(39 + k) for k, a in enumerate(dict.fromkeys(a for t in terms for a in t))
        }
        text = ",".join("".join(letters[a] for a in t) for t in terms) + "->" + "".join(letters[a] for a in out)
        operands = tuple(Ref(n) for n in operation.inputs[: len(terms)])
        arguments = ("aten.einsum.default", (text, operands), (i,), (Ref(grad),))
        self.emit(operation, VJP, arguments, [operation.inputs[i]], flops=operation.flops)

    def _size_of(self, operation: Operation, terms: Any, out: Any):
        """Sizes of the names in an equation, which the arrays' own axes give."""
        sizes = {
            a: self.diagram.size(b)
            for t, n in zip(terms, operation.inputs, strict=False)
            for a, b in zip(t, self.of(n).axes, strict=True)
        }
        return sizes.__getitem__

    def name(self, stem: str) -> str:
        """A name for an operation."""
        name, k = stem, 1
        while name in self._taken:
            k += 1
            name = f"{stem}_{k}"
        self._taken.add(name)
        return name

    def _spare(self, operation: Operation, i: int) -> str:
        name = f"{operation.name}.back.unused.{i}"
        self.arrays[name] = Array(name, (), self.of(operation.outputs[0]).dtype)
        return name

    def _append(self, operation: Operation) -> None:
        self.operations.append(operation)


def operator_name(operation: Operation) -> str:
    """The operator of its target without namespace and overload: `add`."""
    parts = operation.target.split(".")
    return parts[1].rstrip("_") if len(parts) > 1 and not parts[1].startswith("__") else operation.target


def _products_back(operation: Operation, wrt: Sequence[int]) -> sympy.Expr:
    """How often the products of the forward pass come again: once for each operand that a gradient goes to.

    Attention has two products of two operands each; the gradient of its weights is needed for queries and for keys alike.
    """
    if "attention" in operation.target:
        chosen = set(wrt) & {0, 1, 2}
        return sympy.Rational(len(chosen) + bool(chosen & {0, 1}), 2)
    if operator_name(operation) in ("addmm", "baddbmm", "addbmm", "addmv", "addr"):  # the first is only added
        return sympy.Integer(len(set(wrt) & {1, 2}))
    return sympy.Integer(len(wrt))


def _references(value: Any):
    from nissl.diagrams.program import references

    return references(value)
