"""Machines as tables: what each figure is, and whether it was measured."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Console

from wanflow.scheduler.machine.figures import FLOPS, Machine
from wanflow.terminal.layout import add_row, bare_table, line
from wanflow.terminal.safe import clean
from wanflow.units import format_bytes

_WORDS = {
    "memory_rate": "memory",
    "upload_rate": "upload, pinned",
    "upload_pageable_rate": "upload, pageable",
    "download_rate": "download, pinned",
    "download_pageable_rate": "download, pageable",
    "disk_rate": "disk, cold",
    "cached_disk_rate": "disk, page cache",
    "kernel_seconds": "start of a kernel",
    "call_seconds": "start of a call",
    "context_bytes": "context",
    "library_bytes": "library workspaces",
    "small.memory_rate": "small memory",
    "save_seconds": "saving a file",
    "save_rate": "saving, bytes",
    "video_seconds": "start of a video",
    "video_rate": "video, bytes",
}


def render(machine: Machine, file: Path | None, console: Console) -> None:
    """Print what a machine is, and one line a figure."""
    capacity, ram = format_bytes(machine.capacity_bytes), format_bytes(machine.ram_bytes)
    host = "" if machine.device == "cpu" else f", host RAM {ram}"
    line(console, f"{machine.name}: {machine.device}, {capacity}{host}")
    if machine.about:
        line(console, machine.about)
    table = bare_table()
    table.add_column("figure", no_wrap=True)
    table.add_column("value", no_wrap=True, justify="right")
    table.add_column("known", no_wrap=True)
    table.add_column("spread", no_wrap=True, justify="right")
    for name in machine.matters:
        spread = machine.spreads.get(name)
        value = format_figure(name, machine.figure(name))
        source, width = machine.source(name), "-" if spread is None else f"{spread:.0%}"
        add_row(table, _word(name), value, source, width)
    console.print(table)
    if machine.guessed_from:
        line(console, f"guessed: what was not measured goes by the {machine.guessed_from}")
    if machine.estimated:
        line(console, "next: wanflow machine probe")
    if file is not None:
        line(console, f"file: {file}", soft_wrap=True)


def as_row(machine: Machine, file: Path | None) -> dict[str, Any]:
    """Give the line of a list as data; a machine without a file is a named one."""
    return {
        "name": machine.name,
        "device": machine.device,
        "capacity_bytes": machine.capacity_bytes,
        "estimated": machine.estimated,
        "sources": dict(Counter(machine.source(name) for name in machine.matters)),
        "file": None if file is None else str(file),
    }


def render_list(rows: Sequence[dict[str, Any]], console: Console) -> None:
    """Print one line a machine."""
    table = bare_table()
    table.add_column("machine", overflow="fold")
    table.add_column("device", no_wrap=True)
    table.add_column("capacity", no_wrap=True, justify="right")
    table.add_column("figures", no_wrap=True)
    for row in rows:
        sources = ", ".join(
            f"{row['sources'][s]} {s}" for s in sorted(row["sources"], reverse=True)
        )
        add_row(
            table, clean(row["name"]), row["device"], format_bytes(row["capacity_bytes"]), sources
        )
    console.print(table)


def format_figure(name: str, value: float) -> str:
    """Write a figure with its unit: `101 GFLOP/s`, `9.8 GB/s`, `15.0 us`."""
    if name.endswith("_bytes"):
        return format_bytes(int(value))
    if name.endswith("_seconds"):
        return f"{value * 1e3:.3g} ms" if value >= 1e-3 else f"{value * 1e6:.3g} us"
    unit = "FLOP/s" if name.removeprefix("small.") in FLOPS else "B/s"
    for factor, prefix in ((1e12, "T"), (1e9, "G"), (1e6, "M")):
        if value >= factor:
            return f"{value / factor:.3g} {prefix}{unit}"
    return f"{value:.3g} {unit}"


def _word(name: str) -> str:
    return _WORDS.get(name, name.replace("small.", "small ").replace(".", ", "))
