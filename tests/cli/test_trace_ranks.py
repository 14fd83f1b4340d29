"""What `wanflow trace` says of the ranks of a run on several devices."""

import json

import attrs
import pytest

from wanflow.trace import TraceWriter
from wanflow.trace.check import check_ranks
from wanflow.trace.events import Kind, Move, Step, Verb

HEADER = {"graph": "toy", "device": "cpu", "budget_tier": "cpu"}
BUDGETS = [{"budget_bytes": 100}, {"budget_bytes": 60}]
STEP = Step("denoise", 0, 1, 0, 10, 7, 9)


def test_every_rank_is_audited(tmp_path, wanflow_here) -> None:
    """What is wrong with the second is told as its own, and ends the command with 2."""
    path = tmp_path / "trace.msgpack"
    with TraceWriter(path, {**HEADER, "ranks": BUDGETS}) as writer:
        writer.emit(STEP)
        writer.emit(attrs.evolve(STEP, began_ns=11), 1)
        writer.close("done", {})
    sound, wrong = check_ranks(path)
    assert (sound.ok, wrong.ok) == (True, False)
    assert [(problem.code, problem.record) for problem in wrong.problems] == [("time", 2)]
    code, out, _ = wanflow_here("trace", "check", path)
    assert code == 2
    assert "time: record 2" in out.split("rank 1")[1]
    code, out, _ = wanflow_here("trace", "check", path, "--json")
    said = json.loads(out)
    assert (code, said["ok"], [one["ok"] for one in said["ranks"]]) == (2, False, [True, False])
    assert wanflow_here("trace", "check", path, "--rank", "0")[0] == 0


@pytest.mark.parametrize(
    "words", [["stages"], ["peak"], ["report", "--no-advice"], ["export", "--to", "csv"]]
)
def test_views_of_a_rank(tmp_path, wanflow_here, words) -> None:
    """Each is what it is of a trace of that rank's events alone."""
    events = [
        Move(Verb.PLACE, Kind.WEIGHTS, f"w{rank}", "denoise", 0, "disk", "cpu", 10, 10, 0, 1, 0, "")
        for rank in (0, 1)
    ]
    path, alone = tmp_path / "both.msgpack", tmp_path / "alone.msgpack"
    with TraceWriter(path, {**HEADER, "ranks": BUDGETS}) as writer:
        for rank, event in enumerate(events):
            writer.emit(event, rank)
        writer.close("done", {})
    with TraceWriter(alone, {**HEADER, **BUDGETS[1]}) as writer:
        writer.emit(events[1])
        writer.close("done", {})
    seen = []
    for file, rank in ((path, ["--rank", "1"]), (alone, [])):
        output = ["-o", tmp_path / "out.csv"] if words[0] == "export" else []
        code, out, _ = wanflow_here("trace", words[0], file, *words[1:], *output, *rank)
        assert code == 0
        seen.append((tmp_path / "out.csv").read_text() if output else out)
    assert "w1" in seen[0] or words[0] == "stages"
    assert seen[0].replace("| 2 events |", "| 1 events |") == seen[1]
