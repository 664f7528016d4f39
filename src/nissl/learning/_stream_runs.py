"""The two ways through a stream: one network in an ordinary training loop, and many in the same operations."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from nissl.learning._regulation import DECISIONS, LEFT, TAKEN, Regulation
from nissl.learning._replicas import Replicas, replicas, stackable
from nissl.learning.concept_shift import ConceptShift
from nissl.learning.homeostasis import HomeostaticSGD

# Minibatches of the streams that are held in memory together.
BLOCK = 50
# Bytes of weights that are trained together; more of them would leave a core's cache between two uses.
CACHE = 2**21


class Job(NamedTuple):
    """A network, its stream and what trains it."""

    model: nn.Module
    stream: ConceptShift
    controller: torch.optim.Optimizer


class HeldOut(NamedTuple):
    """Data to test on, with the labels of the stream's beginning, after each so many samples."""

    inputs: Tensor
    labels: Tensor
    every: int


class Log:
    """What is noted of each minibatch, for all runs."""

    def __init__(self, runs: int, batches: int) -> None:
        self.accuracy = np.zeros((runs, batches), np.float32)
        self.lr = np.full((runs, batches), np.nan)
        self.decision = np.zeros((runs, batches), np.int8)
        self.gain = np.full((runs, batches), np.nan)
        self.diverged = np.zeros(runs, bool)
        self.held_out: list[list[float]] = [[] for _ in range(runs)]


def groups(jobs: Sequence[Job]) -> list[list[int]]:
    """Which runs go through the stream together; lists of one go alone."""
    found: list[list[int]] = []
    for i, job in enumerate(jobs):
        for group in found:
            if (
                len(group) < _room(job.model)
                and _alike(jobs[group[0]], job)
                and job.model not in [jobs[j].model for j in group]
            ):
                group.append(i)
                break
        else:
            found.append([i])
    return found


