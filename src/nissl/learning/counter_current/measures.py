"""How near two networks that run against each other have come, and how much of their width their codes use."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
import xarray as xr
from jaxtyping import Float
from torch import Tensor

from nissl.errors import InputError
from nissl.learning.counter_current._modules import cosine, no_running_means
from nissl.learning.counter_current._paired import PairedNetwork


def linear_cka(a: Float[np.ndarray, "sample unit_a"], b: Float[np.ndarray, "sample unit_b"]) -> float:
    """Centred kernel alignment of two codes of the same samples: 1 if they differ by a rotation and a factor.

    |A^T B|^2 / (|A^T A| |B^T B|), Frobenius norms, means over samples subtracted.

    Raises
    ------
    InputError
        Different samples, fewer than two, NaN, or a code that is constant.

    References
    ----------
    Kornblith and others 2019, Similarity of neural network representations revisited.

    Examples
    --------
    >>> a = np.random.default_rng(0).normal(size=(20, 3))
    >>> round(linear_cka(a, -2 * a[:, ::-1]), 6)
    1.0
    """
    x, y = (_matrix(z) for z in (a, b))
    if len(x) != len(y) or len(x) < 2:
        raise InputError(f"codes of {len(x)} and {len(y)} samples; give both for the same samples, at least two")
    x, y = x - x.mean(0), y - y.mean(0)
    if not x.any() or not y.any():
        raise InputError("a code is the same for all samples; its similarity with another is not defined")
    return float(np.linalg.norm(x.T @ y) ** 2 / (np.linalg.norm(x.T @ x) * np.linalg.norm(y.T @ y)))


def effective_rank(z: Float[np.ndarray, "sample unit"]) -> float:
    """How many directions a code uses: exp of the entropy of its singular values, as shares of their sum.

    Raises
    ------
    InputError
        NaN, or a code that is zero everywhere.

    References
    ----------
    Roy and Vetterli 2007, The effective rank: a measure of effective dimensionality.

    Examples
    --------
    >>> round(effective_rank(np.eye(4)), 6)
    4.0
    """
    values = np.linalg.svd(_matrix(z), compute_uv=False)
    if not values.any():
        raise InputError("the code is zero everywhere; it has no rank")
    share = values[values > 0] / values.sum()
    return float(np.exp(-(share * np.log(share)).sum()))


def code_similarity(network: PairedNetwork, X: Any, y: Any = None) -> xr.DataArray:
    """Linear CKA of each layer's forward code with the feedback code of the same samples' classes, `(layer,)`.

    Layers are 1 to L - 1: the pairs that both networks compute.

    Examples
    --------
    >>> from torch import nn
    >>> from nissl.learning.counter_current import CounterCurrentNetwork
    >>> network = CounterCurrentNetwork([nn.Linear(4, 3), nn.ELU(), nn.Linear(3, 2)])
    >>> code_similarity(network, torch.randn(6, 4), [0, 1, 0, 1, 0, 1]).dims
    ('layer',)
    """
    forward, feedback = _codes(network, X, y)
    found = [linear_cka(a, c) for a, c in zip(forward[1:-1], feedback[1:-1], strict=True)]
    return network.by_layer(found, "cka", first=1)


def code_rank(network: PairedNetwork, X: Any, y: Any = None) -> xr.Dataset:
    """Effective rank of the forward and of the feedback code of each layer, `forward (layer,)` and `feedback (layer,)`.

    A rank that falls to 1 while the loss falls is two codes that have collapsed together.

    Examples
    --------
    >>> from torch import nn
    >>> from nissl.learning.counter_current import CounterCurrentNetwork
    >>> network = CounterCurrentNetwork([nn.Linear(4, 3), nn.ELU(), nn.Linear(3, 2)])
    >>> sorted(code_rank(network, torch.randn(6, 4), [0, 1, 0, 1, 0, 1]))
    ['feedback', 'forward']
    """
    both = dict(zip(("forward", "feedback"), _codes(network, X, y), strict=True))
    return xr.Dataset(
        {name: network.by_layer([effective_rank(z) for z in codes], name, first=0) for name, codes in both.items()}
    )


def update_agreement(network: PairedNetwork, X: Any, y: Any = None) -> xr.DataArray:
    """Cosine of each layer's local gradient with the true gradient of the last layer's loss, `(layer,)` from 1 to L.

    Both at the weights as they are, on these samples as one batch, without a trace in running means; NaN where weights are fixed.

    Examples
    --------
    >>> from torch import nn
    >>> from nissl.learning.counter_current import CounterCurrentNetwork
    >>> network = CounterCurrentNetwork([nn.Linear(4, 3), nn.ELU(), nn.Linear(3, 2)])
    >>> round(float(update_agreement(network, torch.randn(6, 4), [0, 1, 0, 1, 0, 1])[-1]), 4)
    1.0
    """
    x, target = network._pair(X, y)
    weights = [next(block.layer.module.parameters()) for block in network.blocks]
    with _gradients_apart(network), no_running_means(network), torch.enable_grad():
        network._gradients(x, target, 1.0, torch.Generator().manual_seed(network.seed))
        local = [torch.zeros_like(w) if w.grad is None else w.grad.clone() for w in weights]
        learning = [w for w in weights if w.requires_grad]
        true = dict(zip(learning, torch.autograd.grad(network._top_loss(network(x), target), learning), strict=True))
    cosines = [cosine(g, true[w]) if w in true else np.nan for w, g in zip(weights, local, strict=True)]
    return network.by_layer(cosines, "cosine", first=1)


@contextmanager
def _gradients_apart(network: PairedNetwork) -> Iterator[None]:
    """Gradients as they were, whatever happens meanwhile."""
    before = {p: p.grad for p in network.parameters()}
    for p in before:
        p.grad = None
    try:
        yield
    finally:
        for p, gradient in before.items():
            p.grad = gradient


def _codes(network: PairedNetwork, X: Any, y: Any) -> tuple[list[np.ndarray], list[np.ndarray]]:
    x, target = network._pair(X, y)
    feedback = network.feedback_codes(network.top_code(target))
    if not network.autoencoder:
        feedback = [c[target] for c in feedback]
    return [_rows(z) for z in network.forward_codes(x)], [_rows(z) for z in feedback]


def _rows(z: Tensor) -> np.ndarray:
    return z.flatten(1).double().cpu().numpy()


def _matrix(z: Any) -> np.ndarray:
    x = np.asarray(z, dtype=float)
    if x.ndim < 2 or not np.isfinite(x).all():
        raise InputError(f"a code of shape {x.shape} that is (sample, unit) and finite is needed")
    return x.reshape(len(x), -1)
