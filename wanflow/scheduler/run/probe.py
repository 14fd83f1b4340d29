"""Measure a machine: kernels by class and dtype, memory, link, disk, what starting things costs.

Each figure is the median of a few runs after one to warm up; kernels grow until a run takes long
enough to be told from its start. What can't be measured here stays the estimate it was.
"""

from __future__ import annotations

import datetime
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from statistics import quantiles

import attrs
import torch
import torch.nn.functional as F  # noqa: N812

from wanflow.files.folders import cache_folder
from wanflow.scheduler.footprint.costs import CLASSES, DTYPES
from wanflow.scheduler.machine.cards import Chip
from wanflow.scheduler.machine.datasheets import cpu_machine, guessed_machine
from wanflow.scheduler.machine.figures import Machine
from wanflow.scheduler.run.ledger import Cause, Item, Ledger
from wanflow.scheduler.run.meter import meter_for
from wanflow.trace import TraceWriter
from wanflow.trace.events import Kind, Verb
from wanflow.units import GIB, MIB

Run = Callable[[], object]

_RUNS = 5
_RUN_SECONDS = 0.2  # a kernel grows while a run of it takes less
_LONGEST_START_SECONDS = 0.06  # threads that share their cores start late
_MOST_RUNS = 40
_LEAST_FIGURE_SECONDS, _FIGURE_SECONDS = 0.2, 0.3  # more runs while it took less; no more after
_GEMM = (
    (64, 256), (256, 512), (512, 1024), (1024, 1536), (4096, 4096), (16384, 5120),
)  # rows, width  # fmt: skip
_ATTENTION = ((2, 128), (4, 512), (12, 1024), (12, 4096), (12, 16384), (12, 32768))  # heads, length
# Channels, side; from the fourth on a CPU takes oneDNN's convolution, as for whole frames.
_CONV = ((16, 16), (32, 32), (64, 64), (64, 128), (96, 256), (192, 512))
_HEAD = 128
_DISK_BYTES = 256 * MIB
_CHUNK_BYTES = 32 * MIB
_TINY_KERNELS = 500
_CALLS = 100
_CHILD = """\
import sys, torch
x = torch.empty(1, device=sys.argv[1])
torch.cuda.synchronize()
print(torch.cuda.memory_reserved(), flush=True)
sys.stdin.read()
"""


@attrs.frozen
class Sample:
    """A figure's median, and the range of the middle half of its runs as a share of it."""

    value: float
    spread: float

    @classmethod
    def of(cls, values: list[float]) -> Sample:
        """Summarise the runs."""
        low, middle, high = quantiles(values, n=4, method="inclusive") if values[1:] else values * 3
        return cls(middle, (high - low) / middle if middle else 0.0)


def probe(
    device: torch.device | str, base: Machine | None = None, scratch: Path | None = None
) -> Machine:
    """Measure *device*; *base* has its name, its capacities and what can't be measured.

    The disk is the one of *scratch*, by default of the user's cache folder; nothing is left there.
    """
    device = torch.device(device)
    samples: dict[str, Sample] = {}
    with torch.no_grad(), _scratch(scratch) as folder:
        samples |= _disk(folder)
        if device.type == "cuda":
            torch.cuda.init()
            samples |= _context(device)
        samples |= _kernels(device)
        samples["memory_rate"] = _memory(device)
        if device.type == "cuda":
            samples |= _links(device)
        samples["kernel_seconds"] = _dispatch(device)
        samples["call_seconds"] = _call(device, folder)
    if device.type == "cuda":
        torch.cuda.empty_cache()
    machine = (base or _base(device)).with_figures(
        {n: s.value for n, s in samples.items()}, "measured"
    )
    return attrs.evolve(
        machine, spreads={n: round(s.spread, 4) for n, s in samples.items()}, about=_about(device)
    )


def _base(device: torch.device) -> Machine:
    ram_bytes = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    if device.type == "cpu":
        return cpu_machine(ram_bytes)
    about = torch.cuda.get_device_properties(device)
    capability, chip = (about.major, about.minor), Chip.of(about)
    return guessed_machine(about.name, capability, about.total_memory, ram_bytes, chip)


def _about(device: torch.device) -> str:
    day = datetime.datetime.now().astimezone().date().isoformat()
    threads = f", {torch.get_num_threads()} threads" if device.type == "cpu" else ""
    return f"probed {day} with torch {torch.__version__}{threads}"


