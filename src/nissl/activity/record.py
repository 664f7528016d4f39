"""What did the network do? Activity at named sites, in memory or streamed to disk."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from typing import Any

import numpy as np
import torch
import xarray as xr
from torch import Tensor, nn
from tqdm import tqdm

from nissl.activity._coordinates import with_coordinates
from nissl.activity._corpus import Batch, Corpus, Question, Sink, filler
from nissl.activity._selection import TOKEN_AXES, AxisNames, Selection, apply, check, real_positions
from nissl.activity.store import Store
from nissl.errors import InputError, ModelError, unknown
from nissl.models import Inputs, Model, Site, check_called_once, load, run_until

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
        store = Store.open(str(to), model, corpus, question)
        if not store.complete:
            run(model, corpus, question, store, progress=progress, start=store.samples_done)
        return with_coordinates(store.dataset(), model, question)
    memory = _Memory(corpus.n)
    run(model, corpus, question, memory, progress=progress)
    return with_coordinates(memory.dataset(), model, question)


def run(model: Model, corpus: Corpus, question: Question, sink: Sink, *, progress: bool, start: int = 0) -> None:
    """Pass a corpus through the network batch by batch, from the `start`-th sample on, and hand each to the sink."""
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
    position = next((i for i, d in enumerate(site.dims or ()) if d in TOKEN_AXES), None)
    real = real_positions(inputs, selection) if inputs.kind == "text" and position is not None else None
    if real is not None:
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


def _own_dtype(model: Model) -> str:
    name = str(model.dtype).removeprefix("torch.")
    return name if name in DTYPES else "float32"
