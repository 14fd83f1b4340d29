"""What is loaded ahead is of the turn that it comes in: a stage's peak is what its plan says."""

import io
import json

import pytest

from wanflow.cli import main
from wanflow.trace import TraceReader, TraceWriter, summarise, summarise_events
from wanflow.trace.events import Kind, Move, StageSpan, Step, Verb, Workspace
from wanflow.trace.exports.memory_events import write_memory_events
from wanflow.trace.moment import peak_moment
from wanflow.trace.report.facts import facts_of
from wanflow.trace.stage_peaks import stage_loads
from wanflow.trace.stage_progress import StageProgress

GPU = "cuda:0"
HEADER = {"budget_tier": GPU, "budget_bytes": 100, "stages": ["denoise", "decode"]}


def move(verb, name, stage, step, nbytes, resident, at, source="disk", kind=Kind.WEIGHTS):
    """Move something on the card."""
    return Move(verb, kind, name, stage, step, source, GPU, nbytes, resident, at, at, 0, "")


def run():
    """Give a run whose decoder is loaded ahead in the last turn of its first stage.

    The turn's peak is 30 of weights, 5 loaded ahead, 20 of the call; the decoder's own is 5 and 8.
    """
    return [
        move(Verb.PLACE, "dit/0", "denoise", 0, 30, 30, 0),
        Workspace("block", "denoise", 0, GPU, 10, 40, 0, 10),
        Step("denoise", 0, 2, 0, 10, 30, 0),
        move(Verb.PLACE, "vae/0", "decode", 7, 5, 35, 10),
        Workspace("block", "denoise", 1, GPU, 20, 55, 10, 20),
        move(Verb.FREE, "dit/0", "denoise", 1, 30, 5, 20, ""),
        Step("denoise", 1, 2, 10, 20, 5, 0),
        StageSpan("denoise", "denoise", 0, 20, 55, ()),
        Workspace("up", "decode", 0, GPU, 8, 13, 20, 30),
        Step("decode", 0, 1, 20, 30, 5, 0),
        move(Verb.FREE, "vae/0", "decode", 0, 5, 0, 30, ""),
        StageSpan("decode", "decode_frames", 20, 30, 13, ()),
    ]  # fmt: skip


def peaks(events):
    """Give each stage's peak, and what it is made of in all."""
    loads = stage_loads(events, summarise_events(events, HEADER).stages, GPU)
    return {
        load.summary.stage: (load.summary.peak_bytes, load.peak.resident_bytes) for load in loads
    }


class TestLoadedAhead:
    """Weights of a later stage."""

    def test_are_of_the_turn_that_they_come_in(self) -> None:
        """Not of the stage that they are for, whose own peak is lower."""
        assert peaks(run()) == {"denoise": (55, 55), "decode": (13, 13)}

    def test_without_the_stage_s_own_record(self) -> None:
        """A run that goes on, or was killed."""
        assert peaks([e for e in run() if not isinstance(e, StageSpan)]) == peaks(run())

    def test_values_that_come_back(self) -> None:
        """From the host: ahead as weights are."""
        events = run()
        events[3] = move(Verb.PLACE, "x", "decode", 7, 5, 35, 10, "host", Kind.VALUE)
        assert peaks(events)["decode"] == (13, 13)

    def test_of_another_stage_are_none_of_it(self) -> None:
        """A call made no more room than they took: the peak is in its turn all the same."""
        events = run()
        events[4] = Workspace("scale", "denoise", 1, GPU, 0, 41, 10, 20)
        events[3] = move(Verb.PLACE, "vae/0", "decode", 7, 11, 41, 10)
        summary, moment = summarise_events(events, HEADER), peak_moment(lambda: events, GPU)
        assert (summary.peak.resident_bytes, moment.resident_bytes) == (41, 41)
        assert (summary.peak.stage, summary.peak.step) == ("denoise", 1)
        assert (moment.stage, moment.step) == ("denoise", 1)
        assert moment.by_stage == {"denoise": 30, "decode": 11}

    def test_before_any_call(self) -> None:
        """Of no stage until one says whose turn it is; of the run at once."""
        summary = summarise_events(run()[:1], HEADER)
        assert (summary.peak_bytes, summary.stages[0].peak_bytes) == (30, 0)


class TestSteps:
    """A report's steps, and those of `memory_events.json`."""

    def test_report(self) -> None:
        """The decoder's first step took what it took; it began with 5 there."""
        first, second, third = facts_of(run, HEADER).steps
        assert [first.peak_bytes, second.peak_bytes, third.peak_bytes] == [40, 55, 13]
        assert [first.delta_bytes, second.delta_bytes, third.delta_bytes] == [30, -25, 0]

    def test_export(self, tmp_path) -> None:
        """A stage that takes turns with another one."""
        events = run()
        events.insert(3, Workspace("up", "decode", 0, GPU, 1, 31, 10, 10))
        writer = TraceWriter(tmp_path / "trace.msgpack", HEADER)
        for event in events:
            writer.emit(event)
        writer.close("done", {})
        out = io.BytesIO()
        with TraceReader(tmp_path / "trace.msgpack") as reader:
            write_memory_events(reader, summarise_events(events, HEADER), out)
        rows = json.loads(out.getvalue())["events"]
        steps = [row["step_peak_bytes"] for row in rows if row["event"] == "step_end"]
        assert steps == [40, 55, 31]


def test_the_stage_at_work_stays_at_work() -> None:
    """While a later one is loaded ahead; when it has ended, the next one's loads begin it."""
    state, seen = StageProgress(), []
    for event in run():
        state.see(event)
        seen.append(state.stage)
    assert seen == ["denoise"] * 8 + ["decode"] * 4
    state = StageProgress(ended={"denoise": 1.0}, stage="denoise")
    state.see(move(Verb.PLACE, "vae/0", "decode", 0, 5, 5, 20))
    assert state.stage == "decode"


def test_no_more_turns_than_there_are() -> None:
    """What writes frames as they are decoded has as many turns as chunks came: never 5 of 1."""
    state = StageProgress()
    for index in range(5):
        state.see(Step("write", index, 1, index, index + 1, 0, 0))
        turn = state.turn()
        assert (turn.done, turn.total) == (index + 1, index + 1)


@pytest.mark.parametrize("budget", ["556MiB", "auto"])
def test_a_stage_s_peak_is_the_planned_one(tmp_path, capsys, budget) -> None:
    """To the byte, of every stage, where a card's budget has the next stage loaded ahead."""
    path = tmp_path / "plan.msgpack"
    words = ["--machine", "rtx4090", "--vram", budget, "--no-probe", "--json"]
    assert main.run(["plan", "t2v-tiny", *words, "--trace", str(path)]) == 0
    planned = json.loads(capsys.readouterr().out)["stages"]
    found = {stage.stage: stage.whole_peak_bytes for stage in summarise(path).stages}
    assert {stage["stage"]: stage["peak_bytes"] for stage in planned} == {
        name: nbytes for name, nbytes in found.items() if name
    }
