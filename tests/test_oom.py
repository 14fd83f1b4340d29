"""Runs on a device with every tier: the same frames, and out of memory is survived or told."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from pathlib import Path

import attrs
import pytest
import torch

from tests.resuming import (
    INPUTS,
    SMALL,
    STREAMED,
    Link,
    events,
    frames_of,
    resumed_frames,
)
from wanflow.errors import BudgetError, OutOfMemory
from wanflow.scheduler.program import Placed, Tensors
from wanflow.scheduler.run import device_works
from wanflow.session.planning import planned as planning
from wanflow.trace.events import Move, Note, Transfer

SOAK = bool(os.environ.get("SOAK"))
# One pass a step: few allocations, to make each of them fail.
SHORT = attrs.evolve(
    SMALL,
    inputs={**INPUTS, "steps": 2, "guidance": 1.0},
    pins=(*SMALL.pins[1:], "denoise.weights=stream"),
)


@pytest.fixture(scope="module")
def wanted(tmp_path_factory: pytest.TempPathFactory) -> torch.Tensor:
    """The frames of the CPU device."""
    return frames_of(SMALL, tmp_path_factory.mktemp("cpu"))


@pytest.fixture
def link() -> Iterator[Link]:
    """A link to run on; nothing of it is left."""
    before, link = set(threading.enumerate()), Link()
    yield link
    link.close()
    assert set(threading.enumerate()) <= before


def reader_threads(before: set[threading.Thread]) -> set[threading.Thread]:
    """Threads of ours that should have ended; those of other tests are none of ours."""
    return {t for t in threading.enumerate() if t.name == "wanflow-reader"} - before


class TestTiers:
    """Disk, host and device."""

    def test_everything_resident(self, link: Link, wanted: torch.Tensor, tmp_path: Path) -> None:
        """All weights go through the ring, once."""
        assert torch.equal(frames_of(SMALL, tmp_path, link.place), wanted)
        assert link.left_bytes() == 0

    def test_cached_on_the_host(self, link: Link, wanted: torch.Tensor, tmp_path: Path) -> None:
        """What comes again comes from the host."""
        assert torch.equal(frames_of(STREAMED, tmp_path, link.place), wanted)
        queues = {e.queue for e in events(tmp_path) if isinstance(e, Transfer)}
        assert queues == {"disk", "copy"}
        assert any(isinstance(e, Move) and e.tier == "host" for e in events(tmp_path))
        assert link.left_bytes() == 0

    def test_ram_budget_forces_the_disk(
        self, link: Link, wanted: torch.Tensor, tmp_path: Path
    ) -> None:
        """With room for the ring alone, all of it comes from the disk, and the host holds less."""
        made = planning.plan(STREAMED, on=link.place).plan
        link.ram_bytes = made.host.minimum_bytes + made.footprint.staging_bytes
        assert planning.host_bytes(made) > link.ram_bytes
        assert torch.equal(frames_of(STREAMED, tmp_path, link.place), wanted)
        assert {e.queue for e in events(tmp_path) if isinstance(e, Transfer)} == {"disk"}
        assert link.ledgers[-1].peak_bytes("host") <= link.ram_bytes
        assert link.left_bytes() == 0

    def test_ram_budget_too_small(self, link: Link, tmp_path: Path) -> None:
        """One byte less than the ring: exit 3, with the bytes that would do."""
        whole = attrs.evolve(SMALL, pins=(*SMALL.pins, "denoise.split=whole"))
        made = planning.plan(whole, on=link.place).plan
        least = made.host.minimum_bytes + made.footprint.staging_bytes
        link.ram_bytes = least - 1
        with pytest.raises(BudgetError, match=f"at least {least} bytes") as caught:
            frames_of(whole, tmp_path / "run", link.place)
        assert caught.value.hint == f"--ram {least}B"
        assert not (tmp_path / "run").exists()


def allocations(link: Link, out: Path) -> int:
    """How many slabs a whole run makes."""
    frames_of(STREAMED, out, link.place)
    return link.slabs


class TestOutOfMemory:
    """An allocation fails in spite of the plan."""

    @pytest.mark.parametrize("every", [3, pytest.param(1, marks=pytest.mark.wide)])
    def test_every_nth(self, link: Link, tmp_path: Path, every: int) -> None:
        """One failure at any allocation: the run tries again and makes the same frames."""
        wanted = frames_of(SHORT, tmp_path / "count", link.place)
        assert link.slabs > 1
        for number in range(1, link.slabs + 1, every):
            link.slabs, link.fails = 0, lambda n, at=number: n == at
            self._survives(link, tmp_path / f"at{number}", wanted)
            assert link.slabs > number

    @pytest.mark.parametrize("every", [12, pytest.param(4, marks=pytest.mark.wide)])
    def test_every_call(
        self, link: Link, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, every: int
    ) -> None:
        """The same where a kernel finds no room, at any call."""
        guarded, calls, fails_at = device_works.guarded, 0, 0

        def fail(_values: Tensors) -> Tensors:
            raise torch.OutOfMemoryError("CUDA out of memory. As the test wants it.")

        def call(placed: Placed, inputs: Tensors) -> Tensors:
            nonlocal calls
            calls += 1
            if calls == fails_at:
                placed = attrs.evolve(placed, call=attrs.evolve(placed.call, run=fail))
            return guarded(placed, inputs)

        monkeypatch.setattr(device_works, "guarded", call)
        wanted = frames_of(SHORT, tmp_path / "count", link.place)
        for number in range(1, calls + 1, 1 if SOAK else every):
            calls, fails_at = 0, number
            self._survives(link, tmp_path / f"at{number}", wanted)
            assert calls > number

    def _survives(self, link: Link, out: Path, wanted: torch.Tensor) -> None:
        link.close()
        before = set(threading.enumerate())
        found = frames_of(SHORT, out, link.place)
        found = found[-len(wanted) :]  # those of the first try may be before them
        assert torch.equal(found, wanted)
        assert len(link.devices) == 2  # as many tries, each on the card
        topics = [e.topic for e in events(out) if isinstance(e, Note)]
        assert topics == ["out of memory", "re-plan"]
        # No byte went elsewhere: out of memory is no reason to go on upon a CPU.
        assert {e.tier for e in events(out) if isinstance(e, Move)} == {"cuda:0", "host"}
        assert link.left_bytes() == 0
        assert reader_threads(before) == set()

    @pytest.mark.parametrize("failures", [2, 3])
    def test_tighter(self, link: Link, wanted: torch.Tensor, tmp_path: Path, failures: int) -> None:
        """Each further failure has a tighter plan, down to the smallest."""
        middle = allocations(link, tmp_path / "count") // 2
        link.slabs, link.fails = 0, lambda n: middle <= n < middle + failures
        assert torch.equal(frames_of(STREAMED, tmp_path / "run", link.place), wanted)
        tmp_path /= "run"
        plans = [e.text for e in events(tmp_path) if isinstance(e, Note) and e.topic == "re-plan"]
        assert len(plans) == failures
        assert len(set(plans)) > 1
        assert link.left_bytes() == 0

    def test_given_up(self, link: Link, wanted: torch.Tensor, tmp_path: Path) -> None:
        """After the tries: exit 6, nothing left, and what was saved can be gone on with."""
        late = allocations(link, tmp_path / "count")  # the last one: the VAE's
        link.slabs, link.fails = 0, lambda n: n >= late
        before = set(threading.enumerate())
        with pytest.raises(OutOfMemory) as caught:
            frames_of(STREAMED, tmp_path / "run", link.place)
        assert caught.value.exit_code == 6
        assert caught.value.detail["resume"] == f"wanflow resume {tmp_path / 'run'}"
        assert "three more tries failed too" in caught.value.message
        topics = [e.topic for e in events(tmp_path / "run") if isinstance(e, Note)]
        assert topics == ["out of memory", "re-plan"] * 3
        assert link.left_bytes() == 0
        assert reader_threads(before) == set()
        link.fails = lambda _: False
        assert torch.equal(resumed_frames(tmp_path / "run", link.place), wanted)
