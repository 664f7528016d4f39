"""Dense and convolutional layers of quadratic neurons."""

from __future__ import annotations

import math
from typing import Any, Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import pad

from nissl.errors import InputError, unknown
from nissl.nn.quadratic._combine import Affine, Convolution, Dense, combine

INITS = ("relinear", "random")
Init = Literal["relinear", "random"]


class Quadratic(nn.Module):
    """What dense and convolutional quadratic layers share: the weights of three affine maps, and how they begin."""

    weight_r: nn.Parameter
    weight_g: nn.Parameter | None
    weight_b: nn.Parameter
    bias_r: nn.Parameter | None
    bias_g: nn.Parameter | None
    bias_b: nn.Parameter | None

    def __init__(self, shape: tuple[int, ...], bias: bool, compact: bool, init: Init, device: Any, dtype: Any) -> None:
        super().__init__()
        if init not in INITS:
            raise unknown("init", init, INITS)
        self.compact, self.init = compact, init
        for name in "rgb":
            kept = not (compact and name == "g")
            # b_g stays without biases too: it is what lets r through before the quadratic terms have grown.
            biased = kept and (bias or name == "g")
            weight = nn.Parameter(torch.empty(shape, device=device, dtype=dtype)) if kept else None
            self.register_parameter(f"weight_{name}", weight)
            one_a_unit = nn.Parameter(torch.empty(shape[0], device=device, dtype=dtype)) if biased else None
            self.register_parameter(f"bias_{name}", one_a_unit)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Begin again: r as an ordinary layer; g and b as constants 1 and 0 ("relinear"), or as r ("random")."""
        for name in "rgb":
            weight, bias = getattr(self, f"weight_{name}"), getattr(self, f"bias_{name}")
            if name == "r" or self.init == "random":
                if weight is not None:
                    nn.init.kaiming_normal_(weight, nonlinearity="relu")
                if bias is not None:
                    within = 1 / math.sqrt(self.weight_r[0].numel())
                    nn.init.uniform_(bias, -within, within)
            else:
                self._at_rest(name)

    def _at_rest(self, name: str) -> None:
        """Map g to 1, or map b to 0."""
        weight, bias = getattr(self, f"weight_{name}"), getattr(self, f"bias_{name}")
        for parameter, value in ((weight, 0.0), (bias, 1.0 if name == "g" else 0.0)):
            if parameter is not None:
                nn.init.constant_(parameter, value)

    def take_over(self, weight: Tensor, bias: Tensor | None) -> None:
        """Become the conventional layer with these weights, which `r` keeps as they are (tied weights stay tied)."""
        own = [weight, bias]
        self.weight_r, self.bias_r = (w if w is None or isinstance(w, nn.Parameter) else nn.Parameter(w) for w in own)  # type: ignore[assignment]
        for name in "gb":
            self._at_rest(name)

    @property
    def weight(self) -> Tensor:
        """The conventional part's weights, for code that asks a layer for its type or device by them."""
        return self.weight_r

    def _combine(self, affine: Affine, x: Tensor) -> Tensor:
        r, g, b = ((self.weight_r, self.bias_r), (self.weight_g, self.bias_g), (self.weight_b, self.bias_b))
        return combine(affine, x, r, g, b)

    def _check(self, x: Tensor, width: int, axis: int, what: str) -> None:
        own = self.weight_r
        if x.dim() < -axis or x.shape[axis] != width:
            raise InputError(f"input of shape {tuple(x.shape)}; this layer takes {what}")
        if not x.is_floating_point():
            raise InputError(f"input of type {x.dtype}; allowed: floating point, for example x.to({own.dtype})")
        if x.dtype != own.dtype and not torch.is_autocast_enabled(x.device.type):
            raise InputError(
                f"input of type {x.dtype} for weights of {own.dtype}; use x.to({own.dtype}), or layer.to({x.dtype})"
            )


