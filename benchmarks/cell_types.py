"""Most discriminative stimuli: all of them in one batch, against a loop over clusters as in the published code."""

from __future__ import annotations

import numpy as np
import torch
from timing import in_turn, table

from nissl.comparison import L2Ball, discriminability
from nissl.comparison.cell_types._objective import Ascent, averaging, make_stimuli
from nissl.comparison.stimuli import optimise_stimuli
from nissl.recordings.simulate import retina

CLUSTERS, RESTARTS, STEPS = 20, 4, 50


def main() -> str:
    cells = retina(n_per_type=50)
    natural = cells.natural()
    with torch.no_grad():
        response = cells.model(natural)
    mean, sd = response.mean(0), response.std(0)
    n = response.shape[1]
    rng = np.random.default_rng(0)
    partitions = [rng.permutation(np.arange(n) % CLUSTERS) for _ in range(RESTARTS)]
    ball = L2Ball(cells.norm)
    ascent = Ascent(cells.canvas, ball)
    start = ascent.noise(CLUSTERS * RESTARTS, 0)
    averages = [averaging([p], start)[0] for p in partitions]

    def respond(x: torch.Tensor) -> torch.Tensor:
        return (cells.model(x) - mean) / sd

    def one_batch() -> None:
        make_stimuli(respond, partitions, start, ascent, STEPS)

    def batch_a_restart() -> None:
        for i, p in enumerate(partitions):
            make_stimuli(respond, [p], start[i * CLUSTERS : (i + 1) * CLUSTERS], ascent, STEPS)

    def loop() -> None:
        """One ascent a cluster, by the same optimiser."""
        for i, average in enumerate(averages):
            for c in range(CLUSTERS):
                own = torch.tensor([c])
                optimise_stimuli(
                    lambda x, which, a=average, o=own: discriminability(respond(x) @ a, o),
                    start[i * CLUSTERS + c : i * CLUSTERS + c + 1],
                    ball,
                    steps=STEPS,
                )

    def plain_loop() -> None:
        """The same with torch's own Adam and nothing around it, as the published code is written."""
        for i, average in enumerate(averages):
            for c in range(CLUSTERS):
                x = start[i * CLUSTERS + c : i * CLUSTERS + c + 1].clone().requires_grad_()
                optimiser = torch.optim.Adam([x], lr=0.05)
                for _ in range(STEPS):
                    optimiser.zero_grad()
                    (-torch.log_softmax(respond(x) @ average / 1.6, 1)[0, c]).backward()
                    optimiser.step()
                    with torch.no_grad():
                        x.mul_(cells.norm / x.norm())

    def passes() -> None:
        """The limit: the model forward and backward, and nothing else."""
        for _ in range(STEPS + 1):
            x = start.clone().requires_grad_()
            respond(x).sum().backward()

    jobs = {
        "loop over clusters (torch Adam)": plain_loop, "loop over clusters (nissl's ascent)": loop,
        "a batch a restart": batch_a_restart, "one batch": one_batch, "model passes alone": passes,
    }  # fmt: skip
    times = in_turn(jobs, rounds=3)
    note = f"{RESTARTS} restarts x {CLUSTERS} clusters, {n} units, {STEPS} steps: one round of the M-step."
    return table("Most discriminative stimuli", times, "loop over clusters (torch Adam)", note)


if __name__ == "__main__":
    print(main())
