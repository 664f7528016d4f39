"""A sequential network as blocks: one layer with weights each, with what reshapes its input and what follows it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn
from torch.nn.modules import activation

from nissl.errors import InputError, ModelError

Shape = tuple[int, ...]
NORMS = (nn.modules.batchnorm._NormBase, nn.LayerNorm, nn.GroupNorm, nn.LocalResponseNorm)
POOLS = (nn.MaxPool2d, nn.AvgPool2d, nn.AdaptiveAvgPool2d, nn.AdaptiveMaxPool2d, nn.LPPool2d)
# What prepares the input of the layer that comes next, rather than finishing the output of the one before.
BEFORE = (nn.Upsample, nn.Unflatten)
NOT_ELEMENTWISE = (nn.Softmax, nn.Softmax2d, nn.LogSoftmax, nn.Softmin, nn.GLU, nn.MultiheadAttention)
ACTIVATIONS = tuple(
    getattr(activation, name) for name in activation.__all__ if getattr(activation, name) not in NOT_ELEMENTWISE
)


@dataclass
class Part:
    """A module of the network, where it stands, and the shapes of a sample before and after it."""

    name: str
    module: nn.Module
    before: Shape = ()
    after: Shape = ()


@dataclass
class Block:
    """a_l = F_l(a_{l-1}): `head` reshapes, `layer` has the weights, `tail` is norm, activation, pooling, flatten."""

    layer: Part
    head: list[Part] = field(default_factory=list)
    tail: list[Part] = field(default_factory=list)

    @property
    def parts(self) -> list[Part]:
        """In the order in which they run."""
        return [*self.head, self.layer, *self.tail]

    @property
    def before(self) -> Shape:
        """Shape of one sample of a_{l-1}."""
        return self.parts[0].before

    @property
    def after(self) -> Shape:
        """Shape of one sample of a_l."""
        return self.parts[-1].after

    @property
    def overwrites(self) -> bool:
        """Whether it may write into what it is given."""
        return overwrites([*self.head, self.layer])

    def __call__(self, x: Tensor) -> Tensor:
        for part in self.parts:
            x = part.module(x)
        return x


def as_sequential(layers: nn.Sequential | Sequence[nn.Module]) -> nn.Sequential:
    """The network itself, or a list of layers as one.

    Raises
    ------
    InputError
        Any other module, whose order of computation nobody can see from outside.
    """
    if isinstance(layers, nn.Sequential):
        return layers
    if isinstance(layers, nn.Module) or not isinstance(layers, Sequence):
        raise InputError(
            f"{type(layers).__name__} is no nn.Sequential: which layer follows which is known to its forward() only; give an "
            "nn.Sequential or a list of layers (a residual block may be one of them, with its mirror in feedback_layers)"
        )
    for i, layer in enumerate(layers):
        if not isinstance(layer, nn.Module):
            raise InputError(f"layer {i} is {type(layer).__name__}, not a torch module")
    return nn.Sequential(*layers)


def split(network: nn.Sequential) -> tuple[list[Part], list[Block]]:
    """What stands before the first layer with weights, and the blocks.

    Raises
    ------
    ModelError
        No layer with weights, lazy weights, or layers or weights that stand in two places.
    """
    leaves = list(_leaves(network))
    _refuse_shared(leaves)
    entry: list[Part] = []
    blocks: list[Block] = []
    waiting: list[Part] = []
    for part in leaves:
        if has_weights(part.module):
            blocks.append(Block(part, head=waiting))
            waiting = []
        elif (isinstance(part.module, BEFORE) and blocks) or waiting:
            waiting.append(part)
        else:
            (blocks[-1].tail if blocks else entry).append(part)
    if not blocks:
        raise ModelError("there is no layer with weights in this network")
    blocks[-1].tail += waiting
    return entry, blocks


def overwrites(parts: Iterable[Part]) -> bool:
    """Whether one of them works in place, as `nn.ReLU(inplace=True)` does."""
    return any(getattr(m, "inplace", False) for part in parts for m in part.module.modules())


def has_weights(module: nn.Module) -> bool:
    """Norms and parametric activations have weights, too, but they belong to the layer before."""
    return not isinstance(module, (*NORMS, nn.PReLU)) and any(True for _ in module.parameters())


def measure(entry: list[Part], blocks: list[Block], shape: Shape | None) -> Shape:
    """Note the shape of a sample before and after each module; the shape of the input.

    Raises
    ------
    InputError
        A convolutional network without `input_shape`.
    ModelError
        A layer that cannot take what the one before gives.
    """
    first = blocks[0].layer.module
    if shape is None:
        if not isinstance(first, nn.Linear):
            raise InputError(
                f"the size of the input cannot be told from {blocks[0].layer.name!r} ({type(first).__name__}); give "
                "input_shape, for example input_shape=(1, 28, 28)"
            )
        shape = (first.in_features,)
    parts = entry + [part for block in blocks for part in block.parts]
    weight = next(first.parameters())
    x = torch.zeros(2, *shape, dtype=weight.dtype, device=weight.device)
    modes = [part.module.training for part in parts]
    with torch.no_grad():
        for part in parts:
            part.module.eval()
            try:
                after = part.module(x)
            except (RuntimeError, ValueError) as error:
                raise ModelError(
                    f"layer {part.name!r} ({part.module}) cannot take a sample of shape {tuple(x.shape[1:])}: {error}"
                ) from error
            if not isinstance(after, Tensor) or len(after) != 2:
                raise ModelError(
                    f"layer {part.name!r} ({type(part.module).__name__}) does not give one tensor, a row a sample"
                )
            part.before, part.after = tuple(x.shape[1:]), tuple(after.shape[1:])
            x = after
    for part, mode in zip(parts, modes, strict=True):
        part.module.train(mode)
    return tuple(shape)


def _leaves(module: nn.Module, path: str = "") -> Iterator[Part]:
    # Not named_children(), which passes over a module that it has seen.
    for name, child in module._modules.items():
        if child is None:
            continue
        full = f"{path}.{name}" if path else name
        if isinstance(child, nn.Sequential):
            yield from _leaves(child, full)
        else:
            yield Part(full, child)


def _refuse_shared(leaves: list[Part]) -> None:
    owner: dict[int, str] = {}
    for part in leaves:
        for parameter in part.module.parameters():
            if isinstance(parameter, nn.UninitializedParameter):
                raise ModelError(f"layer {part.name!r} is lazy; run the network once, so that it knows its size")
            if id(parameter) in owner:
                raise ModelError(
                    f"layers {owner[id(parameter)]!r} and {part.name!r} share weights; each layer learns from its own loss, so "
                    "give each its own weights (copy.deepcopy)"
                )
        owner.update({id(p): part.name for p in part.module.parameters()})
