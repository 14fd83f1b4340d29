"""Files of scenarios are played: what they name is planned and run, and held against them."""

import json
import re
from pathlib import Path

import pytest

from wanflow.cli import main
from wanflow.graph.source import Mark
from wanflow.session.scenarios.expectations import KINDS, Expectation, Sort
from wanflow.session.scenarios.keys import KEYS
from wanflow.session.scenarios.play import chosen, play
from wanflow.session.scenarios.reading import read_scenarios

ROOT = Path(__file__).resolve().parent.parent
TINY = ROOT / "tests" / "configs" / "tiny.yaml"
PAGE = ROOT / "docs" / "scenarios.md"
PLANNED = """\
wanflow_scenarios: 1
defaults: {graph: t2v-tiny, device: cpu, inputs: {frames: 5, steps: 2}}
scenarios:
  plain: {vram: 1GiB, expect: {fits: true, not_slower_than: tight}}
  tight: {vram: 5MiB, expect: {peak_below: plain%s}}
  never: {vram: 64KiB, expect: {fits: false}}
"""


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    """Play the tiny file once: its results by name, and where the run folders are."""
    out = tmp_path_factory.mktemp("scenarios")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CONFIG_HOME", str(out / "config"))
        results = play(read_scenarios(TINY).scenarios, out=out / "runs")
    return {result.scenario.name: result for result in results}, out / "runs"


@pytest.fixture
def command(capsys):
    """Run the command in this process: exit code, stdout, stderr."""

    def run(*arguments):
        code = main.run(["scenarios", *map(str, arguments)])
        said = capsys.readouterr()
        return code, said.out, said.err

    return run


@pytest.fixture
def planned(tmp_path):
    """Write a file of three plans, the second with more to expect."""

    def write(more=""):
        path = tmp_path / "planned.yaml"
        path.write_text(PLANNED % more)
        return path

    return write


class TestPlay:
    def test_tiny_file_holds(self, tiny) -> None:
        """All of it: runs at three budgets, and requests that must fail."""
        results, _ = tiny
        broken = [str(v) for r in results.values() for v in r.verdicts if not v.holds]
        assert broken == []
        assert {r.scenario.runs for r in results.values()} == {True, False}

    def test_frames(self, tiny) -> None:
        """Equal where the plans are exact, others where something rounds: the digest can tell."""
        results, _ = tiny
        frames = {name: result.played.frames for name, result in results.items()}
        assert frames["resident"] == frames["tight"] != frames["lean"]
        assert frames["no-weights"] == ""

    def test_figures_are_those_of_the_run_folder(self, tiny) -> None:
        """What is compared is what `run.json` has; a run that failed has none."""
        results, out = tiny
        for name in ("resident", "tight", "lean"):
            ran = json.loads((out / name / "run.json").read_text())
            assert results[name].played.peak_bytes == ran["peak_bytes"] > 0
            assert results[name].report["predicted_peak_bytes"] == ran["predicted_peak_bytes"]
        assert not (out / "too-small").exists()
        assert results["too-small"].played.peak_bytes is None

    def test_every_kind_can_fail(self, tiny) -> None:
        """Each expectation, asked for what is not so, does not hold, and says what is."""
        played = {name: result.played for name, result in tiny[0].items()}
        fast, slow = sorted(("tight", "lean"), key=lambda name: played[name].seconds)
        wrong = {
            "exit": ("tight", 1), "error": ("tight", "budget"), "fits": ("tight", False),
            "peak_at_most": ("tight", 2**20), "peak_at_least": ("tight", 2**30),
            "peak_below": ("tight", "lean"), "peak_stage": ("tight", "noise"),
            "peak_off_at_most": ("tight", -0.1), "within_budget": ("tight", False),
            "minimum_at_most": ("tight", 2**10), "seconds_at_most": ("tight", 0.001),
            "seconds_at_least": ("tight", 1e6), "slower_than": (fast, slow),
            "not_slower_than": (slow, fast), "knobs": ("tight", {"decode.strips": "strips.2"}),
            "frames_equal": ("tight", "lean"),
        }  # fmt: skip
        assert set(wrong) == set(KINDS)
        for kind, (name, wanted) in wrong.items():
            verdict = Expectation(kind, wanted, Mark(1, 1)).judge(played[name], played)
            assert not verdict.holds, kind
            assert re.fullmatch(rf"{kind} .+, is .+", str(verdict))

    def test_what_is_not_known_does_not_hold(self, tiny) -> None:
        """Of a run that was refused nothing but how it was refused, and what would do."""
        played = {name: result.played for name, result in tiny[0].items()}
        for kind in set(KINDS) - {"exit", "error", "fits", "minimum_at_most"}:
            wanted = {"peak_stage": "decode", "knobs": {"decode.strips": "whole"}}.get(kind, 1)
            wanted = "lean" if KINDS[kind].sort is Sort.SCENARIO else wanted
            verdict = Expectation(kind, wanted, Mark(1, 1)).judge(played["too-small"], played)
            assert not verdict.holds, kind
            assert str(verdict).endswith("is not known")

    def test_comparisons_are_played_too(self) -> None:
        """Of one scenario that is picked all that it is compared with."""
        picked = chosen(read_scenarios(TINY).scenarios, ("lean",))
        assert [scenario.name for scenario in picked] == ["resident", "tight", "lean"]


