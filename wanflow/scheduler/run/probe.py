"""Measure a machine: kernels by class and dtype, memory, link, disk, what starting things costs.

Each figure is the median of a few runs after one to warm up; kernels grow until a run takes long
enough to be told from its start. What can't be measured here stays the estimate it was. Before a
first plan it is done at a quick pace, in order of what a small run needs most, until time is up.
"""

from __future__ import annotations

import datetime
import hashlib
import math
import os
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from itertools import product
from pathlib import Path
from statistics import quantiles

import attrs
import torch
import torch.nn.functional as F  # noqa: N812

from wanflow.files.folders import cache_folder
from wanflow.files.whole import writing
from wanflow.remarks import remark
from wanflow.scheduler.footprint.costs import CLASSES, DTYPES, CallRecord, Cost
from wanflow.scheduler.machine.cards import Chip
from wanflow.scheduler.machine.datasheets import cpu_machine, guessed_machine
from wanflow.scheduler.machine.figures import Machine, Source
from wanflow.scheduler.run.call_meter import run_meter
from wanflow.scheduler.run.context_probe import taken_by_another_process
from wanflow.scheduler.run.ledger import Cause, Item, Ledger
from wanflow.trace import TraceWriter
from wanflow.trace.events import Kind
from wanflow.units import GIB, KIB, MIB

Run = Callable[[], object]

_RUNS = 5
_LONGEST_START_SECONDS = 0.06  # threads that share their cores start late
_MOST_RUNS = 40
_GEMM = (
    (64, 256), (256, 512), (512, 1024), (1024, 1536), (4096, 4096), (16384, 5120),
)  # rows, width  # fmt: skip
_ATTENTION = ((2, 128), (4, 512), (12, 1024), (12, 4096), (12, 16384), (12, 32768))  # heads, length
# Channels, side; from the fourth on a CPU takes oneDNN's convolution, as for whole frames.
_CONV = ((16, 16), (32, 32), (64, 64), (64, 128), (96, 256), (192, 512))
_HEAD = 128
_SMALL_FLOPS = 1e8  # of a kernel that goes at the rate of small ones
_LINK_BYTES = 256 * MIB
_CHUNK_BYTES = 32 * MIB
_SAVED_BYTES, _SAVED_FILES = 64 * KIB, 8
_TINY_KERNELS = 500
_CALLS = 100


@attrs.frozen
class Pace:
    """How long things are measured: a kernel grows while a run of it takes less than `run_seconds`.

    There are more runs while a figure took less than `least_seconds`, none after `most_seconds`.
    The rate of a kernel counts that is of `least_flops` or more.
    """

    run_seconds: float = 0.2
    longest_run_seconds: float = 0.5
    least_seconds: float = 0.2
    most_seconds: float = 0.3
    disk_bytes: int = 256 * MIB
    least_flops: float = 0.0


THOROUGH = Pace()
QUICK = Pace(
    run_seconds=0.02, longest_run_seconds=0.08, least_seconds=0.005, most_seconds=0.02,
    disk_bytes=16 * MIB, least_flops=1e8,
)  # fmt: skip
SMALL = Pace(  # the small rates alone
    run_seconds=0.0, longest_run_seconds=0.005, least_seconds=0.0, most_seconds=0.0, disk_bytes=0,
    least_flops=math.inf,
)  # fmt: skip


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


Samples = dict[str, Sample]


def probe(
    device: torch.device | str, base: Machine | None = None, scratch: Path | None = None
) -> Machine:
    """Measure *device*; *base* has its name, its capacities and what can't be measured.

    The disk is the one of *scratch*, by default of the user's cache folder; nothing is left there.
    """
    device = torch.device(device)
    base = base or _base(device)
    samples: Samples = {}
    with torch.no_grad(), scratch_folder(scratch) as folder:
        samples |= disk(folder, THOROUGH)
        if device.type == "cuda":
            torch.cuda.init()
            samples |= _context(device, base)
        samples |= _kernels(device, THOROUGH)
        samples |= memory(device, THOROUGH)
        if device.type == "cuda":
            samples |= _links(device, THOROUGH)
        samples |= starting(device, folder, THOROUGH)
    if device.type == "cuda":
        torch.cuda.empty_cache()
    return with_samples(base, samples, "measured", about_probe(device))


