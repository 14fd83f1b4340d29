"""One video on several processes: the bits of one, in the bytes that were planned for each."""

from __future__ import annotations

import json
import os
import signal
import time
from pathlib import Path

import pytest

from tests.ranks.folders import begun, children, gone, ran, wanflow, write_wide
from wanflow.trace import TraceReader
from wanflow.trace.events import Step

ROOM = ("--vram", "2GiB")
LONG = (*ROOM, "-i", "steps=24")


@pytest.fixture(scope="module")
def alone(tmp_path_factory) -> Path:
    """The video of one device."""
    folder = tmp_path_factory.mktemp("alone")
    return Path(str(ran("t2v-tiny", *ROOM, "--device", "cpu", "--out", str(folder))["video"]))


@pytest.fixture(scope="module")
def wide(tmp_path_factory) -> Path:
    """The graph of a transformer of 1.3B's widths."""
    return write_wide(tmp_path_factory.mktemp("wide"))


@pytest.fixture(scope="module")
def wide_alone(wide) -> dict[str, object]:
    """Its run on one device."""
    return ran(str(wide), *ROOM, "--device", "cpu", "--out", str(wide.parent / "alone"))


def _assert_as_planned(report) -> None:
    for rank in report["ranks"]:
        assert 0.97 <= rank["peak_bytes"] / rank["predicted_peak_bytes"] <= 1.03


@pytest.mark.parametrize(
    ("devices", "share"),
    [
        ("cpu*2", "guidance"),
        pytest.param("cpu*3", "rows", marks=pytest.mark.wide),
        pytest.param("cpu*4", "guidance", marks=pytest.mark.wide),
        pytest.param("cpu*4", "guidance.ulysses", marks=pytest.mark.wide),
    ],
)
def test_bits_and_bytes(alone, tmp_path, devices, share) -> None:
    """The same file, and each rank's peak within 3 % of its plan."""
    report = ran(
        "t2v-tiny", *ROOM, "--devices", devices, "--pin", f"denoise.share={share}",
        "--out", str(tmp_path / "run"),
    )  # fmt: skip

    assert report["share"] == share
    assert Path(report["video"]).read_bytes() == alone.read_bytes()
    _assert_as_planned(report)


def test_stopped_with_a_preview(alone, tmp_path) -> None:
    """All ranks stop after the step, the first one shows it, and all go on to the same file."""
    folder = tmp_path / "run"
    words = ("--devices", "cpu*2", "--until", "denoise:3", "--out", str(folder))
    report = ran("t2v-tiny", *ROOM, *words)
    assert (report["status"], report["until"]) == ("stopped", "denoise:3")
    assert Path(str(report["preview"])).is_file()
    assert not (folder / "ranks").exists()
    done = wanflow("resume", str(folder), "--json")
    assert done.returncode == 0, done.stderr
    assert (folder / "video.mp4").read_bytes() == alone.read_bytes()


@pytest.mark.parametrize(
    ("devices", "share"),
    [
        ("cpu*2", "rows"),
        ("cpu*3", "ulysses"),
        pytest.param("cpu*3", "rows", marks=pytest.mark.wide),
        pytest.param("cpu*2", "ulysses", marks=pytest.mark.wide),
    ],
)
def test_widths_of_1_3b(wide, wide_alone, tmp_path, devices, share) -> None:
    """The same file, and at two ranks at most 0.6 of the activations of one."""
    report = ran(
        str(wide), *ROOM, "--devices", devices, "--pin", f"denoise.share={share}",
        "--out", str(tmp_path / "run"),
    )  # fmt: skip

    assert Path(report["video"]).read_bytes() == Path(wide_alone["video"]).read_bytes()
    _assert_as_planned(report)
    if devices == "cpu*2":
        peaks = [_activations(tmp_path / "run", rank) for rank in range(2)]
        assert max(peaks) <= 0.6 * _activations(wide.parent / "alone", 0)


def _activations(folder: Path, rank: int) -> int:
    """The most that calls of the denoiser took in a trace, beside weights."""
    with TraceReader(folder / "trace.msgpack", rank) as reader:
        return max(e.nbytes for e in reader if getattr(e, "slack_bytes", None) is not None
                   and e.stage == "denoise")  # fmt: skip


@pytest.fixture(scope="module")
def long_alone(tmp_path_factory) -> Path:
    """The video of more steps, of one device."""
    out = tmp_path_factory.mktemp("long")
    return Path(str(ran("t2v-tiny", *LONG, "--device", "cpu", "--out", str(out))["video"]))


def test_death_of_a_rank(long_alone, tmp_path) -> None:
    """Others end within ten seconds, how to go on is said, and three ranks go on to the bits."""
    folder = tmp_path / "run"
    process = begun(folder, *LONG, "--exact", "--devices", "cpu*2", "--pin", "denoise.share=rows")
    ranks = children(process)
    assert len(ranks) == 2

    began = time.monotonic()
    os.kill(ranks[1], signal.SIGKILL)
    _, said = process.communicate(timeout=30)

    assert time.monotonic() - began < 10
    assert process.returncode == 1
    assert "rank 1 (cpu) ended: killed by SIGKILL" in said
    assert f"wanflow resume {folder}" in said
    assert gone(ranks, 1)

    resumed = wanflow("resume", str(folder), "--devices", "cpu*3", "--json")
    assert resumed.returncode == 0, resumed.stderr
    assert (folder / "video.mp4").read_bytes() == long_alone.read_bytes()
    for rank in range(3):
        with TraceReader(folder / "trace.msgpack", rank) as reader:
            steps = [event for event in reader if isinstance(event, Step)]
            assert reader.info().state == "whole"
        assert {step.stage for step in steps} >= {"denoise"}


@pytest.mark.parametrize(
    ("before", "after"), [("--device cpu", "cpu*2"), ("--devices cpu*2", "cpu")]
)
def test_on_more_or_fewer(long_alone, tmp_path, before, after) -> None:
    """What one device began several go on with, and the other way: to the frames of one."""
    folder = tmp_path / "run"
    process = begun(folder, *LONG, "--exact", *before.split())
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=30)
    assert process.returncode == 130

    resumed = wanflow("resume", str(folder), "--devices", after, "--json")

    assert resumed.returncode == 0, resumed.stderr
    assert json.loads(resumed.stdout)["resumed"]
    assert (folder / "video.mp4").read_bytes() == long_alone.read_bytes()


@pytest.mark.parametrize(("sent", "code"), [("SIGINT", 130), ("SIGKILL", -9)])
def test_end_of_the_parent(tmp_path, sent, code) -> None:
    """Ctrl-C ends all ranks and says how to go on; of a killed parent no rank is left either."""
    folder = tmp_path / "run"
    process = begun(folder, *LONG, "--exact", "--devices", "cpu*2")
    ranks = children(process)

    process.send_signal(signal.Signals[sent])
    _, said = process.communicate(timeout=30)

    assert process.returncode == code
    assert gone(ranks, 10)
    if sent == "SIGINT":
        assert f"wanflow resume {folder}" in said