class TestCommand:
    def test_holds(self, command, planned) -> None:
        """Exit 0, a line a scenario, how many hold."""
        code, out, err = command(planned())
        assert code == 0
        assert [line.split()[:3] for line in out.splitlines()[1:4]] == [
            ["plain", "plan", "yes"], ["tight", "plan", "yes"], ["never", "plan", "yes"],
        ]  # fmt: skip
        assert out.splitlines()[4] == "3 of 3 hold"
        assert err.splitlines() == [f"{n} of 3: plan {s}" for n, s in
                                    enumerate(("plain", "tight", "never"), 1)]  # fmt: skip

    def test_does_not_hold(self, command, planned) -> None:
        """Exit 5, with what was wanted and what is, and the others played all the same."""
        code, out, err = command(planned(", peak_at_most: 1MiB"))
        assert code == 5
        assert "tight: peak_at_most 1048576 bytes (1.00 MiB), is " in out
        assert out.splitlines()[-1] == "2 of 3 hold"
        assert "error: 1 of 3 scenarios do not hold: tight" in err

    def test_fails_otherwise(self, command, planned) -> None:
        """An error that was not expected is told with its message."""
        path = planned()
        path.write_text(path.read_text().replace("64KiB", "lots"))
        code, out, _ = command(path)
        assert code == 5
        assert "never: exit 3, is 2" in out
        assert "never: --vram 'lots' is not a size" in out

    def test_json(self, command, planned) -> None:
        """One list; the error is an object on stderr."""
        code, out, err = command(planned(", seconds_at_most: 1ms"), "--json")
        rows = {row["scenario"]: row for row in json.loads(out)}
        assert code == json.loads(err)["error"]["exit_code"] == 5
        assert json.loads(err)["error"]["scenarios"] == ["tight"]
        assert [rows[n]["holds"] for n in ("plain", "tight", "never")] == [True, False, True]
        assert rows["never"]["exit_code"] == 3
        (broken,) = (v for v in rows["tight"]["verdicts"] if not v["holds"])
        assert (broken["kind"], broken["wanted"]) == ("seconds_at_most", 0.001)

    def test_wrong_file(self, command, planned) -> None:
        """Exit 2 with the line and a caret, before anything is planned."""
        code, out, err = command(planned(", peek_at_most: 1MiB"))
        assert (code, out) == (2, "")
        assert re.search(r"planned.yaml:5:\d+", err)
        assert "^^^^^^^^^^^^ did you mean 'peak_at_most'?" in err

    def test_only(self, command, planned) -> None:
        """One that is there, or exit 2 with what may be meant."""
        code, out, _ = command(planned(), "--only", "never")
        assert (code, out.splitlines()[-1]) == (0, "1 of 1 hold")
        code, _, err = command(planned(), "--only", "nevr")
        assert code == 2
        assert "never" in err


class TestPage:
    def test_has_every_key_and_expectation(self) -> None:
        """A row each, in the order of the code, with its words."""
        page = PAGE.read_text()
        rows = re.findall(r"^\| `(\w+)` \| (.*?) \| (.*?) \|$", page, re.MULTILINE)
        assert rows == [(name, str(k.sort), k.about) for name, k in KINDS.items()]
        assert re.findall(r"^\| `(\w+)` \| [^|]* \|$", page, re.MULTILINE) == list(KEYS)


@pytest.mark.wide
@pytest.mark.parametrize(
    "path", [p for p in sorted(TINY.parent.glob("*.yaml")) if p != TINY], ids=lambda p: p.stem
)
def test_full_size_plans_hold(path) -> None:
    """The scenarios of the full models, planned for named machines."""
    results = play(read_scenarios(path).scenarios)
    assert [str(v) for r in results for v in r.verdicts if not v.holds] == []