def _room(model: nn.Module) -> int:
    """How many networks a group has: on a processor, as many as its cache holds weights of."""
    weights = list(model.parameters())
    if not weights or weights[0].device.type != "cpu":
        return 4096
    return max(CACHE // max(sum(p.nbytes for p in weights), 1), 8)


def _alike(a: Job, b: Job) -> bool:
    one, two = a.controller, b.controller
    return (
        isinstance(one, HomeostaticSGD)
        and isinstance(two, HomeostaticSGD)
        and type(one) is type(two) is HomeostaticSGD
        and one.loss is two.loss is nn.functional.cross_entropy
        and (one.settings.interval, one.settings.memory) == (two.settings.interval, two.settings.memory)
        and stackable([a.model, b.model])
    )


def alone(job: Job, row: int, log: Log, batch_size: int, held_out: HeldOut | None, bar: Any) -> None:
    """One network in the loop that a person would write."""
    model, stream, controller = job
    ours = isinstance(controller, HomeostaticSGD)
    loss = controller.loss if ours else nn.functional.cross_entropy
    like = next(model.parameters())
    if ours:
        controller.forget()
    training = model.training
    model.train()
    for at, batch in enumerate(stream.batches(batch_size)):
        x, y = batch.inputs.to(like), batch.targets.to(like.device)
        if ours:
            for first, second in batch.swaps:
                controller.relabel(first, second)
        logits = model(x)
        if not torch.isfinite(logits).all():
            log.diverged[row] = True
        if log.diverged[row]:
            log.lr[row, at:] = controller.param_groups[0]["lr"]
            bar.update(stream.n_samples - batch.sample)
            break
        log.accuracy[row, at] = (logits.argmax(-1) == y).float().mean().item()
        controller.zero_grad()
        loss(logits, y).backward()
        if ours:
            log.decision[row, at] = DECISIONS.index(controller.observe(x, y, logits))
            if log.decision[row, at]:
                log.gain[row, at] = controller.last_gain
        log.lr[row, at] = controller.param_groups[0]["lr"]
        controller.step()
        if held_out and (batch.sample + len(x)) % held_out.every == 0:
            model.eval()
            with torch.no_grad():
                guess = model(held_out.inputs.to(like)).argmax(-1).cpu()
            model.train()
            log.held_out[row].append(_share(guess, stream.relabelled(held_out.labels, batch.sample)))
        bar.update(len(x))
    model.train(training)
    if held_out:
        # A network that diverged is right no more.
        log.held_out[row] += [0.0] * (stream.n_samples // held_out.every - len(log.held_out[row]))


def _share(guess: Tensor, truth: Tensor) -> float:
    return (guess == truth).float().mean().item()


def together(jobs: Sequence[Job], rows: Sequence[int], log: Log, batch_size: int, held_out: HeldOut | None, bar: Any) -> None:  # fmt: skip
    """Many networks, a minibatch of all of them in one set of operations."""
    with _one_core(next(jobs[rows[0]].model.parameters()).device):
        _together(jobs, rows, log, batch_size, held_out, bar)


def _together(jobs: Sequence[Job], rows: Sequence[int], log: Log, batch_size: int, held_out: HeldOut | None, bar: Any) -> None:  # fmt: skip
    # Those that imagine come first, so that their weights are a slice.
    rows = sorted(rows, key=lambda i: _homeostatic(jobs[i]).settings.policy not in ("homeostatic", "shuffled"))
    chosen = [jobs[i] for i in rows]
    masters = [_homeostatic(job) for job in chosen]
    settings = [m.settings for m in masters]
    net = replicas([job.model for job in chosen])
    like = next(chosen[0].model.parameters())
    with torch.no_grad():
        classes = net.predict(_first_samples(chosen).to(like)).shape[-1]
    regulation = Regulation(settings, classes)
    regulation.eta = np.array([m.rate for m in masters])
    feed = _Feed([job.stream for job in chosen], batch_size, regulation.memory, like)
    whole = torch.tensor([s.gradient == "batch" for s in settings], device=like.device)
    asks = np.array([s.policy != "constant" for s in settings])
    order, seen, hits = np.array(rows), 0, []
    for at, (x, y, past) in enumerate(feed):
        logits = net.forward(x, y)
        hits.append(((logits.argmax(-1) == y) & logits.sum(-1).isfinite()).float().mean(-1))
        if asks.any() and regulation.due(seen):
            guess, truth = logits[:, 0].argmax(-1).cpu().numpy(), y[:, 0].cpu().numpy()
            imagine = _Imagination(net, past, whole, int(regulation.imagines.sum()))
            taken, gain = regulation.decide(seen, guess, truth, imagine)
            log.decision[order, at] = np.where(asks, np.where(taken, TAKEN, LEFT), 0)
            log.gain[order, at] = gain
        log.lr[order, at] = regulation.eta
        net.descend(torch.as_tensor(regulation.eta, dtype=like.dtype, device=like.device))
        seen += x.shape[1]
        if held_out and seen % held_out.every == 0:
            _test(net, chosen, rows, log, held_out, seen - x.shape[1], like)
        bar.update(x.shape[1] * len(rows))
    log.accuracy[order] = torch.stack(hits, 1).cpu().numpy()
    net.write_back()
    past_x, past_y = feed.past()
    for k, (i, master) in enumerate(zip(rows, masters, strict=True)):
        log.diverged[i] = not all(torch.isfinite(p).all() for p in jobs[i].model.parameters())
        master.adopt(regulation.only(k), seen, (past_x[k].clone(), past_y[k].clone()))


@contextmanager
def _one_core(device: torch.device) -> Iterator[None]:
    """Each product takes a tenth of a millisecond, too little to be worth sharing: on a busy machine cores would mostly wait for each other."""
    threads = torch.get_num_threads()
    if device.type == "cpu":
        torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def _homeostatic(job: Job) -> HomeostaticSGD:
    assert isinstance(job.controller, HomeostaticSGD)
    return job.controller


class _Imagination:
    """Shares of the memory that are right after an update with either rate, for the runs that imagine."""

    def __init__(self, net: Replicas, past: Any, whole: Tensor, n: int) -> None:
        self.net, self.past, self.whole, self.n = net, past, whole, n

    def __call__(self, leave: np.ndarray, take: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        n = self.n
        x, y = self.past()
        rates = torch.as_tensor(np.stack([leave[:n], take[:n]], 1), dtype=x.dtype, device=x.device)
        right = (self.net.imagine(rates, self.whole[:n], x[:n]) == y[:n, None]).sum(-1).cpu().numpy() / y.shape[1]
        shares = np.zeros((2, len(leave)))
        shares[:, :n] = right.T
        return shares[0], shares[1]


def _test(
    net: Replicas, jobs: Sequence[Job], rows: Sequence[int], log: Log, held_out: HeldOut, sample: int, like: Tensor
) -> None:
    x = held_out.inputs.to(like)
    logits = net.predict(x.expand(len(jobs), *x.shape)).cpu()
    for i, job, output in zip(rows, jobs, logits, strict=True):
        right = _share(output.argmax(-1), job.stream.relabelled(held_out.labels, sample))
        log.held_out[i].append(right if bool(torch.isfinite(output).all()) else 0.0)


def _first_samples(jobs: Sequence[Job]) -> Tensor:
    return torch.stack([job.stream.inputs[:1] for job in jobs])


class _Feed:
    """Minibatches of several streams side by side, each stream read once however many networks follow it."""

    def __init__(self, streams: Sequence[ConceptShift], batch_size: int, memory: int, like: Tensor) -> None:
        self.unique = list({id(s): s for s in streams}.values())
        place = {id(s): k for k, s in enumerate(self.unique)}
        self.which = torch.tensor([place[id(s)] for s in streams], device=like.device)
        self.batch_size, self.memory, self.like = batch_size, memory, like
        self.meanings = [torch.from_numpy(s.meanings).to(like.device) for s in self.unique]
        self.now = torch.stack([m[0] for m in self.meanings])
        self.changes: dict[int, list[tuple[int, int]]] = {}
        for k, s in enumerate(self.unique):
            for event, sample in enumerate(s.swaps["sample"]):
                self.changes.setdefault(int(sample), []).append((k, event + 1))
        self._x = self._classes = torch.empty(0)
        self._at = 0

    def __iter__(self) -> Any:
        size, seen, memory = self.batch_size, 0, self.memory
        for stretch in zip(*(s.blocks(BLOCK * size) for s in self.unique), strict=True):
            x = torch.stack([b[0] for b in stretch]).to(self.like)[self.which]
            classes = torch.stack([b[1] for b in stretch]).to(self.which.device)[self.which]
            if seen:
                x = torch.cat([self._x[:, -memory:], x], 1)
                classes = torch.cat([self._classes[:, -memory:], classes], 1)
            before = x.shape[1] - stretch[0][0].shape[0]
            self._x, self._classes = x, classes
            for start in range(before, x.shape[1], size):
                for k, event in self.changes.get(seen, ()):
                    self.now[k] = self.meanings[k][event]
                self._at = start
                stop = min(start + size, x.shape[1])
                yield x[:, start:stop], self._labels(start, stop), self.past
                seen += stop - start
        self._at = self._x.shape[1]

    def past(self) -> tuple[Tensor, Tensor]:
        """The most recent samples before the minibatch, with their labels as of now."""
        first = max(self._at - self.memory, 0)
        return self._x[:, first : self._at], self._labels(first, self._at)

    def _labels(self, start: int, stop: int) -> Tensor:
        return self.now[self.which].gather(1, self._classes[:, start:stop])
