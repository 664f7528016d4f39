"""The integral transform: what a dense layer across positions is a sample of."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor, nn

from nissl.errors import InputError, unknown
from nissl.nn.operators._checks import whole
from nissl.nn.operators.discretisation import Discretisation

KINDS = ("full", "low_rank", "ball")


class IntegralTransform(nn.Module):
    """Integral of a field against a learned kernel of two coordinates, on any points and to any points.

    Parameters
    ----------
    in_channels, out_channels
        Channels of the field before and after.
    n_dims
        Axes of space.
    kind
        `full`; `low_rank`, whose cost is linear in the points; or `ball`, where the kernel ends at `radius`.
    rank
        Of the low-rank kernel.
    radius
        Of the ball, in the unit of the coordinates.
    hidden
        Width of the one hidden layer of the networks that give the kernel.
    kernel
        A function of coordinates in place of the network: from (query, 1, axis) and (1, point, axis) to (query, point), the same for all
        channels, which `in_channels` and `out_channels` must then agree on. Only with `full`.

    Raises
    ------
    InputError
        Settings that cannot be, a field that does not fit its points.
    UnknownNameError
        Another kind.

    Notes
    -----
    ::

        full:      v(x) = Σ_j Δ_j K(x, y_j) u(y_j)                         K an MLP of (x, y) with values out by in
        low rank:  v(x) = Σ_r φ_r(x) Σ_j Δ_j ψ_r(y_j)·u(y_j)               φ_r(x) in R^out, ψ_r(y) in R^in, MLPs
        ball:      v(x) = Σ_{|x-y_j|<r} Δ_j (1 - |x-y_j|²/r²)² K(x, y_j) u(y_j)

    Δ_j are the quadrature weights of the points. The ball's kernel falls smoothly to zero at its rim, since one that ends at once
    converges slowly and by jumps. Distances go the shorter way round where the discretisation is periodic.

    References
    ----------
    Li, Kovachki, Azizzadenesheli and others 2020, Neural Operator: Graph Kernel Network for Partial Differential Equations; Kovachki and
    others 2023, Neural Operator: Learning Maps Between Function Spaces.

    Examples
    --------
    >>> from nissl.axes import Axis
    >>> line = Discretisation.grid(Axis.uniform("x", 201))
    >>> layer = IntegralTransform(1, 1, 1, kernel=lambda x, y: torch.exp(-(x - y).abs().sum(-1)))
    >>> v = layer(torch.ones(1, 201, 1), line, torch.tensor([[0.5]]))
    >>> round(v.item(), 4), round(2 - 2 * math.exp(-0.5), 4)
    (0.7869, 0.7869)
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        n_dims: int,
        kind: str = "full",
        *,
        rank: int = 8,
        radius: float | None = None,
        hidden: int = 32,
        kernel: Callable[[Tensor, Tensor], Tensor] | None = None,
    ) -> None:
        super().__init__()
        self.in_channels, self.out_channels = (
            whole("in_channels", in_channels, 1),
            whole("out_channels", out_channels, 1),
        )
        self.n_dims, self.rank, self.hidden = (
            whole("n_dims", n_dims, 1),
            whole("rank", rank, 1),
            whole("hidden", hidden, 1),
        )
        if kind not in KINDS:
            raise unknown("kind", kind, KINDS)
        if (kind == "ball") != (radius is not None) or (
            radius is not None and not (math.isfinite(radius) and radius > 0)
        ):
            raise InputError(
                f"kind={kind!r}, radius={radius!r}; a ball needs a positive radius, and nothing else has one"
            )
        if kernel is not None and (kind != "full" or in_channels != out_channels):
            raise InputError("a kernel of your own needs kind='full' and as many channels out as in")
        self.kind, self.radius, self.kernel = kind, radius, kernel
        if kernel is None and kind == "low_rank":
            self.left, self.right = self._net(n_dims, rank * out_channels), self._net(n_dims, rank * in_channels)
        elif kernel is None:
            self.net = self._net(2 * n_dims, out_channels * in_channels)

    def _net(self, n_in: int, n_out: int) -> nn.Sequential:
        return nn.Sequential(nn.Linear(n_in, self.hidden), nn.GELU(), nn.Linear(self.hidden, n_out))

    def forward(
        self,
        u: Float[Tensor, "batch point in"],
        source: Discretisation | Float[Tensor, "point axis"],
        query: Float[Tensor, "query axis"] | None = None,
        *,
        weights: Float[Tensor, "point"] | None = None,
    ) -> Float[Tensor, "batch query out"]:
        """The integral at the queries, or at the points themselves.

        Parameters
        ----------
        u
            The field at the points.
        source
            Its discretisation; or its points alone.
        query
            Where the integral is wanted.
        weights
            Quadrature weights of the points, where those are given alone; equal ones with a sum of 1 if None.
        """
        if isinstance(source, Tensor):
            equal = source.new_full(source.shape[:1], 1 / max(len(source), 1))
            source = Discretisation(source, equal if weights is None else weights)
        elif weights is not None:
            raise InputError("weights are part of the discretisation; give points alone to use others")
        if (
            u.dim() != 3
            or u.shape[1:] != (len(source.points), self.in_channels)
            or source.points.shape[1] != self.n_dims
        ):
            raise InputError(
                f"a field of shape {tuple(u.shape)} on {len(source.points)} points of {source.points.shape[1]} axes; allowed: "
                f"(batch, point, {self.in_channels}), {self.n_dims} axes"
            )
        source = source.to(u)
        x = source.points if query is None else query.to(u)
        weighted = u * source.weights[:, None]
        if self.kernel is not None:
            return torch.einsum("qp,bpc->bqc", self.kernel(x[:, None], source.points[None]), weighted)
        if self.kind == "low_rank":
            right = self.right(source.points).unflatten(-1, (self.rank, self.in_channels))
            left = self.left(x).unflatten(-1, (self.rank, self.out_channels))
            return torch.einsum("qro,bpi,pri->bqo", left, weighted, right)
        if self.kind == "full":
            pair = torch.cat(torch.broadcast_tensors(x[:, None], source.points[None]), -1)
            kernel = self.net(pair).unflatten(-1, (self.out_channels, self.in_channels))
            return torch.einsum("qpoi,bpi->bqo", kernel, weighted)
        return self._ball(weighted, source, x)

    def _ball(self, weighted: Tensor, source: Discretisation, x: Tensor) -> Tensor:
        """Only pairs within the radius are looked at."""
        squared = source.differences(x).square().sum(-1) / self.radius**2  # type: ignore[operator]
        p, q = (squared < 1).nonzero(as_tuple=True)
        kernel = self.net(torch.cat([x[q], source.points[p]], -1)).unflatten(-1, (self.out_channels, self.in_channels))
        window = (1 - squared[p, q]).square()
        parts = torch.einsum("koi,bki->bko", kernel * window[:, None, None], weighted[:, p])
        return weighted.new_zeros(len(weighted), len(x), self.out_channels).index_add(1, q, parts)

    def extra_repr(self) -> str:
        """Sizes."""
        return (
            f"{self.in_channels}, {self.out_channels}, n_dims={self.n_dims}, kind={self.kind!r}, rank={self.rank}, radius={self.radius}, "
            f"hidden={self.hidden}"
        )
