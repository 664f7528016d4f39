"""How much pairs of neurons go together in time: what a thought machine looks and answers with."""

from __future__ import annotations

from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from nissl.errors import InputError
from nissl.nn._trace import leaky_trace


def synchronisation(
    z: Float[Tensor, "batch tick unit"],
    left: Int[Tensor, " pair"],
    right: Int[Tensor, " pair"],
    rate: Float[Tensor, " pair"] | float = 0.0,
) -> Float[Tensor, "batch tick pair"]:
    """Synchronisation of pairs of neurons at every tick, as the weighted sum that it is.

    Parameters
    ----------
    z
        Activity of the neurons.
    left, right
        The two neurons of every pair.
    rate
        r: how fast a pair forgets, per tick; 0 counts all ticks alike.

    Returns
    -------
    Float[Tensor, "batch tick pair"]

    Raises
    ------
    InputError
        Activity with other axes, or a negative rate.

    Notes
    -----
    S_t = Σ_k e^(-r (t-k)) z_left,k z_right,k / √( Σ_k e^(-r (t-k)) ),  k = 0 ... t

    This is the definition, quadratic in the number of ticks; `Synchronisation` gives the same numbers by recursion.

    References
    ----------
    Darlow et al. 2025, Continuous Thought Machines, section on neural synchronisation.

    Examples
    --------
    >>> z = torch.tensor([[[1.0, 2.0], [3.0, 1.0], [0.0, 5.0], [1.0, -1.0]]])
    >>> synchronisation(z, torch.tensor([0]), torch.tensor([1]))[0, -1].item()  # (2 + 3 + 0 - 1) / sqrt(4)
    2.0
    """
    if z.dim() != 3 or 0 in z.shape:
        raise InputError(f"activity of shape {tuple(z.shape)}; give (batch, tick, unit), at least one of each")
    rate = torch.as_tensor(rate, dtype=z.dtype, device=z.device).expand(len(left))
    if (rate < 0).any():
        raise InputError("a negative rate of forgetting; allowed: 0 (all ticks count alike) or more")
    ticks = torch.arange(z.shape[1], device=z.device)
    age = (ticks[:, None] - ticks).to(z.dtype)  # of tick k, seen from tick t
    weight = torch.where(age >= 0, torch.exp(-rate[:, None, None] * age.clamp(min=0)), 0.0)  # (pair, t, k)
    return torch.einsum("ptk,bkp->btp", weight, z[..., left] * z[..., right]) / weight.sum(-1).sqrt().T


class Totals(NamedTuple):
    """What the recursion carries from tick to tick; the batch is the last axis.

    Attributes
    ----------
    total
        α, the weighted sum of products.
    weight
        β, the sum of the weights; one column where all samples are equally old.
    past
        With a window: the products inside it, oldest first, zero before the beginning.
    age
        With a window: how many ticks were counted.
    """

    total: Float[Tensor, "pair batch"]
    weight: Float[Tensor, "pair age"]
    past: Float[Tensor, "window pair batch"] | None = None
    age: Float[Tensor, " age"] | None = None


class Course(NamedTuple):
    """What the ticks to come have in common and can be known before them.

    Attributes
    ----------
    sides
        All left neurons, then all right ones.
    decay
        e^-r.
    lost
        -e^(-r W), for what leaves a window of W ticks.
    weight
        β now and after each tick.
    norm
        1 / √β, likewise.
    """

    sides: Int[Tensor, " two_sides"]
    decay: Float[Tensor, "pair 1"]
    lost: Float[Tensor, "pair 1"] | None
    weight: Float[Tensor, "moment pair age"]
    norm: tuple[Float[Tensor, "pair age"], ...]


