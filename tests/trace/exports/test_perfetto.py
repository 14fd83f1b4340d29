"""The Trace Event Format's rules, and the values behind it, held against the events themselves."""

import json
from collections import defaultdict
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from wanflow.trace.events import (
    Kind,
    Memory,
    Move,
    Note,
    StageSpan,
    Step,
    Transfer,
    Verb,
    Workspace,
)
from wanflow.trace.exports import export

GPU = "cuda:0"
INTS = st.integers(0, 2**40)
NAMES = st.sampled_from(["dit.0", "dit.1", '"</script>', "\x1b[31m", "a\nb"])
STAGES = st.sampled_from(["encode", "denoise"])
TIERS = st.sampled_from([GPU, "host"])
EVENTS = st.one_of(
    st.builds(
        Move, st.sampled_from(Verb), st.sampled_from(Kind), NAMES, STAGES, st.integers(0, 3),
        TIERS, TIERS, INTS, INTS, INTS, INTS, INTS, NAMES,
    ),
    st.builds(
        Transfer, NAMES, STAGES, st.integers(0, 3), st.sampled_from(["disk", "copy"]), TIERS,
        INTS, INTS, INTS, INTS,
    ),
    st.builds(Workspace, NAMES, STAGES, st.integers(0, 3), TIERS, INTS, INTS, INTS, INTS),
    st.builds(Step, STAGES, st.integers(0, 3), st.just(4), INTS, INTS, INTS, INTS),
    st.builds(StageSpan, STAGES, NAMES, INTS, INTS, INTS, st.just(("rows=all",))),
    st.builds(Memory, st.just("allocator"), TIERS, INTS, INTS, INTS),
    st.builds(Note, NAMES, NAMES, INTS),
)  # fmt: skip


def drawn(trace, tmp_path) -> dict:
    """Export a trace and read the file as JSON does: strictly."""
    out = tmp_path / "out.json"
    export(trace, "perfetto", out)
    return json.loads(out.read_text(), parse_constant=lambda word: 1 / 0)


def check(events) -> None:
    """Hold a file to the rules of the format."""
    named = {e["tid"] for e in events if e["ph"] == "M" and e["name"] == "thread_name"}
    slices, points = defaultdict(list), defaultdict(list)
    for event in events:
        assert event["pid"] == 1
        assert event["ph"] in "MXiCsf"
        if event["ph"] in "Xisf":
            assert event["tid"] in named
        if event["ph"] == "X":
            assert event["dur"] >= 0
            slices[event["tid"]].append((event["ts"], event["ts"] + event["dur"]))
        if event["ph"] in "Xi":
            points["track", event["tid"]].append(event["ts"])
        if event["ph"] == "C":
            assert all(type(v) is int for v in event["args"].values())
            points["counter", event["name"]].append(event["ts"])
    for times in points.values():
        assert times == sorted(times)
    for spans in slices.values():
        for before, after in pairwise(spans):
            assert before[1] <= after[0] + 1e-3  # a float's share of a nanosecond
    check_arrows(events, slices)


def check_arrows(events, slices) -> None:
    """Every flow starts once and ends once, later, each inside a slice of its thread."""
    starts = {e["id"]: e for e in events if e["ph"] == "s"}
    ends = {e["id"]: e for e in events if e["ph"] == "f"}
    assert len(starts) == sum(e["ph"] == "s" for e in events)
    assert starts.keys() == ends.keys()
    for ident, start in starts.items():
        end = ends[ident]
        assert (start["cat"], start["name"], end["bp"]) == (end["cat"], end["name"], "e")
        assert start["ts"] <= end["ts"]
        for flow in (start, end):
            spans = slices[flow["tid"]]
            assert any(a - 1e-3 <= flow["ts"] <= b + 1e-3 for a, b in spans)


