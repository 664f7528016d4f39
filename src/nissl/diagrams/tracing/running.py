"""Runs a network once, watched: first on sizes alone, and on real numbers where its code asks for values."""

from __future__ import annotations

import contextlib
import copy
import linecache
import logging
import traceback
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import DataDependentOutputException, DynamicOutputShapeException
from torch.fx.experimental.symbolic_shapes import GuardOnDataDependentSymNode
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.modules.module import register_module_forward_hook, register_module_forward_pre_hook
from torch.utils import _pytree as pytree

from nissl.diagrams.tracing.freeing import Freeing
from nissl.diagrams.tracing.record import Place, Trace
from nissl.diagrams.tracing.recorder import Recorder, _is_skipped, _tensors
from nissl.diagrams.tracing.sizes import Sizes
from nissl.errors import ModelError, NisslError

_BY_VALUE = (DataDependentOutputException, DynamicOutputShapeException, GuardOnDataDependentSymNode)


def trace(
    module: nn.Module,
    args: tuple[Any, ...],
    kwargs: Mapping[str, Any],
    *,
    names: list[str],
    free: Mapping[str, Mapping[int, str]],
    training: bool = False,
    follow: bool = True,
) -> Trace:
    """Run `module(*args, **kwargs)` once and note every operator.

    Parameters
    ----------
    names
        Of the tensors among the arguments, in order.
    free
        By name of a tensor: its axes of free size, and the names of their symbols.
    training
        Run it in training mode.
    follow
        Where the code asks for values, go on with the given ones; else end there.

    Raises
    ------
    ModelError
        The network cannot be run on these inputs; with its own message.
    """
    notes: list[str] = []
    for sizes in (free, {}) if any(free.values()) else ({},):
        run = _Run(module, args, kwargs, names, sizes, training, fake=True)
        if run.error is None:
            return run.finished(notes)
        by_value = isinstance(run.error, _BY_VALUE)
        if by_value:
            break
        notes = ["sizes are those of the example: the code did not run with free ones"]
    where, code = run.place
    if by_value and not follow:
        return run.finished([f"ends at {where}, which asks for values: {code}"])
    partial = run
    run = _Run(module, args, kwargs, names, {}, training, fake=False)
    if run.error is not None and not by_value:
        error = run.error
        if isinstance(error, NisslError):
            raise error
        where, code = run.place
        at = f" at {where}: {code}" if where else ""
        raise ModelError(
            f"{type(module).__name__} cannot be run on {_shapes(names, args, kwargs)}{at}; its own words: {error}"
        )
    if run.error is not None:
        return partial.finished([f"ends at {where}, which asks for values: {code}; on real ones it fails: {run.error}"])
    said = (
        [
            f"asks for values at {where}: {code}; drawn is the branch that this input takes, at its sizes; numbers that leave torch are fixed"
        ]
        if where
        else []
    )
    return run.finished(said + run.decisions())


def _shapes(names: list[str], args: Any, kwargs: Any) -> str:
    leaves = [t for t in pytree.tree_leaves((args, dict(kwargs))) if isinstance(t, Tensor)]
    return ", ".join(f"{n} {tuple(t.shape)}" for n, t in zip(names, leaves, strict=False)) or "no input"


