"""Fork runs of the tiny graph and end each at a random moment. One import for all of them.

Usage: python kill_parent.py FOLDER SEED SIGNAL... One run a signal. Each line of its output is
JSON: first the run that nobody stopped, then two at once in one folder, then for each other one
where it is, how it ended, how long that took, and what came of resuming a copy of it.
"""

from __future__ import annotations

import hashlib
import json
import os
import random
import shutil
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch

from wanflow.cli import main as cli
from wanflow.scheduler.run.executor import Executor
from wanflow.session import resume
from wanflow.session.planning import footprints as variants
from wanflow.session.planning import planned as planning

# Runs are compared bit by bit, and what is chosen depends on what runs have taught of the machine.
PINS = "--pin denoise.cfg=serial --pin denoise.rows=all --pin decode.strips=whole"
WORDS = (
    "run t2v-tiny -i steps=8 -i frames=5 -i size=32*32 --device cpu --vram 64MiB --json " + PINS
).split()


def forked(work: Callable[[], int]) -> int:
    """Do *work* in a child; it exits without Python's clean-up."""
    pid = os.fork()
    if pid:
        return pid
    code = 70
    try:
        code = work()
    finally:
        os._exit(code)


def run(folder: Path, said: str = "", *more: str) -> int:
    """Run by the command line, its words in files."""
    for stream, name in ((1, "out"), (2, "err")):
        handle = os.open(f"{said or folder}.{name}", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(handle, stream)
    return cli.run([*WORDS, "--out", str(folder), *more])


def watched_resume(folder: Path) -> int:
    """Go on with a run, leaving the digest of its frames."""
    seen: list[bytes] = []

    def watch(_stage: str, name: str, tensor: torch.Tensor) -> None:
        if name == "decode.frames":
            seen.append(tensor.contiguous().numpy().tobytes())

    resume(folder, watch=watch)
    digest = hashlib.sha256(b"".join(seen)).hexdigest()
    (folder / "frames").write_text(digest if seen else "")  # a run that was done makes none
    return 0


def reference(folder: Path) -> int:
    """A run that is ended after its planning and resumed from its start: all of it is watched."""
    made = Executor.run

    def stop(_executor: Executor) -> None:
        raise KeyboardInterrupt

    Executor.run = stop  # type: ignore[method-assign, assignment]
    run(folder)
    Executor.run = made  # type: ignore[method-assign]
    return watched_resume(folder)


def outcome(folder: Path) -> dict[str, str]:
    """The digests of what a finished run made."""
    video = (folder / "video.mp4").read_bytes()
    return {
        "frames": (folder / "frames").read_text(),
        "video": hashlib.sha256(video).hexdigest(),
        "orphans": " ".join(p.name for p in folder.rglob("*.part")),
    }


def say(data: object) -> None:
    """One line for the test."""
    print(json.dumps(data), flush=True)  # noqa: T201


def ended(folder: Path, delay: float, number: int) -> dict[str, object]:
    """Start a run, wait for its trace and *delay*, send the signal."""
    pid = forked(lambda: run(folder))
    while not (folder / "trace.msgpack").exists():
        time.sleep(0.002)
    time.sleep(delay)
    sent = time.monotonic()
    os.kill(pid, number)
    status = waited(pid)
    took = time.monotonic() - sent
    name = signal.Signals(number).name
    return {"run": str(folder), "signal": name, "status": status, "seconds": took}


def waited(pid: int) -> int:
    """Wait for a child; its exit code."""
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def rivals(folder: Path) -> dict[str, object]:
    """Two runs in one folder at once, each with `--force`."""
    children = [forked(lambda n=n: run(folder, f"{folder}{n}", "--force")) for n in range(2)]  # type: ignore[misc]
    codes = [waited(pid) for pid in children]
    return {"codes": codes, "errors": [Path(f"{folder}{n}.err").read_text() for n in range(2)]}


def main(root: Path, seed: int, numbers: list[int]) -> None:
    """Run once whole, then end the others."""
    footprints = variants.KnobSearch.at
    kept: list[object] = []

    def once(self: variants.KnobSearch, budget_bytes: int) -> object:
        kept[:] = kept or [footprints(self, budget_bytes)]
        return kept[0]

    variants.KnobSearch.at = once  # type: ignore[assignment, method-assign]
    os.chdir(root)
    planning.plan(planning.Request("t2v-tiny", dict(w.split("=") for w in WORDS[3:8:2]), "64MiB"))
    waited(forked(lambda: reference(root / "whole")))
    report = json.loads((root / "whole" / "run.json").read_text())
    say(outcome(root / "whole"))
    say(rivals(root / "rivals"))
    delays = random.Random(seed)  # noqa: S311 - moments, not secrets
    for n, number in enumerate(numbers):
        folder = root / f"run{n}"
        found = ended(folder, delays.uniform(0, report["seconds"]), number)
        copy = Path(shutil.copytree(folder, root / f"resumed{n}"))
        code = waited(forked(lambda at=copy: watched_resume(at)))  # type: ignore[misc]
        say({**found, "resumed": code, **(outcome(copy) if code == 0 else {})})


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), [signal.Signals[name] for name in sys.argv[3:]])
