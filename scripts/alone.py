"""Run each test file in a process of its own: a test that rests on another file's fails here.

    python -m scripts.alone [FILE ...]

Prints a line a file as it ends, then those that failed; exit 1 where there is one.
"""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
NOTHING_COLLECTED = 5  # pytest's exit code


def passes(path: Path) -> bool:
    """Run one file, saying what pytest said last."""
    began = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-m", "not wide", str(path)],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    last = (done.stdout.strip().splitlines() or [done.stderr.strip()])[-1]
    print(f"{time.monotonic() - began:6.1f} s  {path}  {last}", flush=True)
    return done.returncode in {0, NOTHING_COLLECTED}


def main(names: list[str]) -> int:
    """Run the files that were named, or all."""
    every = [path.relative_to(ROOT) for path in sorted((ROOT / "tests").rglob("test_*.py"))]
    failed = [path for path in map(Path, names or map(str, every)) if not passes(path)]
    for path in failed:
        print(f"fails alone: {path}")
    return bool(failed)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
