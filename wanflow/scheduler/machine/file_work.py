"""What calls hand to files: a video's frames, previews, and what is saved after a step. No torch.

None of it is in a call's own cost: it is written between calls, or by a library that we don't see.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import attrs

from wanflow.scheduler.footprint.costs import Footprint
from wanflow.scheduler.machine.figures import Machine

PREVIEW = "preview.write"  # the kind of the calls that write a preview's files
# What Pillow takes for both of them: zlib and libwebp on one core, much the same on any.
_PREVIEW_SECONDS, _PREVIEW_RATE = 5e-3, 9e6  # to open and rename; bytes of frames


@attrs.frozen
class FileWork:
    """What is written at a call: `videos` are those that it begins."""

    videos: int = 0
    video_bytes: int = 0
    saved_files: int = 0
    saved_bytes: int = 0
    previews: int = 0
    preview_bytes: int = 0

    @property
    def saving(self) -> FileWork:
        """What of it is saved after the call."""
        return FileWork(saved_files=self.saved_files, saved_bytes=self.saved_bytes)

    def seconds(self, machine: Machine) -> float:
        """The time it takes; on a card all but previews is lost in the rest."""
        previews = self.previews * _PREVIEW_SECONDS + self.preview_bytes / _PREVIEW_RATE
        return previews + (sum(self.parts(machine).values()) if machine.device == "cpu" else 0.0)

    def parts(self, machine: Machine) -> dict[str, float]:
        """The seconds of it by the figure that they come from."""
        return {
            "video_seconds": self.videos * machine.video_seconds,
            "video_rate": self.video_bytes / machine.video_rate,
            "save_seconds": self.saved_files * machine.save_seconds,
            "save_rate": self.saved_bytes / machine.save_rate,
        }


def file_work(footprint: Footprint) -> Mapping[int, FileWork]:
    """Say what is written at which call: frames by the call that reads them, values after a step.

    After each step of a stage outside a stream the values alive are saved, those that were not
    saved before and an index of all of them.
    """
    writers = {facts.stage: facts.op for facts in footprint.stages if facts.op.startswith("write_")}
    makers = {value.value: call.stage for call in footprint.calls for value in call.makes}
    streams = {
        makers[number] for call in footprint.calls if call.stage in writers for number in call.reads
    }
    sizes = {value.value: value.nbytes for call in footprint.calls for value in call.makes}
    frames = (*_videos(footprint, writers, sizes), *_previews(footprint, sizes))
    return dict([*frames, *_saves(footprint, streams | writers.keys())])


def written_at(footprint: Footprint) -> frozenset[int]:
    """The calls that do nothing but hand frames to a file, or end it."""
    writers = {facts.stage for facts in footprint.stages if facts.op.startswith("write_")}
    return frozenset(
        index
        for index, call in enumerate(footprint.calls)
        if call.kind == PREVIEW or (call.stage in writers and not call.cost.kernels)
    )


def _videos(
    footprint: Footprint, writers: Mapping[str, str], sizes: Mapping[int, int]
) -> Iterator[tuple[int, FileWork]]:
    begun: set[str] = set()
    for index, call in enumerate(footprint.calls):
        if writers.get(call.stage) == "write_video" and call.reads and not call.cost.kernels:
            first = call.stage not in begun
            begun.add(call.stage)
            yield index, FileWork(int(first), sum(sizes[number] for number in call.reads))


def _previews(footprint: Footprint, sizes: Mapping[int, int]) -> Iterator[tuple[int, FileWork]]:
    for index, call in enumerate(footprint.calls):
        if call.kind == PREVIEW:
            nbytes = sum(sizes[number] for number in call.reads)
            yield index, FileWork(previews=1, preview_bytes=nbytes)


def _saves(footprint: Footprint, streamed: set[str]) -> Iterator[tuple[int, FileWork]]:
    last = {number: index for index, call in enumerate(footprint.calls) for number in call.reads}
    ends = {(call.stage, call.step): index for index, call in enumerate(footprint.calls)}
    steps = {index for (stage, _step), index in ends.items() if stage not in streamed}
    fresh: dict[int, int] = {}
    for index, call in enumerate(footprint.calls):
        fresh.update((value.value, value.nbytes) for value in call.makes)
        if index in steps:
            kept = (n for n in fresh if last.get(n, -1) > index or n in footprint.keeps)
            sizes = [fresh[number] for number in kept]
            yield index, FileWork(saved_files=1 + bool(sizes), saved_bytes=sum(sizes))
            fresh.clear()
