"""A swimmer in the plane without a physics engine: many bodies at once, in numpy.

The body is described by its centre of mass and the heading of every link. In these coordinates the water is the only thing that moves
the centre, and what remains is one small linear system a body: all bodies are one batched solve.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Complex, Float

from nissl.errors import InputError
from nissl.learning.bodies._body import (
    ARMATURE,
    DENSITY,
    GEAR,
    HALF_SIZES,
    LENGTH,
    MASS,
    SUBSTEPS,
    TIMESTEP,
    SwimmerBody,
)
from nissl.learning.bodies._stops import Stops


class PlanarSwimmer(SwimmerBody):
    """Chains of links in water, all moved together by batched numpy.

    Parameters
    ----------
    n_links
        Links of a body, from 3.
    n_bodies
        Bodies that move together, independent of each other.
    density
        Of the water, kg/m^3; 0 is no water, where momentum is conserved.
    timestep
        Of the integration, s; a control step of 0.03 s is always filled.

    Raises
    ------
    InputError
        Fewer than three links, no body, a negative density, or a time step that does not divide the control step.

    Notes
    -----
    Link k has length l = 0.1 m, mass m = 0.01 kg, inertia I = m (0.002^2 + 0.1^2) / 12, heading theta_k and turning w_k. Its local axes
    are x (across) and y (towards the tail). With V the velocity of the centre of mass and C the constant matrix from headings to
    positions about it, c_k = centre + l sum_j C_kj y_j:

    water    F_x = -2 rho (b c) |v_x| v_x,  F_y = -2 rho (a c) |v_y| v_y,  torque = -rho c (a^4 + b^4) |w| w / 2, half sizes a, b, c = 1, 50, 10 mm
    centre   n m dV/dt = sum of F
    turning  M dw/dt = Q - h;  M_ij = m l^2 (C'C)_ij cos(theta_i - theta_j) + I [i=j] + armature (D'D)_ij
             h_i = m l^2 sum_j (C'C)_ij sin(theta_i - theta_j) w_j^2
             Q = water + D' (0.0005 N m * command + stops), with D w the rates of the joints
    step     semi-implicit Euler of 0.002 s: velocities first, then positions with the new velocities

    The stops of the joints are soft, and are solved together with the accelerations, as MuJoCo does it.

    References
    ----------
    Bhattasali, Zador, Engel (2022), Neural Circuit Architectural Priors for Embodied Control; measures of the body from Tassa et al.
    (2018), DeepMind Control Suite; quadratic drag of a box as in MuJoCo (Todorov et al. 2012).

    Examples
    --------
    >>> body = PlanarSwimmer(6, n_bodies=2)
    >>> body.reset(seed=0)
    >>> body.step(np.zeros((2, 5)))
    >>> body.angles.shape, body.velocities.shape, body.points.shape
    ((2, 5), (2, 6, 3), (2, 7, 2))
    """

    name = "planar"

    def __init__(
        self, n_links: int = 6, n_bodies: int = 1, *, density: float = DENSITY, timestep: float = TIMESTEP
    ) -> None:
        super().__init__(n_links, n_bodies)
        if not 0 <= density < np.inf:
            raise InputError(f"density {density}; give kg/m^3 from 0 (no water), such as 3000")
        whole = SUBSTEPS * TIMESTEP / timestep if timestep > 0 else 0.0
        if whole < 1 or abs(whole - round(whole)) > 1e-6:
            raise InputError(f"timestep {timestep} s does not divide the control step of 0.03 s; 0.002 is standard")
        self.density, self.timestep, self._substeps = float(density), float(timestep), round(whole)
        n, (a, b, c) = self.n_links, HALF_SIZES
        chain = np.tril(np.ones((n, n)), -1) + np.eye(n) / 2
        self._lever = LENGTH * (chain - chain.mean(0))
        self._reach = self._lever.T.astype(complex)
        self._coupling = MASS * self._lever.T @ self._lever
        self._joints = np.diff(np.eye(n), axis=0)
        inertia = MASS * ((2 * a) ** 2 + (2 * b) ** 2) / 12
        self._rigid = inertia * np.eye(n) + ARMATURE * self._joints.T @ self._joints
        # Real and imaginary part of a local velocity are across and along.
        self._drag = -2 * density * np.tile([b * c, a * c], n)
        self._spin_drag = -density * c * (a**4 + b**4) / 2
        # One product gives what the water and what the links' own turning do to every link.
        self._leverage = -np.concatenate([self._lever, 1j * self._coupling])
        self._stops = Stops(self.joint_limit, self._joints, self._coupling + self._rigid)
        self.reset()

    def _place(self, heading: Float[np.ndarray, "body"], angles: Float[np.ndarray, "body joint"]) -> None:
        self._theta = heading[:, None] + np.concatenate([np.zeros((self.n_bodies, 1)), angles.cumsum(1)], 1)
        self._omega = np.zeros_like(self._theta)
        self._velocity = np.zeros(self.n_bodies, complex)
        self._centre = np.zeros(self.n_bodies, complex)
        self._centre = -self._outline[:, 0]

    def step(self, command: Float[np.ndarray, "body joint"]) -> None:
        """Hold a motor command in [-1, 1] for one control step of 0.03 s."""
        torque = GEAR * self.command(command) @ self._joints
        for _ in range(self._substeps):
            self._substep(torque)

    def _substep(self, torque: Float[np.ndarray, "body link"]) -> None:
        omega, axes = self._omega, self._axes()
        across = axes.view(complex)[..., 0]
        parts = self._local(across).view(float)
        force = (np.abs(parts) * parts * self._drag).view(complex) * across
        levered = np.concatenate([force, across * (omega * omega)], 1) @ self._leverage
        turning = (across.conj() * levered).real
        turning += self._spin_drag * np.abs(omega) * omega + torque
        mass = axes @ np.ascontiguousarray(axes.transpose(0, 2, 1))
        mass *= self._coupling
        mass += self._rigid
        self._omega = omega + self.timestep * self._stops.solve(mass, turning, self._theta, omega)
        self._theta = self._theta + self.timestep * self._omega
        self._velocity = self._velocity + self.timestep / (self.n_links * MASS) * force.sum(1)
        self._centre = self._centre + self.timestep * self._velocity

    def _axes(self) -> Float[np.ndarray, "body link 2"]:
        """Cosine and sine of every heading: as complex numbers, the axes across the links."""
        axes = np.empty((*self._theta.shape, 2))
        np.cos(self._theta, out=axes[..., 0])
        np.sin(self._theta, out=axes[..., 1])
        return axes

    def _local(self, across: Complex[np.ndarray, "body link"]) -> Complex[np.ndarray, "body link"]:
        """Velocities of the links' centres in their own axes: across and, imaginary, along."""
        around = (across * self._omega) @ self._reach
        return (self._velocity[:, None] - around) * across.conj()

    @property
    def _outline(self) -> Complex[np.ndarray, "body point"]:
        along = 1j * np.exp(1j * self._theta)
        links = self._centre[:, None] + along @ self._lever.T
        return np.concatenate([links - along * LENGTH / 2, links[:, -1:] + along[:, -1:] * LENGTH / 2], 1)

    @property
    def angles(self) -> Float[np.ndarray, "body joint"]:
        """Joint angles in rad."""
        return np.diff(self._theta, axis=1)

    @property
    def velocities(self) -> Float[np.ndarray, "body link 3"]:
        """Velocity of each link's centre across and along it (m/s), and its turning (rad/s)."""
        local = self._local(np.exp(1j * self._theta))
        return np.stack([np.real(local), np.imag(local), self._omega], -1)

    @property
    def points(self) -> Float[np.ndarray, "body point 2"]:
        """Nose, joints and tail, in m."""
        found = self._outline
        return np.stack([np.real(found), np.imag(found)], -1)

    @property
    def momentum(self) -> Float[np.ndarray, "body 2"]:
        """Of the whole body, in kg m/s."""
        total = self.n_links * MASS * self._velocity
        return np.stack([np.real(total), np.imag(total)], -1)

    @property
    def angular_momentum(self) -> Float[np.ndarray, "body"]:
        """About the centre of mass, in kg m^2/s."""
        return (self._mass() @ self._omega[..., None])[..., 0].sum(1)

    @property
    def kinetic_energy(self) -> Float[np.ndarray, "body"]:
        """Of the whole body, in J."""
        turning = (self._omega[:, None] @ self._mass() @ self._omega[..., None])[:, 0, 0]
        return (turning + self.n_links * MASS * np.abs(self._velocity) ** 2) / 2

    def _mass(self) -> Float[np.ndarray, "body link link"]:
        apart = self._theta[:, :, None] - self._theta[:, None]
        return self._coupling * np.cos(apart) + self._rigid
