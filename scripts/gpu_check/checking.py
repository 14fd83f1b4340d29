"""What all parts of a check share: the device, its end, and what they found."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import attrs
import torch

from scripts.gpu_check.promises import Promise


@attrs.define
class Checking:
    """One check: where, until when (`time.monotonic`), in which folder; what was found so far."""

    device: str
    ends: float
    folder: Path
    shrink: bool
    promises: list[Promise] = attrs.field(factory=list)
    left_out: list[str] = attrs.field(factory=list)

    def add(
        self, part: str, name: str, promised: str, measured: str, kept: bool | None, **facts: Any
    ) -> None:
        """Add a line."""
        self.promises.append(Promise(part, name, promised, measured, kept, facts))

    @property
    def late(self) -> bool:
        """Whether the time is up."""
        return time.monotonic() > self.ends

    def leave(self, what: str) -> None:
        """Say what there was no time for."""
        self.left_out.append(f"{what}: the time was up")

    @contextmanager
    def trying(self, part: str, name: str) -> Iterator[None]:
        """Tell an error as a broken promise, and go on: each line is worth having."""
        try:
            yield
        except Exception as error:  # noqa: BLE001 - whatever a card raises is what is looked for
            said = next(iter(str(error).splitlines()), "")
            self.add(part, name, "runs", f"{type(error).__name__}: {said}"[:300], kept=False)

    @property
    def torch_device(self) -> torch.device:
        """The device as torch has it."""
        return torch.device(self.device)
