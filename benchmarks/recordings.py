"""An hour of a thousand neurons: opened and homogenised by nissl, against reading it with the plain library."""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
from datetime import UTC, datetime
from pathlib import Path

import h5py
import numpy as np
import pynwb
from pynwb import ophys
from timing import in_turn, table

from nissl import recordings

SECONDS, UNITS, RATE = 3600, 1000, 10.0
PLACE = "processing/ophys/Fluorescence/traces/data"


def write(path: Path, compression: str | None) -> None:
    """Calcium-like traces as laboratories share them: gzip, chunks of some seconds."""
    rng = np.random.default_rng(0)
    samples = int(SECONDS * RATE)
    noise = rng.normal(size=(samples, UNITS)).astype(np.float32)
    for row in range(1, samples):
        noise[row] += 0.95 * noise[row - 1]
    nwb = pynwb.NWBFile("benchmark", "benchmark", datetime(2026, 1, 1, tzinfo=UTC))
    device = nwb.create_device("scope")
    channel = ophys.OpticalChannel(name="green", description="green", emission_lambda=510.0)
    plane = nwb.create_imaging_plane(name="plane", optical_channel=channel, device=device, description="p", excitation_lambda=488.0, indicator="GCaMP", location="cortex")  # fmt: skip
    segmentation = ophys.ImageSegmentation()
    cells = segmentation.create_plane_segmentation(name="cells", description="cells", imaging_plane=plane)
    for _ in range(UNITS):
        cells.add_roi(pixel_mask=[(0, 0, 1.0)])
    region = cells.create_roi_table_region(region=list(range(UNITS)), description="all")
    data = pynwb.H5DataIO(noise, compression=compression, chunks=(500, UNITS)) if compression else noise
    series = ophys.RoiResponseSeries(name="traces", data=data, rois=region, unit="a.u.", rate=RATE)
    module = nwb.create_processing_module("ophys", "traces")
    module.add(segmentation)
    module.add(ophys.Fluorescence(roi_response_series=series))
    with pynwb.NWBHDF5IO(str(path), "w") as io:
        io.write(nwb)


def plain(path: Path) -> np.ndarray:
    """What a person would write without us."""
    with pynwb.NWBHDF5IO(str(path), "r") as io:
        return io.read().processing["ophys"]["Fluorescence"]["traces"].data[:]


def hdf5(path: Path) -> np.ndarray:
    """The bare read."""
    with h5py.File(path) as file:
        return file[PLACE][:]


def peak(code: str) -> float:
    """Most memory of a process that runs the code, in megabytes above one that only imports."""
    report = "print(int(open('/proc/self/status').read().split('VmHWM:')[1].split()[0]) / 1024)"
    start = "import pynwb, h5py; from nissl import recordings; import nissl.recordings._files.saving, nissl.recordings._files.read_nwb; "
    found = [
        float(subprocess.run([sys.executable, "-c", start + what + report], capture_output=True, text=True, check=True, cwd=Path(__file__).parent).stdout)
        for what in ("", code + "; ")
    ]  # fmt: skip
    return found[1] - found[0]


def main() -> str:
    folder = Path(tempfile.mkdtemp())
    parts = []
    try:
        for name, compression in (("gzip, as shared", "gzip"), ("not compressed", None)):
            path = folder / f"{compression}.nwb"
            write(path, compression)
            jobs = {
                "pynwb: read": lambda p=path: plain(p),
                "h5py: read": lambda p=path: hdf5(p),
                "nissl: open": lambda p=path: recordings.open(p),
                "nissl: open and homogenise": lambda p=path: recordings.homogenise(p),
                "the same without residuals": lambda p=path: recordings.homogenise(p, residual=False),
                "nissl: open and homogenise to zarr": lambda p=path: recordings.homogenise(
                    p, to=folder / "out.zarr", overwrite=True
                ),
            }
            times = in_turn(jobs, rounds=3)
            read = peak(f"from recordings import plain; x = plain({str(path)!r})")
            ours = peak(f"recordings.homogenise({str(path)!r}, to={str(folder / 'm.zarr')!r}, overwrite=True)")
            note = (
                f"{SECONDS * RATE:.0f} samples of {UNITS} neurons, {SECONDS * RATE * UNITS * 4 / 1e6:.0f} MB of float32. Most memory: reading {read:.0f} MB, homogenising to zarr {ours:.0f} MB. "
                "Homogenising gives smoothed and resampled activity and rates of change; mean and deviation take a second pass over the result."
            )  # fmt: skip
            parts.append(
                table(f"Opening and homogenising an hour of a thousand neurons ({name})", times, "pynwb: read", note)
            )
    finally:
        shutil.rmtree(folder)
    return "\n".join(parts)


if __name__ == "__main__":
    print(main())
