"""The figures of a trace, from events made by hand."""

import json

import attrs
import pytest

from wanflow.trace import summarise, summarise_events
from wanflow.trace.events import Event, Kind, Memory, Move, Note, StageSpan, Step, Verb, Workspace
from wanflow.trace.summary import PeakMoment

GIB, SECOND = 2**30, 10**9


def peak_of(events: list[Event]) -> PeakMoment:
    """Give the peak of the tier `gpu`, which must be there."""
    peak = summarise_events(events, {"budget_tier": "gpu"}).peak
    assert peak is not None
    return peak


class TestRun:
    """A whole run from its file."""

    @pytest.fixture
    def summary(self, write, run, header):
        """Sum the run up."""
        return summarise(write(run, header))

    def test_head(self, summary, run) -> None:
        """Header and trailer are told on."""
        assert (summary.state, summary.status, summary.graph) == ("whole", "done", "t2v-1.3b")
        assert (summary.device, summary.seed, summary.simulated) == ("cuda:0", 42, False)
        assert (summary.budget_bytes, summary.budget_tier) == (8 * GIB, "cuda:0")
        assert (summary.events, summary.lost_bytes) == (len(run), 0)
        assert (summary.seconds, summary.predicted_seconds) == (231.0, 240.0)

    def test_peaks(self, summary) -> None:
        """Predicted, recorded and measured stand side by side."""
        assert summary.predicted_peak_bytes == 7 * GIB
        assert summary.peak_bytes == 7 * GIB
        assert (summary.measured_peak_bytes, summary.measured_source) == (
            7 * GIB + GIB // 8,
            "allocator",
        )
        assert len(summary.measured) == 2

    def test_who_was_there_at_the_peak(self, summary) -> None:
        """Kinds add up to the peak."""
        peak = summary.peak
        assert (peak.tier, peak.stage, peak.step, peak.at_seconds) == ("cuda:0", "denoise", 0, 13)
        assert (peak.by_kind.weights_bytes, peak.by_kind.value_bytes) == (3 * GIB, GIB)
        assert (
            peak.by_kind.state_bytes,
            peak.by_kind.workspace_bytes,
            peak.by_kind.other_bytes,
        ) == (0, 3 * GIB, 0)

    def test_stages(self, summary) -> None:
        """Each stage has its own figures, in the order of the header."""
        encode, denoise, decode = summary.stages
        assert [s.stage for s in summary.stages] == ["encode", "denoise", "decode"]
        assert [s.state for s in summary.stages] == ["done", "done", "not started"]
        assert (encode.op, encode.seconds, encode.compute_seconds) == ("encode_text", 12.0, 7.0)
        assert (encode.moving_seconds, encode.waited_seconds) == (1.0, 4.0)
        assert (encode.moved_in_bytes, encode.freed_bytes, encode.moves) == (2 * GIB, 2 * GIB, 3)
        assert (denoise.moved_in_bytes, denoise.moved_out_bytes) == (3 * GIB, GIB)
        assert (denoise.steps, denoise.steps_total, denoise.peak_bytes) == (2, 2, 7 * GIB)
        assert denoise.knobs == ("attn_rows=1024", "cfg=serial")
        assert denoise.share == pytest.approx(218 / 231)
        assert (decode.seconds, decode.moves, decode.share) == (0, 0, 0)

    def test_verbs(self, summary) -> None:
        """The moves of each verb are added up over all tiers."""
        assert list(summary.verbs) == ["place", "offload", "stream", "free"]
        assert (summary.verbs["place"].moves, summary.verbs["place"].moved_bytes) == (2, 4 * GIB)
        assert summary.verbs["stream"].waited_seconds == 4.0

    def test_notes(self, summary) -> None:
        """What the run noted is kept."""
        assert (summary.notes[0].topic, summary.notes[0].at_seconds) == ("re-plan", 231.0)

    def test_is_json(self, summary) -> None:
        """Keys are the fields' names, values plain."""
        told = summary.to_dict()

        assert told == json.loads(json.dumps(told, allow_nan=False))
        assert list(told) == [field.name for field in attrs.fields(type(summary))]


