"""Streams in which labels change their meaning: two classes exchange names, at a steady pace or in seasons."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float, Int
from torch import Tensor

from nissl.errors import InputError


class ShiftBatch(NamedTuple):
    """A minibatch of a stream.

    Attributes
    ----------
    inputs, targets
        Samples and their labels as of now.
    swaps
        Pairs of classes that exchanged their labels just before.
    sample
        How many samples went before.
    """

    inputs: Float[Tensor, "sample ..."]
    targets: Int[Tensor, "sample"]
    swaps: list[tuple[int, int]]
    sample: int


class ConceptShift:
    """A stream of labelled samples in which, now and then, two classes exchange their labels.

    What is seen stays the same, P(x); what it means changes, P(y | x). The data set is gone through in shuffled order, again and again.
    A stream can be gone through several times, and gives the same numbers each time.

    Parameters
    ----------
    inputs, targets
        The data set, (sample, ...) and (sample,): numpy, torch or xarray; labels are whole numbers from 0, and every class occurs.
    n_samples
        Length of the stream.
    every
        Samples between swaps; None for a stationary stream; for seasons a pair, in the low and in the high season.
    season
        Samples in a season, where `every` is a pair; the first one is low.
    noise
        Standard deviation of normal noise that is added to inputs, in their units, drawn anew for each sample of the stream.
    n_classes
        Number of labels; one more than the largest where None.
    seed
        Of order, swaps and noise.

    Attributes
    ----------
    n_samples, n_classes : int
    swaps : DataFrame
        sample (before which it happens), first and second class of each swap.
    meanings : array (event + 1, class)
        After each number of swaps, the label that samples have which had label c at first.

    Raises
    ------
    InputError
        NaN, labels that are no class indices, classes that no sample has (they could be swapped, and nothing would change), an interval or a
        season longer than the stream.

    Notes
    -----
    The paper counts S swaps an epoch of N samples: ``every = N / S``. Take N of the data set the paper used (60,000): swaps each few samples
    of a small data set cannot be learnt.

    References
    ----------
    Man, Damasio and Neven 2022, Need is All You Need, arXiv:2205.08645.

    Examples
    --------
    >>> x, y = np.eye(4, dtype=np.float32), np.arange(4)
    >>> stream = ConceptShift(x, y, n_samples=40, every=20)
    >>> stream.swaps["sample"].tolist()
    [20]
    >>> for batch in stream.batches(10):
    ...     assert len(batch.inputs) == 10
    >>> batch.sample
    30
    """

    def __init__(
        self,
        inputs: Any,
        targets: Any,
        *,
        n_samples: int = 40_000,
        every: int | tuple[int | None, int | None] | None = None,
        season: int | None = None,
        noise: float = 0.0,
        n_classes: int | None = None,
        seed: int = 0,
    ) -> None:
        self.inputs, self.labels = labelled(inputs, targets)
        self.n_samples = _whole("n_samples", n_samples)
        self.n_classes = int(self.labels.max()) + 1 if n_classes is None else _whole("n_classes", n_classes)
        self.every, self.season, self.seed = every, season, seed
        if isinstance(noise, bool) or not np.isfinite(noise) or noise < 0:
            raise InputError(f"noise {noise!r}; give a standard deviation of at least 0")
        self.noise = float(noise)
        self._check_classes()
        events = self._events()
        rng = np.random.default_rng([seed, 1])
        pairs = np.array([rng.choice(self.n_classes, 2, replace=False) for _ in events], int).reshape(-1, 2)
        self.swaps = pd.DataFrame({"sample": events, "first": pairs[:, 0], "second": pairs[:, 1]})
        self.meanings = _meanings(pairs, self.n_classes)

    def batches(self, batch_size: int = 10) -> Iterator[ShiftBatch]:
        """Minibatches in order; what is left over at the end is a smaller one.

        Raises
        ------
        InputError
            A swap that would fall inside a minibatch, which would then mix old labels and new ones.
        """
        self.check_batch_size(batch_size)
        return self._batches(batch_size)

    def _batches(self, batch_size: int) -> Iterator[ShiftBatch]:
        event, when = 0, self.swaps["sample"].to_numpy()
        pairs = self.swaps[["first", "second"]].to_numpy()
        start = 0
        for x, classes in self.blocks(batch_size):
            swaps = []
            while event < len(when) and when[event] <= start:
                swaps.append((int(pairs[event, 0]), int(pairs[event, 1])))
                event += 1
            targets = torch.from_numpy(self.meanings[event])[classes]
            yield ShiftBatch(x, targets, swaps, start)
            start += len(x)

    def blocks(self, size: int) -> Iterator[tuple[Tensor, Tensor]]:
        """Stretches of the stream: inputs with their noise, and the classes samples had at first (see `meanings`)."""
        order, noise = self._order(), np.random.default_rng([self.seed, 2])
        for start in range(0, self.n_samples, size):
            rows = torch.from_numpy(order[start : start + size])
            x = self.inputs[rows]
            if self.noise:
                drawn = noise.standard_normal(x.shape, dtype=np.float32)
                x = x + self.noise * torch.from_numpy(drawn).to(x.dtype)
            yield x, self.labels[rows]

    def relabelled(self, targets: Any, sample: int) -> Int[Tensor, "sample"]:
        """Other data with the labels as they are before sample number `sample` of the stream, such as what was held out."""
        labels = labelled(np.zeros(len(targets)), targets)[1]
        if int(labels.max()) >= self.n_classes:
            raise InputError(f"labels up to {int(labels.max())}; the stream has {self.n_classes} classes")
        event = np.searchsorted(self.swaps["sample"].to_numpy(), sample, side="right")
        return torch.from_numpy(self.meanings[event])[labels]

    def season_at(self, samples: Any) -> Int[np.ndarray, "sample"]:
        """0 in the low season, 1 in the high one; 0 throughout where there are no seasons."""
        at = np.asarray(samples)
        return np.zeros_like(at) if self.season is None else at // self.season % 2

    def check_batch_size(self, batch_size: int) -> None:
        """Refuse minibatches that a swap would cut."""
        _whole("batch size", batch_size)
        if batch_size > self.n_samples:
            raise InputError(f"minibatches of {batch_size} samples from a stream of {self.n_samples}")
        cut = [s for s in self.swaps["sample"] if s % batch_size]
        if cut:
            raise InputError(
                f"a swap before sample {cut[0]} would fall inside a minibatch of {batch_size}; make every and season multiples of it"
            )

    def __repr__(self) -> str:
        pace = "stationary" if self.every is None else f"every={self.every}"
        return f"ConceptShift(n_samples={self.n_samples}, {pace}, n_classes={self.n_classes}, swaps={len(self.swaps)}, seed={self.seed})"

    def _order(self) -> Int[np.ndarray, "sample"]:
        rng, n = np.random.default_rng([self.seed, 0]), len(self.labels)
        passes = -(-self.n_samples // n)
        return np.concatenate([rng.permutation(n) for _ in range(passes)])[: self.n_samples]

    def _events(self) -> Int[np.ndarray, "event"]:
        n = self.n_samples
        if not isinstance(self.every, tuple | list):
            if self.season is not None:
                raise InputError(f"seasons of {self.season}, but one pace; give every=(low, high)")
            if self.every is None:
                return np.arange(0)
            return np.arange(self._pace(self.every, n, "the stream"), n, self.every)
        if len(self.every) != 2 or self.season is None:
            raise InputError(f"every={self.every}, season={self.season}; two paces need the length of a season")
        length = _whole("season", self.season)
        if length > n:
            raise InputError(f"a season of {length} samples in a stream of {n}")
        steps = [None if e is None else self._pace(e, length + 1, "a season") for e in self.every]
        found = []
        for i, begin in enumerate(range(0, n, length)):
            step = steps[i % 2]
            if step is not None:
                found.append(np.arange(begin + step, begin + length + 1, step))
        events = np.concatenate(found) if found else np.arange(0)
        return events[events < n]

    @staticmethod
    def _pace(every: int, limit: int, of: str) -> int:
        if _whole("every", every) >= limit:
            raise InputError(f"a swap every {every} samples is longer than {of}; give None for no swaps")
        return every

    def _check_classes(self) -> None:
        counts = torch.bincount(self.labels, minlength=self.n_classes)
        if len(counts) > self.n_classes:
            raise InputError(f"label {len(counts) - 1}, but {self.n_classes} classes: 0 to {self.n_classes - 1}")
        unseen = torch.nonzero(counts == 0).flatten().tolist()
        if unseen:
            raise InputError(f"no sample has class {unseen}; number the classes that occur from 0, without gaps")
        if self.n_classes < 2:
            raise InputError("one class; a swap needs at least 2")


def _meanings(pairs: Int[np.ndarray, "event 2"], n_classes: int) -> Int[np.ndarray, "event class"]:
    """Labels of the original classes after each number of swaps."""
    found = np.tile(np.arange(n_classes), (len(pairs) + 1, 1))
    for i, (a, b) in enumerate(pairs):
        before = found[i]
        found[i + 1] = np.where(before == a, b, np.where(before == b, a, before))
    return found


def labelled(inputs: Any, targets: Any) -> tuple[Tensor, Tensor]:
    """Inputs and class indices as tensors, or one clear error."""
    x, y = (v.detach() if isinstance(v, Tensor) else torch.as_tensor(np.asarray(v)) for v in (inputs, targets))
    if y.ndim != 1 or x.ndim < 1 or len(x) != len(y) or len(y) == 0:
        raise InputError(f"inputs {tuple(x.shape)} and targets {tuple(y.shape)}; give as many of both, at least one")
    if y.is_floating_point() or y.is_complex() or y.dtype == torch.bool:
        raise InputError(f"targets of type {y.dtype}; give class indices, whole numbers from 0")
    if y.min() < 0:
        raise InputError(f"label {int(y.min())}; classes are numbered from 0")
    if x.dtype == torch.bool or not x.is_floating_point():
        x = x.to(torch.float32)
    if not torch.isfinite(x).all():
        raise InputError(f"{int((~torch.isfinite(x)).sum())} inputs are NaN or infinite")
    return x.cpu(), y.cpu().long()


def _whole(name: str, value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int | np.integer) or value < 1:
        raise InputError(f"{name} {value!r}; give a whole number, at least 1")
    return int(value)
