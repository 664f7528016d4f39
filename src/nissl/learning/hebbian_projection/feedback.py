"""Ways for errors to travel back that need no copy of the forward weights."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import Any, Self

import torch
from torch import Tensor, nn

from nissl.errors import unknown
from nissl.learning.hebbian_projection._layers import Layer, find_layers

PATHS = ("bp", "fa", "ss")


class ErrorFeedback:
    """Send errors back through other weights than activity came forward, in any network, while a ``with`` block lasts.

    A layer y = W x hands the error g of its output on as

        bp    g W                        back-propagation: nothing is hooked
        fa    g B, B random and fixed    feedback alignment; B has the mean square that W has when the block begins
        ss    g sign(W) c                sign-symmetric; c = 1 / sqrt(fan-in), and sqrt(2 / (kernel area * channels out)) for convolutions

    The weights' own gradients are formed from the errors that arrive, as ever.

    Parameters
    ----------
    model
        A network; its Linear and Conv2d layers are hooked.
    path
        "bp", "fa" or "ss".
    layers
        Names or patterns; all where None.
    seed
        Of the random feedback weights.

    Raises
    ------
    UnknownNameError
        Another path or layer.

    References
    ----------
    Lillicrap et al. 2016, Random synaptic feedback weights support error backpropagation for deep learning. Xiao, Wang, Kim and Poggio 2019,
    Biologically-plausible learning algorithms can scale to large datasets (sign-symmetry).

    Examples
    --------
    >>> model = nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 2, bias=False))
    >>> x = torch.ones(1, 3)
    >>> with ErrorFeedback(model, "ss"):
    ...     model(x).sum().backward()
    >>> back = model[1].weight.sign().sum(0) / 2
    >>> torch.allclose(model[0].bias.grad, back)
    True
    """

    def __init__(
        self,
        model: nn.Module,
        path: str = "fa",
        *,
        layers: Sequence[str] | None = None,
        seed: int = 0,
    ) -> None:
        if path not in PATHS:
            raise unknown("path of errors", path, PATHS)
        self.model, self.path, self.seed = model, path, seed
        self.layers = find_layers(model, layers)
        self.weights: dict[str, Tensor] = {}
        self._handles: list[Any] = []

    def __enter__(self) -> Self:
        return self.attach()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.detach()

    def attach(self) -> Self:
        """Hook the network. Random feedback weights are drawn the first time, and stay."""
        if self.path == "bp" or self._handles:
            return self
        generator = torch.Generator().manual_seed(self.seed)
        for name, layer in self.layers.items():
            if self.path == "fa" and name not in self.weights:
                drawn = torch.randn(layer.weight.shape, generator=generator, dtype=torch.float64).to(layer.weight)
                self.weights[name] = drawn * layer.weight.detach().square().mean().sqrt()
            self._handles += self._redirect(name, layer)
        return self

    def detach(self) -> None:
        """Take the hooks away."""
        for handle in self._handles:
            handle.remove()
        self._handles = []

    def _redirect(self, name: str, layer: Layer) -> list[Any]:
        """Catch the error that reaches the layer's output, and hand on what the feedback weights make of it."""
        boxes: list[list[Tensor]] = []

        def before(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
            given = args[0] if args else kwargs["input"]
            boxes.append([])
            x = _Redirect.apply(given, lambda e, box=boxes[-1]: self._back(name, layer, e, box.pop()))
            return (x,), {}

        def after(module: nn.Module, args: Any, output: Tensor) -> None:
            box = boxes.pop()
            if output.requires_grad:
                output.register_hook(box.append)

        return [layer.register_forward_pre_hook(before, with_kwargs=True), layer.register_forward_hook(after)]

    def _back(self, name: str, layer: Layer, replaced: Tensor, error: Tensor) -> Tensor:
        weight = self.weights[name] if self.path == "fa" else sign_symmetric(layer)
        return _backward(layer, weight.to(error), error, replaced.shape)


class _Redirect(torch.autograd.Function):
    """The same numbers; backwards, what `change` makes of the gradient."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, change: Callable[[Tensor], Tensor]) -> Tensor:
        ctx.change = change
        return x.view_as(x)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:  # type: ignore[override]
        return ctx.change(gradient), None


def sign_symmetric(layer: Layer) -> Tensor:
    """Feedback weights of the signs of the forward weights, all of one size."""
    weight = layer.weight.detach()
    if isinstance(layer, nn.Linear):
        return weight.sign() / math.sqrt(layer.in_features)
    return weight.sign() * math.sqrt(2 / (weight[0, 0].numel() * layer.out_channels))


def _backward(layer: Layer, weight: Tensor, error: Tensor, shape: torch.Size) -> Tensor:
    if isinstance(layer, nn.Linear):
        return error @ weight
    with torch.enable_grad():  # the convolution is linear, so that its gradient at nought is its transpose
        x = torch.zeros(shape, dtype=error.dtype, device=error.device, requires_grad=True)
        return torch.autograd.grad(layer._conv_forward(x, weight, None), x, error)[0]
