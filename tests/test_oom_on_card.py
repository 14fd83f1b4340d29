"""Memory that runs out on a card, by the real `CudaDevice`, and a card that fails for good."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from traceback import walk_stack
from typing import Any

import attrs
import pytest
import torch

from tests.cuda_emulator.device import Emulator
from tests.cuda_emulator.sessions import assert_nothing_left, least, on_card
from tests.jobs import Frames, run_watched
from tests.resuming import INPUTS, cut_short, events
from wanflow.cli.main import run as command
from wanflow.errors import StageFailed
from wanflow.remarks import take_remarks
from wanflow.scheduler.run.devices import refused_pinning
from wanflow.session import resume, run
from wanflow.trace.events import Memory, Note

WIDE = pytest.mark.wide
ILLEGAL = "CUDA error: an illegal memory access was encountered"
NEVER = 1 << 40
# As few operations as have weights and values on their way: each is told of to the emulator.
REQUEST = on_card(
    inputs={**INPUTS, "steps": 2, "guidance": 1.0, "prompt": "x"},
    pins=("denoise.weights=stream", "decode.strips=whole", "decode.spill=all"),
    ram="1GiB",  # stated, so that the host keeps what comes again
)


OUT_OF_MEMORY: dict[str, tuple[str, Callable[[], BaseException]]] = {
    "allocator": (
        "allocation",
        lambda: torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 8.00 MiB."),
    ),
    "cudnn": (
        "launch",
        lambda: RuntimeError("GET was unable to find an engine to execute this computation"),
    ),
    "cublas": (
        "launch",
        lambda: RuntimeError(
            "CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"
        ),
    ),
    "loading": (
        "launch",
        lambda: torch.AcceleratorError("CUDA error: out of memory\nCUDA kernel errors might ..."),
    ),
    "upload": ("upload", lambda: torch.AcceleratorError("CUDA error: out of memory")),
    "host": (
        "host memory",
        lambda: RuntimeError("err == 0. DefaultCPUAllocator: can't allocate memory: you tried ..."),
    ),
    "python": ("host memory", MemoryError),
}


@attrs.define
class Fault:
    """Raises the *number*-th time (from 1) that something is asked for, and *times* times in all.

    With *within*, it counts only what a function of this name asks for.
    """

    place: str
    raised: Callable[[], BaseException]
    number: int
    times: int = 1
    within: str = ""
    count: int = 0

    def __call__(self, what: str, _nbytes: int) -> BaseException | None:
        """Say what is raised now, if anything."""
        if not what.startswith(self.place) or (self.within and not within(self.within)):
            return None
        self.count += 1
        return self.raised() if 0 <= self.count - self.number < self.times else None


def within(name: str) -> bool:
    """Whether a function of this name is running in this thread."""
    return any(frame.f_code.co_name == name for frame, _ in walk_stack(None))


@pytest.fixture(scope="module")
def wanted(emulate_once: Any, tmp_path_factory: pytest.TempPathFactory) -> torch.Tensor:
    """The frames of a run in which nothing fails."""
    with emulate_once():
        return run_watched(REQUEST, tmp_path_factory.mktemp("whole")).frames


@pytest.fixture(scope="module")
def emulate_once(emulator_library: Path) -> Any:
    """Pose as a card for a fixture of the module."""
    from tests.cuda_emulator.card import Card
    from tests.cuda_emulator.emulated import emulated

    return lambda: emulated(emulator_library, Card())


def notes(out: Path) -> list[str]:
    """What the trace has of things to know."""
    return [e.topic for e in events(out) if isinstance(e, Note)]


def assert_survived(emulator: Emulator, out: Path, frames: torch.Tensor, wanted: Any) -> None:
    """One more try made the same frames; nothing raced, nothing is left."""
    assert torch.equal(frames[-len(wanted) :], wanted)
    assert notes(out) == ["out of memory", "re-plan"]
    assert_nothing_left(emulator)


class TestOutOfMemory:
    """Survived, whoever says it."""

    @pytest.mark.parametrize(
        ("kind", "tries"),
        [
            ("cudnn", 1),
            ("upload", 1),
            *(pytest.param(kind, 4, marks=WIDE) for kind in OUT_OF_MEMORY),
        ],
    )
    def test_anywhere(
        self, emulator: Emulator, wanted: torch.Tensor, tmp_path: Path, kind: str, tries: int
    ) -> None:
        """At an allocation, in a kernel, on the reader's thread, on the card or the host."""
        place, raised = OUT_OF_MEMORY[kind]
        # Planning asks for some of either memory too: there a full card is no refusal.
        inside = "_drive" if place in ("host memory", "allocation") else ""
        numbers = [5]
        if tries > 1:
            emulator.fails = counter = Fault(place, raised, NEVER, within=inside)
            run_watched(REQUEST, tmp_path / "count")
            last = counter.count
            numbers = [1 + number * (last - 1) // (tries - 1) for number in range(tries)]
        for number in numbers:
            emulator.fails = Fault(place, raised, number, within=inside)
            out = tmp_path / f"{number}"
            assert_survived(emulator, out, run_watched(REQUEST, out).frames, wanted)

    @pytest.mark.parametrize(
        ("inside", "place"),
        [
            ("gather", "upload"),
            ("spill", "host memory"),
            pytest.param("spill", "download", marks=WIDE),
            pytest.param("open", "host memory", marks=WIDE),
            pytest.param("_bring", "host memory", marks=WIDE),
            pytest.param("start_value", "allocation", marks=WIDE),
            pytest.param("open_arena", "allocation", marks=WIDE),
        ],
    )
    def test_at(
        self, emulator: Emulator, wanted: torch.Tensor, tmp_path: Path, inside: str, place: str
    ) -> None:
        """Rows of the embedding, values that leave, buffers, arenas."""
        kind = "python" if place == "host memory" else "loading"
        out = tmp_path / "run"
        emulator.fails = Fault(place, OUT_OF_MEMORY[kind][1], 1, within=inside)
        assert_survived(emulator, out, run_watched(REQUEST, out).frames, wanted)

    def test_restore(self, emulator: Emulator, wanted: torch.Tensor, tmp_path: Path) -> None:
        """What was saved finds no room."""
        out = cut_short(REQUEST, tmp_path / "run")
        place, raised = OUT_OF_MEMORY["allocator"]
        emulator.fails = Fault(place, raised, 1, within="_restore")
        frames = Frames()
        resume(out, watch=frames)
        assert_survived(emulator, out, frames.all(), wanted)

    def test_given_up(self, emulator: Emulator, tmp_path: Path, capsys: Any) -> None:
        """Exit 6 after three more tries, with what cuDNN said and what else it may mean."""
        place, raised = OUT_OF_MEMORY["cudnn"]
        emulator.fails = Fault(place, raised, 1, times=NEVER)
        words = ["run", "t2v-tiny", "--prompt", "x", "--device", "cuda", "-i", "steps=1"]
        assert command([*words, "-i", "frames=5", "--out", str(tmp_path / "run")]) == 6
        text = " ".join(capsys.readouterr().err.split())
        assert str(raised()) in text
        assert "--precision fp16" in text
        assert notes(tmp_path / "run") == ["out of memory", "re-plan"] * 3
        assert_nothing_left(emulator)

    def test_late_answer(
        self,
        emulator: Emulator,
        wanted: torch.Tensor,
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        """What kernels have left to say is taken before the next try, once."""
        late, plain = [OUT_OF_MEMORY["loading"][1]()], torch.cuda.synchronize
        fault = Fault(*OUT_OF_MEMORY["loading"], 9)

        def synchronize(*given: Any) -> None:
            plain(*given)
            if late and fault.count:
                raise late.pop()

        monkeypatch.setattr(torch.cuda, "synchronize", synchronize)
        emulator.fails = fault
        out = tmp_path / "run"
        assert_survived(emulator, out, run_watched(REQUEST, out).frames, wanted)
        assert not late


class TestPinning:
    """The driver locks no pages."""

    def test_refused(self, emulator: Emulator, wanted: torch.Tensor, tmp_path: Path) -> None:
        """Plain memory does, with a remark: pinned memory would ask the same driver."""
        take_remarks()
        emulator.faults.refuses_registering = True
        made = run_watched(REQUEST, tmp_path / "run")
        assert torch.equal(made.frames, wanted)
        assert "out of memory" not in notes(tmp_path / "run")
        assert emulator.calls["cudaHostRegister"] > 2
        assert emulator.calls["pin_memory"] == 0
        assert [text for text in take_remarks() if "not pinned" in text and "not supported" in text]

    def test_tried(self, emulator: Emulator) -> None:
        """What a plan rests on can be asked before; nothing stays locked or pending."""
        device = torch.device("cuda:0")
        assert refused_pinning(device, 1 << 20) == ""
        emulator.faults.refuses_registering = True
        assert "operation not supported" in refused_pinning(device, 1 << 20)
        torch.ones(1, device=device)
        assert emulator.registered == {}


class TestFailsForGood:
    """A card that answers no call any more."""

    @pytest.mark.parametrize(
        "place", ["upload", *(pytest.param(place, marks=WIDE) for place in ("launch", "download"))]
    )
    def test_first_error_is_told(self, emulator: Emulator, tmp_path: Path, place: str) -> None:
        """Exit 1 with the stage; no further try; each buffer is let go of as far as it can be."""

        def lost() -> torch.AcceleratorError:
            emulator.lost = ILLEGAL
            return torch.AcceleratorError(f"{ILLEGAL}\nCompile with `TORCH_USE_CUDA_DSA` ...")

        emulator.fails = Fault(place, lost, 30)
        with pytest.raises(StageFailed) as caught:
            run_watched(REQUEST, tmp_path / "run")
        assert caught.value.message.startswith("stage '")
        assert caught.value.message.endswith(ILLEGAL)
        assert notes(tmp_path / "run") == []
        tried = 1  # before the plan, and let go of
        assert emulator.calls["cudaHostUnregister"] == tried + len(emulator.registered) > tried

    def test_after_out_of_memory(self, emulator: Emulator, tmp_path: Path) -> None:
        """Both are told, and there is no further try."""

        def lost() -> torch.OutOfMemoryError:
            emulator.lost = ILLEGAL
            return torch.OutOfMemoryError("CUDA out of memory.")

        emulator.fails = Fault("allocation", lost, 9)
        with pytest.raises(StageFailed, match=f"CUDA out of memory.; then {ILLEGAL}"):
            run_watched(REQUEST, tmp_path / "run")


def test_trace_counts_retries(emulator: Emulator, tmp_path: Path) -> None:
    """An allocation that is swallowed, as cuDNN's plans are, shows at the end of the stage."""

    def watch(_stage: str, name: str, _tensor: torch.Tensor) -> None:
        if name == "noise.latents":
            with suppress(torch.OutOfMemoryError):
                torch.empty(emulator.card.total_bytes, dtype=torch.uint8, device="cuda")

    run(least(on_card()), out=tmp_path / "run", watch=watch)
    memory = [e for e in events(tmp_path / "run") if isinstance(e, Memory)]
    reserved = [(e.alloc_retries, e.alloc_failures) for e in memory if e.source == "reserved"]
    assert (reserved[0], reserved[-1][1]) == ((0, 0), 1)
    assert reserved[-1][0] > 0
    assert {e.alloc_failures for e in memory if e.source != "reserved"} == {0}