class TestLittleToGoOn:
    """Traces that were cut early, or that say little."""

    def test_no_events_no_header(self, write) -> None:
        """A run that was killed at once has a summary."""
        summary = summarise(write([], status=None))

        assert (summary.state, summary.status, summary.events) == ("cut", None, 0)
        assert (summary.peak, summary.stages, summary.budget_tier) == (None, (), None)

    def test_stage_that_did_not_end(self, run) -> None:
        """Its time is that of its events."""
        summary = summarise_events(run[:8], {"stages": ["encode", "denoise"]})

        denoise = summary.stages[1]
        assert (denoise.state, denoise.seconds, denoise.op) == ("open", 87.0, "")
        assert denoise.peak_bytes == 7 * GIB

    def test_tier_without_header(self, run) -> None:
        """The fullest tier where something was computed is the budget's."""
        host = Move(
            Verb.PLACE, Kind.WEIGHTS, "dit", "denoise", 0, "disk", "cpu", 1, 99 * GIB, 0, 1, 0, ""
        )

        assert summarise_events([host, *run], {}).budget_tier == "cuda:0"
        assert summarise_events([host], {}).budget_tier == "cpu"
        assert summarise_events([host, *run], {"device": "cpu"}).budget_tier == "cpu"
        assert summarise_events(run, {"device": "NVIDIA H100"}).budget_tier == "cuda:0"

    @pytest.mark.parametrize("value", ["8", -1, True, 1.5, None, [1], {"a": 1}])
    def test_header_of_wrong_types(self, value) -> None:
        """What is not what it should be counts as not said."""
        keys = ["budget_bytes", "graph", "stages", "seed", "versions", "simulated", "device"]
        header = dict.fromkeys([*keys, "predicted_seconds"], value)

        told = summarise_events([], header).to_dict()

        assert told["budget_bytes"] is None
        json.dumps(told)


class TestResidents:
    """Who is on the tier, followed through the events."""

    @staticmethod
    def move(verb, name, nbytes, resident, kind=Kind.VALUE, source="", at=0):
        """Make a move on the tier `gpu`."""
        return Move(verb, kind, name, "s", 0, source, "gpu", nbytes, resident, at, at, 0, "")

    def test_freed_objects_are_gone(self) -> None:
        """Of two of one name, old and new, the one that was not freed still counts."""
        events = [
            self.move(Verb.PLACE, "latents", 5, 5),
            self.move(Verb.PLACE, "latents", 7, 12),
            self.move(Verb.FREE, "latents", 5, 7),
            self.move(Verb.PLACE, "cache", 1, 8, Kind.STATE),
            self.move(Verb.STREAM, "w", 20, 28, Kind.WEIGHTS, "cpu"),
        ]

        peak = peak_of(events)

        assert (peak.by_kind.value_bytes, peak.by_kind.state_bytes, peak.by_kind.weights_bytes) == (
            7,
            1,
            20,
        )
        assert peak.by_kind.other_bytes == 0

    def test_offload_ends_with_a_free(self) -> None:
        """What went to a lower tier is no longer on this one once it was freed here."""
        events = [
            self.move(Verb.PLACE, "a", 5, 5),
            Move(Verb.OFFLOAD, Kind.VALUE, "a", "s", 0, "gpu", "cpu", 5, 5, 0, 0, 0, ""),
            self.move(Verb.FREE, "a", 5, 0),
            self.move(Verb.PLACE, "b", 6, 6),
        ]

        assert peak_of(events).by_kind.value_bytes == 6

    def test_workspace_in_use_at_a_move(self) -> None:
        """A prefetch may make the peak while a workspace, recorded later, is in use."""
        events = [
            self.move(Verb.PLACE, "next", 5, 15, Kind.WEIGHTS, "cpu", at=50),
            Workspace("block", "s", 0, "gpu", 10, 10, 0, 100),
        ]

        peak = peak_of(events)

        assert (
            peak.by_kind.weights_bytes,
            peak.by_kind.workspace_bytes,
            peak.by_kind.other_bytes,
        ) == (5, 10, 0)

    def test_what_no_event_explains(self) -> None:
        """The rest is shown as such, not given to anybody."""
        peak = peak_of([self.move(Verb.PLACE, "a", 5, 9)])

        assert (peak.by_kind.value_bytes, peak.by_kind.other_bytes) == (5, 4)


class TestOddEvents:
    """Events that are sound one by one, but make no sense."""

    def test_times_that_run_backwards(self) -> None:
        """No negative seconds come out."""
        events: list[Event] = [
            StageSpan("s", "op", 9, 1, 0, ()),
            Workspace("w", "s", 0, "cpu", 1, 1, 9, 1),
            Step("s", 5, 2, 9, 1, 0, 0),
        ]

        stage = summarise_events(events, {}).stages[0]

        assert (stage.seconds, stage.compute_seconds) == (0, 0)

    def test_many_notes(self) -> None:
        """The last twenty are kept, all are counted."""
        summary = summarise_events([Note("t", str(n), n) for n in range(50)], {})

        assert (len(summary.notes), summary.note_count) == (20, 50)
        assert summary.notes[-1].text == "49"

    def test_driver_comes_before_allocator(self) -> None:
        """The widest count on the budget's tier is the measured one."""
        events = [
            Memory("allocator", "gpu", 5, 6, 0),
            Memory("driver", "gpu", 9, 8, 0),
            Memory("rss", "cpu", 99, 99, 0),
        ]

        summary = summarise_events(events, {"budget_tier": "gpu"})

        assert (summary.measured_source, summary.measured_peak_bytes) == ("driver", 9)
