"""Matching 100,000 dendritic segments: rows of the input added up, against a dense product, packed bits and bit planes; and error rates of a grid."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import torch
from scipy.stats import hypergeom
from timing import in_turn, table
from torch import Tensor

from nissl.nn import DendriticNeuron, match_probability
from nissl.nn.dendrites import random_patterns

SEGMENTS, INPUTS, SYNAPSES, ACTIVE, SAMPLES, THRESHOLD = 100_000, 2048, 30, 40, 64, 12
GRID, FEW = 100_000, 2000


def packed(weights: Tensor, x: Tensor) -> Callable[[], np.ndarray]:
    """A bit for each segment and input, a bit for each sample and input: and, count, compare."""
    segments = np.packbits(weights.numpy() > 0, axis=1).view(np.uint64)
    samples = np.packbits(x.numpy() > 0, axis=1).view(np.uint64)
    return lambda: np.stack([np.bitwise_count(segments & row).sum(1, dtype=np.uint16) for row in samples])


def planes(synapses: Tensor, x: Tensor, chunk: int = 16_384) -> Callable[[], list[list[np.ndarray]]]:
    """64 samples in a word, one word an input; a tree of adders gives the binary digits of all 64 sums at once."""
    words = np.packbits(x.numpy() > 0, axis=0, bitorder="little").T.copy().view(np.uint64).ravel()
    places = synapses.numpy().T.copy()

    def digits(cells: np.ndarray) -> list[np.ndarray]:
        level, out = [np.take(words, c) for c in cells], []
        while level:
            carried = []
            while len(level) > 2:
                a, b, c = level.pop(), level.pop(), level.pop()
                level.insert(0, a ^ b ^ c)
                carried.append((a & b) | ((a ^ b) & c))
            if len(level) == 2:
                a, b = level
                level = [a ^ b]
                carried.append(a & b)
            out.append(level[0])
            level = carried
        return out

    return lambda: [digits(places[:, i : i + chunk]) for i in range(0, places.shape[1], chunk)]


def bandwidth() -> float:
    """Bytes a second that a copy moves, read and written."""
    here = torch.ones(50_000_000)
    there = torch.empty_like(here)
    return 2 * here.nbytes / in_turn({"copy": lambda: there.copy_(here)}, rounds=5)["copy"]


def matching() -> str:
    stored = random_patterns(SEGMENTS, INPUTS, ACTIVE, seed=1)
    neuron = DendriticNeuron(INPUTS, SEGMENTS, SYNAPSES, THRESHOLD).fit(stored)
    del stored
    x = torch.from_numpy(random_patterns(SAMPLES, INPUTS, ACTIVE).values).float()
    weights = torch.zeros(SEGMENTS, INPUTS).scatter_(1, neuron.synapses.long(), 1.0)
    bits = packed(weights, x)
    assert torch.equal(neuron.overlaps(x).float(), x @ weights.T)
    assert np.array_equal(neuron.overlaps(x).numpy(), bits())
    dense = "dense float product"
    with torch.no_grad():
        times = in_turn(
            {
                dense: lambda: x @ weights.T,
                "bits of inputs, packed": bits,
                "bits of samples, planes (digits only)": planes(neuron.synapses, x),
                "nissl, rows added up (overlaps)": lambda: neuron.overlaps(x),
                "nissl, whole neuron with its sites": lambda: neuron(x),
            },
            rounds=7,
        )
    ours = times["nissl, rows added up (overlaps)"]
    must = neuron.synapses.nbytes + x.numel() * 2 + SAMPLES * SEGMENTS * 2
    rows = SEGMENTS * SYNAPSES * SAMPLES * 2
    rate = bandwidth()
    note = (
        f"{SEGMENTS:,} segments of {SYNAPSES} synapses, {INPUTS} inputs, {SAMPLES} samples. What is kept: {weights.nbytes / 1e6:.0f} MB of weights against "
        f"{neuron.synapses.nbytes / 1e6:.0f} MB of synapses, 1/{weights.nbytes / neuron.synapses.nbytes:.0f} (packed bits: {weights.nbytes / 32 / 1e6:.0f} MB). "
        f"Bytes that must move through memory (synapses in, counts out): {must / 1e6:.0f} MB, at the {rate / 1e9:.0f} GB/s of a copy {must / rate * 1e3:.1f} ms, "
        f"{must / rate / ours:.0%} of the time taken; the rest are {rows / 1e6:.0f} MB of rows, gathered from the cache at {rows / ours / 1e9:.0f} GB/s."
    )
    return table("Dendritic segments, overlaps of a batch", times, dense, note)


def formulas() -> str:
    rng = np.random.default_rng(0)
    n, s, theta = rng.integers(1000, 20_000, GRID), rng.integers(20, 51, GRID), rng.integers(1, 20, GRID)
    a = (n * rng.uniform(0.005, 0.03, GRID)).astype(int)
    some = [v[:FEW].tolist() for v in (n, a, s, theta)]

    def exact() -> list[float]:
        return [
            sum(math.comb(s, b) * math.comb(n - s, a - b) for b in range(t, min(s, a) + 1)) / math.comb(n, a)
            for n, a, s, t in zip(*some, strict=True)
        ]

    scipys = "scipy.stats.hypergeom.sf"
    times = in_turn(
        {
            scipys: lambda: hypergeom.sf(theta - 1, n, s, a),
            "binomials of whole numbers": exact,
            "nissl match_probability": lambda: match_probability(n, a, s, theta),
            "nissl match_probability(log=True)": lambda: match_probability(n, a, s, theta, log=True),
        },
        rounds=3,
    )
    times["binomials of whole numbers"] *= GRID / FEW
    note = f"{GRID:,} points (whole numbers: extrapolated from {FEW}); nissl does {GRID / times['nissl match_probability']:,.0f} points a second."
    return table("Error rates of a segment", times, scipys, note)


def main() -> str:
    return "\n".join([matching(), formulas()])


if __name__ == "__main__":
    print(main())
