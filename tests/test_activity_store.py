"""The store: same bytes after a kill, refusals, truncation, no room, flat memory."""

from __future__ import annotations

import filecmp
import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import numpy as np
import pytest
import torch
import xarray as xr
from torch import nn

import nissl
from nissl.errors import ModelError, StoreError


def network() -> nissl.Model:
    torch.manual_seed(0)
    return nissl.load(nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 3)))


def corpus(n: int = 20) -> torch.Tensor:
    return torch.randn(n, 4, generator=torch.Generator().manual_seed(1))


def same(a: Path, b: Path) -> bool:
    files = [sorted(p.relative_to(r) for p in r.rglob("*") if p.is_file()) for r in (a, b)]
    return files[0] == files[1] and all(filecmp.cmp(a / f, b / f, shallow=False) for f in files[0])


def stopped_after(n: int):
    """Samples that break off, as a power cut would."""
    for i, row in enumerate(corpus()):
        if i == n:
            raise KeyboardInterrupt
        yield row


def test_a_store_holds_what_memory_would(tmp_path: Path) -> None:
    memory = nissl.record(network(), corpus(), ["1", "logits"], batch_size=8)
    stored = nissl.record(network(), corpus(), ["1", "logits"], batch_size=8, to=tmp_path / "acts.zarr")
    xr.testing.assert_equal(stored.load().drop_attrs(), memory)
    plain = xr.open_zarr(tmp_path / "acts.zarr", consolidated=False)
    np.testing.assert_array_equal(plain["1"], memory["1"])


def test_a_complete_store_is_not_recorded_again(tmp_path: Path) -> None:
    model = network()
    nissl.record(model, corpus(), "1", to=tmp_path / "a.zarr")
    ran: list[int] = []
    handle = model.module.register_forward_hook(lambda *_: ran.append(1))
    nissl.record(model, corpus(), "1", to=tmp_path / "a.zarr")
    handle.remove()
    assert not ran


def test_a_run_that_stops_and_goes_on_ends_in_the_same_bytes(tmp_path: Path) -> None:
    for stop in (0, 3, 8, 13):
        a, b = tmp_path / f"cut-{stop}.zarr", tmp_path / f"whole-{stop}.zarr"
        if stop:
            with pytest.raises(KeyboardInterrupt):
                nissl.record(network(), stopped_after(stop), "1", to=a, batch_size=4)
        nissl.record(network(), iter(corpus()), "1", to=a, batch_size=4)
        nissl.record(network(), iter(corpus()), "1", to=b, batch_size=4)
        assert same(a, b)


SCRIPT = """
import sys, time
import torch, nissl
sys.path.insert(0, {tests!r})
from test_activity_store import network, corpus
def slowly():
    for row in corpus(60):
        time.sleep(0.01)
        yield row
print("ready", flush=True)
nissl.record(network(), slowly(), ["1", "logits"], to={to!r}, batch_size=4, progress=False)
"""


def test_killed_at_any_moment_it_ends_in_the_same_bytes(tmp_path: Path) -> None:
    whole, cut = tmp_path / "whole.zarr", tmp_path / "cut.zarr"
    nissl.record(network(), iter(corpus(60)), ["1", "logits"], to=whole, batch_size=4)
    script = textwrap.dedent(SCRIPT).format(tests=str(Path(__file__).parent), to=str(cut))
    for delay in (0.3, 0.5, 0.12):
        process = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE)
        assert process.stdout is not None
        process.stdout.readline()
        end = time.monotonic() + 20
        while not cut.exists() and process.poll() is None and time.monotonic() < end:
            time.sleep(0.01)  # on a busy machine the first batch takes a while
        time.sleep(delay)
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert any(cut.iterdir()), "the kills came too early to test anything"
    (cut / "left-over.partial").write_bytes(b"half a chunk")
    nissl.record(network(), iter(corpus(60)), ["1", "logits"], to=cut, batch_size=4)
    assert same(whole, cut)


def test_another_question_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.zarr"
    nissl.record(network(), corpus(), "1", to=path)
    other = network()
    with torch.no_grad():
        other.module[0].weight[0, 0] += 1
    for model, inputs, options, what in (
        (network(), corpus() + 1, {}, "inputs"),
        (network(), corpus()[:10], {}, "inputs"),
        (network(), corpus(), {"dtype": "float16"}, "dtype"),
        (network(), corpus(), {"units": [1]}, "units"),
        (network(), corpus(), {"at": "0"}, "sites"),
        (other, corpus(), {}, "model"),
    ):
        with pytest.raises(StoreError, match=f"differs in .*{what}"):
            nissl.record(model, inputs, **{"at": "1", **options}, to=path)


