"""Gains of every draw against every other, as minimum Bayes risk needs them."""

from __future__ import annotations

import numpy as np
from sacrebleu.metrics import CHRF
from timing import in_turn, table

from nissl.learning.utility import gain_matrix
from nissl.specimens import stories


def main() -> str:
    told = stories(1600, 12, seed=0)
    texts = [told.text(i) for i in range(1600)]
    batch = [texts[i : i + 16] for i in range(0, 160, 16)]
    peer = CHRF()

    def theirs() -> list[np.ndarray]:
        return [np.array([[peer.sentence_score(a, [b]).score / 100 for b in row] for a in row]) for row in batch]

    def ours() -> list[np.ndarray]:
        return [gain_matrix(row, "chrf") for row in batch]

    apart = max(np.abs(a - b).max() for a, b in zip(theirs(), ours(), strict=True))
    times = in_turn({"sacrebleu, pair by pair": theirs, "nissl": ours}, rounds=3)
    parts = [
        table(
            "chrF of 16 draws for 10 inputs, all pairs",
            times,
            "sacrebleu, pair by pair",
            f"Largest difference {apart:.0e}.",
        )
    ]
    rng = np.random.default_rng(0)
    draws = rng.integers(0, 200, (100, 64, 20)).tolist()
    many = in_turn(
        {"overlap of 64 draws for 100 inputs": lambda: [gain_matrix(row, "overlap") for row in draws]}, rounds=3
    )
    parts.append(table("All pairs at once (aim: under 1 s)", many, "overlap of 64 draws for 100 inputs"))
    return "\n".join(parts)


if __name__ == "__main__":
    print(main())
