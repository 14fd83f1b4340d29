"""A run on a card (the emulated one): what it says of memory and time is the card's."""

from __future__ import annotations

import functools
import json

import attrs
import pytest

from tests.cuda_emulator.card import Card
from tests.cuda_emulator.emulated import emulated
from wanflow import system
from wanflow.scheduler.machine.store import load
from wanflow.session import Request, plan, replay, run
from wanflow.trace import TraceReader, TraceWriter, summarise
from wanflow.trace.events import Memory, Move, Note, Step, Transfer, Verb, Workspace

MIB = 2**20
INPUTS = {"prompt": "a red circle", "frames": "5", "size": "48*32", "steps": "2"}


@attrs.frozen
class CardRun:
    """What a run left: `run.json`, its trace, and what it taught."""

    done: dict
    events: list
    header: dict
    summary: object
    trace: object
    learned: object


def at_least(library, card: Card, folder, more_bytes: int = 0) -> CardRun:
    """Run the tiny graph in the least memory that it needs, and a little more."""
    request = Request("t2v-tiny", inputs=INPUTS, device="cuda", vram="auto", prompt_cache=False)
    look = functools.partial(system.look, library=str(library))
    with emulated(library, card), pytest.MonkeyPatch.context() as patch:
        patch.setattr(system, "look", look)
        least = plan(request).report["minimum_bytes"] + more_bytes
        done = run(attrs.evolve(request, vram=f"{least}B"), out=folder / "run")
        trace = folder / "run" / "trace.msgpack"
        with TraceReader(trace) as reader:
            events, header = list(reader), reader.header
        learned = load(header["machine"])
    return CardRun(done, events, header, summarise(trace), trace, learned)


@pytest.fixture(scope="module")
def ran(emulator_library, tmp_path_factory):
    """Run on a card whose context grows with its first kernel, within its share."""
    folder = tmp_path_factory.mktemp("card")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CONFIG_HOME", str(folder / "config"))
        yield at_least(emulator_library, Card(used_bytes=700 * MIB), folder)


@pytest.fixture(scope="module")
def grown(emulator_library, tmp_path_factory):
    """Run on one whose context takes more than its share; other programs hold some of the card."""
    folder = tmp_path_factory.mktemp("grown")
    card = Card(context_bytes=400 * MIB, kernels_bytes=200 * MIB)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CONFIG_HOME", str(folder / "config"))
        yield at_least(emulator_library, card, folder, 300 * MIB)


class TestMemory:
    """All that the process takes, against the whole budget."""

    def test_every_view_has_one_figure(self, ran) -> None:
        """The summary, `run.json` and the file itself."""
        done, summary = ran.done, ran.summary

        assert (done["peak_bytes"], done["peak_source"]) == (
            summary.measured_peak_bytes,
            "reserved",
        )
        assert (
            json.loads((ran.trace.parent / "run.json").read_text())["peak_bytes"]
            == (done["peak_bytes"])
        )
        assert done["reserved_peak_bytes"] == summary.whole_peak_bytes
        assert done["over_budget_bytes"] == summary.over_budget_bytes == 0

    def test_the_context_is_in_it(self, ran) -> None:
        """Beside what the allocator holds, which it never was before."""
        most = {e.source: e.peak_bytes for e in ran.events if isinstance(e, Memory)}

        assert ran.done["beside_bytes"] == most["context+others"] >= 400 * MIB
        assert ran.done["peak_bytes"] == most["reserved"] + most["context+others"]
        assert ran.summary.predicted_peak_bytes == ran.done["predicted_peak_bytes"]
        assert ran.summary.whole_peak_bytes <= ran.done["budget_bytes"]

    def test_stages_as_the_plan_says_them(self, ran) -> None:
        """With what is set aside."""
        planned = json.loads((ran.trace.parent / "plan.json").read_text())["stages"]
        found = {stage.stage: stage.whole_peak_bytes for stage in ran.summary.stages}

        assert {s["stage"]: s["peak_bytes"] for s in planned}.items() <= found.items()


class TestContext:
    """What it takes over its share comes off the allocator's cap."""

    def test_is_noted(self, grown) -> None:
        """In the trace, once."""
        notes = [e.text for e in grown.events if isinstance(e, Note) and e.topic == "context"]

        assert len(notes) == 1
        assert notes[0].endswith("over its share")

    def test_the_budget_holds(self, grown) -> None:
        """There was room for it here."""
        assert grown.done["beside_bytes"] >= 600 * MIB
        assert grown.done["over_budget_bytes"] == 0


class TestTime:
    """Calls, copies and waits have the card's times."""

    def test_one_thing_at_a_time(self, ran) -> None:
        """A call begins where what it waited for ended."""
        at = 0
        for event in ran.events:
            leaves = isinstance(event, Move) and event.verb is Verb.OFFLOAD
            if isinstance(event, Workspace) or leaves:
                assert event.began_ns >= at
                at = event.ended_ns
            elif isinstance(event, Transfer) and event.waited_ns:
                assert event.ended_ns - event.waited_ns >= at
                at = event.ended_ns
        assert ran.header["device_times"] is True

    def test_steps_end_after_their_calls(self, ran) -> None:
        """And are written in their order."""
        ends = {}
        for event in ran.events:
            if isinstance(event, Workspace):
                ends[event.stage, event.step] = event.ended_ns
            if isinstance(event, Step):
                assert event.ended_ns >= ends[event.stage, event.index]
        steps = [e.index for e in ran.events if isinstance(e, Step) and e.stage == "denoise"]
        assert steps == [0, 1]

    def test_is_learned(self, ran) -> None:
        """Nothing was, of a card."""
        assert ran.learned is not None
        assert set(ran.learned.was) & {"kernel_seconds", "call_seconds"}

    def test_is_replayed(self, ran) -> None:
        """By the times of the run and not by rates."""
        again = replay(ran.trace).report

        assert again["times"] == "measured"
        assert again["measured_calls"] == again["calls"]

    def test_an_older_trace_is_replayed_by_rates(self, ran, tmp_path) -> None:
        """Its calls have the times at which the host launched them."""
        own = ("format", "version", "fields", "crc32", "device_times")
        path = tmp_path / "trace.msgpack"
        with TraceWriter(path, {k: v for k, v in ran.header.items() if k not in own}) as writer:
            for event in ran.events:
                writer.emit(event)

        assert replay(path).report["times"] == "rates"
