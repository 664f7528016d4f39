"""The lesion of synchronisation: what the neurons say at this moment, in its place."""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor, nn


class Snapshot(nn.Module):
    """The activity of all neurons, in the form of `Synchronisation`: it carries nothing from tick to tick.

    Examples
    --------
    >>> import torch
    >>> z = torch.rand(5, 2, 3)  # (tick, unit, batch)
    >>> Snapshot(2).sequence(z, z[0])[0].shape
    torch.Size([3, 5, 2])
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.width = width

    def clamp(self) -> None:
        """Nothing to hold."""

    def begin(self, z: Float[Tensor, "unit batch"]) -> Tensor:
        """The activity itself."""
        return z

    def course(self, totals: Tensor, ticks: int) -> None:
        """Nothing is known beforehand."""

    def read(self, totals: Tensor, course: None, tick: int) -> Float[Tensor, "batch unit"]:
        """The activity, batch first."""
        return totals.T

    def update(self, z: Float[Tensor, "unit batch"], totals: Tensor, course: None) -> Tensor:
        """The activity of this moment replaces that of the last."""
        return z

    def after(self, totals: Tensor, course: None) -> Tensor:
        """The same."""
        return totals

    def sequence(
        self, z: Float[Tensor, "tick unit batch"], totals: Tensor
    ) -> tuple[Float[Tensor, "batch tick unit"], Tensor]:
        """The activity at every tick."""
        return z.permute(2, 0, 1), z[-1]

    def pack(self, totals: Tensor) -> dict[str, Tensor]:
        """No state of its own."""
        return {}

    def unpack(self, state: dict[str, Tensor], z: Float[Tensor, "unit batch"]) -> Tensor:
        """The activity."""
        return z

    def extra_repr(self) -> str:
        """Size."""
        return f"neurons={self.width}"