def starting(device: torch.device, folder: Path, pace: Pace) -> dict[str, Sample]:
    """What calls and kernels take to start, and files to be saved."""
    saves = _saves(folder, pace) if device.type == "cpu" else {}
    kernel, call = _dispatch(device, pace), _call(device, folder, pace)
    return {"kernel_seconds": kernel, "call_seconds": call, **saves}


def rates(
    device: torch.device,
    dtypes: Sequence[str],
    pace: Pace,
    more: Callable[[], bool],
    kinds: Sequence[str] = CLASSES,
) -> Samples:
    """A CPU's rates in some types one after the other, while there is *more* time."""
    samples: Samples = {}
    for name, kind in product(dtypes, kinds):
        if more():
            samples |= _class_rates(kind, name, device, pace)
    return samples


def with_samples(base: Machine, samples: Samples, source: Source, about: str) -> Machine:
    """Give the machine with what was measured."""
    machine = base.with_figures({n: s.value for n, s in samples.items()}, source)
    spreads = {**machine.spreads, **{n: round(s.spread, 4) for n, s in samples.items()}}
    return attrs.evolve(machine, spreads=spreads, about=about)


def _base(device: torch.device) -> Machine:
    ram_bytes = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    if device.type == "cpu":
        return cpu_machine(ram_bytes)
    about = torch.cuda.get_device_properties(device)
    capability, chip = (about.major, about.minor), Chip.of(about)
    return guessed_machine(about.name, capability, about.total_memory, ram_bytes, chip)


def about_probe(device: torch.device) -> str:
    """When and with what it is measured."""
    day = datetime.datetime.now().astimezone().date().isoformat()
    threads = f", {torch.get_num_threads()} threads" if device.type == "cpu" else ""
    return f"probed {day} with torch {torch.__version__}{threads}"


@contextmanager
def scratch_folder(folder: Path | None = None) -> Iterator[Path]:
    """Lend a folder in *folder*, by default the user's cache; it is gone afterwards."""
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


def _times(run: Run, device: torch.device, pace: Pace) -> list[float]:
    """Time a run a few times, often when it is short: others use the machine too."""
    began, seconds = time.perf_counter(), [_seconds(run, device)]
    while len(seconds) < _MOST_RUNS and _more(began, len(seconds), pace):
        seconds.append(_seconds(run, device))
    return seconds


def _more(began: float, runs: int, pace: Pace) -> bool:
    spent = time.perf_counter() - began
    return spent < (pace.least_seconds if runs >= _RUNS else pace.most_seconds)


def _rate(amount: float, run: Run, device: torch.device, pace: Pace) -> Sample:
    run()
    return Sample.of([amount / seconds for seconds in _times(run, device, pace)])


# Kernels.


def _kernels(device: torch.device, pace: Pace) -> Samples:
    samples: Samples = {}
    for kind in CLASSES:
        for name in DTYPES:
            samples |= _class_rates(kind, name, device, pace)
    return samples


def _class_rates(kind: str, name: str, device: torch.device, pace: Pace) -> Samples:
    """Time kernels of growing size, on a CPU small ones too; none that the device can't run."""
    dtype = getattr(torch, name)
    best: tuple[float, Run] | None = None
    seconds, samples = 0.0, {}
    for flops, make in _cases(kind, dtype, device):
        if best is not None and not _may_grow(seconds, flops / best[0], pace):
            break
        try:
            run = make()
            run()
            # One slow run must not keep the kernels small: the fastest decides.
            seconds = _fastest(run, device, pace)
        except RuntimeError:  # no such kernel here, or no room for it
            break
        best = flops, run
        if device.type == "cpu" and flops <= _SMALL_FLOPS:
            samples[f"small.{kind}.{name}"] = Sample.of([flops / seconds])
    if best is not None and best[0] >= pace.least_flops:
        flops, run = best
        times = _times(run, device, pace)
        samples[f"{kind}.{name}"] = Sample.of([flops / seconds for seconds in times])
    return samples


