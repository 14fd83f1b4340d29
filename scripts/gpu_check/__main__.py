"""Does this card do what wanflow promises? One JSON, and a page to paste into an issue.

    make gpu-check
    python -m scripts.gpu_check [--device cuda:0] [--minutes 5] [--out runs/gpu-check] [--shrink]

No downloads: the bundled tiny model, and noise for kernels of the full ones. Parts that would begin
after --minutes are left out and named. Exit 0 when every promise that was looked at is kept, 1 when
one is broken, 2 without a card.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from pathlib import Path

import attrs
import torch

from benchmarks.lib.report import machine_line
from scripts.gpu_check import budgets, kernels, machine, suite, uploads
from scripts.gpu_check.checking import Checking
from scripts.gpu_check.promises import page

_PARTS = {
    "machine": machine.doctor,
    "budgets": budgets.budgets,
    "uploads": uploads.uploads,
    "kernels": kernels.kernels,
    "rates": machine.rates,
    "tests": suite.suite,
}


def check(
    device: str,
    out: Path,
    *,
    minutes: float = 5,
    shrink: bool = False,
    parts: tuple[str, ...] = tuple(_PARTS),
) -> int:
    """Check every part, write both files into *out*, and say how it went as an exit code."""
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="gpu-check-") as folder:
        checking = Checking(device, began + 60 * minutes, Path(folder), shrink)
        for name in parts:
            if checking.late:
                checking.leave(name)
                continue
            print(f"{name} ...", flush=True)
            with checking.trying(name, name):
                _PARTS[name](checking)
    report = {
        "gpu_check": 1, "machine": machine_line(device), "shrink": shrink,
        "seconds": time.monotonic() - began, "left_out": checking.left_out,
    }  # fmt: skip
    out.mkdir(parents=True, exist_ok=True)
    made = page(report, checking.promises)
    rows = [attrs.asdict(promise) for promise in checking.promises]
    (out / "gpu-check.json").write_text(json.dumps({**report, "promises": rows}, indent=1) + "\n")
    (out / "gpu-check.md").write_text(made, encoding="utf-8")
    print(f"\n{made}\nWrote {out / 'gpu-check.json'} and {out / 'gpu-check.md'}")
    return int(any(promise.kept is False for promise in checking.promises))


def main() -> int:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("--device", default="cuda:0")
    parser.add_argument("--minutes", type=float, default=5)
    parser.add_argument("--out", type=Path, default=Path("runs/gpu-check"))
    parser.add_argument("--shrink", action="store_true", help="tiny models only")
    given = parser.parse_args()
    if not torch.cuda.is_available():
        print("no card that PyTorch can use: see `wanflow doctor`", file=sys.stderr)
        return 2
    return check(given.device, given.out, minutes=given.minutes, shrink=given.shrink)


if __name__ == "__main__":
    sys.exit(main())
