"""One multigrid V-cycle as a layer: a bounded linear operator between functions, made of small convolutions."""

from __future__ import annotations

from collections.abc import Sequence

from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from nissl.errors import InputError, ModelError, unknown
from nissl.nn.operators._checks import check_field
from nissl.nn.operators.multigrid._grid import NESTINGS, PADDING, check_grid, check_names

COARSE = ("restrict", "residual", "fas")
CONV = {1: nn.Conv1d, 2: nn.Conv2d, 3: nn.Conv3d}
TRANSPOSED = {1: nn.ConvTranspose1d, 2: nn.ConvTranspose2d, 3: nn.ConvTranspose3d}


class Level(nn.Module):
    """The stencils of one level: A, S and, but for the coarsest, Pi, R and P."""

    def __init__(
        self,
        c_f: int,
        c: int,
        steps: int,
        post: int,
        *,
        first: bool,
        last: bool,
        coarse: str,
        padding: str,
        nodes: str,
        n_dims: int,
    ) -> None:
        super().__init__()
        nesting = NESTINGS[nodes]

        def stencil(into: int, out: int, *, stride: int = 1, around: int = 1) -> nn.Module:
            # Nothing to pad: torch would still copy, and refuse to reflect grids of one point.
            mode = padding if around else "zeros"
            return CONV[n_dims](into, out, 3, stride=stride, padding=around, padding_mode=mode, bias=False)

        # Where u begins at zero the first step needs no A.
        self.smooth = nn.ModuleList(stencil(c_f, c) for _ in range(steps))
        self.apply_a = nn.ModuleList(stencil(c, c_f) for _ in range(steps - first))
        self.post_smooth = nn.ModuleList(stencil(c_f, c) for _ in range(post))
        self.post_apply_a = nn.ModuleList(stencil(c, c_f) for _ in range(post))
        self.residual_a = None if last or coarse == "restrict" else stencil(c, c_f)
        self.wrapped = nesting.wrapped
        if last:
            self.restrict_u = self.restrict_f = self.prolong = None
        else:
            self.restrict_u = stencil(c, c, stride=2, around=nesting.padding)
            self.restrict_f = stencil(c_f, c_f, stride=2, around=nesting.padding)
            self.prolong = TRANSPOSED[n_dims](c, c, nesting.taps, stride=2, padding=nesting.cropped, bias=False)

    def relax(self, u: Tensor | None, f: Tensor) -> Tensor:
        """The smoothing steps on the way down; u is None where it begins at zero."""
        smooth = list(self.smooth)
        begun = smooth.pop(0)(f) if u is None else u
        for s, a in zip(smooth, self.apply_a, strict=True):
            begun = begun + s(f - a(begun))
        return begun

    def relax_again(self, u: Tensor, f: Tensor) -> Tensor:
        """The smoothing steps on the way up."""
        for s, a in zip(self.post_smooth, self.post_apply_a, strict=True):
            u = u + s(f - a(u))
        return u

    def prolonged(self, u: Tensor, size: Sequence[int]) -> Tensor:
        """A coarse function on the fine grid, of exactly that size."""
        if self.wrapped:
            u = functional.pad(u, (self.wrapped,) * 2 * (u.dim() - 2), mode="circular")
        assert self.prolong is not None
        return self.prolong(u, output_size=list(size))


