"""A video file, looked through before anything runs, and its frames as they are meant to be seen.

Turned and mirrored by its display matrix; colours by its tags, and where there are none as players
take them: BT.709 for more than 576 lines or from 1280 columns on, else BT.601.
"""

from __future__ import annotations

import bisect
import itertools
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import attrs
import numpy as np

from wanflow.errors import InputError
from wanflow.files.frame_times import FrameTimes
from wanflow.files.kinds import named_kind
from wanflow.files.pictures import MOST_PIXELS

_MOST_PACKETS = 1_000_000  # nine hours at 30 frames a second
_UNTOLD = 2  # FFmpeg's colour space where a file tells none
_HDR = {16: "PQ", 18: "HLG"}  # transfer characteristics, as FFmpeg numbers them
_DISPLAY_MATRIX = "DISPLAYMATRIX"
_HEAD_BYTES = 4096
_EBML, _SEGMENT = b"\x1aE\xdf\xa3", b"\x18\x53\x80\x67"


@attrs.frozen
class Video:
    """A video that was looked through; whether the file is still the same is told at reading."""

    path: str
    size: tuple[int, int]  # as it is shown
    times: FrameTimes
    _stamps: tuple[int, ...]  # of each frame, as the file counts time; none where it tells none
    _identity: tuple[int, ...]

    def frames(self, numbers: Sequence[int] | None = None) -> Iterator[Any]:
        """Decode the frames of these rising *numbers*, or all: PIL images, RGB, upright.

        InputError where the file is damaged, with the frame, or changed.
        """
        if _identity(Path(self.path), self.path) != self._identity:
            raise InputError(
                f"{self.path}: was changed since it was checked",
                hint="run it anew",
                code="bad-video",
            )
        rising = iter(range(self.times.count) if numbers is None else numbers)
        wanted = next(rising, None)
        for number, frame in self._decoded():
            if wanted is not None and wanted <= number:
                picture = _shown(frame)
            while wanted is not None and wanted <= number:
                yield picture
                wanted = next(rising, None)
            if wanted is None:
                return
        raise _cut(self.path, f"frame {wanted} of {self.times.count} can't be decoded")

    def _decoded(self) -> Iterator[tuple[int, Any]]:
        """Give each frame with its number."""
        with _telling(self.path):
            container = _opened(self.path)
        with container:
            frames, first = container.decode(_stream(container, self.path)), 0
            for count in itertools.count():
                with _telling(self.path, frame=first + count):
                    frame = next(frames, None)
                if frame is None:
                    return
                if frame.is_corrupt:
                    raise _cut(self.path, f"frame {first + count}")
                if count == 0 and frame.pts is not None:  # what a cut left of frames before it
                    first = max(bisect.bisect_right(self._stamps, frame.pts) - 1, 0)
                yield first + count, frame


def open_video(path: Path, who: str = "") -> Video:
    """Look a video through; InputError, which names *who* wants it, when it can't be shown."""
    what = f"{who}{path}"
    identity, head = _identity(path, what), _head(path, what)
    if _ends_early(head, path.stat().st_size):
        raise _cut(what, "its end is missing")
    with _telling(what, head), _opened(str(path)) as container:
        stream = _stream(container, what)
        _check_size(stream, what)
        if container.format.name.endswith("_pipe") or container.format.name == "image2":
            raise InputError(f"{what}: is a picture, no video", code="bad-video")
        stamps, times = _look_through(container, stream, what)
    with _telling(what, head), _opened(str(path)) as container:
        first = next(container.decode(_stream(container, what)), None)
        if first is None:
            raise _cut(what, "it holds no frame")
        transfer = _HDR.get(int(first.color_trc))
        if transfer is not None:
            raise InputError(
                f"{what}: its colours are HDR ({transfer})",
                hint="save it as SDR (BT.709)",
                code="bad-video",
            )
        size = (first.width, first.height)
    return Video(str(path), size[::-1] if _lies(first) else size, times, stamps, identity)


def _stream(container: Any, what: str) -> Any:
    """The pictures of a file; the cover of a song is none."""
    from av.stream import Disposition

    streams = container.streams.video
    video = next((s for s in streams if not s.disposition & Disposition.attached_pic), None)
    if video is None:
        raise InputError(f"{what}: has no pictures", code="bad-video")
    if video.codec_context is None:
        raise InputError(
            f"{what}: its pictures are of a codec that FFmpeg doesn't know",
            hint="is its download whole? H.264 in .mp4 is read",
            code="bad-video",
        )
    return video