class QuadraticLinear(Quadratic):
    """Dense layer of quadratic neurons: the product of two affine maps, plus an affine map of the squares.

    A drop-in for `torch.nn.Linear`. One unit can compute a product, XOR on signs or a disk, and what it computes is a symmetric
    matrix whose eigenvectors can be looked at (`quadratic_form`, `energy_filters`). It begins as the conventional layer.

    Parameters
    ----------
    in_features, out_features
        Width of input and output.
    bias
        Whether r and b have biases b_r and c. b_g is always there, as what the layer begins with.
    compact
        Leave the interaction out (see Notes).
    init
        "relinear": begin as an ordinary layer, w_r Kaiming normal, with the quadratic terms at zero. "random": all three maps as
        ordinary layers; deep networks of such layers diverge.
    device, dtype
        Of the weights.

    Attributes
    ----------
    weight_r, weight_g, weight_b : Parameter (out_features, in_features)
        w_r, w_g, w_b; `weight_g` is None where compact.
    bias_r, bias_g, bias_b : Parameter (out_features,)
        b_r, b_g and c; None where there is none.

    Raises
    ------
    InputError
        Sizes below 1; at call, input of another width or type.
    UnknownNameError
        Another `init`.

    Notes
    -----
    With x the input (d numbers) and x∘x its elementwise square, each unit has weights w_r, w_g, w_b (d each), b_r, b_g, c and::

        h(x) = (w_r·x + b_r)(w_g·x + b_g) + w_b·(x∘x) + c        3d + 3 parameters
        h(x) = w_r·x + b_r + w_b·(x∘x) + c                       compact, 2d + 2

        h(x) = xᵀAx + a·x + a0
        A = (w_r w_gᵀ + w_g w_rᵀ)/2 + diag(w_b),  a = b_g w_r + b_r w_g,  a0 = b_r b_g + c

    "relinear": w_g = 0, b_g = 1, w_b = 0, c = 0, so that h = w_r·x + b_r. The layer has no activation function of its own.
    The degree of a network doubles with each layer: standardise inputs, train g and b slowly (`relinear_parameter_groups`). In float16
    squares overflow from |x| = 256; bfloat16 has the range of float32.

    References
    ----------
    Fan, Li, Wang, Lai, Wang 2023, On Expressivity and Trainability of Quadratic Networks, IEEE TNNLS, arXiv:2110.06081.

    Examples
    --------
    >>> layer = QuadraticLinear(64, 10)
    >>> layer(torch.randn(5, 64)).shape
    torch.Size([5, 10])
    >>> product = QuadraticLinear(2, 1)
    >>> with torch.no_grad():
    ...     _ = product.weight_r.copy_(torch.tensor([[1.0, 0.0]])), product.weight_g.copy_(torch.tensor([[0.0, 1.0]]))
    ...     _ = product.bias_r.zero_(), product.bias_g.zero_()
    >>> product(torch.tensor([[3.0, 4.0]])).item()
    12.0
    """

    def __init__(
        self,
        in_features: int,
        out_features: int,
        bias: bool = True,
        *,
        compact: bool = False,
        init: Init = "relinear",
        device: Any = None,
        dtype: Any = None,
    ) -> None:
        for name, size in (("in_features", in_features), ("out_features", out_features)):
            if not isinstance(size, int) or size < 1:
                raise InputError(f"{name}={size!r}; allowed: whole numbers from 1")
        super().__init__((out_features, in_features), bias, compact, init, device, dtype)
        self.in_features, self.out_features = in_features, out_features

    def forward(self, x: Float[Tensor, "... input"]) -> Float[Tensor, "... output"]:
        """The pre-activations h."""
        self._check(x, self.in_features, -1, f"(..., {self.in_features})")
        if x.dim() == 2:
            return self._combine(Dense(), x)
        rows = self._combine(Dense(), x.reshape(-1, self.in_features))
        return rows.reshape(*x.shape[:-1], self.out_features)

    def extra_repr(self) -> str:
        """Sizes and kind."""
        kind = f"bias={self.bias_r is not None}, compact={self.compact}, init={self.init!r}"
        return f"in_features={self.in_features}, out_features={self.out_features}, {kind}"


