"""Many networks of one architecture, each with its own weights and data, trained in the same operations.

What an imagined update needs is here too: the gradient of a few samples is a product of two thin matrices in every dense layer, so
that the weights of an imagined network are never written down.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.func import functional_call, stack_module_state, vmap

# Activations that act on each number alone, so that leading axes do not matter to them.
ELEMENTWISE = (
    nn.ELU,
    nn.ReLU,
    nn.Tanh,
    nn.Sigmoid,
    nn.GELU,
    nn.SiLU,
    nn.LeakyReLU,
    nn.Softplus,
    nn.CELU,
    nn.SELU,
    nn.Identity,
)
# What draws random numbers or keeps statistics in training mode, and so has to run alone.
ALONE = (nn.modules.dropout._DropoutNd, nn.modules.batchnorm._NormBase, nn.RReLU)


def stackable(models: Sequence[nn.Module]) -> bool:
    """Whether the networks can be trained in the same operations: one architecture, no buffers, nothing random."""
    first = models[0]

    def plan(m: nn.Module) -> list[str]:
        shapes = [f"{name} {tuple(p.shape)} {p.dtype} {p.device} {p.requires_grad}" for name, p in m.named_parameters()]
        return [repr(m), *shapes]

    return (
        len({id(m) for m in models}) == len(models)
        and all(plan(m) == plan(first) and type(m) is type(first) for m in models)
        and not any(isinstance(part, ALONE) for part in first.modules())
        and next(first.buffers(), None) is None
        and not any(part._forward_hooks or part._forward_pre_hooks for m in models for part in m.modules())
        and all(p.requires_grad for p in first.parameters())
    )


def replicas(models: Sequence[nn.Module]) -> Replicas:
    """The quickest form that the architecture allows."""
    return DenseReplicas(models) if _dense(models[0]) else ModuleReplicas(models)


def _dense(model: nn.Module) -> bool:
    if type(model) is not nn.Sequential or len(model) == 0:
        return False
    parts = list(model)
    return (
        all(type(part) in (nn.Linear, *ELEMENTWISE) and not getattr(part, "inplace", False) for part in parts)
        and isinstance(parts[0], nn.Linear)
        and isinstance(parts[-1], nn.Linear)
        and len({id(part) for part in parts}) == len(parts)
        and len(list(model.parameters())) == sum(len(_parameters(part)) for part in parts)
    )


class Replicas:
    """What both forms do; `forward` must come before `imagine` and `descend`, which use its gradients."""

    n: int

    def forward(self, x: Float[Tensor, "replica sample ..."], y: Int[Tensor, "replica sample"]) -> Tensor:
        """Logits (replica, sample, class), keeping what the gradient of the mean cross-entropy needs."""
        raise NotImplementedError

    def predict(self, x: Float[Tensor, "replica sample ..."]) -> Tensor:
        """Logits (replica, sample, class), and nothing else."""
        raise NotImplementedError

    def imagine(
        self, rates: Float[Tensor, "replica 2"], whole: Bool[Tensor, "replica"], x: Float[Tensor, "replica memory ..."]
    ) -> Int[Tensor, "replica 2 memory"]:
        """Classes the first replicas would see in `x` after an update with either rate: by the first sample's share of the gradient, or, where
        `whole`, by all of it.
        """
        raise NotImplementedError

    def descend(self, rates: Float[Tensor, "replica"]) -> None:
        """One step of gradient descent, each replica with its own rate."""
        raise NotImplementedError

    def write_back(self) -> None:
        """Give the networks what they have learnt."""
        raise NotImplementedError


class DenseReplicas(Replicas):
    """Layers of `torch.nn.Linear` with activations between them, as batched matrix products."""

    def __init__(self, models: Sequence[nn.Module]) -> None:
        self.models, self.n = models, len(models)
        plan = list(zip(*(list(m.children()) for m in models), strict=True))
        self.layers = [
            [
                torch.stack([p.detach() for p in column])
                for column in zip(*(_parameters(part) for part in parts), strict=True)
            ]
            for parts in plan
            if isinstance(parts[0], nn.Linear)
        ]
        # Activations that follow each layer.
        self.after: list[list[nn.Module]] = []
        for parts in plan:
            if isinstance(parts[0], nn.Linear):
                self.after.append([])
            else:
                self.after[-1].append(parts[0])
        self._entering: list[Tensor] = []
        self._errors: tuple[Tensor, ...] = ()

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        """See `Replicas`."""
        self._entering, sums = [], []
        h = x
        for i, layer in enumerate(self.layers):
            self._entering.append(h.detach())
            # The weights are leaves of no graph: only the errors that reach each layer's sums are asked for.
            z = self._sums(layer, h)
            if i == 0:
                z.requires_grad_()
            sums.append(z)
            h = self._activated(i, z)
        loss = nn.functional.cross_entropy(sums[-1].flatten(0, 1), y.flatten(), reduction="sum") / x.shape[1]
        self._errors = torch.autograd.grad(loss, sums)
        return sums[-1].detach()

    @torch.no_grad()
    def predict(self, x: Tensor) -> Tensor:
        """See `Replicas`."""
        for i, layer in enumerate(self.layers):
            x = self._activated(i, self._sums(layer, x))
        return x

    @torch.no_grad()
    def imagine(self, rates: Tensor, whole: Tensor, x: Tensor) -> Tensor:
        """See `Replicas`."""
        n, memory = x.shape[:2]
        samples = self._errors[0].shape[1] if bool(whole.any()) else 1
        # Samples beyond the first count where the whole batch is imagined.
        counted = torch.ones(n, samples, 1, dtype=x.dtype, device=x.device)
        counted[:, 1:] = whole[:, None, None].to(x.dtype)
        h = x[:, None]
        for i, layer in enumerate(self.layers):
            weights = [p[:n] for p in layer]
            base = self._sums(weights, h.flatten(1, 2)).unflatten(1, (-1, memory))
            alike = (h.flatten(1, 2) @ self._entering[i][:n, :samples].mT).unflatten(1, (-1, memory))
            if len(layer) > 1:
                alike = alike + 1
            error = self._errors[i][:n, :samples] * counted
            # One sample's share of the gradient is an outer product, and so is what it moves.
            moved = alike * error[:, None] if samples == 1 else alike @ error[:, None]
            h = self._activated(i, torch.addcmul(base, moved, -rates[:, :, None, None]))
        return h.argmax(-1)

    @torch.no_grad()
    def descend(self, rates: Tensor) -> None:
        """See `Replicas`."""
        for layer, entering, error in zip(self.layers, self._entering, self._errors, strict=True):
            scaled = rates[:, None, None] * error
            layer[0].baddbmm_(scaled.mT, entering, alpha=-1)
            if len(layer) > 1:
                layer[1].sub_(scaled.sum(1))

    @torch.no_grad()
    def write_back(self) -> None:
        """See `Replicas`."""
        for row, model in enumerate(self.models):
            linear = [part for part in model.children() if isinstance(part, nn.Linear)]
            for part, layer in zip(linear, self.layers, strict=True):
                for p, stacked in zip(_parameters(part), layer, strict=True):
                    p.copy_(stacked[row])

    @staticmethod
    def _sums(layer: Sequence[Tensor], h: Tensor) -> Tensor:
        return torch.baddbmm(layer[1][:, None], h, layer[0].mT) if len(layer) > 1 else h @ layer[0].mT

    def _activated(self, i: int, z: Tensor) -> Tensor:
        for activation in self.after[i]:
            z = activation(z)
        return z


def _parameters(part: nn.Module) -> list[Tensor]:
    return list(part.parameters(recurse=False))


class ModuleReplicas(Replicas):
    """Any architecture, mapped over its stacked weights by `torch.func.vmap`."""

    def __init__(self, models: Sequence[nn.Module]) -> None:
        self.models, self.n = models, len(models)
        self.weights = {k: p.detach().requires_grad_() for k, p in stack_module_state(list(models))[0].items()}
        self._all: dict[str, Tensor] = {}
        self._first: dict[str, Tensor] = {}
        self._call = vmap(lambda weights, x: functional_call(models[0], weights, (x,)))

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        """See `Replicas`."""
        logits = self._call(self.weights, x)
        self._all = self._gradient(logits, y, x.shape[1])
        self._first, self._one = {}, (x[:, :1], y[:, :1], x.shape[1])
        return logits.detach()

    @torch.no_grad()
    def predict(self, x: Tensor) -> Tensor:
        """See `Replicas`."""
        return self._call(self.weights, x)

    def imagine(self, rates: Tensor, whole: Tensor, x: Tensor) -> Tensor:
        """See `Replicas`."""
        n = len(x)
        first, label, samples = self._one
        single = self._gradient(self._call(self.weights, first), label, samples)
        with torch.no_grad():
            found = []
            for rate in rates.T:
                moved = {}
                for name, p in self.weights.items():
                    shape = (n,) + (1,) * (p.ndim - 1)
                    g = torch.where(whole.view(shape), self._all[name][:n], single[name][:n])
                    moved[name] = p[:n] - rate.view(shape) * g
                found.append(self._call(moved, x).argmax(-1))
        return torch.stack(found, 1)

    @torch.no_grad()
    def descend(self, rates: Tensor) -> None:
        """See `Replicas`."""
        for name, p in self.weights.items():
            p.sub_(rates.view((-1,) + (1,) * (p.ndim - 1)) * self._all[name])

    @torch.no_grad()
    def write_back(self) -> None:
        """See `Replicas`."""
        for row, model in enumerate(self.models):
            for name, p in model.named_parameters():
                p.copy_(self.weights[name][row])

    def _gradient(self, logits: Tensor, y: Tensor, samples: int) -> dict[str, Tensor]:
        loss = nn.functional.cross_entropy(logits.flatten(0, 1), y.flatten(), reduction="sum") / samples
        found = torch.autograd.grad(loss, list(self.weights.values()), allow_unused=True, materialize_grads=True)
        return dict(zip(self.weights, found, strict=True))