def test_a_stream_is_checked_while_it_is_skipped(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        nissl.record(network(), stopped_after(9), "1", to=tmp_path / "a.zarr", batch_size=4)
    with pytest.raises(StoreError, match="other inputs"):
        nissl.record(network(), iter(corpus() + 1), "1", to=tmp_path / "a.zarr", batch_size=4)
    nissl.record(network(), iter(corpus()), "1", to=tmp_path / "a.zarr", batch_size=4)
    with pytest.raises(StoreError, match="have more"):
        nissl.record(network(), iter(corpus(30)), "1", to=tmp_path / "a.zarr", batch_size=4)


def test_what_is_not_ours_is_not_touched(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "thesis.txt").write_text("years of work")
    (tmp_path / "file").write_text("mine")
    for to, message in (
        (tmp_path / "folder", "something else"),
        (tmp_path / "file", "is a file"),
        (tmp_path / "file" / "a.zarr", "cannot be written"),
    ):
        with pytest.raises(StoreError, match=message):
            nissl.record(network(), corpus(), "1", to=to)
    assert (tmp_path / "folder" / "thesis.txt").read_text() == "years of work"


def test_a_truncated_store_is_named(tmp_path: Path) -> None:
    path = tmp_path / "a.zarr"
    nissl.record(network(), corpus(), "1", to=path, batch_size=4)
    chunk = path / "1" / "c" / "2" / "0"
    whole = chunk.read_bytes()
    chunk.write_bytes(whole[:10])
    with pytest.raises(StoreError, match="batch 2 of '1'"):
        nissl.record(network(), corpus(), "1", to=path, batch_size=4)
    chunk.write_bytes(whole)
    (path / "zarr.json").write_text('{"attributes": ')
    with pytest.raises(StoreError, match="damaged"):
        nissl.record(network(), corpus(), "1", to=path, batch_size=4)


@pytest.mark.skipif(os.geteuid() != 0, reason="mounting needs root")
def test_a_full_disk_keeps_finished_batches(tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(disk)], capture_output=True).returncode:
        pytest.skip("no tmpfs can be mounted here")
    try:
        wide = nissl.load(nn.Linear(4, 10_000))
        with pytest.raises(StoreError, match=r"no room left .* finished batches are kept"):
            nissl.record(wide, corpus(200), "logits", to=disk / "a.zarr", batch_size=4)
        subprocess.run(["mount", "-o", "remount,size=64m", str(disk)], check=True)
        stored = nissl.record(wide, corpus(200), "logits", to=disk / "a.zarr", batch_size=4).load()
        np.testing.assert_array_equal(
            stored["logits"], nissl.record(wide, corpus(200), "logits", batch_size=4)["logits"]
        )
    finally:
        subprocess.run(["umount", str(disk)], check=True)


def test_nan_activity_keeps_finished_batches(tmp_path: Path) -> None:
    model = network()
    poisoned = nissl.intervene(model, {"1": lambda v: torch.where((v[:, :1] * 0 + len(v)) == 2, torch.nan, v)})
    with pytest.raises(ModelError, match="finished batches are kept"), poisoned:
        nissl.record(model, corpus(10), "1", to=tmp_path / "a.zarr", batch_size=4)  # the last batch has two samples
    done = nissl.record(model, corpus(10), "1", to=tmp_path / "a.zarr", batch_size=4)
    assert done.sizes["sample"] == 10


def test_memory_does_not_grow_with_the_corpus(tmp_path: Path) -> None:
    script = """
import resource, sys
import torch, nissl
model = nissl.load(torch.nn.Linear(4, 20_000))
nissl.record(model, (torch.ones(4) for _ in range(64)), "logits", to=sys.argv[1] + "/warm.zarr", batch_size=32)
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
nissl.record(model, (torch.ones(4) for _ in range(4000)), "logits", to=sys.argv[1] + "/long.zarr", batch_size=32)
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024)
"""
    out = subprocess.run([sys.executable, "-c", script, str(tmp_path)], capture_output=True, text=True, check=True)
    assert float(out.stdout) < 40  # MiB, for 320 MB of activity


def test_a_store_on_another_file_system() -> None:
    stored = nissl.record(network(), corpus(), "1", to="memory://acts.zarr", batch_size=8)
    np.testing.assert_array_equal(stored["1"], nissl.record(network(), corpus(), "1", batch_size=8)["1"])
