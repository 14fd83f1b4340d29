"""`wanflow trace`: files and run folders, whole and cut."""

import json
import types

from wanflow.cli import trace_reports, trace_views
from wanflow.trace.events import Kind, Verb


def test_choices_are_the_vocabulary_of_the_trace():
    """Options are literals so that `--help` loads no reader; they may not drift."""
    assert set(trace_views.VerbName.__args__) == set(map(str, Verb))
    assert set(trace_views.KindName.__args__) == set(map(str, Kind))


def test_summary_takes_a_file_or_its_folder(trace, wanflow_here):
    """The run folder is enough."""
    code, by_file, err = wanflow_here("trace", "summary", trace)
    assert (code, err) == (0, "")
    assert "denoise" in by_file
    assert wanflow_here("trace", "summary", trace.parent)[0] == 0


def test_summary_json_has_bytes_as_ints(trace, wanflow_here):
    """Programs get numbers."""
    _, out, _ = wanflow_here("trace", "summary", trace, "--json")
    found = json.loads(out)
    assert found["budget_bytes"] == 12 * 2**20
    assert [s["stage"] for s in found["stages"]] == ["denoise"]


def test_events_can_be_chosen_and_limited(trace, wanflow_here):
    """One JSON object a line, the first N."""
    words = ["--verb", "place", "--kind", "weights", "--stage", "denoise", "--name", "dit"]
    _, out, _ = wanflow_here("trace", "events", trace, *words, "--limit", 2, "--json")
    assert [json.loads(line)["name"] for line in out.splitlines()] == ["dit.0", "dit.1"]
    assert len(wanflow_here("trace", "events", trace)[1].splitlines()) == 7


def test_events_of_a_cut_trace_are_shown_and_the_cut_is_told(trace, wanflow_here):
    """What was recovered is data; what was lost is a note."""
    trace.write_bytes(trace.read_bytes()[:-60])
    code, out, err = wanflow_here("trace", "events", trace)
    assert code == 0
    assert out
    assert err.startswith("note: the trace is cut")


class TestExport:
    """`wanflow trace export`."""

    def test_formats_are_those_there_are(self):
        """Literals of the command line may not drift."""
        from wanflow.trace.exports import Format

        assert trace_reports.FormatName.__args__ == Format.__args__

    def test_writes_the_file_and_says_where(self, trace, wanflow_here, tmp_path):
        """A run folder will do."""
        out = tmp_path / "out.svg"
        code, said, err = wanflow_here(
            "trace", "export", trace.parent, "--format", "svg", "--output", out
        )
        assert (code, err) == (0, "")
        assert str(out) in said
        assert out.read_text().startswith("<svg")

    def test_json_says_what_was_written(self, trace, wanflow_here, tmp_path):
        """Of a cut trace, too, with the note beside it."""
        trace.write_bytes(trace.read_bytes()[:-60])
        words = ["--to", "json", "-o", tmp_path / "memory_events.json", "--json"]
        code, said, err = wanflow_here("trace", "export", trace, *words)
        made = json.loads(said)
        assert (code, made["state"]) == (0, "cut")
        assert err.startswith("note: the trace is cut")
        assert made["nbytes"] == (tmp_path / "memory_events.json").stat().st_size


class TestReplay:
    """`wanflow trace replay`."""

    def test_shows_what_was_recorded_and_the_new_plan(self, session, report, wanflow_here, trace):
        """A table like that of `plan`, and where the times come from."""
        asked = {}

        def replay(path, **options):
            asked.update(options, path=path)
            recorded = {
                "machine": "cpu", "budget_bytes": 12 * 2**20, "simulated": False, "seconds": 3.5,
                "state": "cut", "problem": "no trailer",
            }  # fmt: skip
            more = {"times": "measured", "measured_calls": 5, "calls": 7, "recorded": recorded}
            return types.SimpleNamespace(report={**report, **more}, problem=None)

        session.replay = replay
        code, said, err = wanflow_here("trace", "replay", trace.parent, "--vram", "6GiB")

        assert (code, err) == (0, "")
        assert asked == {"path": trace, "vram": "6GiB", "ram": None, "machine": None}
        assert said.startswith("recorded: on cpu, budget 12.0 MiB, ran 3.50 s; the trace is cut")
        assert "times: 5 calls as they were measured, 7 in the plan" in said
        assert "denoise x50" in said
        assert "next:" not in said

    def test_a_trace_that_holds_no_footprint_ends_with_4(self, trace, wanflow_here):
        """The message says what to do."""
        code, said, err = wanflow_here("trace", "replay", trace)
        assert (code, said) == (4, "")
        assert "holds no footprint" in err
        assert "hint" in err
