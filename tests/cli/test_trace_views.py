"""`wanflow trace` views from the command line: text, JSON and exit codes."""

import json

import pytest

MIB = 2**20


@pytest.mark.parametrize("view", ["summary", "stages", "timeline", "peak", "check"])
class TestEveryView:
    """A file or a run folder, as text or as one JSON value."""

    def test_text(self, trace, wanflow_here, view) -> None:
        """No line is wider than the terminal."""
        code, out, err = wanflow_here("trace", view, trace.parent)
        assert (code, err) == (0, "")
        assert all(len(line) <= 80 for line in out.splitlines() if not line.startswith("hint"))

    def test_json(self, trace, wanflow_here, view) -> None:
        """One object."""
        assert isinstance(json.loads(wanflow_here("trace", view, trace, "--json")[1]), dict)

    def test_no_trace(self, wanflow_here, tmp_path, view) -> None:
        """What is no trace is an input error."""
        assert wanflow_here("trace", view, tmp_path / "none")[0] == 2


class TestPeak:
    """Who was there."""

    def test_at_a_time(self, trace, wanflow_here) -> None:
        """After two of three segments."""
        found = json.loads(wanflow_here("trace", "peak", trace, "--at", "1.5s", "--json")[1])
        assert 2 * MIB == found["resident_bytes"] == sum(o["nbytes"] for o in found["objects"])

    @pytest.mark.parametrize(("option", "code"), [("--at=soon", "bad-time"),
                                                  ("--at=9:59", "nothing-there"),
                                                  ("--tier=cuda:9", "nothing-there")])  # fmt: skip
    def test_refused(self, trace, wanflow_here, option, code) -> None:
        """A time that can't be read, a tier that is not there."""
        exit_code, _, err = wanflow_here("trace", "peak", trace, option, "--json")
        assert (2, code) == (exit_code, json.loads(err)["error"]["code"])


class TestDiff:
    """Two traces, and a threshold for CI."""

    def test_same(self, trace, wanflow_here) -> None:
        """Nothing changed, and no rule is broken."""
        code, out, _ = wanflow_here("trace", "diff", trace, trace, "--fail-if", "peak>+2%")
        assert code == 0
        assert "no difference" in out

    def test_exceeded(self, trace, wanflow_here, tmp_path) -> None:
        """Exit 5, after the comparison was printed."""
        from wanflow.trace import TraceWriter, read

        smaller = tmp_path / "smaller.msgpack"
        with TraceWriter(smaller, {"device": "cpu"}) as writer:
            for event in list(read(trace))[:2]:
                writer.emit(event)
        code, out, err = wanflow_here("trace", "diff", smaller, trace, "--fail-if", "peak>+2%")
        assert code == 5
        assert "denoise" in out
        assert "peak 1.00 MiB -> 3.00 MiB" in err


class TestCheck:
    """The audit's exit code."""

    def test_cut(self, trace, wanflow_here) -> None:
        """A torn file is told, and is not 0."""
        trace.write_bytes(trace.read_bytes()[:-60])
        code, out, _ = wanflow_here("trace", "check", trace)
        assert code == 2
        assert "file: cut: record 7: " in out
