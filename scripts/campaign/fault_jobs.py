"""Which operations fail, how, and in which commands."""

from __future__ import annotations

import errno

import attrs

from scripts.campaign.cases import OUT
from scripts.campaign.forks import Disk
from scripts.campaign.seam import REPLACE, Fault

_SMALL = "-i steps=2 -i size=32*32 -i frames=5 --device cpu --vram 64MiB --exact --json"
_MODEL = "--weights model"
FAULTS = {
    "write-full": Fault(("write",), errno.ENOSPC),
    "write-full-on": Fault(("write",), errno.ENOSPC, stays=True),
    "write-broken": Fault(("write",), errno.EIO),
    "rename-broken": Fault(("rename",), errno.EIO),
    "fsync-broken": Fault(("fsync",), errno.EIO),
    "create-full": Fault(("create",), errno.ENOSPC),
    "create-denied": Fault(("create",), errno.EACCES),
    "open-denied": Fault(("open",), errno.EACCES),
    "open-broken": Fault(("open",), errno.EIO),
    "open-replaced": Fault(("open",), REPLACE),
    "read-broken": Fault(("read",), errno.EIO),
    "mmap-broken": Fault(("mmap",), errno.EIO),
    "mmap-full": Fault(("mmap",), errno.ENOMEM),
}


@attrs.frozen
class Job:
    """A command; `makes` is what it is for, and `folder` says that this is a run folder."""

    words: str
    makes: str
    folder: bool = False

    def next(self, disk: Disk) -> list[str]:
        """What a person would type after it failed."""
        there = disk.work / self.makes
        begun = any((there / name).exists() for name in ("request.json", "batch-request.json"))
        if self.folder and begun:
            return ["resume", self.makes, "--json"]
        return [*self.words.split(), *(["--force"] if self.folder else [])]


JOBS = {
    "run": Job(f"run t2v-tiny {_SMALL} {_MODEL} --out {OUT}", OUT, folder=True),
    "resume": Job(f"resume {OUT} --json", OUT, folder=True),
    "batch": Job(f"batch t2v-tiny rows.jsonl {_SMALL} {_MODEL} --out {OUT}", OUT, folder=True),
    "shrink": Job("models shrink model --to int8 --output small --json", "small"),
    "download": Job("models download Wan-AI/Wan2.1-Tiny --to got --json", "got"),
    "report": Job("trace report done -o report.html --no-advice --json", "report.html"),
    "export": Job("trace export done --to perfetto -o out.json --json", "out.json"),
}


@attrs.frozen
class Walk:
    """Which operations fail, one a trial; with `spread` about so many, over all of a command's."""

    first: int = 1
    step: int = 1
    most: int = 100_000
    spread: int = 0

    def numbers(self, operations: int) -> range:
        """Give them, for a command of so many operations."""
        step = max(1, -(-operations // self.spread)) if self.spread else self.step
        return range(self.first, self.first + step * self.most, step)
