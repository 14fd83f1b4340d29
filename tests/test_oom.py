"""Runs on a device with every tier: the same frames, and out of memory is survived or told."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import attrs
import pytest
import torch

from tests.resuming import (
    INPUTS,
    SMALL,
    STREAMED,
    Link,
    cut_short,
    events,
    frames_of,
    resumed_frames,
)
from wanflow.errors import BudgetError, OutOfMemory, StageFailed
from wanflow.scheduler.program import Placed, Tensors
from wanflow.scheduler.run import device_works, executor
from wanflow.scheduler.run.devices import LinkedDevice
from wanflow.scheduler.run.streamer import Streamer
from wanflow.session import Request
from wanflow.session.planning import planned as planning
from wanflow.trace.events import Move, Note, Transfer

SOAK = bool(os.environ.get("SOAK"))
# One pass a step: few allocations, to make each of them fail.
SHORT = attrs.evolve(
    SMALL,
    inputs={**INPUTS, "steps": 2, "guidance": 1.0},
    pins=(*SMALL.pins[1:], "denoise.weights=stream"),
)
# What comes to the host and back too.
SPILLED = attrs.evolve(SHORT, pins=(*SHORT.pins, "decode.spill=all"))
FULL = (
    torch.AcceleratorError("CUDA error: out of memory\nCompile with `TORCH_USE_CUDA_DSA`."),
    RuntimeError("DefaultCPUAllocator: can't allocate memory"),
    MemoryError(),
    torch.OutOfMemoryError("CUDA out of memory. As the test wants it."),
    RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
    RuntimeError("GET was unable to find an engine to execute this computation"),
)


@pytest.fixture(scope="module")
def wanted(tmp_path_factory: pytest.TempPathFactory) -> torch.Tensor:
    """The frames of the CPU device."""
    return frames_of(SMALL, tmp_path_factory.mktemp("cpu"))


@pytest.fixture(scope="module")
def short(tmp_path_factory: pytest.TempPathFactory) -> torch.Tensor:
    """The frames of a short run on the CPU device."""
    return frames_of(SHORT, tmp_path_factory.mktemp("short"))


@pytest.fixture(scope="module")
def spilled(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """What a run that spills asks its device for."""
    link, asked = Link(), []
    link.refuses = asked.append
    frames_of(SPILLED, tmp_path_factory.mktemp("spilled"), link.place)
    link.close()
    return asked


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


# The ring has room for whole segments, whatever smaller ones would leave of the host.
WHOLE = attrs.evolve(STREAMED, pins=(*STREAMED.pins, "denoise.split=whole"))


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
        made = planning.plan(WHOLE, on=link.place).plan
        link.ram_bytes = made.host.minimum_bytes + made.footprint.staging_bytes
        assert planning.host_bytes(made) > link.ram_bytes
        assert torch.equal(frames_of(WHOLE, tmp_path, link.place), wanted)
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


def spread_out(count: int, most: int) -> list[int]:
    """Up to *most* of the numbers from 0 to below *count*, the first and the last among them."""
    most = min(count, most)
    return [number * (count - 1) // max(most - 1, 1) for number in range(most)]


def once(what: str, number: int, error: Exception) -> Callable[[str], None]:
    """Refuse a kind of thing once, when it is asked for the *number*-th time (from 0)."""
    asked: list[str] = []

    def refuse(asked_for: str) -> None:
        asked.append(asked_for)
        if asked_for == what and asked.count(what) == number + 1:
            raise error

    return refuse


def fails_once(monkeypatch: pytest.MonkeyPatch, owner: object, name: str, error: Exception) -> None:
    """Have a function raise at its first call."""
    left, plain = [error], getattr(owner, name)

    def act(*given: Any, **named: Any) -> Any:
        if left:
            raise left.pop()
        return plain(*given, **named)

    monkeypatch.setattr(owner, name, act)


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

    @pytest.mark.parametrize("most", [2, pytest.param(6, marks=pytest.mark.wide)])
    @pytest.mark.parametrize("what", ["host_buffer", "upload", "download"])
    def test_every_move(
        self,
        link: Link,
        short: torch.Tensor,
        spilled: list[str],
        tmp_path: Path,
        what: str,
        most: int,
    ) -> None:
        """The same where a buffer or a copy finds none, on the reader's thread or the main one."""
        count = spilled.count(what)
        assert count > 1
        for number, error in zip(spread_out(count, most), FULL, strict=False):
            link.refuses = once(what, number, error)
            self._survives(link, tmp_path / f"at{number}", short, SPILLED)

    def test_gather(
        self, link: Link, short: torch.Tensor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Rows of the embedding find no room."""
        fails_once(monkeypatch, Streamer, "gather", FULL[0])
        self._survives(link, tmp_path / "run", short)

    @pytest.mark.parametrize("error", [FULL[1], pytest.param(FULL[0], marks=pytest.mark.wide)])
    def test_restore(
        self,
        link: Link,
        short: torch.Tensor,
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
        error: Exception,
    ) -> None:
        """What was saved finds no room; the next try restores it."""
        cut = cut_short(SHORT, tmp_path / "run", latents=2, on=link.place)
        fails_once(monkeypatch, executor, "_as_planned", error)
        link.close()
        assert torch.equal(resumed_frames(cut, link.place), short)
        notes = [e.text for e in events(cut) if isinstance(e, Note)]
        assert notes[0].startswith("going on after step 0 of stage 'denoise': ")
        assert link.left_bytes() == 0

    def _survives(
        self, link: Link, out: Path, wanted: torch.Tensor, request: Request = SHORT
    ) -> None:
        link.close()
        before = set(threading.enumerate())
        found = frames_of(request, out, link.place)
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

    @pytest.mark.parametrize("failures", [2, pytest.param(3, marks=pytest.mark.wide)])
    def test_less_of_the_host(
        self, link: Link, wanted: torch.Tensor, tmp_path: Path, failures: int
    ) -> None:
        """Where the RAM is full the plans take less of the RAM, and are not the smallest ones."""
        made = planning.plan(WHOLE, on=link.place).plan

        def refuse(what: str) -> None:
            if what == "host_buffer" and len(link.devices) <= failures:
                raise MemoryError

        link.refuses = refuse
        assert torch.equal(frames_of(WHOLE, tmp_path / "run", link.place), wanted)
        assert link.ledgers[-1].peak_bytes("host") < planning.host_bytes(made)
        peak = link.ledgers[-1].peak_bytes("cuda:0")
        assert made.minimum_bytes < peak <= made.predicted_peak_bytes
        assert link.left_bytes() == 0

    def test_hint_for_no_kernel(self, link: Link, tmp_path: Path) -> None:
        """The last message has what cuDNN said, which may mean something else."""
        said = "GET was unable to find an engine to execute this computation"

        def refuse(what: str) -> None:
            if what == "upload":
                raise RuntimeError(said)

        link.refuses = refuse
        with pytest.raises(OutOfMemory, match=said) as caught:
            frames_of(STREAMED, tmp_path / "run", link.place)
        assert (caught.value.exit_code, len(link.devices)) == (6, 4)
        assert "--precision" in caught.value.hint
        assert link.left_bytes() == 0


def test_card_fails_for_good(link: Link, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No further try: exit 1 with the stage and what came first; all is let go of as it can be."""
    before = set(threading.enumerate())
    said = ["CUDA error: an illegal memory access was encountered\nCompile with ..."]

    def dead(*_: object) -> None:
        raise torch.AcceleratorError(said.pop() if said else "CUDA error: what comes later")

    asked: list[str] = []

    def refuse(what: str) -> None:
        asked.append(what)
        if asked.count("upload") > 9:
            dead()

    link.refuses = refuse
    monkeypatch.setattr(LinkedDevice, "settle", dead)
    with pytest.raises(StageFailed) as caught:
        frames_of(STREAMED, tmp_path / "run", link.place)
    assert caught.value.message.startswith("stage 'denoise' (")
    assert caught.value.message.endswith("CUDA error: an illegal memory access was encountered")
    assert len(link.devices) == 1
    assert link.left_bytes() == 0
    assert reader_threads(before) == set()
