"""Networks of torch as nested diagrams of learners, and back."""

from __future__ import annotations

import copy
import operator
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, fx, nn
from torch.fx.node import map_arg
from torch.fx.proxy import TraceError

from nissl.diagrams.wiring.box import Box
from nissl.diagrams.wiring.composing import nest
from nissl.diagrams.wiring.interface import CLOSED, Hom, Interface
from nissl.diagrams.wiring.kinds import Lens
from nissl.diagrams.wiring.layers import neurons
from nissl.diagrams.wiring.optimisers import Descent, Optimizer, descender
from nissl.diagrams.wiring.types import Space
from nissl.diagrams.wiring.wires import OUTER, Wiring
from nissl.errors import InputError, ModelError, unknown

Per = Literal["module", "neuron"]


def from_torch(
    module: nn.Module,
    example: Tensor | tuple[Tensor, ...],
    optimizer: Optimizer = "sgd",
    lr: float = 0.1,
    *,
    per: Per = "module",
    momentum: float = 0.9,
    betas: tuple[float, float] = (0.9, 0.999),
    eps: float = 1e-8,
    reduce: Literal["sum", "mean"] = "sum",
    batch: str = "sample",
) -> Any:
    """A network and its gradient descent as a nest of learners.

    Parameters
    ----------
    module
        Any network whose dataflow `torch.fx` can follow. It is copied, not changed.
    example
        Input, or inputs, with a batch axis first unless `batch` is empty: only types are read from it.
    optimizer, lr, momentum, betas, eps
        As in `torch.optim`; each box has its optimiser's memory inside.
    per
        A box a `module`, or a `neuron`: each row of every `nn.Linear` and each output channel of every `nn.Conv2d` a box of its own (small nets).
    reduce
        Over the batch: what each box learns from is the `sum` of the samples' changes, or their `mean`. Directions of a mean loss carry their 1/n: `sum`.
    batch
        Name of the batch axis.

    Returns
    -------
    Learner
        Its places are the module's children, nested as they are. A module that is called twice is one box in two places; a parameter of the module itself
        is a system that says it. `box.step(x, -gradient of the loss at the output)` is one training step.

    Raises
    ------
    ModelError
        Control flow that depends on data, modules that change their own buffers (batch normalisation in training) or are random (dropout in training),
        outputs that are not one tensor.
    UnknownNameError
        Another optimizer, or another `per`.

    References
    ----------
    Spivak, Hosgood 2021, Deep neural networks as nested dynamical systems.

    Examples
    --------
    >>> net = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2))
    >>> x, target = torch.randn(8, 3), torch.randn(8, 2)
    >>> learner = from_torch(net, x, lr=0.05)
    >>> y, dx, learner = learner.step(x, lambda y: target - y)
    >>> bool(torch.allclose(y, net(x))), dx.shape
    (True, torch.Size([8, 3]))
    >>> list(learner.state)
    ['0', '2']
    """
    if not isinstance(module, nn.Module):
        raise InputError(f"{type(module).__name__} given; from_torch takes a torch.nn.Module")
    if per not in ("module", "neuron"):
        raise unknown("per", per, ["module", "neuron"])
    descent = Descent(optimizer, lr, momentum, (betas[0], betas[1]), eps, reduce)
    examples = example if isinstance(example, tuple) else (example,)
    if not examples or not all(isinstance(e, Tensor) for e in examples):
        raise InputError("example is a tensor, or a tuple of tensors")
    module = copy.deepcopy(module)
    for name, part in module.named_modules():
        if part.training and isinstance(part, (nn.modules.batchnorm._BatchNorm, nn.modules.dropout._DropoutNd)):
            raise ModelError(
                f"{name or 'the module'} ({type(part).__name__}) changes or draws by itself while training; call .eval() first"
            )
    _refuse_tied(module)
    _runs(module, examples)
    with torch.no_grad():
        learner = _Builder(descent, per, batch).box(module, examples, (True,) * len(examples))
    learner.origin = (module, learner.origin)
    return learner


def _runs(module: nn.Module, examples: tuple[Tensor, ...]) -> None:
    try:
        with torch.no_grad():
            module(*examples)
    except (RuntimeError, TypeError, IndexError, ValueError) as error:
        shapes = ", ".join(str(tuple(e.shape)) for e in examples)
        raise InputError(
            f"{type(module).__name__} does not run on an example of shape {shapes}: {str(error).splitlines()[0]}"
        ) from error


