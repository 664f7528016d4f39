"""Policies that read the whole observation of a swimming body: the circuit behind its sensors, and plain networks beside it."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from nissl.errors import InputError
from nissl.learning.bodies._body import EPISODE, check_links


class SwimmerPolicy(nn.Module):
    """A circuit behind the sensors of a swimmer: it finds joint angles and time in the observation and leaves the rest.

    Parameters
    ----------
    circuit
        Takes ``(joint_angles, step)``, such as `nissl.nn.WormSwimmer`.

    Raises
    ------
    InputError
        A circuit that does not say how many joints it has.

    Examples
    --------
    >>> from nissl.nn import WormSwimmer
    >>> SwimmerPolicy(WormSwimmer(5))(torch.zeros(2, 24)).shape
    torch.Size([2, 5])
    """

    def __init__(self, circuit: nn.Module) -> None:
        super().__init__()
        joints = getattr(circuit, "n_joints", None)
        if not isinstance(joints, int):
            raise InputError(f"{type(circuit).__name__} has no n_joints; give a circuit such as nissl.nn.WormSwimmer()")
        self.circuit, self.n_joints = circuit, joints

    def forward(self, observation: Float[Tensor, "*batch feature"]) -> Float[Tensor, "*batch joint"]:
        """Commands of the joints."""
        joints = self.n_joints
        if observation.shape[-1] != n_features(joints + 1):
            raise InputError(
                f"observations of {observation.shape[-1]} numbers; a body of {joints + 1} links gives {n_features(joints + 1)}"
            )
        limit = 2 * np.pi / (joints + 1)
        step = (observation[..., -1:] + 1) * EPISODE / 2
        return self.circuit((observation[..., :joints] / limit).clamp(-1, 1), step)

    def project(self) -> None:
        """Let the circuit bring its weights back to where they may be."""
        project = getattr(self.circuit, "project", None)
        if callable(project):
            project()


def n_features(n_links: int) -> int:
    """Numbers in an observation: joint angles, three velocities a link, and the time."""
    return 4 * n_links


def mlp_policy(
    n_links: int = 6, hidden: Sequence[int] = (64, 64), *, activation: type[nn.Module] = nn.Tanh, seed: int = 0
) -> nn.Sequential:
    """A fully connected policy from the observation of a swimmer to commands in [-1, 1]: what a circuit is compared with.

    Parameters
    ----------
    n_links
        Of the body.
    hidden
        Widths of the hidden layers.
    activation
        Between them.
    seed
        For the weights.

    Raises
    ------
    InputError
        A body or a width that cannot be.

    Examples
    --------
    >>> mlp_policy(6)(torch.zeros(1, 24)).shape
    torch.Size([1, 5])
    """
    widths = [n_features(check_links(n_links)), *hidden, n_links - 1]
    if min(widths) < 1:
        raise InputError(f"hidden layers of {list(hidden)} units; each needs at least one")
    layers: list[nn.Module] = []
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        for a, b in pairwise(widths):
            layers += [nn.Linear(a, b), activation()]
    return nn.Sequential(*layers[:-1], nn.Tanh())
