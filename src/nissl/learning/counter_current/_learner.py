"""What all rules share: the network, the loop, optimisers, checkpoints, and what a network answers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
import torch
import xarray as xr
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, mse_loss
from tqdm import tqdm

from nissl.axes import whole_number
from nissl.errors import InputError, ModelError, unknown
from nissl.learning import checkpoint as checkpoints
from nissl.learning.counter_current import _data
from nissl.learning.counter_current._blocks import Shape, as_sequential, measure, overwrites, split
from nissl.learning.counter_current._modules import as_numpy, centralise, evaluating, fix_norms, sample_dims
from nissl.learning.counter_current._run import Run
from nissl.learning.counter_current._settings import Settings
from nissl.learning.training import _check_finite


class Learner(nn.Module):
    """A sequential network and a rule by which it learns; what is special to a rule is in `groups` and `_gradients`.

    Parameters
    ----------
    forward_layers
        The network, which is trained in place.
    input_shape
        Of one sample; needed where the first layer is a convolution.
    autoencoder
        The target is the input itself, and weights and biases of norms stay as they are.
    seed
        Of what a rule draws by chance.
    """

    kind: ClassVar[type[Settings]] = Settings

    def __init__(
        self,
        forward_layers: nn.Sequential | Sequence[nn.Module],
        *,
        input_shape: Sequence[int] | None = None,
        autoencoder: bool = False,
        seed: int = 0,
    ) -> None:
        super().__init__()
        seed = whole_number("seed", seed, 0)
        self.network = as_sequential(forward_layers)
        self.entry, self.blocks = split(self.network)
        self._overwrites = overwrites([*self.entry, self.blocks[0].layer])
        self.input_shape: Shape = measure(self.entry, self.blocks, None if input_shape is None else tuple(input_shape))
        self.autoencoder, self.seed = autoencoder, seed
        last = self.blocks[-1]
        if last.tail and any(not isinstance(part.module, nn.Flatten | nn.Identity) for part in last.tail):
            raise ModelError(
                f"the network ends with {last.tail[-1].name!r} ({type(last.tail[-1].module).__name__}); the last layer must be linear, as "
                "the loss takes its output as logits (or as the reconstruction): leave what follows it away"
            )
        if autoencoder and last.after != self.blocks[0].before:
            raise InputError(f"an autoencoder must give back {self.blocks[0].before}, and gives {last.after}")
        if not autoencoder and len(last.after) != 1:
            raise InputError(f"the network gives {last.after} a sample; a classifier must give one logit a class")
        if autoencoder:
            fix_norms(self.network)
        self.configure()

    # ------------------------------------------------------------------ what a rule is

    def groups(self) -> dict[str, list[nn.Parameter]]:
        """The weights that learn, by network; each has its own optimiser and its own clipping."""
        return {"forward": [p for p in self.network.parameters() if p.requires_grad]}

    def _gradients(self, x: Tensor, target: Tensor, scale: float, draw: torch.Generator) -> dict[str, Tensor]:
        """Add the gradients of all losses, times `scale`, to the weights' own; the losses by layer. Chance comes from `draw`."""
        raise NotImplementedError

    # ------------------------------------------------------------------ learning

    def configure(self, **settings: Any) -> Self:
        """Choose how weights follow their gradients, and begin with fresh optimisers; see `Settings`."""
        names = [f.name for f in fields(self.kind)]
        for name in settings:
            if name not in names:
                raise unknown("setting", name, names)
        self.settings = self._settled(self.kind(**settings))
        trained = {name: weights for name, weights in self.groups().items() if weights}
        if not trained:
            raise ModelError("there are no weights that learn; all have requires_grad=False")
        s = self.settings
        self._optimisers = {
            name: torch.optim.SGD(weights, lr=s.lr, momentum=s.momentum, weight_decay=s.weight_decay)
            for name, weights in trained.items()
        }
        self._taken = 0
        return self

    def step(self, x: Any, target: Any = None) -> dict[str, float]:
        """One update from one minibatch; the losses as they were before it.

        Parameters
        ----------
        x
            Samples, `(sample, *input_shape)`.
        target
            Their classes; None for an autoencoder.
        """
        x, target = self._pair(x, target)
        self.train()
        return {name: float(value) for name, value in self._update(x, target).items()}

    def fit(
        self,
        X: Any,
        y: Any = None,
        *,
        epochs: int = 16,
        batch_size: int = 64,
        test: tuple[Any, Any] | None = None,
        seed: int = 0,
        checkpoint: str | Path | None = None,
        every: int = 100,
        progress: bool = True,
        **settings: Any,
    ) -> Self:
        """Learn from samples for some epochs.

        Parameters
        ----------
        X
            Samples, `(sample, *input_shape)`; numpy, torch or xarray.
        y
            Class of each sample, from 0; None for an autoencoder.
        epochs, batch_size
            Passes over the samples, each in a new order, and samples a step.
        test
            X and y that are looked at after every epoch, and not learned from.
        seed
            Of the order of samples, and of what a rule draws in learning.
        checkpoint
            A file, written every `every` steps and at the end; a later call with the same settings and data goes on from it.
        progress
            Show a bar where standard error is a terminal.
        **settings
            See `Settings`.

        Returns
        -------
        Self
            With `curve_`: `loss` and `lr` by step, and with `test` `score` by epoch (accuracy, or squared error).

        Raises
        ------
        InputError
            Samples or labels that cannot be: NaN, another shape, labels outside the network's classes, a class without samples. A
            checkpoint from other settings or data.
        UnknownNameError
            A setting that does not exist.
        ModelError
            The loss or its gradient is NaN or infinite; weights are as they were before that step.
        """
        epochs, every = whole_number("epochs", epochs, 1), whole_number("every", every, 1)
        batch_size = whole_number("batch_size", batch_size, 2 if self._has_batch_norm() else 1)
        seed = whole_number("seed", seed, 0)
        self.configure(**settings)
        x, target = self._pair(X, y, every=True)
        held_out = None if test is None else self._pair(*_data.held_out(test))
        run = Run(self, len(x), epochs, batch_size, seed)
        facts = run.facts if checkpoint is None else {**run.facts, "data": _data.fingerprint(x, target)}
        if checkpoint is not None and Path(checkpoint).exists():
            run.restore(checkpoints.load(checkpoint, facts, device=x.device))
        with tqdm(total=run.steps, initial=self._taken, unit="step", disable=None if progress else True) as bar:
            for step, rows in run.batches():
                self.train()
                self._set_rate(run.rates[step])
                losses = self._update(x[rows], target[rows], torch.Generator().manual_seed(run.draw(step)))
                run.losses.append(float(sum(losses.values())))
                if held_out is not None and run.ends_epoch(step):
                    run.scores.append(self._score(*held_out))
                bar.update()
                if checkpoint is not None and ((step + 1) % every == 0 or step + 1 == run.steps):
                    checkpoints.save(checkpoint, run.content(), facts)
        self.curve_ = run.curve()
        return self

    def _update(self, x: Tensor, target: Tensor, generator: torch.Generator | None = None) -> dict[str, Tensor]:
        s = self.settings
        draw = generator or torch.Generator().manual_seed(self.seed + 7919 * self._taken)
        scale = min(1.0, (self._taken + 1) / s.warmup) if s.warmup else 1.0
        for optimiser in self._optimisers.values():
            optimiser.zero_grad()
        with torch.enable_grad():
            losses = self._gradients(x, target, scale, draw)
        for name, optimiser in self._optimisers.items():
            weights = [p for group in optimiser.param_groups for p in group["params"] if p.grad is not None]
            if s.centralise:
                centralise(weights)
            norm = nn.utils.get_total_norm([p.grad for p in weights if p.grad is not None])
            _check_finite(f"norm of the gradient of the {name} network", norm, self._taken, None)
            if s.clip is not None:
                nn.utils.clip_grads_with_norm_(weights, s.clip, norm)
        for optimiser in self._optimisers.values():
            optimiser.step()
        self._taken += 1
        return losses

    def _set_rate(self, lr: float) -> None:
        for optimiser in self._optimisers.values():
            for group in optimiser.param_groups:
                group["lr"] = lr

    # ------------------------------------------------------------------ answering

    def forward(self, x: Float[Tensor, "sample ..."]) -> Float[Tensor, "sample output"]:
        """The forward network alone: logits, or the reconstruction."""
        return self.network(self._own(x))

    def predict(self, X: Any) -> xr.DataArray:
        """The class of each sample `(sample,)`, or the reconstruction `(sample, ...)` of an autoencoder."""
        out = self._answer(self._inputs(X))
        if self.autoencoder:
            return xr.DataArray(as_numpy(out), dims=("sample", *sample_dims(out)), name="reconstruction")
        return xr.DataArray(out.argmax(1).cpu().numpy(), dims="sample", name="class")

    def score(self, X: Any, y: Any = None) -> float:
        """Accuracy, or the mean squared error of an autoencoder."""
        return self._score(*self._pair(X, y))

    def _score(self, x: Tensor, target: Tensor) -> float:
        out = self._answer(x)
        return mse_loss(out, target).item() if self.autoencoder else (out.argmax(1) == target).double().mean().item()

    def _answer(self, x: Tensor) -> Tensor:
        with torch.no_grad(), evaluating(self):
            return torch.cat([self(part) for part in x.split(1024)])

    def extra_repr(self) -> str:
        """What it takes and gives."""
        return (
            f"{self.input_shape} -> {self.blocks[-1].after}, {len(self.blocks)} layers, autoencoder={self.autoencoder}"
        )

    # ------------------------------------------------------------------ parts

    @property
    def n_outputs(self) -> int:
        """Classes, or numbers a sample of an autoencoder."""
        return int(np.prod(self.blocks[-1].after))

    def _settled(self, settings: Settings) -> Settings:
        return settings

    def _top_loss(self, out: Tensor, target: Tensor) -> Tensor:
        return self.settings.ends * mse_loss(out, target) if self.autoencoder else cross_entropy(out, target)

    def _own(self, x: Tensor) -> Tensor:
        """Samples that the network may write into, where it begins in place; they can be the caller's memory."""
        return x.clone() if self._overwrites else x

    def _enter(self, x: Tensor) -> Tensor:
        x = self._own(x)
        for part in self.entry:
            x = part.module(x)
        return x

    def _inputs(self, X: Any) -> Tensor:
        return _data.inputs(X, self.input_shape, next(self.blocks[0].layer.module.parameters()))

    def _pair(self, X: Any, y: Any = None, *, every: bool = False) -> tuple[Tensor, Tensor]:
        """Samples, and what the network should answer."""
        x = self._inputs(X)
        if self.autoencoder:
            if y is not None:
                raise InputError("an autoencoder's target is its input; leave y away")
            return x, self._enter(x)
        if y is None:
            raise InputError("a classifier learns from labels; give y, or make the network with autoencoder=True")
        return x, _data.labels(y, len(x), self.n_outputs, x.device, every=every)

    def _has_batch_norm(self) -> bool:
        return any(isinstance(m, nn.modules.batchnorm._BatchNorm) for m in self.modules())

    def _more_state(self) -> dict[str, Any]:
        """What a rule keeps beside weights; goes into checkpoints."""
        return {}

    def _restore_more(self, state: dict[str, Any]) -> None:
        pass
