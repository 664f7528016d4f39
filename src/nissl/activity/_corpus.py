"""What is to be recorded, over which samples, and what one pass gives."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence, Sized
from dataclasses import dataclass, field
from functools import cached_property
from itertools import islice
from typing import Any, Protocol

import numpy as np
import torch

from nissl.activity._fingerprint import Chain
from nissl.activity._selection import Selection
from nissl.errors import InputError
from nissl.models import Inputs, Model, Site
from nissl.models.prepare import encode, split_samples

_END = object()


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


def filler(dtype: np.dtype) -> Any:
    """What stands where nothing was recorded."""
    if dtype.kind == "f":
        return np.nan
    return "" if dtype.kind in "OU" else False


def _mask(inputs: Inputs) -> np.ndarray:
    return np.ones(tuple(inputs.main.shape), dtype=bool) if inputs.mask is None else inputs.mask.cpu().numpy()
