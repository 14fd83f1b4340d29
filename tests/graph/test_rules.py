"""Sizes and frame counts that a pair of models can make."""

from __future__ import annotations

import pytest

from wanflow.graph import Size, VideoRules, known_config
from wanflow.graph.values import parse_size

WAN = VideoRules(16, 4)


@pytest.mark.parametrize("name", ["wan-tiny", "wan2.1-t2v-1.3b", "wan2.1-t2v-14b"])
def test_rules_of_known_models(name: str) -> None:
    """Eight pixels to a latent, two latents to a patch, four frames to a latent frame."""
    rules = VideoRules.of(known_config(name, "transformer"), known_config(name, "vae"))
    assert rules == WAN


@pytest.mark.parametrize(("frames", "latent"), [(1, 1), (5, 2), (17, 5), (81, 21)])
def test_latent_frames(frames: int, latent: int) -> None:
    """The first frame stands alone."""
    assert WAN.latent_frames(frames) == latent


@pytest.mark.parametrize(
    ("frames", "nearest"), [(2, [1, 5]), (80, [77, 81]), (82, [81, 85]), (0, [1]), (-3, [1])]
)
def test_nearest_frames(frames: int, nearest: list[int]) -> None:
    """One below, one above, and none below one."""
    assert WAN.nearest_frames(frames) == nearest


@pytest.mark.parametrize(
    ("size", "nearest"),
    [
        (Size(830, 480), [Size(816, 480), Size(832, 480)]),
        (Size(17, 17), [Size(16, 16), Size(32, 32)]),
        (Size(8190, 20), [Size(8176, 16), Size(8192, 32)]),
    ],
)
def test_nearest_sizes(size: Size, nearest: list[Size]) -> None:
    """Both sides down, or both up, inside the limits."""
    assert WAN.nearest_sizes(size) == nearest


@pytest.mark.parametrize(
    ("picture", "area", "size"),
    [
        ((1600, 900), Size(832, 480), Size(832, 464)),
        ((900, 1600), Size(832, 480), Size(464, 832)),
        ((512, 512), Size(1280, 720), Size(960, 960)),
        ((10_000, 10), Size(832, 480), Size(8192, 16)),
    ],
)
def test_in_shape(picture: tuple[int, int], area: Size, size: Size) -> None:
    """At most the area, in a picture's shape; what is too thin has the smallest side."""
    assert WAN.in_shape(area, *picture) == size


def test_several_rules_hold_together() -> None:
    """A graph with two models makes only what both can."""
    assert VideoRules.all_of([WAN, VideoRules(24, 4)]) == VideoRules(48, 4)
    assert VideoRules.all_of([]) is None


# What `_get_frameid_bbox_adjust_last` of Wan2.1's `wan/utils/vace_processor.py` gave, but for the
# last two, on which it fails.
@pytest.mark.parametrize(
    ("area", "video", "count", "size", "frames"),
    [
        ("832*480", (832, 480), 1, "832*480", 1),
        ("832*480", (641, 361), 1, "640*352", 1),
        ("832*480", (1920, 1080), 50, "832*480", 49),
        ("832*480", (320, 240), 50, "320*240", 49),
        ("1280*720", (1080, 1920), 84, "720*1280", 81),
        ("832*480", (1920, 1080), 600, "832*480", 81),
        ("832*480", (641, 361), 600, "640*352", 145),
        ("1280*720", (640, 480), 600, "640*480", 249),
        ("832*480", (320, 240), 600, "320*240", 433),
        ("64*64", (2000, 20), 90, "256*16", 81),
        ("64*64", (32, 3200), 90, "16*256", 81),
    ],
)
def test_in_video(area: str, video: tuple[int, int], count: int, size: str, frames: int) -> None:
    """No larger than the video, in its shape, and no more tokens than 81 frames of the area."""
    shaped = WAN.in_video(parse_size(area), 81, video, count, 1000)
    assert shaped == (parse_size(size), frames)


def test_in_video_at_most() -> None:
    """A frame count that someone asks for bounds those of a small video."""
    assert WAN.in_video(Size(832, 480), 33, (320, 240), 600, 33) == (Size(320, 240), 33)
    assert WAN.in_video(Size(832, 480), 81, (640, 15), 600, 33) is None


@pytest.mark.parametrize(
    ("picture", "size"),
    [
        ((1280, 704), (1280, 704)), ((1920, 1080), (1248, 704)), ((1080, 1920), (704, 1248)),
        ((1000, 1000), (960, 928)), ((640, 480), (1088, 800)), ((333, 777), (608, 1440)),
        ((3000, 1000), (1632, 544)),
    ],
)  # fmt: skip
def test_in_crop(picture, size) -> None:
    """What Wan2.2's own function gave at 1280*704, in multiples of 32."""
    assert VideoRules(32, 4).in_crop(Size(1280, 704), *picture) == Size(*size)


def test_in_crop_of_a_thread() -> None:
    """A picture so thin that a side would vanish gets the smallest one."""
    assert VideoRules(32, 4).in_crop(Size(64, 64), 4000, 1) == Size(128, 32)
