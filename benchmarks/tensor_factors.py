"""Non-negative factors of affinities: nissl against tensorly's `non_negative_parafac_hals`, from the same start to the same loss."""

from __future__ import annotations

import numpy as np
from tensorly.decomposition import non_negative_parafac_hals
from timing import in_turn, table

from nissl.populations import differential_affinity, nonnegative_cp
from nissl.recordings import simulate


def factorised(x: np.ndarray, rank: int, title: str, rounds: int) -> str:
    rng = np.random.default_rng(0)
    start = [rng.random((d, rank)) for d in x.shape]
    losses: dict[str, float] = {}

    def tensorly() -> None:
        # tensorly stops by its own criterion; that loss is what has to be reached.
        begin = (np.ones(rank, dtype=x.dtype), [f.astype(x.dtype) for f in start])
        _, errors = non_negative_parafac_hals(x, rank, n_iter_max=500, tol=1e-7, init=begin, return_errors=True)
        losses["tensorly"] = float(errors[-1]) ** 2

    def nissl() -> None:
        losses["nissl"] = float(nonnegative_cp(x, rank, init=start, tol=1e-7, progress=False).losses[-1])

    times = in_turn({"tensorly": tensorly, "nissl.nonnegative_cp": nissl}, rounds=rounds)
    explained = ", ".join(f"{k} {1 - v:.5f}" for k, v in losses.items())
    reached = losses["nissl"] <= losses["tensorly"] * 1.005
    note = f"Explained variance: {explained}; the loss is reached: {'yes' if reached else 'NO'}. One start, the same for both."
    return table(title, times, "tensorly", note)


def main() -> str:
    worms = differential_affinity(simulate.motifs(seed=0)).values
    rng = np.random.default_rng(1)
    parts = [rng.gamma(0.5, size=(d, 8)) for d in (1000, 20, 780)]
    large = np.einsum("ir,jr,kr->ijk", *parts)
    large = (large + 0.5 * large.std() * np.abs(rng.normal(size=large.shape))).astype(np.float32)
    return "\n".join(
        [
            factorised(worms, 3, "Non-negative factors, 480 x 8 x 276 affinities, 3 components, float32", 9),
            factorised(
                worms.astype(float), 6, "Non-negative factors, 480 x 8 x 276 affinities, 6 components, float64", 9
            ),
            factorised(large, 8, "Non-negative factors, 1000 x 20 x 780, 8 components, float32", 3),
        ]
    )


if __name__ == "__main__":
    print(main())
