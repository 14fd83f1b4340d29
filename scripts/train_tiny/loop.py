"""What every training phase needs: a log, checkpoints that appear whole, a pause, a schedule."""

from __future__ import annotations

import json
import math
import os
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import attrs
import torch

_SAVE_SECONDS = 150.0


@attrs.define
class Loop:
    """The steps of one phase, from its last checkpoint on.

    Whatever is drawn at a step comes from the seed and the step's number alone, so that a run that
    was cut goes on as if it had not been. While the file *quiet* is there, no step begins.
    """

    folder: Path
    name: str
    steps: int
    kept: dict[str, Any]  # name to an object with `state_dict` and `load_state_dict`
    quiet: Path | None = None
    log_every: int = 20
    start: int = 0
    _saved: float = attrs.field(factory=time.monotonic)
    _sums: dict[str, float] = attrs.field(factory=dict)
    _since: int = 0
    _busy: float = 0.0

    @property
    def path(self) -> Path:
        """The checkpoint."""
        return self.folder / f"{self.name}.pt"

    def __iter__(self) -> Iterator[int]:
        """Yield step numbers; save after the last."""
        self._restore()
        for step in range(self.start, self.steps):
            wait_for(self.quiet)
            began = time.monotonic()
            yield step
            self._busy += time.monotonic() - began
            if (step + 1) % self.log_every == 0 or step + 1 == self.steps:
                self._write(step + 1)
            if step + 1 == self.steps or time.monotonic() - self._saved > _SAVE_SECONDS:
                self.save(step + 1)

    def note(self, **losses: float) -> None:
        """Count this step's losses into the next line of the log."""
        for name, value in losses.items():
            self._sums[name] = self._sums.get(name, 0.0) + value
        self._since += 1

    def save(self, step: int) -> None:
        """Write the checkpoint; a cut leaves the old one."""
        part = self.path.with_suffix(".part")
        states = {name: thing.state_dict() for name, thing in self.kept.items()}
        torch.save({"step": step, **states}, part)
        os.replace(part, self.path)  # noqa: PTH105 - one rename, as the sentence above says
        self._saved = time.monotonic()

    def _restore(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        if self.path.is_file():
            found = torch.load(self.path, weights_only=True)
            self.start = int(found["step"])
            for name, thing in self.kept.items():
                thing.load_state_dict(found[name])

    def _write(self, step: int) -> None:
        means = {name: round(total / self._since, 5) for name, total in self._sums.items()}
        line = {
            "phase": self.name, "step": step, **means,
            "seconds_a_step": round(self._busy / self._since, 3),
            "at": time.strftime("%H:%M:%S"),
        }  # fmt: skip
        with (self.folder / "log.jsonl").open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")
        self._sums, self._since, self._busy = {}, 0, 0.0


def wait_for(quiet: Path | None) -> None:
    """Wait while the file is there; then take as many threads as there are free cores."""
    while quiet is not None and quiet.exists():
        time.sleep(0.5)
    torch.set_num_threads(_free_cores())


def _free_cores() -> int:
    """Cores that nobody else computes on just now, at least one.

    Threads that wait for one that has to share its core are slower than fewer threads.
    """
    cores = os.cpu_count() or 1
    try:
        running = int(Path("/proc/loadavg").read_text().split()[3].split("/")[0])
    except (OSError, ValueError):
        return cores
    return max(cores - (running - 1), 1)


def rate(step: int, steps: int, top: float, warm: int = 50, floor: float = 0.02) -> float:
    """The learning rate of a step: a short warm-up, then a cosine down to *floor* of the top."""
    if step < warm:
        return top * (step + 1) / warm
    turn = (step - warm) / max(steps - warm, 1)
    return top * (floor + (1 - floor) * (1 + math.cos(math.pi * turn)) / 2)


def plateau(step: int, steps: int, top: float, warm: int = 100, ending: float = 0.3) -> float:
    """The learning rate of a step that stays at the top, then falls in a line to nothing.

    Until the fall begins, *steps* may still be changed from one start to the next.
    """
    return top * min((step + 1) / warm, (steps - step) / (steps * ending), 1.0)


def set_rate(optimizer: Any, value: float) -> None:
    """Give every group of parameters this learning rate, times its own factor."""
    for group in optimizer.param_groups:
        group["lr"] = value * group.get("factor", 1.0)


def compiled(function: Callable[..., Any]) -> Callable[..., Any]:
    """Compile for fixed shapes where there is a C++ compiler; else give the function as it is."""
    if shutil.which("g++") is None:
        return function
    made: Callable[..., Any] = torch.compile(function, dynamic=False)
    return made
