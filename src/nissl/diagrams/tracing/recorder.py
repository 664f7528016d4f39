"""Watches a network run, one call of an operator after another."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode, _disable_current_modes

from nissl.diagrams.tracing import freeing
from nissl.diagrams.tracing.record import Place, Source, Step, Value
from nissl.diagrams.tracing.writing import Written, inverse

_SKIPPED = (str(Path(torch.__file__).parent), str(Path(__file__).parent.parent))
_SILENT = ("prim.", "aten._fused_sdp_choice", "aten.sym_", "aten._assert", "aten.is_same_size")


def _grouped(rows: Tensor, weights: Tensor, *_: Any, **__: Any) -> Tensor:
    """Every row times the matrix of its group; torch's own shape rule takes bfloat16 only."""
    if rows.ndim != 2 or weights.ndim != 3:
        raise NotImplementedError("_grouped_mm of other than rows and a stack of matrices")
    return rows.new_empty(rows.shape[0], weights.shape[2])


def _padded(x: Tensor, pad: Any, value: float = 0) -> Tensor:
    """Axes made longer at their ends; torch's own shape rule needs every size as a number."""
    shape = list(x.shape)
    for k in range(len(pad) // 2):
        shape[-1 - k] = shape[-1 - k] + pad[2 * k] + pad[2 * k + 1]
    return x.new_empty(shape)


_STAND_INS: dict[str, Any] = {
    "aten._grouped_mm.default": _grouped,
    "aten.constant_pad_nd.default": _padded,
    "aten.im2col.default": freeing.patches,
    "aten.col2im.default": freeing.unpatched,
    "aten._fft_r2c.default": freeing.spectrum,
    "aten._fft_c2c.default": freeing.rotated,
    "aten._fft_c2r.default": freeing.unrotated,
}


class Recorder(TorchDispatchMode):
    """Notes every call, with the module and the line that it is from.

    A tensor that is written into is a new value from then on, and so are the tensors that share its memory: what they hold is
    worked out when they are next read.
    """

    def __init__(self, fake: bool = False) -> None:
        super().__init__()
        self.fake = fake
        self.values: list[Value] = []
        self.steps: list[Step] = []
        self.stack: list[str] = [""]
        self.failed: tuple[str, str, str | int] | None = None
        self.written: list[str] = []
        self.guards: list[Any] = []  # what has been asked of free sizes, as it comes
        self.asked_in: dict[int, str] = {}  # id of one of them -> the module and the line whose call of torch asked
        self.modules: dict[str, str] = {}  # class of each module by path
        self.decisions: list[tuple[str, Any, Any]] = []  # file, line and value wherever the code asked for a number
        self._alive: list[Tensor] = []  # so that an id stays one tensor's
        self._now: dict[int, int] = {}  # id of a tensor -> the value that it holds
        self._views = Written()
        self._schemas: dict[Any, _Schema] = {}

    def know(self, tensor: Tensor, source: Source, name: str = "") -> int:
        """Give a tensor from outside its value."""
        known = self._now.get(id(tensor))
        if known is not None:
            return known
        value = self._new(tensor)
        value.source, value.name = source, name
        if source == "constant" and tensor.numel() <= 100_000 and type(tensor) in (Tensor, torch.nn.Parameter):
            with _disable_current_modes():  # real numbers, also while sizes alone are traced
                value.data = tensor.detach().clone()
        return value.index

    def _new(self, tensor: Tensor) -> Value:
        value = Value(len(self.values), tuple(tensor.shape), str(tensor.dtype).removeprefix("torch."))
        value.storage = value.index
        self.values.append(value)
        self._alive.append(tensor)
        self._now[id(tensor)] = value.index
        return value

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        before = len(self.guards)
        out = self._called(func, args, kwargs or {})
        for guard in self.guards[before:]:
            where = ":".join(map(str, _where())).replace("\\", "/").rsplit("/", 1)[-1].strip(":")
            self.asked_in[id(guard)] = " ".join(x for x in (self.modules.get(self.stack[-1], ""), where) if x)
        return out

    def leaving(self) -> None:
        """Numbers go to numpy or to a list."""
        self.decisions.append((*_where(), "numbers that leave torch, fixed at their values"))

    def _called(self, func: Any, args: Any, kwargs: Any) -> Any:
        schema = self._schemas.get(func)
        if schema is None:
            schema = self._schemas[func] = _Schema(func)
        if schema.silent:
            fake = self.fake and schema.name == "prim.device.default" and getattr(args[0], "fake_device", None)
            return fake or func(*args, **kwargs)  # asked for thousands of times
        constants = [t for t in _tensors((args, kwargs)) if id(t) not in self._now]
        for t in constants:
            self.know(t, "constant")
        arguments, options = self._placed(args), {k: self._placed(v) for k, v in kwargs.items()}
        try:
            if self.fake and schema.target in _STAND_INS:
                out = _STAND_INS[schema.target](*args, **kwargs)
            else:
                out = func(*args, **kwargs)
        except Exception:
            self.failed = (schema.target, *_where())
            raise
        if schema.asks:
            self.decisions.append((*_where(), out))
        else:
            self._record(schema, args, kwargs, arguments, options, out)
        return out

    def read(self, tensor: Tensor) -> int:
        """The value that a tensor holds now."""
        index = self._now[id(tensor)]
        fresh = self._views.refresh(index, self._replay)
        if fresh != index:
            self._now[id(tensor)] = fresh
        return fresh

    def _placed(self, x: Any) -> Any:
        if isinstance(x, Tensor):
            return Place(self.read(x))
        if isinstance(x, list | tuple):
            return tuple(self._placed(v) for v in x)
        return x

    def _record(self, schema: _Schema, args: Any, kwargs: Any, arguments: Any, options: Any, out: Any) -> None:
        inputs = tuple(dict.fromkeys(p.index for p in _places((arguments, tuple(options.values())))))
        file, line = _where()
        where = f"{file}:{line}" if file else ""
        outs = _tensors(out)
        written = [args[i] if i < len(args) else kwargs.get(n) for i, n in schema.writes]
        written = [t for w in written for t in _tensors(w)]
        before = [self.read(t) for t in written]
        made: list[int] = []
        for t in outs:
            value = self._new(t)
            made.append(value.index)
        step = Step(
            schema.target,
            arguments,
            options,
            inputs,
            tuple(made),
            self.stack[-1],
            where,
            schema.pointwise,
            schema.random,
        )
        if not made and not written:
            return
        if written and not outs:  # an operator that only writes, such as `_foreach_add_`
            made.extend(self._new(t).index for t in written)
            step.outputs = tuple(made)
        self.steps.append(step)
        if schema.turns:  # `transpose_` and the like: the tensor is a view from now on, and nothing was written
            self.values[made[0]].storage = self.values[before[0]].storage
            self._views.add(made[0], before[0], step, 0)
            return
        for t, old in zip(written, before, strict=True):
            now = self._now[id(t)]
            if now == old:  # written into, but not returned: another output stands for it
                now = made[min(len(made) - 1, written.index(t))]
                self._now[id(t)] = now
            self.values[now].storage = self.values[old].storage
            if self.values[old].source != "step":
                self.written.append(self.values[old].name or self.values[old].source)
            self._views.write(old, now, self._scatter)
        if schema.views and inputs and not written:
            parent = arguments[0].index if isinstance(arguments[0], Place) else inputs[0]
            for k, index in enumerate(made):
                self.values[index].storage = self.values[parent].storage
                self._views.add(index, parent, step, k)

    def _emit(self, step: Step, likes: tuple[int, ...]) -> tuple[int, ...]:
        """Append a step that torch did not run, whose outputs look like known values."""
        made = []
        for like in likes:
            old = self.values[like]
            self.values.append(Value(len(self.values), old.shape, old.dtype, storage=old.storage))
            made.append(len(self.values) - 1)
        step.outputs = tuple(made)
        self.steps.append(step)
        return step.outputs

    def _replay(self, step: Step, parent: int, now: int) -> tuple[int, ...]:
        """Take a view again, of what its base holds now."""
        return self._emit(_with(step, {parent: now}), step.outputs)

    def _scatter(self, step: Step, which: int, parent: int, now: int) -> int:
        """What a base holds after one of its views was written into."""
        shape = self.values[parent].shape
        return self._emit(inverse(step, which, parent, now, shape), (parent,))[0]


class _Schema:
    """What is known of an operator from its declaration."""

    def __init__(self, func: Any) -> None:
        namespace, name = func._schema.name.split("::")
        target = f"{namespace}.{name}.{func._overloadname}"
        self.name = target
        self.silent = target.startswith(_SILENT)
        self.asks = name in ("_local_scalar_dense", "is_nonzero", "equal")
        infos = [(i, a) for i, a in enumerate(func._schema.arguments) if a.alias_info is not None]
        self.writes = [(i, a.name) for i, a in infos if a.alias_info.is_write]
        returned = [r.alias_info for r in func._schema.returns if r.alias_info is not None]
        unsafe = name in ("_unsafe_view", "_reshape_alias")
        self.views = unsafe or (not self.writes and bool(returned))
        self.turns = torch.Tag.inplace_view in func.tags
        self.pointwise = torch.Tag.pointwise in func.tags
        self.random = torch.Tag.nondeterministic_seeded in func.tags
        self.target = _functional(namespace, name, func._overloadname) if self.writes else target


def _functional(namespace: str, name: str, overload: str) -> str:
    """The operator that gives a new array instead of writing into one, where there is one."""
    space = getattr(torch.ops, namespace)
    plain = name[:-1] if name.endswith("_") else name
    packet = getattr(space, plain, None)
    overload = "default" if overload in ("out", "") else overload.removesuffix("_out")
    if packet is not None and plain != name:
        overload = "int" if overload == "default" and plain == "transpose" else overload
        if overload in packet.overloads():
            return f"{namespace}.{plain}.{overload}"
    return f"{namespace}.{name}.{overload}"


def _with(step: Step, places: dict[int, int]) -> Step:
    def put(x: Any) -> Any:
        if isinstance(x, Place):
            return Place(places.get(x.index, x.index))
        return tuple(put(v) for v in x) if isinstance(x, tuple) else x

    inputs = tuple(places.get(i, i) for i in step.inputs)
    options = {k: put(v) for k, v in step.options.items()}
    return Step(step.target, put(step.arguments), options, inputs, (), step.module, step.line)


def _tensors(x: Any) -> list[Tensor]:
    if isinstance(x, Tensor):
        return [x]
    if isinstance(x, list | tuple):
        return [t for v in x for t in _tensors(v)]
    if isinstance(x, dict):
        return [t for v in x.values() for t in _tensors(v)]
    return []


def _places(x: Any) -> list[Place]:
    if isinstance(x, Place):
        return [x]
    return [p for v in x for p in _places(v)] if isinstance(x, tuple) else []


def _where() -> tuple[str, int | str]:
    """File and line of the nearest caller that is neither torch nor this tracer; empty where there is none."""
    frame: Any = sys._getframe(1)
    while frame is not None:
        code = frame.f_code
        if code.co_name == "_call_the_network":
            return "", ""
        if not _is_skipped(code.co_filename):
            return code.co_filename, frame.f_lineno
        frame = frame.f_back
    return "", ""


_known: dict[str, bool] = {}


def _is_skipped(file: str) -> bool:
    found = _known.get(file)
    if found is None:
        found = _known[file] = file.startswith(_SKIPPED) or file.startswith("<")
    return found
