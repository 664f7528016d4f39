"""Comodulogram with 200 surrogates: nissl against a plain loop and tensorpac; and how long replay takes to score."""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable

import numpy as np
from scipy import signal
from timing import in_turn, table

from nissl.populations import ReplayDecoder
from nissl.populations.rhythms import comodulogram
from nissl.recordings.simulate import nested_oscillation, place_cells, replay_events

RATE, DURATION, SURROGATES = 500.0, 20.0, 200
PHASE, AMPLITUDE = np.arange(4.0, 12.0, 2.0), np.arange(40.0, 121.0, 20.0)


def plain_loop(x: np.ndarray) -> np.ndarray:
    """Every cell filters its two bands anew and bins each shifted amplitude, as many scripts do."""
    rng = np.random.default_rng(0)
    out = np.empty((len(AMPLITUDE), len(PHASE), SURROGATES + 1))
    for i, fast in enumerate(AMPLITUDE):
        for j, slow in enumerate(PHASE):
            half = max(5.0, slow + 1)
            bands = [(slow - 1, slow + 1), (fast - half, fast + half)]
            angle, z = (
                signal.hilbert(signal.sosfiltfilt(signal.butter(3, b, "bandpass", fs=RATE, output="sos"), x))
                for b in bands
            )
            angle, size = np.angle(angle), np.abs(z)
            place = np.floor((angle + np.pi) / (2 * np.pi) * 18).astype(int) % 18
            count = np.bincount(place, minlength=18)
            for k in range(SURROGATES + 1):
                lag = 0 if k == 0 else int(rng.integers(RATE, len(x) - RATE))
                p = np.bincount(place, np.roll(size, lag), minlength=18) / count
                p /= p.sum()
                out[i, j, k] = 1 + (p * np.log(p)).sum() / np.log(18)
    return out


def with_tensorpac(x: np.ndarray) -> Callable[[], object] | None:
    try:
        from tensorpac import Pac
    except ImportError:
        return None
    slow = [[c - 1, c + 1] for c in PHASE]
    fast = [[c - 13, c + 13] for c in AMPLITUDE]  # one width for all: the widest that nissl takes

    def run() -> object:
        pac = Pac(idpac=(2, 2, 0), f_pha=slow, f_amp=fast, dcomplex="hilbert", n_bins=18)
        return pac.filterfit(RATE, x[None], n_perm=SURROGATES, n_jobs=1, random_state=0)

    return run


def main() -> str:
    record = nested_oscillation(depth=1, duration=DURATION, rate=RATE, seed=0)
    x = record["activity"].values[:, 0]
    jobs: dict[str, Callable[[], object]] = {
        "plain loop": lambda: plain_loop(x),
        "nissl.populations.rhythms.comodulogram": lambda: comodulogram(
            record, phase=PHASE, amplitude=AMPLITUDE, n_surrogates=SURROGATES, progress=False
        ),
    }
    if peer := with_tensorpac(x):
        jobs["tensorpac"] = peer
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        times = in_turn(jobs, rounds=3)
    return table(
        f"Comodulogram, {len(PHASE)} x {len(AMPLITUDE)} cells, {DURATION:.0f} s at {RATE:.0f} Hz, {SURROGATES} surrogates",
        times,
        "tensorpac" if peer else "plain loop",
        replay(),
    )


def replay() -> str:
    run = place_cells(40, seed=0)
    decoder = ReplayDecoder().fit(run, run.position)
    events = replay_events(run, 1000, seed=1)
    begin = time.perf_counter()
    found = decoder.score(events, n_shuffles=500)
    seconds = time.perf_counter() - begin
    share = float((found["p"] < 0.05).mean())
    return f"Replay: 1,000 events with 2 x 500 shuffles scored in {seconds:.1f} s (aim: 30 s); {share:.1%} are found."


if __name__ == "__main__":
    print(main())
