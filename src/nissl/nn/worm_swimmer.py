"""The forward-swimming circuit of C. elegans as a network: every unit has a name, every weight a sign and a meaning."""

from __future__ import annotations

import warnings
from typing import Literal

import networkx as nx
import torch
from jaxtyping import Float, Shaped
from torch import Tensor, nn

from nissl.errors import InputError, unknown
from nissl.models import Probe
from nissl.nn._trace import fits
from nissl.nn._worm_graph import worm_graph

# Names of the weights, and whether they excite (+1) or inhibit (-1).
SIGNS = {"prop": 1, "osc": 1, "ipsi": 1, "contra": -1, "speed": -1, "turn": 1}


class WormSwimmer(nn.Module):
    """A motor policy that is the swimming circuit of the worm, from joint angles to muscle commands.

    With its four shared weights at one it swims before any learning, and the same four numbers move a body of any length.

    Parameters
    ----------
    n_joints
        Joints of the body, from 2; joint 0 is next to the head.
    period
        Of the head's oscillators, in control steps (0.03 s each), from 2.
    share
        One weight a kind of synapse (4 in all, whatever the length), or one a synapse (6 n_joints: 30 for five joints).
    signed
        Hold excitatory weights above zero and inhibitory ones below, at every use.
    init
        `constant`: +1 and -1; `random`: uniform between zero and these. Without `signed`, +1 or -1 by chance, or uniform in [-1, 1].
    proprioception
        Let each joint's neurons feel how its neighbour towards the head is bent.
    oscillator
        Drive the neurons of the first joint with a square wave.
    speed, turn
        Add the inputs that brake all neurons, and that turn the head.
    n_turn
        How many joints, from the head, the turning inputs reach.
    seed
        For weights drawn by chance.

    Attributes
    ----------
    w_prop, w_osc, w_ipsi, w_contra, w_speed, w_turn
        The weights: single numbers where shared, else (side, joint) with dorsal first; None for a part that is left out.
        Of muscles, the side is that of the muscle.
    bneuron.dorsal, bneuron.ventral, muscle.dorsal, muscle.ventral, command
        Sites (sample, unit), a unit a joint.

    Raises
    ------
    InputError
        Fewer than two joints, a period below two, or turning inputs for more joints than there are.
    UnknownNameError
        No such `init`.

    Notes
    -----
    q_i        joint angle / joint limit, in [-1, 1]; a positive angle is a dorsal bend (on a planar body, by convention)
    d_i, v_i   stretch of the two sides: clip(q_i, 0, 1) and clip(-q_i, 0, 1)
    g(x)       graded neurons: clip(x, 0, 1);  exc(w) = max(w, 0), inh(w) = min(w, 0)
    o^D, o^V   head oscillators: o^D = 1 while step mod P < floor(P / 2), else 0; o^V = 1 - o^D
    b_0^D      = g(exc(w_osc) o^D + extras)                          B motor neurons at the head (likewise V with o^V)
    b_i^D      = g(exc(w_prop) d_{i-1} + extras)                     ... and behind it: the bend is handed down the body
    extras     inh(w_speed) (1 - speed) to all; exc(w_turn) right to dorsal and left to ventral ones of the first joints
    m_i^D      = g(exc(w_ipsi) b_i^D + inh(w_contra) b_i^V)          muscles (likewise V with D and V swapped)
    a_i        = m_i^D - m_i^V                                       command of joint i, in [-1, 1]

    There is no state but the clock, and the clock is the step that is given: it is the environment's, so that batches, replayed steps and
    other orders of calls agree. A weight that crosses zero while it is trained has no gradient; call `project` after each update.
    Backward (A-type) neurons, D-type neurons and gap junctions are not in the model; reciprocal inhibition is part of w_contra.

    References
    ----------
    Bhattasali, Zador, Engel (2022), Neural Circuit Architectural Priors for Embodied Control, NeurIPS.
    https://arxiv.org/abs/2201.05242

    Examples
    --------
    >>> worm = WormSwimmer(n_joints=5)
    >>> worm(torch.tensor([[0.5, -0.2, 0.0, 0.0, 0.0]]), torch.tensor([[0.0]]))
    tensor([[ 1.0000,  0.5000, -0.2000,  0.0000,  0.0000]], grad_fn=...)
    >>> sum(p.numel() for p in worm.parameters())
    4
    """

    _sides: Tensor
    _first: Tensor
    _behind: Tensor
    w_prop: nn.Parameter | None
    w_osc: nn.Parameter | None
    w_ipsi: nn.Parameter
    w_contra: nn.Parameter
    w_speed: nn.Parameter | None
    w_turn: nn.Parameter | None

    def __init__(
        self,
        n_joints: int = 5,
        period: int = 60,
        *,
        share: bool = True,
        signed: bool = True,
        init: Literal["constant", "random"] = "constant",
        proprioception: bool = True,
        oscillator: bool = True,
        speed: bool = False,
        turn: bool = False,
        n_turn: int = 1,
        seed: int = 0,
    ) -> None:
        super().__init__()
        _check(n_joints, period, n_turn, init)
        self.n_joints, self.period, self.n_turn = n_joints, period, n_turn
        self.share, self.signed = share, signed
        self.init: Literal["constant", "random"] = init
        self.proprioception, self.oscillator, self.speed, self.turn = proprioception, oscillator, speed, turn
        self._weight("prop", n_joints - 1, proprioception)
        self._weight("osc", 1, oscillator)
        self._weight("ipsi", n_joints, True)
        self._weight("contra", n_joints, True)
        self._weight("speed", n_joints, speed)
        self._weight("turn", n_turn, turn)
        self.bneuron = nn.ModuleDict({side: Probe("sample", "unit") for side in ("dorsal", "ventral")})
        self.muscle = nn.ModuleDict({side: Probe("sample", "unit") for side in ("dorsal", "ventral")})
        self.command = Probe("sample", "unit")
        first = (torch.arange(n_joints) == 0).float()
        for name, fixed in (("_sides", torch.tensor([[1.0], [-1.0]])), ("_first", first), ("_behind", 1 - first)):
            self.register_buffer(name, fixed, persistent=False)
        self.reset_parameters(seed)

    def _weight(self, name: str, joints: int, there: bool) -> None:
        shape = () if self.share else (2, joints)
        self.register_parameter(f"w_{name}", nn.Parameter(torch.empty(shape)) if there else None)

    @torch.no_grad()
    def reset_parameters(self, seed: int = 0) -> None:
        """Set all weights as `init` says."""
        generator = torch.Generator().manual_seed(seed)
        for name, weight in self.named_weights().items():
            chance = torch.rand(weight.shape, generator=generator).to(weight)
            if not self.signed:
                weight.copy_(2 * chance - 1 if self.init == "random" else torch.where(chance < 0.5, 1.0, -1.0))
            else:
                weight.copy_(SIGNS[name] * (chance if self.init == "random" else torch.ones_like(chance)))

    def named_weights(self) -> dict[str, nn.Parameter]:
        """The weights that are there, by their short names: `prop`, `osc`, `ipsi`, `contra`, `speed`, `turn`."""
        found = {name: getattr(self, f"w_{name}") for name in SIGNS}
        return {name: weight for name, weight in found.items() if weight is not None}

    @torch.no_grad()
    def set_weights(self, **values: float | Tensor) -> WormSwimmer:
        """Give weights by their short names; returns the circuit itself.

        Raises
        ------
        UnknownNameError
            A weight that this circuit has not.
        InputError
            Values of another shape, or not finite. A wrong sign is a warning.

        Examples
        --------
        >>> WormSwimmer().set_weights(prop=0.5, contra=-0.8).w_prop.item()
        0.5
        """
        weights = self.named_weights()
        for name, value in values.items():
            if name not in weights:
                raise unknown("weight", name, weights)
            given = torch.as_tensor(value, dtype=weights[name].dtype)
            if not given.isfinite().all():
                raise InputError(f"the weight {name!r} is NaN or infinite")
            if given.dim() and given.shape != weights[name].shape:
                raise InputError(
                    f"the weight {name!r} has shape {tuple(weights[name].shape)}; {tuple(given.shape)} was given"
                )
            if self.signed and bool((given * SIGNS[name] < 0).any()):
                kind = "excitatory, 0 or more" if SIGNS[name] > 0 else "inhibitory, 0 or less"
                warnings.warn(
                    f"the weight {name!r} is {kind}: what crosses zero counts as 0 (signed=False holds no signs)",
                    stacklevel=2,
                )
            weights[name].copy_(given.expand(weights[name].shape))
        return self

    @torch.no_grad()
    def project(self) -> None:
        """Bring weights that crossed zero back to it: the function stays the same, and gradients return."""
        if self.signed:
            for name, weight in self.named_weights().items():
                weight.copy_(self._half_line(name, weight))

    def with_joints(self, n_joints: int) -> WormSwimmer:
        """The same numbers in a circuit for a body of another length.

        Raises
        ------
        InputError
            The weights are one a synapse, so that a longer body has synapses that nobody knows.

        Examples
        --------
        >>> WormSwimmer(5).set_weights(prop=0.5).with_joints(11).w_prop.item()
        0.5
        """
        if not self.share:
            raise InputError("weights are one a synapse; only a circuit with share=True fits bodies of another length")
        other = WormSwimmer(
            n_joints, self.period, signed=self.signed, init=self.init, proprioception=self.proprioception,
            oscillator=self.oscillator, speed=self.speed, turn=self.turn, n_turn=self.n_turn,
        )  # fmt: skip
        return other.to(self.w_ipsi.device, self.w_ipsi.dtype).set_weights(
            **{name: self.used_weight(name) for name in self.named_weights()}
        )

    def forward(
        self,
        joint_angles: Float[Tensor, "*batch joint"],
        step: Shaped[Tensor, "*batch 1"],
        speed: Float[Tensor, "*batch 1"] | None = None,
        right: Float[Tensor, "*batch 1"] | None = None,
        left: Float[Tensor, "*batch 1"] | None = None,
    ) -> Float[Tensor, "*batch joint"]:
        """Commands of the joints.

        Parameters
        ----------
        joint_angles
            Divided by the joint limit; clipped to [-1, 1].
        step
            The environment's control step, which drives the oscillators.
        speed
            From 0 (stop) to 1 (free); only with ``speed=True``.
        right, left
            Turning, from 0 to 1; only with ``turn=True``.

        Raises
        ------
        InputError
            Another number of joints, or inputs that this circuit has not or lacks.
        """
        step = step if isinstance(step, Tensor) and step.dim() else torch.as_tensor(step).reshape(1)
        self._check_inputs(joint_angles, step, speed, right, left)
        # A cell is told by its neighbour how far the body is bent, and the first one by the clock; then both sides at once, dorsal first.
        told = torch.cat((self._clock(joint_angles, step), joint_angles[..., :-1]), -1)
        drive = (told.unsqueeze(-2) * self._sides).clamp(0, 1) * self._drive_weights()
        if speed is not None:
            brake = (1 - speed.clamp(0, 1)).unsqueeze(-2)
            drive = drive + brake * self.used_weight("speed")
        if right is not None and left is not None:
            turning = torch.stack((right, left), -2).clamp(0, 1) * self.used_weight("turn")
            turning = turning.expand(*turning.shape[:-1], self.n_turn)
            drive = drive + nn.functional.pad(turning, (0, self.n_joints - self.n_turn))
        neurons = _shown(self.bneuron, drive.clamp(0, 1))
        excited = neurons * self.used_weight("ipsi")
        pulled = torch.addcmul(excited, neurons.flip(-2), self.used_weight("contra"))
        dorsal, ventral = _shown(self.muscle, pulled.clamp(0, 1)).unbind(-2)
        return self.command(dorsal - ventral)

    def _clock(self, joint_angles: Tensor, step: Tensor) -> Float[Tensor, "*batch 1"]:
        """The oscillators as one bend: fully dorsal in the first half of a period, fully ventral in the second."""
        if not self.oscillator:
            return joint_angles[..., :1]  # weighs nothing
        bend = torch.rsub(step.round() % self.period, self.period // 2 - 0.5).sign()
        if bend.dtype != joint_angles.dtype:
            bend = bend.to(joint_angles.dtype)
        batch = joint_angles.shape[:-1]
        return bend if bend.shape[:-1] == batch else bend.expand(*batch, 1)

    def _drive_weights(self) -> Float[Tensor, "#side joint"]:
        """What the first neurons make of the clock, and the others of the bend before them; zero for a part that is left out."""
        head, behind = self._parameters["w_osc"], self._parameters["w_prop"]
        if self.share:
            weights = self._behind * (0.0 if behind is None else behind)
            weights = weights if head is None else torch.addcmul(weights, self._first, head)
        else:
            head = self._first.new_zeros(2, 1) if head is None else head
            behind = self._first.new_zeros(2, self.n_joints - 1) if behind is None else behind
            weights = torch.cat((head, behind), -1)
        return self._half_line("prop", weights)

    def _half_line(self, name: str, weight: Tensor) -> Tensor:
        if not self.signed:
            return weight
        return weight.clamp_min(0) if SIGNS[name] > 0 else weight.clamp_max(0)

    def _check_inputs(
        self, angles: Tensor, step: Tensor, speed: Tensor | None, right: Tensor | None, left: Tensor | None
    ) -> None:
        if angles.shape[-1:] != (self.n_joints,):
            raise InputError(
                f"joint angles of shape {tuple(angles.shape)}; this circuit has {self.n_joints} joints (a body of {self.n_joints + 1} links)"
            )
        batch = angles.shape[:-1]
        if step.shape[-1] != 1 or not fits(step.shape[:-1], batch):
            raise InputError(
                f"step of shape {tuple(step.shape)} for joint angles of {tuple(angles.shape)}; give one number, or (*batch, 1)"
            )
        if not self.speed and not self.turn and speed is None and right is None and left is None:
            return
        for name, there, given in (
            ("speed", self.speed, speed is not None),
            ("turn", self.turn, right is not None or left is not None),
            ("turn", self.turn, right is not None and left is not None),
        ):
            if there != given:
                inputs = "speed" if name == "speed" else "right and left"
                raise InputError(
                    f"the circuit has {name}={there}, and {inputs} {'was given' if given else 'is missing'}; make it with {name}={not there}, or {'leave the input out' if given else 'give the input'}"
                )

    def used_weight(self, name: str) -> Tensor:
        """A weight as the circuit uses it: on its half line where signs are held."""
        weight = self._parameters.get(f"w_{name}")
        if weight is None:
            raise unknown("weight", name, self.named_weights())
        return self._half_line(name, weight)

    def graph(self) -> nx.DiGraph:
        """Cells and synapses, each with a kind and each synapse with a sign and a weight.

        Returns
        -------
        networkx.DiGraph
            Nodes such as `oscillator.dorsal`, `stretch.dorsal.0`, `bneuron.ventral.1`, `muscle.dorsal.4`, `joint.2` with `kind`, `side`
            and `joint`; edges with `kind` (the weight's short name, or `body` for mechanics), `sign` and `weight`.

        Examples
        --------
        >>> WormSwimmer(5).graph().edges["bneuron.dorsal.0", "muscle.ventral.0"]
        {'kind': 'contra', 'sign': -1, 'weight': -1.0}
        """
        return worm_graph(self)

    def extra_repr(self) -> str:
        """The settings."""
        switches = [name for name in ("proprioception", "oscillator") if not getattr(self, name)]
        extras = [name for name in ("speed", "turn") if getattr(self, name)]
        return ", ".join(
            [f"n_joints={self.n_joints}", f"period={self.period}", f"share={self.share}", f"signed={self.signed}"]
            + [f"init={self.init}"]
            + [f"{name}=False" for name in switches]
            + [f"{name}=True" for name in extras]
            + ([f"n_turn={self.n_turn}"] if self.turn else [])
        )


def _shown(sites: nn.ModuleDict, both: Float[Tensor, "*batch 2 joint"]) -> Float[Tensor, "*batch 2 joint"]:
    """Both sides past their sites; nothing is taken apart where nobody looks."""
    dorsal, ventral = sites.values()
    if not (dorsal.watched or ventral.watched or dorsal.edited or ventral.edited):
        return both
    return torch.stack((dorsal(both[..., 0, :]), ventral(both[..., 1, :])), -2)


def _check(n_joints: int, period: int, n_turn: int, init: str) -> None:
    for name, value in (("n_joints", n_joints), ("period", period), ("n_turn", n_turn)):
        if not isinstance(value, int):
            raise InputError(f"{name}={value!r}; give a whole number")
    if n_joints < 2:
        raise InputError(
            f"n_joints={n_joints}: a body with one joint cannot carry a wave, since no joint has a neighbour towards the head; give 2 or more (the standard worm has 5)"
            if n_joints == 1
            else f"n_joints={n_joints}; give 2 or more (the standard worm has 5)"
        )
    if period < 2:
        raise InputError(f"period={period} control steps; give 2 or more (60 is standard, 1.8 s)")
    if not 1 <= n_turn <= n_joints:
        raise InputError(f"n_turn={n_turn}; give 1 to {n_joints}, the number of joints")
    if init not in ("constant", "random"):
        raise unknown("init", init, ("constant", "random"))