@contextmanager
def _scratch(folder: Path | None) -> Iterator[Path]:
    if folder is None:
        folder = cache_folder()
        folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="probe-", dir=folder) as path:
        yield Path(path)


def _sync(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def _seconds(run: Run, device: torch.device) -> float:
    _sync(device)
    began = time.perf_counter()
    run()
    _sync(device)
    return time.perf_counter() - began


def _times(run: Run, device: torch.device) -> list[float]:
    """Time a run a few times, often when it is short: others use the machine too."""
    began, seconds = time.perf_counter(), [_seconds(run, device)]
    while len(seconds) < _MOST_RUNS and _more(began, len(seconds)):
        seconds.append(_seconds(run, device))
    return seconds


def _more(began: float, runs: int) -> bool:
    spent = time.perf_counter() - began
    return spent < (_LEAST_FIGURE_SECONDS if runs >= _RUNS else _FIGURE_SECONDS)


def _rate(amount: float, run: Run, device: torch.device) -> Sample:
    run()
    return Sample.of([amount / seconds for seconds in _times(run, device)])


# Kernels.


def _kernels(device: torch.device) -> dict[str, Sample]:
    rates = {}
    for kind in CLASSES:
        for name in DTYPES:
            sample = _class_rate(kind, getattr(torch, name), device)
            if sample is not None:
                rates[f"{kind}.{name}"] = sample
    return rates


def _class_rate(kind: str, dtype: torch.dtype, device: torch.device) -> Sample | None:
    """Time kernels of growing size; None where the device can't run one at all."""
    best: tuple[float, Run] | None = None
    seconds = 0.0
    for flops, make in _cases(kind, dtype, device):
        if best is not None and not _may_grow(seconds, flops / best[0]):
            break
        try:
            run = make()
            run()
            # One slow run must not keep the kernels small: the fastest decides.
            seconds = _fastest(run, device)
        except RuntimeError:  # no such kernel here, or no room for it
            break
        best = flops, run
    if best is None:
        return None
    flops, run = best
    return Sample.of([flops / seconds for seconds in _times(run, device)])


def _may_grow(seconds: float, factor: float) -> bool:
    """Whether a run *factor* times as large is bearable; a short one mostly waits to start."""
    most = 0.5 if seconds < _LONGEST_START_SECONDS else _RUN_SECONDS
    return seconds * factor <= most


def _fastest(run: Run, device: torch.device) -> float:
    seconds = [_seconds(run, device)]
    while len(seconds) < 3 and sum(seconds) < _RUN_SECONDS / 4:
        seconds.append(_seconds(run, device))
    return min(seconds)


def _cases(
    kind: str, dtype: torch.dtype, device: torch.device
) -> Iterator[tuple[float, Callable[[], Run]]]:
    """Give FLOPs, and a function that makes the tensors and gives the run."""

    def tensor(*shape: int) -> torch.Tensor:
        return torch.randn(shape, dtype=dtype, device=device)

    def gemm(rows: int, width: int) -> Run:
        data, weight = tensor(rows, width), tensor(width, width)
        return lambda: F.linear(data, weight)

    def attention(heads: int, length: int) -> Run:
        query, key, value = (tensor(1, heads, length, _HEAD) for _ in range(3))
        return lambda: F.scaled_dot_product_attention(query, key, value)

    def conv(channels: int, side: int) -> Run:
        data, weight = tensor(1, channels, 3, side, side), tensor(channels, channels, 3, 3, 3)
        return lambda: F.conv3d(data, weight, padding=(0, 1, 1))

    if kind == "gemm":
        for rows, width in _GEMM:
            yield 2.0 * rows * width**2, partial(gemm, rows, width)
    elif kind == "attention":
        for heads, length in _ATTENTION:
            yield 4.0 * heads * length**2 * _HEAD, partial(attention, heads, length)
    else:
        for channels, side in _CONV:
            yield 2.0 * channels**2 * 27 * side**2, partial(conv, channels, side)


def _memory(device: torch.device) -> Sample:
    """An addition into new memory, as the kernels between the large ones are."""
    count = (8 if device.type == "cpu" else 64) * MIB
    one, other = (torch.ones(count, device=device) for _ in range(2))
    return _rate(3 * 4 * count, lambda: one + other, device)


# What starting things costs.


def _dispatch(device: torch.device) -> Sample:
    """One tiny kernel after the other, watched by the meter as in a run."""
    small = torch.ones(16, device=device)

    def run() -> None:
        for _ in range(_TINY_KERNELS):
            small + 1  # the kernel is the point

    with meter_for(device):
        run()
        return Sample.of([t / _TINY_KERNELS for t in _times(run, device)])


def _call(device: torch.device, folder: Path) -> Sample:
    """What the executor does around a call: workspace, a value made, a value freed, the trace."""
    tier, cause = str(device), Cause("probe", 0, "")
    item = Item("value.1", "probe.x", Kind.VALUE, 1)
    with ExitStack() as stack:
        writer = stack.enter_context(TraceWriter(folder / "trace.msgpack", {}))
        ledger = Ledger({tier: GIB}, writer)
        meter = stack.enter_context(meter_for(device))

        def run() -> None:
            for _ in range(_CALLS):
                with ledger.workspace("call", 1, tier, cause):
                    pass
                with ledger.bring(Verb.PLACE, item, tier, "", cause):
                    pass
                ledger.free(item.key, tier, cause)
                meter.collect()

        run()
        return Sample.of([t / _CALLS for t in _times(run, device)])


# Disk and link.


def _disk(folder: Path) -> dict[str, Sample]:
    """Write a file, read it cold and warm; nothing when there is no room for it."""
    view = memoryview(bytearray(os.urandom(_CHUNK_BYTES)))
    try:
        with tempfile.TemporaryFile(dir=folder, buffering=0) as file:
            for _ in range(_DISK_BYTES // _CHUNK_BYTES):
                file.write(view)
            os.fsync(file.fileno())
            handle = file.fileno()
            cold = _until_enough(lambda: _read(handle, view, cold=True))
            _read(handle, view)
            warm = _until_enough(lambda: _read(handle, view))
    except OSError:
        return {}
    return {"disk_rate": Sample.of(cold), "cached_disk_rate": Sample.of(warm)}


def _until_enough(read: Callable[[], float]) -> list[float]:
    began, samples = time.perf_counter(), [read()]
    while len(samples) < _RUNS and time.perf_counter() - began < 2 * _FIGURE_SECONDS:
        samples.append(read())
    return samples


def _read(handle: int, view: memoryview, *, cold: bool = False) -> float:
    """Read the whole file into memory that is there; bytes per second."""
    if cold:
        os.posix_fadvise(handle, 0, 0, os.POSIX_FADV_DONTNEED)  # out of the page cache
    began, done = time.perf_counter(), 0
    while done < _DISK_BYTES:
        got = os.preadv(handle, [view], done)
        if got == 0:
            msg = "the scratch file became shorter"
            raise OSError(msg)
        done += got
    return done / (time.perf_counter() - began)


def _links(device: torch.device) -> dict[str, Sample]:
    """Copies each way between the card and host memory, pinned and pageable."""
    card = torch.empty(_DISK_BYTES, dtype=torch.uint8, device=device)
    rates = {}
    for suffix, pinned in (("rate", True), ("pageable_rate", False)):
        try:
            host = torch.ones(_DISK_BYTES, dtype=torch.uint8, pin_memory=pinned)
        except RuntimeError:  # not so much memory may be pinned
            continue
        up, down = _copier(card, host), _copier(host, card)
        rates[f"upload_{suffix}"] = _rate(_DISK_BYTES, up, device)
        rates[f"download_{suffix}"] = _rate(_DISK_BYTES, down, device)
    return rates


def _copier(target: torch.Tensor, source: torch.Tensor) -> Run:
    return lambda: target.copy_(source, non_blocking=True)


def _context(device: torch.device) -> dict[str, Sample]:
    """The free memory that goes when another process makes its first tensor, less its tensors."""
    _sync(device)
    before, _total = torch.cuda.mem_get_info(device)
    command = [sys.executable, "-c", _CHILD, str(device)]
    with subprocess.Popen(  # noqa: S603 - our own interpreter and program
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as child:
        try:
            said = child.stdout.readline() if child.stdout is not None else ""
            after, _total = torch.cuda.mem_get_info(device)
        finally:
            if child.stdin is not None:
                child.stdin.close()
    taken = before - after - int(said) if said.strip().isdigit() else 0
    return {"context_bytes": Sample(taken, 0.0)} if taken > 0 else {}
