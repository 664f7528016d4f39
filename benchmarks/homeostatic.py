"""Homeostatic learners on a stream: a loop over samples, one network in a torch loop, and many networks in the same operations."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import torch
from sklearn.datasets import load_digits
from timing import in_turn, table

from nissl.learning import ConceptShift, HomeostaticSGD, elu_classifier, run_stream

SAMPLES, RUNS, LR = 4000, 48, 1e-3


@lru_cache(maxsize=1)
def digits() -> tuple[np.ndarray, np.ndarray]:
    """64 pixels from 0 to 1."""
    pixels, labels = load_digits(return_X_y=True)
    return (pixels / 16).astype(np.float32), labels.astype(np.int64)


def sample_by_sample(stream: ConceptShift, seed: int, m: int = 10, memory: int = 20) -> float:
    """The method as it is written down: each sample's forward and backward pass on its own, memory tested one by one."""
    layers = [p.detach().numpy().copy() for p in elu_classifier(64, 10, seed=seed).parameters()]
    w, b, eta = layers[::2], layers[1::2], LR
    past: list[tuple[np.ndarray, int]] = []
    right = 0

    def forward(w: list[np.ndarray], b: list[np.ndarray], x: np.ndarray) -> list[np.ndarray]:
        found = [x]
        for i in range(3):
            z = w[i] @ found[-1] + b[i]
            found.append(np.where(z > 0, z, np.expm1(np.minimum(z, 0))) if i < 2 else z)
        return found

    def stepped(rate: float, parts: list[np.ndarray], grads: list[np.ndarray]) -> list[np.ndarray]:
        return [p - rate / m * g for p, g in zip(parts, grads, strict=True)]

    for batch in stream.batches(m):
        gw, gb = [np.zeros_like(p) for p in w], [np.zeros_like(p) for p in b]
        for j, (x, y) in enumerate(zip(batch.inputs.numpy(), batch.targets.tolist(), strict=True)):
            h = forward(w, b, x)
            guess = int(h[3].argmax())
            right += guess == y
            error = np.exp(h[3] - h[3].max())
            error /= error.sum()
            error[y] -= 1
            for i in (2, 1, 0):
                gw[i] += np.outer(error, h[i])
                gb[i] += error
                if i:
                    error = (w[i].T @ error) * np.where(h[i] > 0, 1, h[i] + 1)
            if j == 0 and len(past) > memory:
                hits = []
                for rate in (eta, max(eta + (LR if guess >= 5 else -LR), 1e-8)):
                    w2, b2 = stepped(rate, w, gw), stepped(rate, b, gb)
                    hits.append(sum(int(forward(w2, b2, v)[3].argmax()) == t for v, t in past[-memory:]))
                if hits[1] > hits[0]:
                    eta = max(eta + (LR if y >= 5 else -LR), 1e-8)
        w, b = stepped(eta, w, gw), stepped(eta, b, gb)
        past = [*past, *zip(batch.inputs.numpy(), batch.targets.tolist(), strict=True)][-memory - 1 :]
    return right / stream.n_samples


def learners(n: int) -> tuple[list, list, list]:
    """Networks, streams and controllers, one a seed."""
    streams = [ConceptShift(*digits(), n_samples=SAMPLES, noise=0.05, seed=s) for s in range(n)]
    nets = [elu_classifier(64, 10, seed=s) for s in range(n)]
    return nets, streams, [HomeostaticSGD(net, LR, step_size=LR, seed=s) for s, net in enumerate(nets)]


def main() -> str:
    def one() -> None:
        nets, streams, masters = learners(1)
        run_stream(nets[0], streams[0], masters[0], progress=False)

    def many() -> None:
        run_stream(*learners(RUNS), progress=False)

    nets, streams, masters = learners(8)
    ours = run_stream(nets, streams, masters, progress=False).accuracy.mean("batch").to_numpy()
    theirs = np.array([sample_by_sample(s, i) for i, s in enumerate(streams)])
    times = in_turn(
        {
            "a loop over samples (NumPy)": lambda: sample_by_sample(streams[0], 0),
            "one network, torch loop": one,
            "many": many,
        },
        rounds=3,
    )
    times[f"{RUNS} networks together, each"] = times.pop("many") / RUNS
    note = (
        f"Mean accuracy of 8 runs on the same streams: {ours.mean():.4f} here, {theirs.mean():.4f} in the loop over samples "
        f"(largest difference {np.abs(ours - theirs).max():.4f}). Making streams and networks is included."
    )
    return table(f"Homeostatic learning, {SAMPLES} samples, 64-80-60-10", times, "a loop over samples (NumPy)", note)


if __name__ == "__main__":
    torch.set_num_threads(1)
    print(main())
