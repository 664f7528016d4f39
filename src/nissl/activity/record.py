"""What did the network do? Activity at named sites, in memory or streamed to disk."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence, Sized
from dataclasses import dataclass, field
from functools import cached_property
from itertools import islice
from typing import Any, Protocol

import numpy as np
import torch
import xarray as xr
from torch import Tensor, nn
from tqdm import tqdm

from nissl.activity._fingerprint import Chain
from nissl.activity._selection import AxisNames, Selection, apply, check, real_positions
from nissl.errors import InputError, ModelError, unknown
from nissl.models import Inputs, Model, Site, check_called_once, load, run_until

_END = object()
DTYPES = ("float16", "float32", "float64")


def record(
    model: Model | nn.Module,
    inputs: Any,
    at: str | Iterable[str],
    *,
    to: str | None = None,
    batch_size: int | None = None,
    positions: Any = None,
    units: Any = None,
    dtype: str | None = None,
    generate: int = 0,
    progress: bool = True,
) -> xr.Dataset:
    """Record activity.

    Parameters
    ----------
    model
        The network.
    inputs
        One sample or a corpus: texts, token ids, photographs, paths, arrays, prepared tensors; a list, a generator or a
        data loader.
    at
        Sites, by name or glob.
    to
        A zarr store to stream to, a folder or any fsspec URL. Memory then does not grow with the corpus, and a run that
        was cut off goes on where it stopped. In memory where None.
    batch_size
        Samples in one pass; by default 16 texts or 32 of anything else.
    positions
        Which token positions to keep: an int, `"last"`, a slice, a list. Negative ones count from each sample's own
        last token.
    units
        Which units to keep: an int, a slice, a list, or a mapping from site to these.
    dtype
        `float32`, `float16` or `float64`; by default that of the network, `float32` for bfloat16.
    generate
        Continue each prompt greedily by this many tokens and record those too; coordinate `generated` tells them from
        the prompt. The figures are those of one pass over prompt and continuation.
    progress
        Show a bar where standard error is a terminal.

    Returns
    -------
    xarray.Dataset
        A variable a site, axes named as in `Site.dims`. Padding is NaN; coordinates `mask` and `token` `(sample,
        position)` say what is real and which token it is. Where sites differ in width, the first keeps `unit` and
        others are called `unit_WIDTH`.

    Raises
    ------
    UnknownNameError
        An unknown site (with the nearest names) or dtype.
    InputError
        An empty corpus, an empty prompt or one longer than the context, units or positions that do not exist.
    ModelError
        NaN activity; the message names the site and the sample.
    StoreError
        A store that cannot be written, is damaged, or belongs to another question.

    Examples
    --------
    >>> import nissl, torch
    >>> net = nissl.load(torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.ReLU()))
    >>> nissl.record(net, torch.ones(5, 3), at="1")["1"].dims
    ('sample', 'unit')
    """
    model = load(model)
    sites = model.sites.find(at)
    if dtype is not None and dtype not in DTYPES:
        raise unknown("dtype", dtype, DTYPES)
    size = batch_size or (16 if model.kind == "text" else 32)
    if size < 1 or generate < 0:
        raise InputError(f"batch_size={size}, generate={generate}; allowed: 1 or more, 0 or more")
    corpus = Corpus.of(model, inputs, generate)
    if not model.traced:
        model.trace(corpus.first())
    sites = model.sites.find(at)  # with what the first run showed of them
    for site in sites:
        check_called_once(site)
    selection = check(positions, units, [s for s in sites if s.dims is not None])
    question = Question(sites, selection, dtype or _own_dtype(model), size, generate)
    if to is not None:
        from nissl.activity.store import Store

        store = Store.open(str(to), model, corpus, question)
        if not store.complete:
            _run(model, corpus, question, store, progress=progress, start=store.samples_done)
        return store.dataset()
    memory = _Memory(corpus.n)
    _run(model, corpus, question, memory, progress=progress)
    return memory.dataset()


@dataclass(frozen=True)
class Question:
    """What is to be recorded."""

    sites: Sequence[Site]
    selection: Selection
    dtype: str
    batch_size: int
    generate: int


@dataclass(frozen=True)
class Batch:
    """What one pass gave, on the CPU.

    `activity` holds for each site its axes and its array; the others are None for inputs without tokens.
    """

    activity: dict[str, tuple[tuple[str, ...], np.ndarray]]
    position: np.ndarray | None
    token: np.ndarray | None
    mask: np.ndarray | None
    generated: np.ndarray | None

    def variables(self) -> dict[str, tuple[tuple[str, ...], np.ndarray]]:
        """Everything that has a sample axis: activity, and what is known of the positions."""
        pairs = (("token", self.token), ("mask", self.mask), ("generated", self.generated))
        known = {name: (("sample", "position"), array) for name, array in pairs if array is not None}
        return {**self.activity, **known}


class Sink(Protocol):
    """Where batches go."""

    def write(self, batch: Batch) -> None:
        """Take a batch."""

    def finish(self) -> None:
        """There are no more."""


@dataclass
class Corpus:
    """The samples, checked before work starts where they are a list, lazy where they are a stream.

    `samples` are token ids for texts and whatever was given otherwise; `n` is None for a stream.
    """

    model: Model
    samples: Iterable[Any]
    n: int | None
    generate: int = 0
    _chain: Chain = field(default_factory=Chain)
    _skipped: int = 0

    @classmethod
    def of(cls, model: Model, inputs: Any, generate: int = 0) -> Corpus:
        """A corpus from anything a person holds; a list of texts is tokenised and checked as a whole."""
        from nissl.models.prepare import encode, split_samples

        if generate and model.kind != "text":
            raise InputError(f"generate={generate}: {model.name!r} takes no text")
        if isinstance(inputs, Inputs | Mapping):
            ready = model.prepare(inputs)
            return cls(model, [ready[i] for i in range(ready.n)], ready.n, generate)
        samples = split_samples(model, inputs)
        n = len(samples) if isinstance(samples, Sized) else None
        if n == 0:
            raise InputError("the corpus is empty; give at least one sample")
        if model.kind == "text" and n is not None:
            samples = [encode(model, s, i, spare=generate) for i, s in enumerate(samples)]
        return cls(model, samples, n, generate)

    @cached_property
    def width(self) -> int | None:
        """Length of the longest text of a list; None where it is not known beforehand."""
        if self.n is None or self.model.kind != "text" or self.generate:
            return None
        return max(s.main.shape[1] if isinstance(s, Inputs) else len(s) for s in self.samples)

    def first(self) -> Inputs:
        """The first sample, for a look at the network; a stream is not used up."""
        if self.n is None:
            iterator = iter(self.samples)
            head = next(iterator, None)
            if head is None:
                raise InputError("the corpus is empty; give at least one sample")
            self.samples = _Rejoined(head, iterator)
            return self.model.prepare([head])
        head = next(iter(self.samples))
        return head if isinstance(head, Inputs) else self.model.prepare([head])

    def batches(self, size: int, start: int = 0) -> Iterator[list[Any]]:
        """Samples in lists of `size`, from the `start`-th on (those that `skip` passed are not met again)."""
        samples = islice(iter(self.samples), start - self._skipped, None)
        while chunk := list(islice(samples, size)):
            if self.n is None:
                for sample in chunk:
                    self._chain.add(sample)
            yield chunk

    def fingerprint(self) -> str | None:
        """A hash of all samples of a list; None for a stream, which cannot be known beforehand."""
        if self.n is None:
            return None
        chain = Chain()
        for sample in self.samples:
            chain.add(sample)
        return chain.state

    def digest(self) -> str:
        """A hash of the samples of a stream that have passed so far."""
        return self._chain.state

    def skip(self, count: int) -> tuple[str, bool]:
        """Pass over the first samples of a stream; returns their hash, and whether there are more."""
        iterator = iter(self.samples)
        for sample in islice(iterator, count):
            self._chain.add(sample)
            self._skipped += 1
        head = next(iterator, _END)
        self.samples = iterator if head is _END else _Rejoined(head, iterator)
        return self._chain.state, head is not _END

    def ready(self, chunk: list[Any]) -> tuple[Inputs, np.ndarray | None]:
        """Inputs for one pass, and for generated text which positions were generated."""
        if isinstance(chunk[0], Inputs):
            tensors = {k: torch.cat([c.tensors[k] for c in chunk]) for k in chunk[0].tensors}
            return self.model.prepare(tensors), None
        if not self.generate:
            return self.model.prepare(chunk), None
        prompts = [np.asarray(self.model.encode(c)) for c in chunk]
        ids = self.model.generate_ids(prompts, self.generate)
        inputs = self.model.prepare(ids)
        ends = np.array([len(p) for p in prompts])
        generated = (np.arange(inputs.main.shape[1]) >= ends[:, None]) & _mask(inputs)
        return inputs, generated


class _Rejoined:
    """A stream whose first sample has been looked at."""

    def __init__(self, head: Any, rest: Iterator[Any]) -> None:
        self.head, self.rest = head, rest

    def __iter__(self) -> Iterator[Any]:
        yield self.head
        yield from self.rest


def _run(model: Model, corpus: Corpus, question: Question, sink: Sink, *, progress: bool, start: int = 0) -> None:
    shown = progress and sys.stderr.isatty()
    done = start
    with (
        torch.no_grad(),
        model.evaluating(),
        tqdm(total=corpus.n, initial=start, unit="sample", disable=not shown) as bar,
    ):
        for chunk in corpus.batches(question.batch_size, start):
            inputs, generated = corpus.ready(chunk)
            sink.write(_one_pass(model, inputs, generated, question, done))
            done += len(chunk)
            bar.update(len(chunk))
    if done == 0:
        raise InputError("the corpus is empty; give at least one sample")
    sink.finish()


def _one_pass(model: Model, inputs: Inputs, generated: np.ndarray | None, question: Question, done: int) -> Batch:
    kept: dict[str, tuple[tuple[str, ...], np.ndarray]] = {}
    kind = getattr(torch, question.dtype)

    def keep(value: Tensor, site: Site) -> None:
        if value.shape[0] != inputs.n:
            if value.shape[0] != 1:
                raise InputError(
                    f"site {site.name!r} has shape {tuple(value.shape)} for {inputs.n} samples; its first axis must be the sample"
                )
            value = value.expand(inputs.n, *value.shape[1:])
        part = apply(value, site, question.selection, inputs)
        if torch.isnan(value.sum()):
            _refuse_nan(part, site, inputs, question.selection, done)
        moved = part.detach().to(device="cpu", dtype=kind)
        # What was selected is new; what was not still belongs to the network, which may work in place on it.
        own = moved.clone() if moved.data_ptr() == value.data_ptr() else moved
        kept[site.name] = (site.dims or (), own.numpy())

    run_until(model, inputs, {s.name: keep for s in question.sites})
    ordered = {s.name: kept[s.name] for s in question.sites}
    if inputs.kind != "text":
        return Batch(ordered, None, None, None, None)
    index = question.selection.index(inputs, inputs.main.shape[1])
    width = inputs.main.shape[1]
    position = np.arange(width) if index is None else question.selection.wanted(width).numpy()
    real = real_positions(inputs, question.selection)
    mask = np.ones((inputs.n, len(position)), dtype=bool) if real is None else real.cpu().numpy()
    tokens = np.full((inputs.n, width), "", dtype=object)
    for row, strings in zip(tokens, inputs.tokens or [], strict=True):
        row[: len(strings)] = strings
    if index is not None:
        columns = index.clamp(min=0).cpu().numpy()
        tokens = np.where(mask, np.take_along_axis(tokens, columns, 1), "")
        generated = None if generated is None else np.take_along_axis(generated, columns, 1) & mask
    return Batch(ordered, position, tokens, mask, generated)


def _refuse_nan(part: Tensor, site: Site, inputs: Inputs, selection: Selection, done: int) -> None:
    """Padding is NaN by design, anything else is a broken network."""
    bad = torch.isnan(part)
    real = real_positions(inputs, selection) if inputs.kind == "text" and "position" in (site.dims or ()) else None
    if real is not None:
        position = (site.dims or ()).index("position")
        bad &= real.to(bad.device).reshape(
            [len(real) if a == 0 else real.shape[1] if a == position else 1 for a in range(bad.dim())]
        )
    if "key_position" in (site.dims or ()) and inputs.mask is not None and selection.units is None:
        bad &= inputs.mask.to(bad.device).reshape(len(inputs), 1, 1, -1)
    if bad.any():
        sample = done + int(bad.flatten(1).any(1).nonzero()[0])
        raise ModelError(
            f"NaN activity at {site.name!r} in sample {sample}; finished batches are kept. Try a wider dtype, or leave the sample out"
        )


class _Memory:
    """Batches kept in memory, in arrays of the final size where the number of samples is known."""

    def __init__(self, n: int | None) -> None:
        self.n, self.done = n, 0
        self.arrays: dict[str, np.ndarray] = {}
        self.dims: dict[str, tuple[str, ...]] = {}
        self.position: np.ndarray | None = None

    def write(self, batch: Batch) -> None:
        for name, (dims, array) in batch.variables().items():
            rows = self.n or self.done + len(array)
            self.dims[name] = dims
            self.arrays[name] = _room(self.arrays.get(name), array, rows)
            place = (slice(self.done, self.done + len(array)), *(slice(s) for s in array.shape[1:]))
            self.arrays[name][place] = array
        if batch.position is not None and (self.position is None or len(batch.position) > len(self.position)):
            self.position = batch.position
        self.done += len(next(iter(batch.activity.values()))[1])

    def finish(self) -> None:
        if self.n is None:  # the arrays grew by doubling
            self.arrays = {name: array[: self.done] for name, array in self.arrays.items()}

    def dataset(self) -> xr.Dataset:
        names = AxisNames()
        width = 0 if self.position is None else len(self.position)
        variables = {}
        for name, array in self.arrays.items():
            variables[name] = (
                names.name(self.dims[name], array.shape),
                array.astype(str) if array.dtype == object else array,
            )
        known = {n: variables.pop(n) for n in ("token", "mask", "generated") if n in variables}
        coords = {**known, "sample": np.arange(self.done), **({"position": self.position} if width else {})}
        return xr.Dataset(variables, coords)


def _room(old: np.ndarray | None, new: np.ndarray, rows: int) -> np.ndarray:
    """An array that can hold `rows` samples as wide as `new`, with what `old` holds."""
    if old is not None and len(old) >= rows and all(a >= b for a, b in zip(old.shape[1:], new.shape[1:], strict=True)):
        return old
    wide = new.shape[1:] if old is None else tuple(map(max, old.shape[1:], new.shape[1:]))
    grown = rows if old is None or len(old) >= rows else max(rows, 2 * len(old))
    room = np.full((max(grown, 0 if old is None else len(old)), *wide), filler(new.dtype), dtype=new.dtype)
    if old is not None:
        room[tuple(slice(s) for s in old.shape)] = old
    return room


def filler(dtype: np.dtype) -> Any:
    """What stands where nothing was recorded."""
    if dtype.kind == "f":
        return np.nan
    return "" if dtype.kind in "OU" else False


def _mask(inputs: Inputs) -> np.ndarray:
    return np.ones(tuple(inputs.main.shape), dtype=bool) if inputs.mask is None else inputs.mask.cpu().numpy()


def _own_dtype(model: Model) -> str:
    name = str(model.dtype).removeprefix("torch.")
    return name if name in DTYPES else "float32"
