"""The tiny twin of every official task, as folders of both layouts, each written once."""

from __future__ import annotations

from pathlib import Path

import attrs

from tests.folders import make_model
from tests.jobs import TINY
from tests.official import write_official
from tests.pictured import TWINS, make_folder

_LIKE_T2V = ("t2v-1.3B", "t2v-14B", "t2i-14B")
_PICTURED = {"i2v-14B": "i2v", "flf2v-14B": "flf2v"}
_KNOWN = {
    "vace-1.3B": "wan-tiny-vace", "vace-14B": "wan-tiny-vace", "t2v-A14B": "wan-tiny",
    "i2v-A14B": "wan-tiny-i2v", "ti2v-5B": "wan-tiny-ti2v",
}  # fmt: skip


@attrs.define
class TwinFolders:
    """Folders under *base* by task."""

    base: Path

    def diffusers(self, task: str) -> Path:
        """In the layout of diffusers."""
        if task in _LIKE_T2V:
            return TINY
        name, two = _PICTURED.get(task) or _KNOWN[task], task.endswith("A14B")
        folder = self.base / (f"{name}-experts" if two else name)
        if not folder.exists():
            if task in _PICTURED:
                make_folder(TWINS[name], folder)
            else:
                make_model(name, folder, experts=two)
        return folder

    def official(self, task: str) -> Path:
        """In the official one, which has no name that says a resolution."""
        source = self.diffusers(task)
        folder = self.base / "official" / source.name
        if not folder.exists():
            folder.parent.mkdir(exist_ok=True)
            write_official(folder, source)
        return folder
