"""Training: AdamW with warm-up and cosine decay, mixed precision on a GPU, and checkpoints from which a killed run goes on."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Int
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from tqdm import tqdm

from nissl.errors import InputError, ModelError, StoreError
from nissl.populations.neuroformer.losses import losses, total
from nissl.populations.neuroformer.model import NeuroformerNetwork
from nissl.populations.neuroformer.windows import Windows


@dataclass(frozen=True)
class Schedule:
    """How to train.

    Attributes
    ----------
    steps, batch_size
        Updates, and windows each of them sees.
    learning_rate, warmup, decay_to
        Peak, share of the steps until it is reached, and the share of it that is left at the end (cosine).
    weight_decay
        On matrices only.
    clip
        Largest norm of the gradient.
    temperature, symmetric
        Of the contrastive loss.
    losses
        Which losses count; all where None.
    """

    steps: int = 1500
    batch_size: int = 256
    learning_rate: float = 2e-3
    warmup: float = 0.05
    decay_to: float = 0.1
    weight_decay: float = 0.1
    clip: float = 1.0
    temperature: float = 0.5
    symmetric: bool = False
    losses: tuple[str, ...] | None = None


def train(
    network: NeuroformerNetwork,
    windows: Windows,
    index: Int[np.ndarray, "sample"],
    schedule: Schedule,
    *,
    seed: int = 0,
    progress: bool = True,
    checkpoint: str | Path | None = None,
    every: int = 500,
    description: str = "training",
    watch: Callable[[int], None] | None = None,
    until: int | None = None,
) -> list[dict[str, float]]:
    """Train in place on some windows; returns the losses of each hundredth of the run.

    Parameters
    ----------
    checkpoint
        A folder. Where it holds the state of an unfinished run of the same settings, that run goes on, and ends where it would
        have ended without the interruption.
    every
        Steps between two checkpoints.
    watch
        Called before the first step and after each tenth of the run with the number of steps done.
    until
        Stop there, without another schedule.

    Raises
    ------
    StoreError
        A checkpoint of other settings, or one that cannot be read.
    ModelError
        The loss is no number any more.
    """
    device = windows.device
    optimiser = _optimiser(network, schedule)
    store = None if checkpoint is None else Checkpoint(Path(checkpoint), network, optimiser, schedule, seed)
    history: list[dict[str, float]] = []
    rows = torch.from_numpy(np.asarray(index))
    with _own_randomness(seed, device):
        begin = 0 if store is None else store.resume(history)
        # Pairs of the contrastive loss are to be told apart by more than their length: there batches are drawn at random.
        by_length = not network.shape.contrast
        lengths = windows.n_events + windows.n_past
        batches = _Batches(rows, schedule.batch_size, seed, lengths if by_length else None)
        expected = (
            float(np.minimum(windows.n_events[index], network.shape.max_events).mean() + 1) if by_length else None
        )
        network.train()
        sums: dict[str, Tensor] = {}
        report = max(1, schedule.steps // 100)
        with tqdm(
            total=schedule.steps,
            initial=begin,
            desc=description,
            unit="step",
            disable=None if progress else True,
            leave=False,
        ) as bar:
            if watch is not None:
                watch(begin)
                network.train()
            for step in range(begin, schedule.steps if until is None else until):
                for group in optimiser.param_groups:
                    group["lr"] = schedule.learning_rate * rate(step, schedule)
                batch = windows.batch(batches(step), network.shape.predict)
                with autocast(device):
                    parts = losses(
                        network,
                        batch,
                        network(batch),
                        temperature=schedule.temperature,
                        symmetric=schedule.symmetric,
                        tokens_a_window=expected,
                    )
                optimiser.zero_grad(set_to_none=True)
                total(parts, schedule.losses).backward()
                nn.utils.clip_grad_norm_(network.parameters(), schedule.clip)
                optimiser.step()
                for name, value in parts.items():
                    sums[name] = sums.get(name, torch.zeros((), device=device)) + value.detach()
                if (step + 1) % report == 0:
                    history.append({"step": step + 1.0} | {k: float(v) / report for k, v in sums.items()})
                    sums = {}
                    if not all(math.isfinite(v) for v in history[-1].values()):
                        raise ModelError(
                            f"the loss is {history[-1]} at step {step + 1}; lower learning_rate (now {schedule.learning_rate})"
                        )
                    bar.set_postfix({k: f"{v:.3f}" for k, v in history[-1].items() if k != "step"}, refresh=False)
                bar.update()
                if watch is not None and (step + 1) % max(1, schedule.steps // 10) == 0:
                    watch(step + 1)
                    network.train()
                if store is not None and ((step + 1) % every == 0 or step + 1 == schedule.steps):
                    store.write(step + 1, history)
        network.eval()
    return history


def rate(step: int, schedule: Schedule) -> float:
    """Share of the peak learning rate at a step."""
    warm = max(1, round(schedule.warmup * schedule.steps))
    if step < warm:
        return (step + 1) / warm
    done = (step - warm) / max(1, schedule.steps - warm)
    return schedule.decay_to + (1 - schedule.decay_to) * 0.5 * (1 + math.cos(math.pi * done))


def autocast(device: torch.device) -> AbstractContextManager[object]:
    """bfloat16 where the device is a GPU; full precision on a CPU."""
    return torch.autocast("cuda", dtype=torch.bfloat16) if device.type == "cuda" else nullcontext()


def _optimiser(network: nn.Module, schedule: Schedule) -> torch.optim.AdamW:
    matrices = [
        p
        for m in network.modules()
        if isinstance(m, nn.Linear | nn.Conv3d)
        for p in m.parameters(recurse=False)
        if p.ndim > 1
    ]
    chosen = {id(p) for p in matrices}
    rest = [p for p in network.parameters() if id(p) not in chosen]
    groups = [{"params": matrices, "weight_decay": schedule.weight_decay}, {"params": rest, "weight_decay": 0.0}]
    return torch.optim.AdamW(groups, lr=schedule.learning_rate, betas=(0.9, 0.95), fused=True)


class _Batches:
    """Windows of each step, a function of the seed and the step alone, so that a resumed run sees what it would have seen.

    With `lengths`, the windows of eight batches are dealt out by length, so that a batch holds windows of much the same length and
    little padding: half to a quarter of the time. The loss is divided by the tokens that are expected, not by those of the batch,
    which keeps its gradient unbiased.
    """

    def __init__(self, rows: Tensor, size: int, seed: int, lengths: np.ndarray | None = None) -> None:
        self.rows, self.size, self.seed = rows, min(size, len(rows)), seed
        self.lengths = None if lengths is None else torch.from_numpy(lengths)
        self.per_epoch = max(1, len(rows) // self.size)
        self.epoch, self.order = -1, rows

    def __call__(self, step: int) -> Tensor:
        epoch, place = divmod(step, self.per_epoch)
        if epoch != self.epoch:
            shuffle = torch.Generator().manual_seed(self.seed * 1_000_003 + epoch)
            self.epoch, self.order = (
                epoch,
                self._deal(self.rows[torch.randperm(len(self.rows), generator=shuffle)], shuffle),
            )
        return self.order[place * self.size : (place + 1) * self.size]

    def _deal(self, order: Tensor, shuffle: torch.Generator) -> Tensor:
        order = order[: self.per_epoch * self.size]
        if self.lengths is None:
            return order
        pools = [pool[self.lengths[pool].argsort(stable=True)] for pool in order.split(8 * self.size)]
        batches = [batch for pool in pools for batch in pool.split(self.size)]
        return torch.cat([batches[i] for i in torch.randperm(len(batches), generator=shuffle)])


@contextmanager
def _own_randomness(seed: int, device: torch.device) -> Iterator[None]:
    """Dropout draws from the library's own seed, and leaves the caller's generator as it was."""
    with torch.random.fork_rng([device] if device.type == "cuda" else []):
        torch.manual_seed(seed)
        yield


class Checkpoint:
    """Weights, optimiser and random state of a run, in safetensors, replaced in one step."""

    def __init__(
        self, folder: Path, network: nn.Module, optimiser: torch.optim.Optimizer, schedule: Schedule, seed: int
    ) -> None:
        self.path, self.network, self.optimiser = folder / "training.safetensors", network, optimiser
        self.settings = json.dumps(
            {"schedule": vars(schedule), "seed": seed, "shape": _shape(network)}, sort_keys=True, default=list
        )
        folder.mkdir(parents=True, exist_ok=True)

    def write(self, step: int, history: list[dict[str, float]]) -> None:
        """Write beside the old file, then replace it."""
        tensors = {f"network.{k}": v for k, v in self.network.state_dict().items()}
        for i, state in self.optimiser.state_dict()["state"].items():
            tensors |= {f"optimiser.{i}.{k}": torch.as_tensor(v) for k, v in state.items()}
        tensors["random"] = torch.get_rng_state()
        if torch.cuda.is_available():
            tensors["random_cuda"] = torch.cuda.get_rng_state()
        temporary = self.path.with_suffix(".part")
        meta = {"step": str(step), "history": json.dumps(history), "settings": self.settings}
        save_file({k: v.detach().cpu().contiguous() for k, v in tensors.items()}, temporary, meta)
        os.replace(temporary, self.path)

    def resume(self, history: list[dict[str, float]]) -> int:
        """Take up the run where it was left, and say at which step; 0 where there is nothing."""
        if not self.path.exists():
            return 0
        from safetensors import SafetensorError, safe_open

        try:
            with safe_open(self.path, "pt") as file:
                meta = file.metadata() or {}
            tensors = load_file(self.path)
        except (SafetensorError, OSError, ValueError) as error:
            raise StoreError(
                f"checkpoint {self.path.name} cannot be read ({error}); delete it to start anew"
            ) from error
        if meta.get("settings") != self.settings:
            raise StoreError(
                f"the checkpoint in folder {self.path.parent.name!r} belongs to other settings or another seed; give another folder, or delete it"
            )
        self.network.load_state_dict({k[8:]: v for k, v in tensors.items() if k.startswith("network.")})
        state = self.optimiser.state_dict()
        for key, value in tensors.items():
            if key.startswith("optimiser."):
                _, i, name = key.split(".", 2)
                state["state"].setdefault(int(i), {})[name] = value
        self.optimiser.load_state_dict(state)
        torch.set_rng_state(tensors["random"])
        if "random_cuda" in tensors and torch.cuda.is_available():
            torch.cuda.set_rng_state(tensors["random_cuda"])
        history += json.loads(meta["history"])
        return int(meta["step"])


def _shape(network: nn.Module) -> dict[str, list[int]]:
    return {k: list(v.shape) for k, v in network.state_dict().items()}


def evaluate_batches(
    network: nn.Module, windows: Windows, index: Int[np.ndarray, "sample"], size: int, use: Callable[..., None]
) -> None:
    """Run `use(rows, batch)` over windows without gradients, a batch at a time."""
    if len(index) == 0:
        raise InputError("no window to look at; choose another part of the recording")
    network.eval()
    with torch.no_grad():
        for begin in range(0, len(index), size):
            rows = np.asarray(index[begin : begin + size])
            use(rows, windows.batch(rows, network.shape.predict))  # type: ignore[attr-defined]
