"""Writing activity to disk: nissl's store against a plain numpy memory map of the same numbers."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

import numpy as np
import torch
from timing import in_turn, table
from torch import nn

import nissl

N, WIDTH, BATCH = 1024, 65_536, 64


def main() -> str:
    folder = Path(tempfile.mkdtemp())
    model = nissl.load(nn.Identity())
    data = torch.randn(N, WIDTH)
    megabytes = N * WIDTH * 4 / 1e6

    def store() -> None:
        shutil.rmtree(folder / "acts.zarr", ignore_errors=True)
        nissl.record(model, data, "logits", to=str(folder / "acts.zarr"), batch_size=BATCH, progress=False)

    def memmap() -> None:
        (folder / "acts.npy").unlink(missing_ok=True)
        out = np.lib.format.open_memmap(folder / "acts.npy", mode="w+", dtype=np.float32, shape=(N, WIDTH))
        for start in range(0, N, BATCH):
            with torch.no_grad():
                out[start : start + BATCH] = model.module(data[start : start + BATCH]).numpy()
        out.flush()

    def memory() -> None:
        nissl.record(model, data, "logits", batch_size=BATCH, progress=False)

    try:
        times = in_turn(
            {"numpy memory map": memmap, "nissl.record(to=...)": store, "nissl.record in memory": memory}, rounds=5
        )
    finally:
        shutil.rmtree(folder)
    speed = {name: megabytes / t for name, t in times.items()}
    note = f"{megabytes:.0f} MB: " + ", ".join(f"{name} {v:.0f} MB/s" for name, v in speed.items())
    note += ". The store also hashes every input, so that it can tell one question from another."
    return table("Writing activity to disk", times, "numpy memory map", note)


if __name__ == "__main__":
    print(main())
