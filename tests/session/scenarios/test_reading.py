"""A file of scenarios is read whole, or all that is wrong in it is told with its place."""

from pathlib import Path

import pytest

from wanflow.errors import InputError
from wanflow.graph import GraphError
from wanflow.graph.source import Source
from wanflow.session.scenarios.reading import of_source, read_scenarios

ROOT = Path(__file__).parents[3]
CONFIGS = sorted((ROOT / "tests" / "configs").glob("*.yaml"))
BAD = sorted(Path(__file__).with_name("bad").glob("*.yaml"))
HEAD = "wanflow_scenarios: 1\n"


def read(text, file="scenarios.yaml"):
    """Read a text as a file."""
    return of_source(Source(file, HEAD + text, Path("/somewhere") / file))


class TestRead:
    def test_shipped_files(self) -> None:
        """Each is a file of scenarios with names and what they must hold."""
        assert CONFIGS
        for path in CONFIGS:
            assert all(scenario.expects for scenario in read_scenarios(path).scenarios)

    def test_request(self) -> None:
        """The words of the file are those of the command line."""
        (one,) = read("""
scenarios:
  a:
    graph: t2v-tiny
    vram: 8GiB
    ram: 16GiB
    machine: rtx4090
    exact: true
    inputs: {prompt: a kite, frames: 9, strengths: [1, 0.5]}
    pins: {denoise.rows: 1024}
    settings: {denoise.sampler: euler}
    precision: {text: int8}
    weights: some/folder
""").scenarios
        request = one.request
        assert (request.graph, request.machine, request.exact) == ("t2v-tiny", "rtx4090", True)
        assert (request.vram, request.ram) == ("8GiB", "16GiB")
        assert request.inputs == {"prompt": "a kite", "frames": "9", "strengths": "1,0.5"}
        assert request.pins == ("denoise.rows=1024",)
        assert request.settings == ("denoise.sampler=euler",)
        assert request.precision == ("text=int8",)
        assert request.weights == ("some/folder",)

    def test_defaults(self) -> None:
        """Words replace those before all scenarios, or take them back; tables are laid over."""
        first, second = read(
            """
defaults:
  graph: t2v-tiny
  vram: 1GiB
  pins: {denoise.rows: all, decode.strips: whole}
  expect: {minimum_at_most: 1MiB}
scenarios:
  a: {}
  b: {graph: mine.yaml, vram: ~, pins: {denoise.rows: 64}, expect: {peak_at_most: 2MiB}}
""".replace("a: {}", "a: {about: none of its own}")
        ).scenarios
        assert (first.request.graph, second.request.graph) == ("t2v-tiny", "/somewhere/mine.yaml")
        assert (first.request.vram, second.request.vram) == ("1GiB", "auto")
        assert second.request.pins == ("denoise.rows=64", "decode.strips=whole")
        assert [e.kind for e in second.expects] == ["exit", "minimum_at_most", "peak_at_most"]

    @pytest.mark.parametrize(
        ("scenario", "expects"),
        [
            ("{graph: t2v-tiny}", [("exit", 0)]),
            ("{graph: t2v-tiny, expect: {exit: 4}}", [("exit", 4)]),
            ("{graph: t2v-tiny, expect: {fits: false}}", [("exit", 3), ("fits", False)]),
            ("{graph: t2v-tiny, do: run}", [("exit", 0), ("within_budget", True)]),
            ("{graph: t2v-tiny, do: run, expect: {exit: 2}}", [("exit", 2)]),
        ],
    )
    def test_what_goes_without_saying(self, scenario, expects) -> None:
        """Exit 0, or 3 of what doesn't fit, and that a run that is done kept to its budget."""
        (one,) = read(f"scenarios: {{a: {scenario}}}\n").scenarios
        assert [(e.kind, e.wanted) for e in one.expects] == expects

    def test_values(self) -> None:
        """Sizes become bytes, times seconds, shares shares."""
        (one,) = read(
            "scenarios: {a: {graph: t2v-tiny, do: run, expect: {peak_at_most: 2KiB, "
            "seconds_at_most: '1:30', peak_off_at_most: 3%, knobs: {denoise.rows: 64}}}}\n"
        ).scenarios
        wanted = {e.kind: e.wanted for e in one.expects}
        assert (wanted["peak_at_most"], wanted["seconds_at_most"]) == (2048, 90.0)
        assert (wanted["peak_off_at_most"], wanted["knobs"]) == (0.03, {"denoise.rows": "64"})


class TestRefused:
    @pytest.mark.parametrize("path", BAD, ids=lambda path: path.stem)
    def test_message(self, path, monkeypatch) -> None:
        """The whole of it, with line, column and caret, and exit 2."""
        monkeypatch.chdir(path.parent)
        with pytest.raises(GraphError) as caught:
            read_scenarios(path)
        assert caught.value.exit_code == 2
        assert path.with_suffix(".expected").read_text() == f"{caught.value}\n"

    def test_every_code_has_a_file(self) -> None:
        """Every one that these modules tell."""
        texts = [
            path.read_text() for path in (ROOT / "wanflow" / "session" / "scenarios").glob("*.py")
        ]
        told = {path.stem for path in BAD}
        for code in ("expect-of-run", "unknown-scenario", "unlike-scenarios", "machine-in-run"):
            assert code in told
            assert any(f'"{code}"' in text for text in texts)

    def test_no_file(self, tmp_path) -> None:
        """Neither one that isn't there nor a folder."""
        for path in (tmp_path / "none.yaml", tmp_path):
            with pytest.raises(InputError) as caught:
                read_scenarios(path)
            assert caught.value.code == "no-file"
