"""Machines as tables: what each figure is, and whether it was measured."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from wanflow.cli.output import clean
from wanflow.scheduler.machine.figures import FLOPS, Machine
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
}


def render(machine: Machine, file: Path | None, console: Console) -> None:
    """Print what a machine is, and one line a figure."""
    capacity, ram = format_bytes(machine.capacity_bytes), format_bytes(machine.ram_bytes)
    host = "" if machine.device == "cpu" else f", host RAM {ram}"
    console.print(Text(clean(f"{machine.name}: {machine.device}, {capacity}{host}")))
    if machine.about:
        console.print(Text(clean(machine.about)))
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    table.add_column("figure", no_wrap=True)
    table.add_column("value", no_wrap=True, justify="right")
    table.add_column("known", no_wrap=True)
    table.add_column("spread", no_wrap=True, justify="right")
    for name in machine.matters:
        spread = machine.spreads.get(name)
        row = (
            _WORDS.get(name, name.replace(".", ", ")),
            format_figure(name, machine.figure(name)),
            machine.source(name),
            "-" if spread is None else f"{spread:.0%}",
        )
        table.add_row(*map(Text, row))
    console.print(table)
    if machine.guessed_from:
        console.print(Text(f"guessed: what was not measured is the {machine.guessed_from}'s"))
    if machine.estimated:
        console.print("next: wanflow machine probe")
    if file is not None:
        console.print(Text(clean(f"file: {file}")), soft_wrap=True)


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
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    table.add_column("machine", overflow="fold")
    table.add_column("device", no_wrap=True)
    table.add_column("capacity", no_wrap=True, justify="right")
    table.add_column("figures", no_wrap=True)
    for row in rows:
        known = ", ".join(f"{row['sources'][s]} {s}" for s in sorted(row["sources"], reverse=True))
        cells = (clean(row["name"]), row["device"], format_bytes(row["capacity_bytes"]), known)
        table.add_row(*map(Text, cells))
    console.print(table)


def format_figure(name: str, value: float) -> str:
    """Write a figure with its unit: `101 GFLOP/s`, `9.8 GB/s`, `15.0 us`."""
    if name.endswith("_bytes"):
        return format_bytes(int(value))
    if name.endswith("_seconds"):
        return f"{value * 1e6:.3g} us"
    unit = "FLOP/s" if name in FLOPS else "B/s"
    for factor, prefix in ((1e12, "T"), (1e9, "G"), (1e6, "M")):
        if value >= factor:
            return f"{value / factor:.3g} {prefix}{unit}"
    return f"{value:.3g} {unit}"