class MultigridOperator(nn.Module):
    """A linear operator from functions to functions, parameterised as one multigrid V-cycle.

    Parameters
    ----------
    in_channels
        Functions that come in, c_f.
    channels
        Functions that go out, c.
    smoothing_steps
        Steps on each level, from the finest to the coarsest; their number is the number of levels.
    post_smoothing
        Steps after prolongation: one number for all levels but the coarsest, or one number each.
    boundary
        `dirichlet` (zero outside), `periodic` or `neumann` (reflected): how stencils are continued across the border.
    coarse
        What a coarser level is given: `restrict`, the restricted right side; `residual`, the restricted residual; `fas`, that
        of the full approximation scheme.
    norm
        Normalise each function set over channels and grid after prolongation, without weights. The operator is then not
        linear, and belongs to the grid.
    nodes
        Where the grid's nodes lie: `interior`, between the ends only (2^k - 1 nodes are halved without a remainder), `closed`, on
        both ends too (2^k + 1), or `periodic` (2^k). None takes what the boundary condition asks for.
    n_dims
        Dimensions of the grid, 1 to 3.

    Raises
    ------
    InputError
        No channels, levels or steps; at the first call a grid that is one point wide, too coarse, or not divisible.
    UnknownNameError
        Another boundary, coarse or nodes.

    Notes
    -----
    On levels l = 1 (fine) to J (coarse), with f the input, u the output, and every symbol a convolution of three taps along
    each axis, without bias::

        u_1 = S_11 f_1                                 the first step, from zero
        u_l = u_l + S_li (f_l - A_li u_l)              the other steps, i = 1 .. smoothing_steps[l]
        u_{l+1} = Pi_l u_l                             down, every other node
        f_{l+1} = R_l f_l                              `restrict`
        f_{l+1} = R_l (f_l - A_l u_l)                  `residual`
        f_{l+1} = R_l (f_l - A_l u_l) + A_{l+1} u_{l+1}    `fas`
        u_l = u_l + P_l u_{l+1}                        up; with `fas` P_l (u_{l+1} - Pi_l u_l), or what went down would count twice
        u_l = u_l + S'_li (f_l - A'_li u_l)            post_smoothing steps

    S takes c_f functions to c and A takes c to c_f, so A need not be square. Stencils belong to the spacing of the grid they
    were trained on: `refined` gives the operator for a grid of half the spacing.

    With n nodes on the finest level the stencils of a level cost a fraction 2^-d of those of the level above, so that a whole
    cycle costs a fixed multiple of the finest level's.

    References
    ----------
    He, Liu, Xu 2024, MgNO: Efficient Parameterization of Linear Operators via Multigrid (section 3).

    Examples
    --------
    >>> import torch
    >>> operator = MultigridOperator(1, 4, (1, 1, 2))
    >>> operator(torch.randn(2, 1, 31, 17)).shape
    torch.Size([2, 4, 31, 17])
    >>> MultigridOperator(1, 4, (1, 1, 1, 2), boundary="periodic")(torch.randn(2, 1, 20, 32))
    Traceback (most recent call last):
    nissl.errors.InputError: a periodic grid of 20 x 32 points cannot be halved 3 times: each side must be divisible by 8; 3 levels
    fit, so give 3 smoothing steps, or resample the data
    """

    def __init__(
        self,
        in_channels: int,
        channels: int,
        smoothing_steps: Sequence[int] = (1, 1, 1, 2),
        *,
        post_smoothing: int | Sequence[int] = 0,
        boundary: str = "dirichlet",
        coarse: str = "restrict",
        norm: bool = False,
        nodes: str | None = None,
        n_dims: int = 2,
    ) -> None:
        super().__init__()
        self.nodes = check_names(boundary, nodes)
        if coarse not in COARSE:
            raise unknown("way to the coarse grid", coarse, COARSE)
        steps = tuple(smoothing_steps)
        below = len(steps) - 1
        post = (post_smoothing,) * below if isinstance(post_smoothing, int) else tuple(post_smoothing)
        _check_settings(in_channels, channels, steps, post, n_dims)
        self.in_channels, self.channels, self.n_dims = in_channels, channels, n_dims
        self.smoothing_steps, self.post_smoothing = steps, post
        self.boundary, self.coarse, self.norm = boundary, coarse, norm
        self.levels = nn.ModuleList(
            Level(
                in_channels, channels, n, m, first=i == 0, last=i == below,
                coarse=coarse, padding=PADDING[boundary], nodes=self.nodes, n_dims=n_dims,
            )
            for i, (n, m) in enumerate(zip(steps, (*post, 0), strict=True))
        )  # fmt: skip

    def forward(self, f: Float[Tensor, "batch in_channel *grid"]) -> Float[Tensor, "batch channel *grid"]:
        """Apply the operator.

        Raises
        ------
        InputError
            Another number of channels or axes, or a grid on which the levels do not fit.
        """
        check_field(f, self.in_channels, self.n_dims, "MultigridOperator")
        check_grid(f.shape[2:], len(self.smoothing_steps), self.nodes)
        return self._cycle(channels_last(f), None, 0)

    def _cycle(self, f: Tensor, u: Tensor | None, at: int) -> Tensor:
        """The V-cycle from a level down and back."""
        level: Level = self.levels[at]  # type: ignore[assignment]
        u = level.relax(u, f)
        if level.restrict_u is None or level.restrict_f is None:
            return u
        below = level.restrict_u(u)
        given = level.restrict_f(f if level.residual_a is None else f - level.residual_a(u))
        if self.coarse == "fas":
            given = given + self.levels[at + 1].apply_a[0](below)  # type: ignore[index, operator]
        solved = self._cycle(given, below, at + 1)
        u = u + level.prolonged(solved - below if self.coarse == "fas" else solved, u.shape[2:])
        if self.norm:
            u = functional.layer_norm(u, u.shape[1:])
        return level.relax_again(u, f)

    def correct(
        self, u: Float[Tensor, "batch channel *grid"], f: Float[Tensor, "batch in_channel *grid"]
    ) -> Float[Tensor, "batch channel *grid"]:
        """One step of an iterative solver with this operator as the approximate inverse: u + V(f - A u).

        Raises
        ------
        ModelError
            The finest level has no A (one smoothing step, and `coarse="restrict"`).
        """
        return u + self(f - self.fine_a()(u))

    def fine_a(self) -> nn.Module:
        """The stencil A of the finest level."""
        level: Level = self.levels[0]  # type: ignore[assignment]
        for a in (level.residual_a, *level.apply_a, *level.post_apply_a):
            if a is not None:
                return a
        raise ModelError(
            "the finest level has no A: it makes one smoothing step from zero; build the operator with two steps on the first "
            "level, or with coarse='residual'"
        )

    def extra_repr(self) -> str:
        """Sizes and the kind of cycle."""
        return (
            f"{self.in_channels}, {self.channels}, smoothing_steps={self.smoothing_steps}, post_smoothing={self.post_smoothing}, "
            f"boundary={self.boundary!r}, coarse={self.coarse!r}, norm={self.norm}, nodes={self.nodes!r}, n_dims={self.n_dims}"
        )


def channels_last(x: Tensor) -> Tensor:
    """The same numbers with the channels of a pixel side by side, which small convolutions on a CPU like better."""
    return x.permute(0, 2, 3, 1).contiguous().permute(0, 3, 1, 2) if x.dim() == 4 and x.device.type == "cpu" else x


def _check_settings(c_f: int, c: int, steps: tuple[int, ...], post: tuple[int, ...], n_dims: int) -> None:
    if n_dims not in CONV:
        raise InputError(f"n_dims={n_dims!r}; allowed: 1, 2, 3")
    if c_f < 1 or c < 1:
        raise InputError(f"in_channels={c_f}, channels={c}; allowed: at least 1 of each")
    if not steps or min(steps) < 1:
        raise InputError(f"smoothing_steps={steps}; allowed: one number of at least 1 for each level, finest first")
    if len(post) != len(steps) - 1 or (post and min(post) < 0):
        raise InputError(
            f"post_smoothing={post}; allowed: {len(steps) - 1} numbers of at least 0, one for each level but the coarsest"
        )
