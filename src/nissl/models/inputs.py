"""What one forward pass takes, with what is needed to show it again."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Literal

import torch
from jaxtyping import Bool
from torch import Tensor

from nissl.models.images import Frame

Kind = Literal["image", "text", "tensor"]


@dataclass(frozen=True)
class Inputs:
    """A batch, ready for the network.

    Attributes
    ----------
    tensors
        Keyword arguments of the module's forward; each tensor's first axis is the sample, unless its length is 1.
    main_name
        Which of them is the picture, the token ids or the only tensor.
    kind
        `image`, `text` or `tensor`.
    mask
        True where a token is real; None where every position is.
    tokens
        The token strings of each sample, without padding; text only.
    frames
        For pictures that nissl prepared: which part of the photograph the pixels show.
    """

    tensors: dict[str, Tensor]
    main_name: str
    kind: Kind = "tensor"
    mask: Bool[Tensor, "sample position"] | None = None
    tokens: list[list[str]] | None = None
    frames: list[Frame] | None = None

    @property
    def main(self) -> Tensor:
        """The picture `(sample, channel, y, x)`, the token ids `(sample, position)`, or the only tensor."""
        return self.tensors[self.main_name]

    @property
    def n(self) -> int:
        """How many samples."""
        return self.main.shape[0]

    def __len__(self) -> int:
        return self.n

    @property
    def lengths(self) -> Tensor:
        """How many real tokens each sample has, shape `(sample,)`; for text."""
        if self.mask is None:
            return torch.full((self.n,), self.main.shape[1], device=self.main.device)
        return self.mask.sum(1)

    def with_main(self, tensor: Tensor) -> Inputs:
        """The same inputs with another main tensor, for example an occluded picture."""
        return replace(self, tensors={**self.tensors, self.main_name: tensor})

    def to(self, device: torch.device | str) -> Inputs:
        """The same inputs on another device."""
        mask = None if self.mask is None else self.mask.to(device)
        return replace(self, tensors={k: v.to(device) for k, v in self.tensors.items()}, mask=mask)

    def repeat(self, times: int) -> Inputs:
        """Each sample `times` times, one after another."""
        index = torch.arange(self.n).repeat_interleave(times)
        return self._take(index)

    def __getitem__(self, index: int | slice | Tensor) -> Inputs:
        """Some of the samples; an int gives a batch of one."""
        if isinstance(index, int):
            index = slice(index, index + 1 or None)
        if isinstance(index, slice):
            index = torch.arange(self.n)[index]
        return self._take(index)

    def __iter__(self) -> Iterator[Inputs]:
        return (self[i] for i in range(self.n))

    def _take(self, index: Tensor) -> Inputs:
        def rows(tensor: Tensor) -> Tensor:
            return tensor[index.to(tensor.device)] if tensor.dim() and tensor.shape[0] == self.n else tensor

        chosen = index.tolist()
        return replace(
            self,
            tensors={k: rows(v) for k, v in self.tensors.items()},
            mask=None if self.mask is None else rows(self.mask),
            tokens=None if self.tokens is None else [self.tokens[i] for i in chosen],
            frames=None if self.frames is None else [self.frames[i] for i in chosen],
        )