def _may_grow(seconds: float, factor: float, pace: Pace) -> bool:
    """Whether a run *factor* times as large is bearable; a short one mostly waits to start."""
    is_short = seconds < min(_LONGEST_START_SECONDS, pace.longest_run_seconds)
    return seconds * factor <= (pace.longest_run_seconds if is_short else pace.run_seconds)


def _fastest(run: Run, device: torch.device, pace: Pace) -> float:
    seconds = [_seconds(run, device)]
    while len(seconds) < 3 and sum(seconds) < pace.run_seconds / 4:
        seconds.append(_seconds(run, device))
    return min(seconds)


def _cases(
    kind: str, dtype: torch.dtype, device: torch.device
) -> Iterator[tuple[float, Callable[[], Run]]]:
    """Give FLOPs, and a function that makes the tensors and gives the run."""

    def tensor(*shape: int) -> torch.Tensor:
        # A card's clock depends on what it multiplies, a processor's hardly.
        made = torch.ones if device.type == "cpu" else torch.randn
        return made(shape, dtype=dtype, device=device)

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


def memory(device: torch.device, pace: Pace) -> Samples:
    """An addition into new memory, as the kernels between the large ones are; a small one too."""
    counts = {"memory_rate": (8 if device.type == "cpu" else 64) * MIB}
    counts |= {"small.memory_rate": 64 * KIB} if device.type == "cpu" else {}
    return {name: _addition(count, device, pace) for name, count in counts.items()}


def _addition(count: int, device: torch.device, pace: Pace) -> Sample:
    one, other = (torch.ones(count, device=device) for _ in range(2))
    return _rate(3 * 4 * count, lambda: one + other, device, pace)


# What starting things costs.


def _dispatch(device: torch.device, pace: Pace) -> Sample:
    """One tiny kernel after the other."""
    small = torch.ones(16, device=device)

    def run() -> None:
        for _ in range(_TINY_KERNELS):
            small + 1  # the kernel is the point

    run()
    return Sample.of([t / _TINY_KERNELS for t in _times(run, device, pace)])


def _call(device: torch.device, folder: Path, pace: Pace) -> Sample:
    """What the executor does around a call: workspace, a value made, a value freed, the trace."""
    tier, cause = str(device), Cause("probe", 0, "call")
    item = Item("value.1", "probe.x", Kind.VALUE, 1)
    record = CallRecord("probe", "call", 0, Cost(1, {}, 0), None, 0, (), ())
    with ExitStack() as stack:
        writer = stack.enter_context(TraceWriter(folder / "trace.msgpack", {}))
        ledger = Ledger({tier: GIB}, writer)
        meter = stack.enter_context(run_meter(device))

        def call(_record: CallRecord) -> None:
            meter.begin(record)
            meter.end([])

        def run() -> None:
            for _ in range(_CALLS):
                ledger.work(call, record, 1, tier, cause)
                ledger.place(item, tier, cause)
                ledger.free(item.key, tier, cause)

        run()
        return Sample.of([t / _CALLS for t in _times(run, device, pace)])