class QuadraticConv2d(Quadratic):
    """Convolution of quadratic neurons: each is a `QuadraticLinear` unit that looks at a patch.

    A drop-in for `torch.nn.Conv2d`, with its arguments and shapes.

    Parameters
    ----------
    in_channels, out_channels
        Channels of input and output.
    kernel_size, stride, padding, dilation, groups, bias, padding_mode
        As of `torch.nn.Conv2d`, "same" and "valid" included. `bias` concerns b_r and c; b_g is always there.
    compact
        Leave the interaction out.
    init
        "relinear": begin as an ordinary layer. "random": all three maps as ordinary layers.
    device, dtype
        Of the weights.

    Attributes
    ----------
    weight_r, weight_g, weight_b : Parameter (out_channels, in_channels / groups, y, x)
        Of the three convolutions; `weight_g` is None where compact.
    bias_r, bias_g, bias_b : Parameter (out_channels,)
        b_r, b_g and c; None where there is none.

    Raises
    ------
    InputError
        Settings that `torch.nn.Conv2d` refuses; at call, input of other channels or type, or smaller than the kernel.
    UnknownNameError
        Another `init`.

    Notes
    -----
    Three convolutions of equal geometry, with * for convolution and ∘ for the elementwise product::

        h = (w_r * x + b_r) ∘ (w_g * x + b_g) + w_b * (x∘x) + c
        h = w_r * x + b_r + w_b * (x∘x) + c                          compact

    "relinear": w_g = 0, b_g = 1, w_b = 0, c = 0, so that h is the convolution with w_r and b_r. Padding comes before the square.

    References
    ----------
    Fan, Li, Wang, Lai, Wang 2023, On Expressivity and Trainability of Quadratic Networks, IEEE TNNLS, arXiv:2110.06081.

    Examples
    --------
    >>> layer = QuadraticConv2d(3, 8, 3, padding="same")
    >>> layer(torch.randn(2, 3, 16, 16)).shape
    torch.Size([2, 8, 16, 16])
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int | tuple[int, int],
        stride: int | tuple[int, int] = 1,
        padding: int | tuple[int, int] | str = 0,
        dilation: int | tuple[int, int] = 1,
        groups: int = 1,
        bias: bool = True,
        padding_mode: Literal["zeros", "reflect", "replicate", "circular"] = "zeros",
        *,
        compact: bool = False,
        init: Init = "relinear",
        device: Any = None,
        dtype: Any = None,
    ) -> None:
        try:  # torch's own layer knows what is allowed, and what the words mean
            like = nn.Conv2d(in_channels, out_channels, kernel_size, stride, padding, dilation, groups, bias, padding_mode, device="meta")  # fmt: skip
        except (ValueError, TypeError, RuntimeError) as error:
            raise InputError(f"{error}; the arguments are those of torch.nn.Conv2d") from None
        super().__init__(tuple(like.weight.shape), bias, compact, init, device, dtype)
        self.in_channels, self.out_channels, self.groups = in_channels, out_channels, groups
        self.kernel_size, self.stride, self.dilation = like.kernel_size, like.stride, like.dilation
        self.padding, self.padding_mode = like.padding, padding_mode
        left, right, top, bottom = self._edges = tuple(like._reversed_padding_repeated_twice)
        # Zeros of equal width on both sides are left to the convolution.
        self._beforehand = padding_mode != "zeros" or left != right or top != bottom
        padding = (0, 0) if self._beforehand else (top, left)
        self._convolution = Convolution(self.stride, padding, self.dilation, groups)  # type: ignore[arg-type]

    def forward(self, x: Float[Tensor, "batch channel y x"]) -> Float[Tensor, "batch output y_out x_out"]:
        """The pre-activations h; a single picture (channel, y, x) may stand without its batch."""
        self._check(x, self.in_channels, -3, f"(batch, {self.in_channels}, y, x)")
        if x.dim() > 4:
            raise InputError(f"input of shape {tuple(x.shape)}; this layer takes (batch, {self.in_channels}, y, x)")
        for name, axis, edges in (("y", -2, self._edges[2:]), ("x", -1, self._edges[:2])):
            least = self.dilation[axis] * (self.kernel_size[axis] - 1) + 1
            if x.shape[axis] + sum(edges) < least:
                raise InputError(
                    f"input of {x.shape[axis]} along {name}, padded by {sum(edges)}; the kernel needs at least {least}"
                )
        if self._beforehand and any(self._edges):
            x = pad(x, self._edges, mode="constant" if self.padding_mode == "zeros" else self.padding_mode)
        if x.dim() == 3:
            return self._combine(self._convolution, x[None])[0]
        return self._combine(self._convolution, x)

    def extra_repr(self) -> str:
        """Sizes, geometry and kind."""
        kind = f"bias={self.bias_r is not None}, compact={self.compact}, init={self.init!r}"
        return (
            f"{self.in_channels}, {self.out_channels}, kernel_size={self.kernel_size}, stride={self.stride}, padding={self.padding!r}, "
            f"dilation={self.dilation}, groups={self.groups}, padding_mode={self.padding_mode!r}, {kind}"
        )
