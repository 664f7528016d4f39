"""Where the worm's target lies, as inputs that turn and brake its circuit."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn

from nissl.errors import InputError


class WormSteering(nn.Module):
    """Turning and speed inputs of a `WormSwimmer` from the place of a target.

    Parameters
    ----------
    learned
        A linear map from (x, abs y), to be trained, in place of thresholds.
    turn_range, speed_range
        Thresholds, in m.
    seed
        For the weights of the linear map.

    Raises
    ------
    InputError
        Thresholds below zero.

    Notes
    -----
    With the target at (x', y) in the head's axes (m; the nose points to -y) and x = -x':

    right = [x > 0.1],  left = [x < -0.1],  speed = [abs y > 0.12];   learned: (right, left, speed) = W (x, abs y) + c

    The circuit clips what it is given to [0, 1].

    References
    ----------
    Bhattasali, Zador, Engel (2022), Neural Circuit Architectural Priors for Embodied Control, NeurIPS.

    Examples
    --------
    >>> steering = WormSteering()
    >>> {name: value.item() for name, value in steering(torch.tensor([-0.5, -1.0])).items()}
    {'right': 1.0, 'left': 0.0, 'speed': 1.0}
    >>> from nissl.nn import WormSwimmer
    >>> worm = WormSwimmer(speed=True, turn=True)
    >>> worm(torch.zeros(1, 5), torch.zeros(1, 1), **steering(torch.tensor([[0.0, 0.05]]))).abs().max().item()
    0.0
    """

    def __init__(
        self, *, learned: bool = False, turn_range: float = 0.1, speed_range: float = 0.12, seed: int = 0
    ) -> None:
        super().__init__()
        if not (turn_range >= 0 and speed_range >= 0):
            raise InputError(f"turn_range {turn_range} m and speed_range {speed_range} m; give thresholds from 0")
        self.turn_range, self.speed_range = turn_range, speed_range
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.map = nn.Linear(2, 3) if learned else None

    def forward(self, target: Float[Tensor, "*batch 2"]) -> dict[str, Float[Tensor, "*batch 1"]]:
        """Inputs by name, as `WormSwimmer.forward` takes them."""
        if target.shape[-1:] != (2,):
            raise InputError(f"targets of shape {tuple(target.shape)}; give (..., 2), across and along the head")
        across, along = -target[..., :1], target[..., 1:].abs()
        if self.map is not None:
            right, left, speed = self.map(torch.cat((across, along), -1)).split(1, -1)
            return {"right": right, "left": left, "speed": speed}
        found = {
            "right": across > self.turn_range,
            "left": across < -self.turn_range,
            "speed": along > self.speed_range,
        }
        return {name: value.to(target.dtype) for name, value in found.items()}

    def extra_repr(self) -> str:
        """The settings."""
        return f"learned={self.map is not None}, turn_range={self.turn_range}, speed_range={self.speed_range}"
