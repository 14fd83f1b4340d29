"""What every benchmark does with its figures: summarise, name the machine, print and keep them."""

from __future__ import annotations

import datetime
import json
import os
import platform
import re
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import Any

import attrs
import torch

from benchmarks.lib.environment import ROOT, child_environment
from wanflow.memory_limits import tightest_total
from wanflow.session import Request
from wanflow.session.machines import device_name
from wanflow.session.preparing.recipe import versions

RESULTS = ROOT / "benchmarks" / "results"


def spread(values: Sequence[float]) -> dict[str, float]:
    """Median and range."""
    return {"median": median(values), "fastest": min(values), "slowest": max(values)}


def error(predicted: float, measured: float) -> float:
    """How far a prediction was off, as a share of what was measured."""
    return predicted / measured - 1 if measured else 0.0


def machine_line(device: str) -> dict[str, object]:
    """Say where it was measured."""
    found = {
        "device": _cpu_name() if device == "cpu" else device_name(torch.device(device)),
        "cpus": os.cpu_count(), "threads": torch.get_num_threads(),
        "ram_bytes": tightest_total().total_bytes,
        "python": platform.python_version(), **versions(),
    }  # fmt: skip
    return {**found, "when": datetime.datetime.now().astimezone().isoformat(timespec="seconds")}


def _cpu_name() -> str:
    try:
        found = re.search(r"model name\s*: (.*)", Path("/proc/cpuinfo").read_text())
    except OSError:
        found = None
    return found[1].strip() if found else platform.machine()


def between(marks: tuple[str, str], text: str, made: str) -> str:
    """A page's *text* with *made* between its marks."""
    before, _, rest = text.partition(marks[0])
    _, _, after = rest.partition(marks[1])
    return f"{before}{marks[0]}\n{made}\n{marks[1]}{after}"


def keep(report: dict[str, Any], out: Path | None, *, name: str | None = None) -> Path:
    """Write the report to *out*, or among the results under the benchmark's and device's name."""
    if out is None:
        device = name or str(report["machine"]["device"])
        slug = re.sub(r"[^a-z0-9]+", "-", device.lower()).strip("-")
        out = RESULTS / f"{report['benchmark']}-{slug}.json"
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(json.dumps(report, indent=1) + "\n")
    return out


def run_child(request: Request, folder: Path) -> dict[str, Any]:
    """Run a request in a fresh process; its figures, or `error`."""
    asked = json.dumps({"request": attrs.asdict(request), "out": str(folder)})
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.lib.child"],
        input=asked, capture_output=True, text=True, cwd=ROOT,
        env=child_environment(), check=False,
    )  # fmt: skip
    try:
        found = json.loads(done.stdout.splitlines()[-1])
    except (IndexError, ValueError):
        last = done.stderr.strip().splitlines()[-3:]
        return {"error": f"exit {done.returncode}: {' / '.join(last)}"}
    return dict(found)


def probe(device: str) -> None:
    """Measure the machine, so that predictions rest on its own rates."""
    command = [sys.executable, "-m", "wanflow", "machine", "probe", "--device", device]
    subprocess.run(command, check=True, capture_output=True, cwd=ROOT)