class Synchronisation(nn.Module):
    """Synchronisation of chosen pairs of neurons, each with a rate of forgetting that is learned.

    Neurons are the first axis of all tensors inside and the batch the last: a pair is then a product of two contiguous rows.

    Parameters
    ----------
    left, right
        The two neurons of every pair; saved with the network.
    window
        Count the last so many ticks only. All of them where None.
    max_rate
        Rates are held between 0 and this.

    Attributes
    ----------
    rate : Parameter (pair,)
        r, 0 at the beginning: all ticks count alike.

    Raises
    ------
    InputError
        Pairs of unequal number, a window or a rate that is not positive.

    Notes
    -----
    α ← e^-r α + z_left z_right      (with a window of W ticks: - e^(-r W) times the product of W ticks ago)
    β ← e^-r β + 1
    S = α / √β

    `update` counts one tick at the cost of a product a pair; `sequence` counts all ticks at once, with the same numbers.
    Rates are clamped as data, outside the graph: a clamp inside it would leave a rate at 0 without a gradient for ever.

    References
    ----------
    Darlow et al. 2025, Continuous Thought Machines, section on neural synchronisation and appendix on its recursion.

    Examples
    --------
    >>> pairs = Synchronisation(torch.tensor([0]), torch.tensor([1]))
    >>> z = torch.rand(5, 2, 3)  # (tick, unit, batch)
    >>> s, _ = pairs.sequence(z[1:], pairs.begin(z[0]))
    >>> torch.allclose(s, synchronisation(z.permute(2, 0, 1), pairs.left, pairs.right)[:, 1:])
    True
    """

    left: Tensor
    right: Tensor

    def __init__(
        self,
        left: Int[Tensor, " pair"],
        right: Int[Tensor, " pair"],
        *,
        window: int | None = None,
        max_rate: float = 15.0,
    ) -> None:
        super().__init__()
        if left.shape != right.shape or left.dim() != 1 or not len(left):
            raise InputError(
                f"left and right neurons of shape {tuple(left.shape)} and {tuple(right.shape)}; give one of each a pair"
            )
        if window is not None and window < 1:
            raise InputError(f"window={window}; allowed: 1 tick or more, or None for all")
        if not max_rate > 0:
            raise InputError(f"max_rate={max_rate}; it must be positive")
        self.register_buffer("left", left)
        self.register_buffer("right", right)
        self.rate = nn.Parameter(torch.zeros(len(left)))
        self.window, self.max_rate = window, max_rate

    @property
    def width(self) -> int:
        """How many pairs there are."""
        return len(self.left)

    def clamp(self) -> None:
        """Hold the rates between 0 and `max_rate`."""
        self.rate.data.clamp_(0, self.max_rate)

    def begin(self, z: Float[Tensor, "unit batch"]) -> Totals:
        """The totals that have counted one moment of activity."""
        products = _products(z, self._sides())
        totals = Totals(products, torch.ones_like(products[:, :1]))
        if self.window is None:
            return totals
        past = torch.cat([products.new_zeros(self.window - 1, *products.shape), products[None]])
        return totals._replace(past=past, age=products.new_ones(1))

    def course(self, totals: Totals, ticks: int) -> Course:
        """What so many ticks from here have in common."""
        decay = torch.exp(-self.rate)[:, None]
        lost = None if self.window is None else -torch.exp(-self.rate * self.window)[:, None]
        later = torch.arange(ticks + 1, dtype=decay.dtype, device=decay.device)[:, None, None]
        powers = torch.exp(-self.rate[:, None] * later)  # (moment, pair, 1)
        if lost is None or totals.age is None or totals.past is None:
            weight = powers.cumsum(0) + powers * (totals.weight - 1)
        else:
            counted = totals.age + later[:-1, 0]
            full = (counted >= len(totals.past))[:, None]
            gained = 1 + lost * full
            weight = torch.cat([totals.weight[None], _trace(gained, decay, totals.weight)])
        return Course(self._sides(), decay, lost, weight, weight.rsqrt().unbind(0))

    def read(self, totals: Totals, course: Course, tick: int) -> Float[Tensor, "batch pair"]:
        """Synchronisation when so many ticks of the course are over."""
        return (totals.total * course.norm[tick]).T

    def update(self, z: Float[Tensor, "unit batch"], totals: Totals, course: Course) -> Totals:
        """Count one moment more. Weights are the course's; `after` puts them into the totals at its end."""
        products = _products(z, course.sides)
        total = torch.addcmul(products, course.decay, totals.total)
        if totals.past is None or course.lost is None:
            return totals._replace(total=total)
        total = torch.addcmul(total, course.lost, totals.past[0])
        return totals._replace(total=total, past=torch.cat([totals.past[1:], products[None]]))

    def after(self, totals: Totals, course: Course) -> Totals:
        """The totals at the end of a course, ready to be carried over."""
        age = None if totals.age is None else totals.age + len(course.norm) - 1
        return totals._replace(weight=course.weight[-1], age=age)

    def sequence(
        self, z: Float[Tensor, "tick unit batch"], totals: Totals
    ) -> tuple[Float[Tensor, "batch tick pair"], Totals]:
        """Synchronisation after every tick of a sequence, all at once, and the totals at its end."""
        course = self.course(totals, len(z))
        products = _products(z, course.sides)
        gained, past = products, totals.past
        if past is not None and course.lost is not None:
            seen = torch.cat([past, products])
            gained, past = products + course.lost * seen[: len(products)], seen[-len(past) :]
        total = _trace(gained, course.decay, totals.total)
        s = (total * course.weight[1:].rsqrt()).permute(2, 0, 1)
        return s, self.after(totals._replace(total=total[-1], past=past), course)

    def pack(self, totals: Totals) -> dict[str, Tensor]:
        """Totals as a state: batch first, a row a sample."""
        batch = totals.total.shape[1]
        state = {"total": totals.total.T, "weight": totals.weight.expand(-1, batch).T}
        if totals.past is not None and totals.age is not None:
            state |= {"past": totals.past.permute(2, 0, 1), "age": totals.age.expand(batch)}
        return state

    def unpack(self, state: dict[str, Tensor], z: Float[Tensor, "unit batch"]) -> Totals:
        """Totals from such a state."""
        past = state["past"].permute(1, 2, 0) if "past" in state else None
        return Totals(state["total"].T, state["weight"].T, past, state.get("age"))

    def _sides(self) -> Int[Tensor, " two_sides"]:
        return torch.cat([self.left, self.right])

    def extra_repr(self) -> str:
        """Sizes."""
        return f"pairs={self.width}" + ("" if self.window is None else f", window={self.window}")


def _products(
    z: Float[Tensor, "*tick unit batch"], sides: Int[Tensor, " two_sides"]
) -> Float[Tensor, "*tick pair batch"]:
    # One gather for both sides: half the kernels forwards, and one scatter backwards.
    left, right = z.index_select(-2, sides).chunk(2, -2)
    return left * right


def _trace(
    x: Float[Tensor, "tick pair any"], decay: Float[Tensor, "pair 1"], initial: Float[Tensor, "pair any"]
) -> Tensor:
    moment = x.shape[1:]
    return leaky_trace(x.flatten(1), decay.expand(moment).flatten(), initial.expand(moment).flatten()).unflatten(
        1, moment
    )
