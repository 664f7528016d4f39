"""Gains of a thousand neurons for a thousand stimuli: one linear system, against descent through the simulated network."""

from __future__ import annotations

import numpy as np
import torch
from timing import in_turn, table

from nissl.populations import GainControl

UNITS = STIMULI = 1000
BFGS = 5  # iterations that L-BFGS is given here; it is not done after them


def main() -> str:
    rng = np.random.default_rng(0)
    drive = rng.exponential(1.0, (UNITS, STIMULI))
    weights = 0.7 * rng.standard_normal((UNITS, UNITS)) / np.sqrt(UNITS)
    p = rng.dirichlet(np.ones(STIMULI))
    model = GainControl()
    exact = model.fit(drive, weights, p)
    found: dict[str, np.ndarray] = {}

    def objective() -> object:
        """Rates by relaxation of the network, thirty steps of half a time constant, differentiated through."""
        f, w, prob = (torch.from_numpy(v) for v in (drive, weights, p))
        leak = torch.eye(UNITS, dtype=torch.float64) - w

        def loss(gains: torch.Tensor) -> torch.Tensor:
            driven = gains[:, None] * f
            rates = driven
            for _ in range(30):
                rates = rates + 0.5 * (driven + w @ rates - rates)
            return ((f - leak @ rates) ** 2 + rates**2).sum(0) @ prob + ((gains - 1) ** 2).sum()

        return loss

    loss = objective()

    def descend(steps: int) -> None:
        gains = torch.ones(UNITS, dtype=torch.float64, requires_grad=True)
        optimiser = torch.optim.Adam([gains], lr=0.05)
        for _ in range(steps):
            optimiser.zero_grad()
            loss(gains).backward()  # type: ignore[operator]
            optimiser.step()
        found["gradient descent"] = gains.detach().numpy()

    def bfgs(steps: int) -> None:
        gains = torch.ones(UNITS, dtype=torch.float64, requires_grad=True)
        optimiser = torch.optim.LBFGS([gains], max_iter=steps, line_search_fn="strong_wolfe")

        def closure() -> torch.Tensor:
            optimiser.zero_grad()
            value = loss(gains)  # type: ignore[operator]
            value.backward()
            return value

        optimiser.step(closure)  # type: ignore[arg-type]
        found["L-BFGS"] = gains.detach().numpy()

    def product() -> None:
        drive @ drive.T

    times = in_turn(
        {
            "GainControl.fit": lambda: model.fit(drive, weights, p),
            "one step of gradient descent": lambda: descend(1),
            "one matrix product": product,
        },
        rounds=3,
    )
    bfgs(BFGS)
    off = float(np.abs(found["L-BFGS"] - exact.gains_.to_numpy()).max())
    note = (
        f"{UNITS} neurons, {STIMULI} stimuli. One step of descent through the simulated network costs {times['one step of gradient descent'] / times['GainControl.fit']:.0f} "
        f"times the whole solution; L-BFGS is off by {off:.1e} after {BFGS} iterations. The aim was 0.5 s: "
        f"{times['GainControl.fit']:.2f} s, stability check and condition number included."
    )
    return table("Adaptive gains", times, "GainControl.fit", note)


if __name__ == "__main__":
    print(main())
