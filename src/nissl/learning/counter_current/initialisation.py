"""The lopsided beginning of an autoencoder whose codes are pulled together by their squared distance."""

from __future__ import annotations

import torch
from torch import nn

from nissl.axes import whole_number
from nissl.errors import InputError
from nissl.learning.counter_current._paired import PairedNetwork

SMALL = 0.001


@torch.no_grad()
def lopsided(network: PairedNetwork, *, seed: int = 0) -> PairedNetwork:
    """Let each network begin ready where it is well informed, and silent where it is not.

    All weights are made orthogonal; then the later half of each network (the forward decoder, and the feedback that ends at the
    input) is multiplied by 0.001, and the two output layers are set to 0. So the top of each network learns to follow the bottom of
    the other, and not the reverse.

    Parameters
    ----------
    network
        Changed in place, and returned.
    seed
        Of the orthogonal weights.

    Raises
    ------
    InputError
        No autoencoder.

    Examples
    --------
    >>> from nissl.learning.counter_current import CounterCurrentNetwork
    >>> layers = [nn.Linear(8, 4), nn.ELU(), nn.Linear(4, 8)]
    >>> network = lopsided(CounterCurrentNetwork(layers, autoencoder=True))
    >>> network(torch.ones(1, 8)).abs().max().item()
    0.0
    """
    if not network.autoencoder:
        raise InputError("this is how an autoencoder begins; a classifier needs no such beginning")
    depth = len(network.blocks)
    forward = [block.layer.module for block in network.blocks]
    feedback = list(network.feedback)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(whole_number("seed", seed, 0))
        for module in [*forward, *feedback]:
            for part in module.modules():
                if isinstance(part, nn.Linear | nn.Conv2d | nn.ConvTranspose2d):
                    nn.init.orthogonal_(part.weight)
                    if part.bias is not None:
                        part.bias.zero_()
    _scale(forward[(depth + 1) // 2 :] + feedback[: depth // 2], SMALL)
    _scale([forward[-1], feedback[0]], 0.0)
    return network


def _scale(modules: list[nn.Module], by: float) -> None:
    for module in modules:
        for part in module.modules():
            if isinstance(part, nn.Linear | nn.Conv2d | nn.ConvTranspose2d):
                part.weight.mul_(by)