class TestRules:
    """What ui.perfetto.dev needs."""

    @given(st.lists(EVENTS, max_size=40))
    def test_any_events_make_a_valid_file(self, tmp_path_factory, events) -> None:
        """Whatever the times say: they are anybody's."""
        from wanflow.trace import TraceWriter

        folder = tmp_path_factory.mktemp("any")
        with TraceWriter(folder / "trace.msgpack", {"graph": "t2v"}) as writer:
            for event in events:
                writer.emit(event)
        check(drawn(writer.path, folder)["traceEvents"])

    def test_loads_that_overlap_lie_in_lanes(self, write, tmp_path) -> None:
        """A read goes on while the one before it is copied."""
        loads = [
            Transfer("dit.0", "denoise", 0, "disk", GPU, 10, 0, 30, 0),
            Transfer("dit.1", "denoise", 0, "disk", GPU, 10, 20, 50, 0),
            Transfer("dit.2", "denoise", 0, "disk", GPU, 10, 40, 60, 0),
        ]
        events = drawn(write(loads), tmp_path)["traceEvents"]
        lanes = {e["tid"]: e["args"]["name"] for e in events if e["name"] == "thread_name"}
        check(events)
        found = [(lanes[e["tid"]], e["name"]) for e in events if e["ph"] == "X"]

        assert found == [("disk", "dit.0"), ("disk (2)", "dit.1"), ("disk", "dit.2")]

    def test_an_upload_points_to_the_call_that_uses_it(self, write, tmp_path) -> None:
        """Those of another step do not."""
        events = [
            Transfer("dit.0", "denoise", 1, "copy", GPU, 10, 0, 3000, 1000),
            Transfer("other", "denoise", 7, "copy", GPU, 10, 0, 2000, 0),
            Workspace("block", "denoise", 1, GPU, 10, 20, 3000, 9000),
        ]
        found = drawn(write(events), tmp_path)["traceEvents"]
        check(found)
        call = next(e for e in found if e["name"] == "block")
        (start,) = [e for e in found if e["ph"] == "s"]
        (end,) = [e for e in found if e["ph"] == "f"]
        wait = next(e for e in found if e["name"] == "for dit.0")

        assert (end["tid"], end["ts"]) == (call["tid"], 3.0)
        assert start["ts"] == 1.5
        assert (wait["ts"], wait["dur"]) == (2.0, 1.0)


class TestValues:
    """What the counters and slices say is what the events say."""

    def test_counters_are_derived_again(self, run, header, write, tmp_path) -> None:
        """Placed less freed, and the workspace while a call runs."""
        found = drawn(write(run, header), tmp_path)["traceEvents"]
        held: dict[str, int] = defaultdict(int)
        wanted = []
        for event in run:
            if isinstance(event, Move):
                change = -event.nbytes if event.verb is Verb.FREE else event.nbytes
                held[event.tier] += change
                at_ns = event.ended_ns if event.verb is Verb.FREE else event.began_ns
                wanted.append((event.tier, at_ns, event.resident_bytes, held[event.tier]))
            if isinstance(event, Workspace):
                now = held[event.tier]
                row = (event.tier, event.began_ns, event.resident_bytes, now + event.nbytes)
                wanted += [row, (event.tier, event.ended_ns, now, now)]
        counters = [e for e in found if e["ph"] == "C" and " by " not in e["name"]]
        rows = [
            (
                e["name"].removeprefix("memory "),
                round(e["ts"] * 1000),
                e["args"]["resident"],
                sum(n for name, n in e["args"].items() if name != "resident"),
            )
            for e in counters
        ]
        check(found)

        assert rows == wanted

    def test_calls_steps_and_stages_are_slices(self, run, header, write, tmp_path) -> None:
        """With their own times."""
        found = drawn(write(run, header), tmp_path)["traceEvents"]
        spans = {
            (e["cat"], round(e["ts"] * 1000), round(e["dur"] * 1000))
            for e in found
            if e["ph"] == "X"
        }
        kinds = {Workspace: "compute", Step: "steps", StageSpan: "stages"}
        wanted = {
            (kinds[type(e)], e.began_ns, e.ended_ns - e.began_ns) for e in run if type(e) in kinds
        }

        assert wanted <= spans
        assert ("copy", 228 * 10**9, 10**9) in spans  # what was offloaded


class TestAnybodysTrace:
    """Cut, or with names that are code."""

    def test_a_cut_trace_says_so_in_the_file(self, run, header, write, tmp_path) -> None:
        """And has what was whole."""
        path = write(run, header)
        whole = drawn(path, tmp_path)
        path.write_bytes(path.read_bytes()[:-300])
        cut = drawn(path, tmp_path)

        assert whole["otherData"]["state"] == "whole"
        assert cut["otherData"]["state"] == "cut"
        assert cut["otherData"]["problem"]
        kept = cut["traceEvents"]
        assert kept == whole["traceEvents"][: len(kept)]
        assert len(kept) > 20

    def test_control_signs_are_written_out(self, write, tmp_path) -> None:
        """In names of all kinds."""
        evil = "\x1b[31m\u202eevil"
        events = [
            Note(evil, evil, 1),
            Workspace(evil, evil, 0, evil, 1, 1, 1, 2),
            Memory(evil, evil, 1, 1, 3),
        ]
        text = json.dumps(drawn(write(events, {"graph": evil}), tmp_path)["traceEvents"])

        assert "\\u001b" not in text
        assert "\\u202e" not in text.replace("\\\\u202e", "")
