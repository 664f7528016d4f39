"""Loops over time as machine code: `kernels.cpp`, built once a machine where there is a C++ compiler.

A step of a few neurons is less work than calling one torch function takes, and there is no way to say a whole loop in one
torch call, so the loops that recur are written in C++: the leaky trace, and the core of the leaky memory neuron. Where they
cannot be built, torch does the same steps (`_trace.py`, `_leaky_memory/recurrence.py`) and only time is lost.
"""

from __future__ import annotations

import ctypes
import hashlib
import os
import platform
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from pathlib import Path

import torch
from torch import Tensor
from torch.nn.functional import pad

from nissl.cache import cache_folder

SOURCE = Path(__file__).with_name("kernels.cpp")
FLAGS = ("-O3", "-march=native", "-fno-math-errno", "-std=c++17", "-shared", "-fPIC")
NAMES = {torch.float32: "float", torch.float64: "double"}
VECTOR = 32  # bytes
WORK = 2**22  # multiplications below which a second thread costs more than it saves


def available(like: Tensor) -> bool:
    """Whether there is machine code for tensors such as this one."""
    if torch.compiler.is_compiling() or like.device.type != "cpu" or like.dtype not in NAMES:
        return False
    return library() is not None


def forward(
    drive: Tensor, start: Tensor, recurrent: Tensor, weight: Tensor, bias: Tensor, rate: Tensor, keep: bool
) -> tuple[Tensor, Tensor | None, Tensor | None]:
    """Memory, and where they are kept hidden layer and proposal, at every step; see `recurrence.recur`."""
    drive = drive.contiguous()
    batch, times, n_hidden = drive.shape
    n_memory = start.shape[1]
    memory = drive.new_empty(batch, times, n_memory)
    hidden = drive.new_empty(batch, times, n_hidden) if keep else None
    proposal = drive.new_empty(batch, times, n_memory) if keep else None
    constants = [start.contiguous(), *map(_padded, (recurrent, weight.t(), bias, rate))]
    arrays = [drive, *constants, memory, hidden, proposal]
    work = 2 * batch * times * n_hidden * n_memory
    _call("forward", _sizes(times, n_hidden, n_memory, drive), batch, work, arrays)
    return memory, hidden, proposal


def backward(
    given: Tensor, slope: Tensor, hidden: Tensor, recurrent: Tensor, weight: Tensor, rate: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients of memory (all that comes after included), of what enters the hidden layer, and of the first state."""
    given = given.contiguous()
    batch, times, n_memory = given.shape
    n_hidden = hidden.shape[2]
    total, through, start = torch.empty_like(given), torch.empty_like(hidden), given.new_empty(batch, n_memory)
    constants = map(_padded, (recurrent.t(), weight, 1 - rate))
    arrays = [given, slope, hidden, *constants, total, through, start]
    work = 2 * batch * times * n_hidden * n_memory
    _call("backward", _sizes(times, n_hidden, n_memory, given), batch, work, arrays)
    return total, through, start


def trace(x: Tensor, decay: Tensor, initial: Tensor | None) -> Tensor:
    """Leaky trace (..., time, unit), with one decay or one a unit; see `_trace.leaky_trace`."""
    flat = x.contiguous().flatten(0, -3) if x.dim() > 2 else x.contiguous().unsqueeze(0)
    batch, times, units = flat.shape
    y = torch.empty_like(flat)
    begin = None if initial is None else initial.contiguous()
    _call("trace", (times, units), batch, batch * times * units, [decay.expand(units).contiguous(), begin, flat, y])
    return y.view(x.shape)


def _padded(x: Tensor) -> Tensor:
    """Zeros after the end of the last axis, up to whole vectors."""
    return pad(x, (0, -x.shape[-1] % (VECTOR // x.element_size()))).contiguous()


def _sizes(times: int, n_hidden: int, n_memory: int, like: Tensor) -> tuple[int, ...]:
    lanes = VECTOR // like.element_size()
    return times, n_hidden, n_memory, n_hidden + -n_hidden % lanes, n_memory + -n_memory % lanes


def _call(what: str, sizes: tuple[int, ...], batch: int, work: int, arrays: Sequence[Tensor | None]) -> None:
    """Run a function of the library on all rows of a batch, in as many threads as the work is worth."""
    shape = (ctypes.c_int64 * len(sizes))(*sizes)
    pointers = [ctypes.c_void_p(None if a is None else a.data_ptr()) for a in arrays]
    dtype = next(a.dtype for a in arrays if a is not None)
    function = getattr(library(), f"{what}_{NAMES[dtype]}")

    def rows(first: int, last: int) -> None:
        function(shape, ctypes.c_int64(first), ctypes.c_int64(last), *pointers)

    workers = min(torch.get_num_threads(), batch // 4, work // WORK)
    if workers < 2:
        rows(0, batch)
        return
    # Rows go four or eight at a time, so pieces begin at multiples of four; ctypes lets go of the interpreter's lock.
    edges = [4 * round(batch / 4 * i / workers) for i in range(workers)] + [batch]
    with ThreadPoolExecutor(workers) as pool:
        list(pool.map(rows, edges[:-1], edges[1:]))


@lru_cache(maxsize=1)
def library() -> ctypes.CDLL | None:
    """The built library; None where it is not wanted (`NISSL_COMPILE=0`) or cannot be built."""
    compiler = os.environ.get("CXX") or shutil.which("c++") or shutil.which("g++") or shutil.which("clang++")
    if os.environ.get("NISSL_COMPILE") == "0" or compiler is None or platform.system() == "Windows":
        return None
    try:
        return ctypes.CDLL(str(_built(compiler)))
    except (OSError, subprocess.SubprocessError):
        return None


def _built(compiler: str) -> Path:
    """Where the library for this source, compiler and processor lies; built where it does not yet."""
    version = subprocess.run([compiler, "--version"], capture_output=True, check=True, timeout=30).stdout  # noqa: S603
    about = [SOURCE.read_bytes(), " ".join((compiler, *FLAGS)).encode(), version, _processor()]
    name = f"nissl-{hashlib.sha256(bytes(1).join(about)).hexdigest()[:16]}.so"
    folder = _folder()
    if not (folder / name).exists():
        # Built beside its place and then moved there, so that another process never loads half a library.
        with tempfile.TemporaryDirectory(dir=folder) as scratch:
            fresh = Path(scratch) / name
            build = [compiler, *FLAGS, str(SOURCE), "-o", str(fresh)]
            subprocess.run(build, capture_output=True, check=True, timeout=120)  # noqa: S603
            fresh.replace(folder / name)
    return folder / name


def _folder() -> Path:
    """A folder that only this user can write to; one of this process where there is none."""
    folder = cache_folder() / "kernels"
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        if os.access(folder, os.W_OK) and folder.stat().st_uid == os.getuid():
            return folder
    except OSError:
        pass
    return Path(tempfile.mkdtemp(prefix="nissl-"))


def _processor() -> bytes:
    """What `-march=native` depends on, since a home folder may be shared by machines of several kinds."""
    about = Path("/proc/cpuinfo")
    lines = about.read_text().splitlines() if about.exists() else []
    found = next((line for line in lines if line.startswith(("flags", "Features"))), platform.processor())
    return f"{platform.machine()} {found}".encode()