class _Run:
    """One pass and what was seen of it, up to its end or its first error."""

    def __init__(
        self, module: nn.Module, args: Any, kwargs: Any, names: list[str], free: Any, training: bool, *, fake: bool
    ) -> None:
        self.fake, self.error, self.output = fake, None, None
        self.sizes = Sizes()
        self.recorder = Recorder(fake)
        self.recorder.guards = self.sizes.env.guards
        self.single: list[str] = []
        self.modules = self.recorder.modules
        self.modules[""] = type(module).__name__
        self.module = _apart(module).train(training)
        self.names = names
        leaves, spec = pytree.tree_flatten((args, dict(kwargs)))
        tensors = [t.detach() if isinstance(t, Tensor) else t for t in leaves]
        given = iter(names)
        watched = []
        self.lifted: dict[str, int] = {}
        for i, t in enumerate(tensors):
            if isinstance(t, Tensor):
                name = next(given)
                tensors[i] = self._input(t, free.get(name, {})) if fake else t.clone()
                watched.append((name, tensors[i]))
        for name, t in watched:
            self.recorder.know(t, "input", name)
        self.inputs = [self.recorder._now[id(t)] for _, t in watched]
        for source, found in (("parameter", self.module.named_parameters()), ("buffer", self.module.named_buffers())):
            for name, t in found:
                self.recorder.know(t, source, name)  # type: ignore[arg-type]
        args, kwargs = pytree.tree_unflatten(tensors, spec)
        with contextlib.ExitStack() as stack:
            stack.enter_context(torch.no_grad())
            stack.enter_context(_as_written())
            stack.enter_context(_followed(self.module, self.recorder, self.modules))
            if fake:
                stack.enter_context(self.sizes.fake)
            stack.enter_context(Freeing(fake, self.recorder.leaving))
            stack.enter_context(self.recorder)
            try:
                self.output = _call_the_network(self.module, args, kwargs)
            except Exception as error:
                self.error = error

    def _input(self, t: Tensor, free: Mapping[int, str]) -> Tensor:
        """A fake; a batch of one is traced as two, since torch takes a size of one for fixed."""
        single = [i for i, n in free.items() if t.shape[i] == 1 and n == "batch"]
        self.single += [n for i, n in free.items() if t.shape[i] == 1 and i not in single]
        free = {i: n for i, n in free.items() if t.shape[i] > 1 or i in single}
        for i in single:
            t = t.repeat_interleave(2, i)
        fake = self.sizes.input(t, free)
        if single:
            for name in list(self.sizes.hints):
                if name.split("_")[0] == "batch":
                    self.sizes.hints[name] = 1
        return fake

    @property
    def place(self) -> tuple[str, str]:
        """`file:line` of the network's code at which it failed, and that line."""
        frames = traceback.extract_tb(self.error.__traceback__) if self.error else []
        mine = [f for f in frames if not _is_skipped(f.filename)]
        if not mine:
            return "", ""
        return f"{Path(mine[-1].filename).name}:{mine[-1].lineno}", f"`{mine[-1].line}`"

    def decisions(self) -> list[str]:
        """Which values the code asked for, and what they were."""
        lines: dict[str, list[Any]] = {}
        for file, line, value in self.recorder.decisions:
            code = linecache.getline(file, line).strip() if file else ""
            where = f"{Path(file).name}:{line} `{code}`" if file else "code without a line"
            lines.setdefault(where, []).append(value)
        return [f"{where}: {', '.join(map(str, v[:3]))}{' ...' if len(v) > 3 else ''}" for where, v in lines.items()]

    def finished(self, notes: list[str]) -> Trace:
        """What was seen, with sizes as expressions."""
        self.sizes.settle()
        read = self.sizes.read

        def plain(x: Any) -> Any:
            if isinstance(x, tuple):
                return tuple(plain(v) for v in x)
            return read(x)

        for value in self.recorder.values:
            value.shape = tuple(read(s) for s in value.shape)
        for step in self.recorder.steps:
            step.arguments = plain(step.arguments)
            step.options = {k: plain(v) for k, v in step.options.items()}
            step.line = _short(step.line)
        notes += [
            f"{n} is fixed at 1, its size in the example: give an example of 2 or more to leave it free"
            for n in dict.fromkeys(self.single)
        ]
        notes += self.sizes.notes(self.recorder.asked_in)
        written = dict.fromkeys(n for n in self.recorder.written if n)
        if written:
            shown = ", ".join(list(written)[:3]) + (f" and {len(written) - 3} more" if len(written) > 3 else "")
            notes.append(f"writes into {shown}")
        outputs = [self.recorder.read(t) for t in _returned(self.output) if id(t) in self.recorder._now]
        if self.error is not None:  # what was still to be read
            read_ = {i for step in self.recorder.steps for i in step.inputs}
            outputs = [i for step in self.recorder.steps for i in step.outputs if i not in read_]
        used = {
            name
            for value in self.recorder.values
            for s in value.shape
            if hasattr(s, "free_symbols")
            for name in map(str, s.free_symbols)
        }
        return Trace(
            self.recorder.values,
            self.recorder.steps,
            self.inputs,
            outputs,
            self.modules,
            {n: h for n, h in self.sizes.hints.items() if n in used},
            notes,
            complete=self.error is None,
            guards=self.sizes.guards(),
        )


def _returned(x: Any) -> list[Tensor]:
    """The tensors in what a network returns; of Hugging Face's outputs without the cache."""
    if isinstance(x, Mapping):
        return [t for k, v in x.items() if k != "past_key_values" for t in _returned(v)]
    if isinstance(x, Tensor):
        return [x]
    return [t for v in pytree.tree_leaves(x) for t in _tensors(v)]


def _call_the_network(module: nn.Module, args: Any, kwargs: Any) -> Any:
    """Marks, by its name on the stack, where the network's own code begins."""
    return module(*args, **kwargs)


def _short(line: str) -> str:
    return line.replace("\\", "/").rsplit("/", 1)[-1]


def _apart(module: nn.Module) -> nn.Module:
    """A copy that shares the weights, so that nothing the pass leaves behind stays in the network."""
    memo: dict[int, Any] = {id(p): p for p in module.parameters()}
    try:
        return copy.deepcopy(module, memo)
    except Exception:  # a module that cannot be copied is run itself
        return module


@contextlib.contextmanager
def _as_written() -> Iterator[None]:
    """Attention and recurrent layers as sums of products: fused kernels hide what they do."""
    fast = torch.backends.mha.get_fastpath_enabled()
    fused = torch._C._get_mkldnn_enabled()
    # Torch prints a traceback where the trace goes on by another way.
    log = logging.getLogger("torch._subclasses.fake_tensor")
    level = log.level
    log.setLevel(logging.CRITICAL + 1)
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        torch._C._set_mkldnn_enabled(False)
        with sdpa_kernel(SDPBackend.MATH), torch.random.fork_rng(devices=[]):
            yield
    finally:
        torch._C._set_mkldnn_enabled(fused)
        torch.backends.mha.set_fastpath_enabled(fast)
        log.setLevel(level)


@contextlib.contextmanager
def _followed(root: nn.Module, recorder: Recorder, modules: dict[str, str]) -> Iterator[None]:
    """Keep the recorder's stack of modules while the network runs."""
    paths = {id(m): path for path, m in root.named_modules()}
    calls: Counter[str] = Counter()
    plain = [""]  # the stack again, without the numbers of calls

    def enter(module: nn.Module, _: Any) -> None:
        path = paths.get(id(module), "")
        if not path:
            shown = recorder.stack[-1]
            path = plain[-1]
        else:
            above = plain[-1]
            inside = not above or path.startswith(above + ".")
            shown = f"{recorder.stack[-1]}{path[len(above) :]}" if above and inside else path
            calls[shown] += 1
            if calls[shown] > 1:
                shown = f"{shown}#{calls[shown] - 1}"
            modules[shown] = type(module).__name__
        recorder.stack.append(shown)
        plain.append(path)

    def leave(module: nn.Module, _: Any, __: Any) -> None:
        if len(recorder.stack) > 1:
            recorder.stack.pop()
            plain.pop()

    handles = [register_module_forward_pre_hook(enter), register_module_forward_hook(leave, always_call=True)]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


__all__ = ["Place", "trace"]
