"""Timing two things fairly: in one process, in turn, so that a machine whose speed drifts slows both."""

from __future__ import annotations

import os
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Row:
    """One line of the results: what, in seconds, and its ratio to the reference."""

    name: str
    seconds: float
    ratio: float | None = None


def in_turn(jobs: dict[str, Callable[[], object]], rounds: int = 9) -> dict[str, float]:
    """Median seconds of each job; every round runs each once, after one warm-up."""
    times: dict[str, list[float]] = {name: [] for name in jobs}
    for name, job in jobs.items():
        job()
        del name
    for _ in range(rounds):
        for name, job in jobs.items():
            begin = time.perf_counter()
            job()
            times[name].append(time.perf_counter() - begin)
    return {name: statistics.median(t) for name, t in times.items()}


def table(title: str, times: dict[str, float], reference: str, note: str = "") -> str:
    """A Markdown table of medians and of ratios to a reference."""
    lines = [f"## {title}", "", f"| what | seconds | ratio to {reference} |", "| --- | --- | --- |"]
    lines += [f"| {name} | {t:.4f} | {t / times[reference]:.2f} |" for name, t in times.items()]
    return "\n".join([*lines, "", note, ""] if note else [*lines, ""])


def machine() -> str:
    """Cores and memory, and nothing else."""
    memory = (
        Path("/proc/meminfo").read_text().split("MemTotal:")[1].split()[0] if Path("/proc/meminfo").exists() else "0"
    )
    return f"{os.cpu_count()} cores, {int(memory) / 2**20:.0f} GiB of memory"