def _look_through(container: Any, stream: Any, what: str) -> tuple[tuple[int, ...], FrameTimes]:
    """Find when each frame is shown, by the packets alone: nothing is decoded."""
    stamps: list[int | None] = []
    packets = last = 0
    for packet in container.demux(stream):
        if packet.is_corrupt:
            raise _cut(what, f"packet {packets} is damaged")
        packets += packet.size > 0
        if packets > _MOST_PACKETS:
            message = f"{what}: has more than {_MOST_PACKETS} frames"
            raise InputError(message, hint="cut it", code="bad-video")
        if packet.size > 0 and not packet.is_discard:
            stamps.append(packet.pts)
            last = packet.duration or last
    if packets < stream.frames:
        raise _cut(what, f"it tells of {stream.frames} frames and holds {packets}")
    if not stamps:
        raise _cut(what, "it holds no frame")
    told = tuple(sorted(stamp for stamp in stamps if stamp is not None))
    if len(told) < len(stamps) or len(set(told)) < len(told):
        rate = float(stream.average_rate or stream.guessed_rate or 1)
        return (), FrameTimes.of(range(len(stamps)), 1, 1 / rate)
    if not last:
        last = (told[-1] - told[0]) // max(len(told) - 1, 1) or 1
    return told, FrameTimes.of(told, last, float(stream.time_base))


def _check_size(stream: Any, what: str) -> None:
    if stream.width * stream.height > MOST_PIXELS:
        raise InputError(
            f"{what}: its frames have {stream.width * stream.height} pixels, at most "
            f"{MOST_PIXELS} are read",
            code="bad-video",
        )


def _identity(path: Path, what: str) -> tuple[int, ...]:
    """What tells that a file is still the one that was checked."""
    try:
        status = path.stat()
    except OSError as error:
        raise InputError(f"{what}: {error.strerror}", code="missing-file") from None
    return (status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns)


def _head(path: Path, what: str) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(_HEAD_BYTES)
    except OSError as error:
        raise InputError(f"{what}: {error.strerror}", code="missing-file") from None


def _ends_early(head: bytes, nbytes: int) -> bool:
    """Whether Matroska's segment, whose size stands behind the EBML header, goes past the end."""
    at = head.find(_SEGMENT)
    if not head.startswith(_EBML) or at < 0 or len(head) < at + 12:
        return False
    at += len(_SEGMENT)
    width = 9 - head[at].bit_length()
    size = int.from_bytes(head[at : at + width], "big") & ((1 << 7 * width) - 1)
    is_told = size < (1 << 7 * width) - 1
    return is_told and at + width + size > nbytes


def _opened(path: str) -> Any:
    import av

    return av.open(path)


def _cut(what: str, why: str) -> InputError:
    return InputError(
        f"{what}: cut or damaged: {why}", hint="is its download whole?", code="bad-video"
    )


@contextmanager
def _telling(what: str, head: bytes = b"", frame: int | None = None) -> Iterator[None]:
    """Turn what FFmpeg raises, at a *frame*, into one message; *head* is how the file begins."""
    import av

    try:
        yield
    except (av.FFmpegError, IndexError, OSError, ValueError) as error:
        kind = named_kind(head) if head else ""
        if not kind or kind.startswith("a video"):
            why = getattr(error, "strerror", None) or str(error)
            raise _cut(what, why if frame is None else f"frame {frame}: {why}") from None
        raise InputError(f"{what}: no video: it is {kind}", code="bad-video") from None


def _shown(frame: Any) -> Any:
    """Convert by the colours that are meant, and turn upright."""
    from av.video.reformatter import ColorRange, Colorspace
    from PIL import Image

    meant: dict[str, Any] = {}
    if int(frame.colorspace) == _UNTOLD:
        is_large = frame.width >= 1280 or frame.height > 576
        meant["src_colorspace"] = Colorspace.ITU709 if is_large else Colorspace.ITU601
    rgb = frame.reformat(format="rgb24", dst_color_range=ColorRange.JPEG, **meant).to_ndarray()
    return Image.fromarray(np.ascontiguousarray(_upright(rgb, frame)))


def _lies(frame: Any) -> bool:
    """Whether the display matrix turns width into height."""
    matrix = frame.side_data.get(_DISPLAY_MATRIX)
    a, b, _, c, d = (1, 0, 0, 0, 1) if matrix is None else _numbers(matrix)
    return bool(a == d == 0 and b and c)


def _numbers(matrix: Any) -> list[int]:
    return [int(number) for number in np.frombuffer(bytes(matrix), np.int32)[:5]]


def _upright(rgb: np.ndarray[Any, Any], frame: Any) -> np.ndarray[Any, Any]:
    """Follow the display matrix: x' = a x + c y, y' = b x + d y; other angles are left alone."""
    matrix = frame.side_data.get(_DISPLAY_MATRIX)
    if matrix is None:
        return rgb
    a, b, _, c, d = _numbers(matrix)
    if a == d == 0:
        rgb, across, down = rgb.swapaxes(0, 1), c, b
    elif b == c == 0:
        across, down = a, d
    else:
        return rgb
    return rgb[:: -1 if down < 0 else 1, :: -1 if across < 0 else 1]
