"""In a process that may use AMX: bf16 runs at three budgets; prints each and what was measured."""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import attrs

from tests.jobs import budgets
from tests.measure import peak_allocated_bytes
from wanflow.session import Request, run


def main() -> int:
    """Print `budget predicted measured`, in bytes; 1 where one was passed."""
    request = Request("t2v-tiny", {"steps": 2, "frames": 5}, device="cpu", precision=("bf16",))
    passed = False
    for budget in budgets(request):
        reports: list[dict[str, object]] = []
        inside = attrs.evolve(request, vram=f"{budget}B")
        with tempfile.TemporaryDirectory() as folder:
            out = Path(folder) / "run"
            peak = peak_allocated_bytes(
                lambda kept=reports, inside=inside, out=out: kept.append(run(inside, out=out))
            )
        print(budget, reports[0]["predicted_peak_bytes"], peak)  # noqa: T201
        passed |= peak > budget
    return passed


if __name__ == "__main__":
    sys.exit(main())
