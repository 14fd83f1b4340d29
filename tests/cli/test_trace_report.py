"""`wanflow trace report` and `plan --trace` from the command line."""

import json

import pytest


class TestReport:
    """A page from a trace."""

    @pytest.mark.parametrize(("name", "start"), [("r.md", "# Memory report"),
                                                 ("r.html", "<!doctype html>")])  # fmt: skip
    def test_output(self, trace, wanflow_here, tmp_path, name, start) -> None:
        """The name says what kind."""
        out = tmp_path / name
        code, _, err = wanflow_here("trace", "report", trace, "--no-advice", "-o", out)
        assert code == 0
        assert out.read_text().startswith(start)
        assert f"wrote {out}" in err

    def test_replaces_its_file(self, trace, wanflow_here, tmp_path) -> None:
        """A report is made again as often as it is asked for, and never half."""
        out = tmp_path / "r.md"
        out.write_text("old")
        assert wanflow_here("trace", "report", trace, "--no-advice", "-o", out)[0] == 0
        assert out.read_text().startswith("# Memory report")
        assert [path.name for path in tmp_path.glob("*r.md*")] == ["r.md"]

    def test_never_the_trace_itself(self, trace, wanflow_here) -> None:
        """Exit 2, and the trace stays."""
        before = trace.read_bytes()
        assert wanflow_here("trace", "report", trace, "--no-advice", "-o", trace)[0] == 2
        assert trace.read_bytes() == before

    def test_a_folder_that_is_not_there(self, trace, wanflow_here, tmp_path) -> None:
        """Said with the way out."""
        code, _, err = wanflow_here("trace", "report", trace, "-o", tmp_path / "no" / "r.md")
        assert code == 2
        assert "name a file in a folder that is there" in err

    def test_chinese_to_stdout(self, trace, wanflow_here) -> None:
        """Markdown where no file is named."""
        assert (
            "峰值显存分析"
            in wanflow_here("trace", "report", trace, "--no-advice", "--lang", "zh")[1]
        )

    def test_json(self, trace, wanflow_here) -> None:
        """The facts, and no advice where none was asked for."""
        found = json.loads(wanflow_here("trace", "report", trace, "--no-advice", "--json")[1])
        assert found["advice"] is None
        assert found["summary"]["graph"] == "t2v-tiny"

    def test_trace_without_a_request(self, trace, wanflow_here) -> None:
        """It says why there is no advice."""
        assert "no request to plan with" in wanflow_here("trace", "report", trace)[1]


def test_plan_writes_the_trace_it_predicts(wanflow_here, tmp_path) -> None:
    """It reads like that of a run, and has no text of the user's."""
    path = tmp_path / "plan.msgpack"
    words = ["plan", "t2v-tiny", "--prompt", "a secret", "--device", "cpu", "--vram", "22MiB"]
    assert wanflow_here(*words, "--trace", path)[0] == 0
    found = json.loads(wanflow_here("trace", "summary", path, "--json")[1])
    assert found["simulated"] is True
    assert found["peak_bytes"] == found["predicted_peak_bytes"]
    assert wanflow_here("trace", "check", path)[0] == 0
    assert b"secret" not in path.read_bytes()
    assert wanflow_here(*words, "--trace", path)[0] == 2
