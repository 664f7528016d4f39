"""All benchmarks, one after another, each in a process of its own; writes RESULTS.md."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from timing import machine

HERE = Path(__file__).parent
SCRIPTS = (
    "cell_types",
    "counter_current",
    "dendrites",
    "diagrams",
    "gain_control",
    "grad_cam",
    "hebbian_projection",
    "hmm_glm",
    "homeostatic",
    "leaky_memory",
    "multigrid",
    "neuroformer",
    "operators",
    "quadratic",
    "record",
    "recordings",
    "rhythms",
    "spiking",
    "store",
    "tensor_factors",
    "thought_machine",
    "utility",
    "wiring",
    "worm_swimmer",
    "worm_wiring",
)


def run(chosen: tuple[str, ...] = SCRIPTS) -> None:
    parts = [
        "# Results\n",
        f"Measured on {machine()}. Medians over rounds in which the rows take turns; ratios below 1 are faster than the reference.\n",
    ]
    for name in chosen:
        out = subprocess.run([sys.executable, str(HERE / f"{name}.py")], capture_output=True, text=True, check=False)
        if out.returncode:
            print(out.stderr, file=sys.stderr)
            raise SystemExit(f"benchmark {name} failed")
        text = out.stdout[out.stdout.index("## ") :]
        print(text)
        parts.append(text)
    (HERE / "RESULTS.md").write_text("\n".join(parts).rstrip() + "\n")


if __name__ == "__main__":
    run()