def _saves(folder: Path, pace: Pace) -> Samples:
    """Small files and a large one, each on the disk before the next; none where it is full."""
    try:
        times = [_save(folder, _SAVED_BYTES) for _ in range(_SAVED_FILES)]
        start = Sample.of(times)
        seconds = _save(folder, pace.disk_bytes // 4)
    except OSError:
        return {}
    rate = (pace.disk_bytes // 4) / max(seconds - start.value, seconds / 10)
    return {"save_seconds": start, "save_rate": Sample.of([rate])}


def _save(folder: Path, nbytes: int) -> float:
    """Write a value as it is after a step: a file, its digest, its name at last."""
    content = os.urandom(min(nbytes, MIB)) * max(1, nbytes // MIB)
    began = time.perf_counter()
    with writing(folder / "saved") as part:
        part.write_bytes(content)
        with part.open("rb") as file:
            hashlib.file_digest(file, "sha256")
    return time.perf_counter() - began


# Disk and link.


def disk(folder: Path, pace: Pace) -> Samples:
    """Write a file, read it cold and warm; nothing when there is no room for it."""
    nbytes, seconds = pace.disk_bytes, 2 * pace.most_seconds
    view = memoryview(bytearray(os.urandom(min(_CHUNK_BYTES, nbytes))))
    try:
        with tempfile.TemporaryFile(dir=folder, buffering=0) as file:
            for _ in range(nbytes // len(view)):
                file.write(view)
            os.fsync(file.fileno())
            handle = file.fileno()
            cold = _until_enough(lambda: _read(handle, view, nbytes, cold=True), seconds)
            _read(handle, view, nbytes)
            warm = _until_enough(lambda: _read(handle, view, nbytes), seconds)
    except OSError:
        return {}
    return {"disk_rate": Sample.of(cold), "cached_disk_rate": Sample.of(warm)}


def _until_enough(read: Callable[[], float], seconds: float) -> list[float]:
    began, samples = time.perf_counter(), [read()]
    while len(samples) < _RUNS and time.perf_counter() - began < seconds:
        samples.append(read())
    return samples


def _read(handle: int, view: memoryview, nbytes: int, *, cold: bool = False) -> float:
    """Read the whole file into memory that is there; bytes per second."""
    if cold:
        os.posix_fadvise(handle, 0, 0, os.POSIX_FADV_DONTNEED)  # out of the page cache
    began, done = time.perf_counter(), 0
    while done < nbytes:
        got = os.preadv(handle, [view], done)
        if got == 0:
            msg = "the scratch file became shorter"
            raise OSError(msg)
        done += got
    return done / (time.perf_counter() - began)


def _links(device: torch.device, pace: Pace) -> Samples:
    """Copies each way between the card and host memory, pinned and pageable."""
    card = torch.empty(_LINK_BYTES, dtype=torch.uint8, device=device)
    samples = {}
    for suffix, pinned in (("rate", True), ("pageable_rate", False)):
        try:
            host = torch.ones(_LINK_BYTES, dtype=torch.uint8, pin_memory=pinned)
        except RuntimeError:  # not so much memory may be pinned
            continue
        up, down = _copier(card, host), _copier(host, card)
        samples[f"upload_{suffix}"] = _rate(_LINK_BYTES, up, device, pace)
        samples[f"download_{suffix}"] = _rate(_LINK_BYTES, down, device, pace)
    return samples


def _copier(target: torch.Tensor, source: torch.Tensor) -> Run:
    return lambda: target.copy_(source, non_blocking=True)


def _context(device: torch.device, base: Machine) -> Samples:
    """What another process takes of the card, never less than *base* has.

    Nobody has seen yet what runs take on a card; too small a figure would be found out in the
    middle of one.
    """
    try:
        context_bytes, library_bytes = taken_by_another_process(device)
    except RuntimeError as error:
        remark("the context was not measured", _why(str(error)))
        return {}
    return {
        "context_bytes": Sample(max(context_bytes, base.context_bytes), 0.0),
        "library_bytes": Sample(max(library_bytes, base.library_bytes), 0.0),
    }


def _why(words: str) -> str:
    if "busy or unavailable" in words:
        return f"another process may not use the card, its compute mode is exclusive ({words})"
    return words