def _refuse_tied(module: nn.Module) -> None:
    """Sharing is one box in two places of one diagram; weights tied across diagrams would come apart."""
    found: dict[int, tuple[tuple[int, str], str]] = {}
    for name, p in module.named_parameters(remove_duplicate=False):
        path = name.rpartition(".")[0]
        where = (id(module.get_submodule(path)), path.rpartition(".")[0])
        first, other = found.setdefault(id(p), (where, name))
        if first != where:
            raise ModelError(
                f"{name!r} and {other!r} are one weight in two modules, which would be two boxes; call one module in both places, of one parent"
            )


class _Builder:
    """Boxes of a network's modules, from the values that an example has in it."""

    def __init__(self, descent: Descent, per: Per, batch: str) -> None:
        self.descent, self.per, self.batch = descent, per, batch

    def interface(self, name: str, value: Any, batched: bool = True) -> Interface:
        if not isinstance(value, Tensor):
            raise ModelError(f"{name!r} gives {type(value).__name__}; only modules of one tensor can be boxes")
        port = {"value": Space.like(value, batch=self.batch if batched and value.dim() else "")}
        return Interface(port, port if value.is_floating_point() else None)

    def inputs(self, values: tuple[Any, ...], batched: tuple[bool, ...]) -> Interface:
        given = enumerate(zip(values, batched, strict=True))
        parts = {f"x{i}" if i else "value": self.interface("input", v, b) for i, (v, b) in given}
        return Interface(
            {n: p.output["value"] for n, p in parts.items()},
            {n: p.input["value"] for n, p in parts.items() if p.input},
        )

    def box(self, module: nn.Module, examples: tuple[Any, ...], batched: tuple[bool, ...]) -> Box:
        """A module as one box, or as a diagram of its children's."""
        children = list(module.children())
        if not children or (
            type(module).__module__.startswith("torch.nn.modules") and not isinstance(module, nn.Sequential)
        ):
            return self.leaf(module, examples, batched)
        return self.diagram(module, examples, batched)

    def leaf(self, module: nn.Module, examples: tuple[Any, ...], batched: tuple[bool, ...]) -> Box:
        label = type(module).__name__
        if self.per == "neuron" and batched == (True,):
            rows = neurons(module, examples[0], self.descent, self.batch)
            if rows is not None:
                return rows
        source = self.inputs(examples, batched)
        target = self.interface(label, module(*examples), any(batched))
        params = {n: p.detach().clone() for n, p in module.named_parameters()}
        rest = {n: b.detach().clone() for n, b in module.named_buffers()}

        def call(held: dict[str, Tensor], x: Any) -> Tensor:
            args = tuple(x.values()) if isinstance(x, dict) else (x,)
            return torch.func.functional_call(module, {**held, **rest}, args)

        if params:
            return descender(call, params, source, target, descent=self.descent, label=label)
        if not source.input:
            return Lens(source, target, lambda x: call({}, x), lambda x, dy: {}, label=label)
        return Lens.differentiable(lambda x: call({}, x), source, target, label=label)

    def diagram(self, module: nn.Module, examples: tuple[Any, ...], batched: tuple[bool, ...]) -> Box:
        graph = _graph(module)
        values: dict[fx.Node, Any] = {}
        given = iter(examples)
        boxes: dict[tuple[str, ...], Box] = {}
        names: dict[fx.Node, str] = {}
        calls: dict[str, list[str]] = {}
        made: dict[str, Box] = {}
        wires: dict[str, str] = {}
        outer_in = self.inputs(examples, batched)
        taken: set[str] = set()
        moves: dict[fx.Node, bool] = dict(zip([n for n in graph.nodes if n.op == "placeholder"], batched, strict=False))
        sources: dict[fx.Node, str] = {}
        ports = iter(outer_in.output)
        out: Interface | None = None
        for node in graph.nodes:
            if node.op == "placeholder":
                values[node], sources[node] = next(given, None), f"{OUTER}.{next(ports, '')}"
                continue
            if node.op == "output":
                (result,) = node.args
                if not isinstance(result, fx.Node):
                    raise ModelError(
                        f"{type(module).__name__} returns {type(result).__name__}; only one tensor can be wired"
                    )
                out = self.interface("output", values[result], moves[result])
                wires[f"{OUTER}.value"] = sources[result]
                continue
            used = list(node.all_input_nodes)
            if node.op == "call_module":
                target = str(node.target)
                part = module.get_submodule(target)
                if node.kwargs or any(not isinstance(a, fx.Node) for a in node.args):
                    raise ModelError(
                        f"{target!r} is called with more than tensors; give it as a module of tensors only"
                    )
                used = list(node.args)
                arguments = tuple(values[n] for n in used)
                calls.setdefault(target, [])
                name = _free(target.replace(".", "_"), taken)
                calls[target].append(name)
                if target not in made:
                    made[target] = self.box(part, arguments, tuple(moves[n] for n in used))
                values[node] = part(*arguments)
            elif node.op == "get_attr":
                name = _free(str(node.target).replace(".", "_"), taken)
                value = operator.attrgetter(str(node.target))(module)
                values[node], target = value, f"={node.target}"  # no module can be called so
                calls.setdefault(target, []).append(name)
                made.setdefault(target, self.parameter(name, value))
            else:
                name = _free(node.name, taken)
                function = _function(node, used)
                arguments, flags = tuple(values[n] for n in used), tuple(moves[n] for n in used)
                values[node] = function(*arguments)
                boxes[(name,)] = self.function(node, function, self.inputs(arguments, flags), values[node])
            names[node], moves[node] = name, any(moves[n] for n in used)
            sources[node] = f"{name}.value"
            for i, n in enumerate(used):
                wires[f"{name}.{f'x{i}' if i else 'value'}"] = sources[n]
        boxes |= {tuple(found): made[target] for target, found in calls.items()}
        if out is None:
            raise ModelError(f"{type(module).__name__} returns nothing")
        types = {n: b.type for group, b in boxes.items() for n in group}
        order = {names[n]: types[names[n]] for n in graph.nodes if n in names}
        wiring = Wiring(order, Hom(outer_in, out), wires)
        whole = nest(wiring, boxes, label=type(module).__name__)
        whole.origin = {found[0]: target.lstrip("=") for target, found in calls.items()}
        return whole

    def parameter(self, name: str, value: Tensor) -> Box:
        """A weight of the module itself: a system that says it, and learns from the direction that it hears."""
        space = Space.like(value)
        if not isinstance(value, nn.Parameter):
            target = Interface({"value": space}, {"value": space} if value.is_floating_point() else None)
            return Lens.of(
                CLOSED, target, None, lambda s, x: ({"value": value}, lambda d: ({}, None)), lambda s, c: s, label=name
            )
        if self.descent.reduce == "mean":
            raise InputError(
                f"weight {name!r} of the module itself hears a sum over the batch and cannot tell how large that is; use "
                "reduce='sum' and divide the direction by the batch size"
            )
        return descender(
            lambda p, _: p[name].clone(), {name: value.detach().clone()}, CLOSED, Interface({"value": space}, {"value": space}), descent=self.descent, label=name,
        )  # fmt: skip

    def function(self, node: fx.Node, f: Callable, source: Interface, value: Any) -> Lens:
        """A call of a function: a lens without state."""
        label = getattr(node.target, "__name__", str(node.target)).strip("_")
        moves = any(isinstance(t, Space) and t.batch for t in source.output.values())
        target = self.interface(label, value, moves)
        if not source.input:
            return Lens(source, target, lambda x: f(*_listed(x)), lambda x, dy: {}, label=label)
        return Lens.differentiable(lambda x: f(*_listed(x)), source, target, label=label)


