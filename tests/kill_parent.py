"""Fork runs of the tiny graph and SIGKILL each at a random moment. One import for all of them.

Usage: python kill_parent.py FOLDER COUNT SEED. Prints a JSON line a run: where, and when it died.
"""

from __future__ import annotations

import json
import os
import random
import signal
import sys
import time
from pathlib import Path

from wanflow.session import Request, run

LONGEST_SECONDS = 2.5


def child(folder: Path) -> None:
    """Run until killed; exit without Python's clean-up if it gets to the end."""
    try:
        run(Request("t2v-tiny", {"steps": 12}, device="cpu", vram="22MiB"), out=folder)
    finally:
        os._exit(0)


def main(root: Path, count: int, seed: int) -> None:
    """Start, wait for the trace, kill after a random while."""
    delays = random.Random(seed)  # noqa: S311 - moments, not secrets
    for number in range(count):
        folder = root / f"run{number}"
        pid = os.fork()
        if pid == 0:
            child(folder)
        while not (folder / "trace.msgpack").exists():
            time.sleep(0.002)
        delay = delays.uniform(0, LONGEST_SECONDS)
        time.sleep(delay)
        os.kill(pid, signal.SIGKILL)
        _, status = os.waitpid(pid, 0)
        killed = os.WIFSIGNALED(status)
        print(json.dumps({"run": str(folder), "delay": delay, "killed": killed}), flush=True)  # noqa: T201


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))
