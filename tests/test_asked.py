"""What can be asked of a plan, with the real session: budgets in every form, every knob."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from itertools import pairwise
from pathlib import Path
from typing import Any

import attrs
import pytest
import torch

from tests.pictured import TALL, TWINS, make_folder
from tests.resuming import Frames, Link, events
from wanflow.cli import main
from wanflow.graph.load import shipped_graphs
from wanflow.session import Request, run
from wanflow.session.planning import planned as planning
from wanflow.session.preparing.place import Place, find_place
from wanflow.session.preparing.prepare import prepare
from wanflow.trace.events import Kind, Move, Transfer, Verb
from wanflow.units import GIB

INPUTS: dict[str, str | int | float] = {"steps": 2, "frames": 5, "size": "32*32"}
TINY = Request("t2v-tiny", INPUTS, device="cpu", vram="64MiB")
CARD = 8 * GIB  # an rtx4060
NO_SIZES = {
    "8": "write 8GiB or 8MiB", "1.5": "write 1.5GiB or 1.5MiB", "": "8GiB", "GiB": "8GiB",
    "lots": "8GiB", "-8GiB": "8GiB", "8XB": "8GiB", "1.5B": "8GiB", "8GiB more": "8GiB",
    "0B": "1B to 1024TiB", "9999999TiB": "1B to 1024TiB", "0%": "above 0% and at most 100%",
    "101%": "above 0% and at most 100%", "900GiB": "auto",
}  # fmt: skip


Said = tuple[int, str, str]


@pytest.fixture
def wanflow(capsys: pytest.CaptureFixture[str]) -> Callable[..., Said]:
    """Run the command in this process: exit code, stdout, stderr."""

    def command(*words: str) -> Said:
        code = main.run([*words])
        said = capsys.readouterr()
        return code, said.out, said.err

    return command


class TestSizes:
    """`--vram` and `--ram` on the command line."""

    def plan(self, wanflow: Callable[..., Said], *words: str) -> Said:
        given = [f"-i{name}={value}" for name, value in INPUTS.items()]
        return wanflow("plan", "t2v-tiny", *given, "--machine", "rtx4060", "--json", *words)

    def test_a_size_and_a_share(self, wanflow: Callable[..., Said]) -> None:
        """In bytes, as the plan says them, and the plan is within; every form is in test_place."""
        code, out, err = self.plan(wanflow, "--vram=2 gib", "--ram=50%")
        report = json.loads(out)
        assert (code, err) == (0, "")
        assert report["budget_bytes"] == 2 * GIB >= report["predicted_peak_bytes"]
        assert report["ram_bytes"] == 16 * GIB >= report["host_bytes"] > 0

    def test_auto(self, wanflow: Callable[..., Said]) -> None:
        """Nine tenths of an empty card, and six of its machine's RAM."""
        code, out, err = self.plan(wanflow, "--vram=auto", "--ram=auto")
        report = json.loads(out)
        assert (code, err) == (0, "")
        assert (report["budget_bytes"], report["ram_bytes"]) == (CARD * 9 // 10, 32 * GIB * 6 // 10)

    @pytest.mark.parametrize("option", ["--vram", "--ram"])
    @pytest.mark.parametrize("text", NO_SIZES)
    def test_no_size(self, wanflow: Callable[..., Said], option: str, text: str) -> None:
        """Exit 2, naming the option, and what is allowed."""
        code, out, err = self.plan(wanflow, f"{option}={text}")
        error = json.loads(err)["error"]
        assert (code, out, error["exit_code"]) == (2, "", 2)
        assert error["message"].startswith(f"{option} ")
        assert NO_SIZES[text] in f"{error['message']} {error.get('hint', '')}"


@attrs.frozen
class Value:
    """A value of a knob of a stage, and whether it leaves every bit alone."""

    stage: str
    op: str
    knob: str
    value: str
    mark: str

    @property
    def pin(self) -> str:
        """The word after `--pin`."""
        return f"{self.stage}.{self.knob}={self.value}"


def values_of(graph: str, inputs: Mapping[str, Any] | None = None) -> list[Value]:
    """Every value of every knob that the stages of a graph have, at some inputs."""
    request = Request(graph, dict(inputs or {}), device="cpu", vram="64MiB")
    programs = prepare(request, find_place(request), to_run=False).programs(None)
    found = [
        Value(program.stage, program.op, knob.name, value, mark)
        for program in programs
        for knob in program.knobs
        for value, mark in knob.choices.items()
    ]
    models = [program for program in programs if program.model is not None]
    weights = [Value(p.stage, p.op, "weights", "", "bitwise") for p in models]
    return found + [attrs.evolve(w, value=v) for w in weights for v in ("resident", "stream")]


@pytest.fixture(scope="module")
def values() -> list[Value]:
    """The tiny graph's: found, not listed, so that one which is added later is among them."""
    return values_of("t2v-tiny")


class TestEveryKnob:
    """`--pin STAGE.KNOB=VALUE`."""

    def test_is_run(self, values: list[Value], tmp_path: Path) -> None:
        """With each value the run has it, and the frames are the same (a bit each, or nearly)."""
        wanted = self._frames(attrs.evolve(TINY, exact=True), tmp_path / "exact")
        assert {value.stage for value in values} >= {"encode", "denoise", "decode"}
        for value in values_of("t2v-tiny", TINY.inputs):
            request = attrs.evolve(TINY, pins=(value.pin,), exact=value.mark == "bitwise")
            found = self._frames(request, tmp_path / value.pin)
            self._was_taken(value, tmp_path / value.pin)
            if value.mark == "bitwise":
                assert torch.equal(found, wanted), value.pin
            else:
                levels = found.dtype == torch.uint8  # rounded already, where a clip is put together
                shown = found.float() / 255 if levels else found
                assert torch.allclose(shown, wanted, rtol=0, atol=3e-3 if levels else 1e-3), value

    def _frames(self, request: Request, out: Path) -> torch.Tensor:
        watch = Frames()
        run(request, out=out, watch=watch)
        assert watch.frames.shape == (5, 3, 32, 32)
        return watch.frames

    def _was_taken(self, value: Value, out: Path) -> None:
        stages = json.loads((out / "plan.json").read_text())["stages"]
        stage = next(stage for stage in stages if stage["stage"] == value.stage)
        if value.knob != "weights":
            assert stage["knobs"][value.knob] == value.value
        elif value.value == "stream":
            assert stage["resident_segments"] == 0
        else:
            assert stage["streamed_bytes"] == 0

    def test_of_every_graph(self, values: list[Value], tmp_path: Path) -> None:
        """What another shipped graph's ops can be told is run here, or in `test_pictured.py`.

        A control's clips are encoded by the calls of `encode_frames` (`encode_clip.py`).
        """

        def what(value: Value) -> tuple[str, str, str]:  # how many rows, depends on the size
            op = "encode_frames" if value.op == "encode_control" else value.op
            return (op, value.knob, value.value.partition(".")[0])

        twin = make_folder(TWINS["flf2v"], tmp_path / "twin") / "graph.yaml"
        pictured = values_of(str(twin), {"size": TALL})
        run_here = {what(value) for value in [*values, *pictured]}
        for graph in shipped_graphs():
            assert {what(value) for value in values_of(graph)} <= run_here

    def test_wrong_values(self, values: list[Value], wanflow: Callable[..., Said]) -> None:
        """Exit 2, and all that the knob takes."""
        allowed: dict[tuple[str, str], list[str]] = {}
        for each in values:
            allowed.setdefault((each.stage, each.knob), []).append(each.value)
        for (stage, knob), right in allowed.items():
            for wrong in ("", "none", f"{right[0]}x", right[0][:-1] + "?", f" {right[0]}"):
                error = self._refused(wanflow, f"{stage}.{knob}={wrong}")
                assert error["message"].startswith(f"--pin {stage}.{knob}={wrong}: not a value")
                assert error["hint"] == f"allowed: {', '.join(right)}"

    def test_wrong_knobs(self, values: list[Value], wanflow: Callable[..., Said]) -> None:
        """Exit 2, and all that the stage has; for no stage, all that the graph has."""
        stages: dict[str, list[str]] = {"noise": ["none"], "write": ["none"]}
        for each in values:
            stages.setdefault(each.stage, []).append(each.knob)
        for stage, knobs in stages.items():
            error = self._refused(wanflow, f"{stage}.knob=1")
            assert error["hint"] == f"its knobs: {', '.join(dict.fromkeys(knobs))}"
        error = self._refused(wanflow, "knob.denoise=1")
        assert error["hint"] == "its stages are encode, noise, denoise, decode, write"

    def _refused(self, wanflow: Callable[..., Said], pin: str) -> dict[str, str]:
        words = ["plan", "t2v-tiny", "--device", "cpu", "--vram", "64MiB"]
        code, out, err = wanflow(*words, f"--pin={pin}", "--json")
        assert (code, out) == (2, ""), pin
        error: dict[str, str] = json.loads(err)["error"]
        return error


class Card(Link):
    """A link whose other end is planned for as an rtx4060, beside a disk that is worth avoiding."""

    def place(self, request: Request) -> Place:
        """What the request leaves of it."""
        place = find_place(attrs.evolve(request, machine="rtx4060"))
        machine = attrs.evolve(place.machine, disk_rate=1e6, cached_disk_rate=1e6)
        return self.put_on(attrs.evolve(place, device_name="cpu", machine=machine))


class TestRamBudget:
    """A plan for a card with little RAM beside it, run where every tier is real."""

    VRAM = 2 * GIB  # the context, a reserve and some more
    STREAMED = attrs.evolve(TINY, pins=("denoise.weights=stream", "denoise.cfg=serial"))

    @pytest.fixture
    def card(self) -> Iterator[Link]:
        """A link to an rtx4060, as `--vram` and `--ram` have it."""
        card = Card()
        yield card
        card.close()

    def _ran(self, card: Link, ram: int | None, out: Path) -> torch.Tensor:
        watch = Frames()
        request = attrs.evolve(self.STREAMED, vram=f"{self.VRAM}B", ram=ram and f"{ram}B")
        run(request, out=out, watch=watch, on=card.place)
        assert card.left_bytes() == 0
        return watch.frames

    def _from_disk(self, out: Path) -> dict[str, int]:
        """How often each of the transformer's segments was read from the disk."""
        found: dict[str, int] = {}
        for event in events(out):
            if isinstance(event, Transfer) and event.name.startswith("dit/"):
                found.setdefault(event.name, 0)
                found[event.name] += event.queue == "disk"
        return found

    def _host_peak(self, out: Path) -> int:
        moves = [e for e in events(out) if isinstance(e, Move) and e.tier == "host"]
        return max(move.resident_bytes for move in moves)

    def test_forces_the_disk(self, card: Link, tmp_path: Path) -> None:
        """The less RAM, the more comes from the disk, each time; the frames stay the same bits."""
        resident = Frames()
        asked = attrs.evolve(TINY, vram=f"{self.VRAM}B")
        run(asked, out=tmp_path / "resident", watch=resident, on=card.place)
        wide = planning.plan(attrs.evolve(self.STREAMED, vram=f"{self.VRAM}B"), on=card.place).plan
        least = wide.host.minimum_bytes + wide.footprint.staging_bytes
        most = planning.host_bytes(wide)
        reads = []
        for ram in (None, (least + most) // 2, least):
            out = tmp_path / f"ram-{ram}"
            assert torch.equal(self._ran(card, ram, out), resident.frames)
            assert card.ledgers[-1].peak_bytes("host") <= (ram or most)
            assert self._host_peak(out) <= (ram or most)
            reads.append(self._from_disk(out))
        uses = 2 * INPUTS["steps"]  # two passes of guidance a step
        assert set(reads[0].values()) == {1}
        assert set(reads[2].values()) == {uses}
        assert all(sum(more.values()) > sum(less.values()) for less, more in pairwise(reads))

    def test_nothing_is_kept_on_the_host(self, card: Link, tmp_path: Path) -> None:
        """With room for the ring alone, no weight has an account there."""
        wide = planning.plan(attrs.evolve(self.STREAMED, vram=f"{self.VRAM}B"), on=card.place).plan
        self._ran(card, wide.host.minimum_bytes + wide.footprint.staging_bytes, tmp_path)
        kept = [e.kind for e in events(tmp_path) if isinstance(e, Move) and e.tier == "host"]
        assert set(kept) == {Kind.WORKSPACE}
        freed = [e for e in events(tmp_path) if isinstance(e, Move) and e.verb is Verb.FREE]
        assert freed[-1].resident_bytes == 0