def _listed(x: Any) -> tuple[Any, ...]:
    return tuple(x.values()) if isinstance(x, dict) else (x,)


class _Tracer(fx.Tracer):
    """Follows one module down to its own children, Sequences inside it excepted only where they are called whole."""

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return True


def _graph(module: nn.Module) -> fx.Graph:
    try:
        return _Tracer().trace(module)
    except (TraceError, TypeError, RuntimeError) as error:
        raise ModelError(
            f"the dataflow of {type(module).__name__} cannot be followed{_line_of(error)} ({str(error).splitlines()[0]}); make it one box with descender, or "
            "keep control flow and sizes that depend on data, such as torch.ones(T, T) with T from x.shape, out of forward"
        ) from error


def _line_of(error: BaseException) -> str:
    """The last line of the network's own code that led to it."""
    torchs = str(Path(torch.__file__).parent)
    own = [f for f in traceback.extract_tb(error.__traceback__) if not f.filename.startswith(torchs)]
    here = [f for f in own if f.filename != __file__]
    return f" at {here[-1].filename}:{here[-1].lineno}, `{here[-1].line}`" if here else ""


def _free(name: str, taken: set[str]) -> str:
    n, candidate = 1, name
    while candidate in taken:
        n, candidate = n + 1, f"{name}#{n + 1}"
    taken.add(candidate)
    return candidate


def _function(node: fx.Node, used: list[fx.Node]) -> Callable:
    """A node's call as a function of the tensors alone."""

    def call(*values: Any) -> Any:
        held = dict(zip(used, values, strict=True))
        args = map_arg(node.args, held.__getitem__)
        kwargs = map_arg(node.kwargs, held.__getitem__)
        if node.op == "call_method":
            return getattr(args[0], str(node.target))(*args[1:], **kwargs)  # type: ignore[index]
        return node.target(*args, **kwargs)  # type: ignore[operator,misc]

    return call
