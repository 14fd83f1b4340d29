"""The page of memory tables is what its script makes, and what it calculates is what was logged."""

import json
import re

import pytest

from scripts.memory_tables.accounts import Accounts
from scripts.memory_tables.measured import measured_in
from scripts.memory_tables.page import PAGE, render
from scripts.memory_tables.planned import digests, row, scenarios_of, stored
from scripts.memory_tables.published import LOGGED, loaded
from wanflow.session import Request, plan
from wanflow.units import MIB

# The open cells of the README before this project, and what its table of budgets is asked for.
ASKED = (
    "baseline", "attention-slicing", "cpu-offload", "both", "t5-cpu", "t5-int8",
    *(f"planner-{gib}" for gib in (24, 12, 8, 6, 4, 2)),
)  # fmt: skip
RUN = {
    "case": "t2v-1.3b", "budget_bytes": 2 << 30, "predicted_peak_bytes": 2_000_000_000,
    "peak_bytes": 1_900_000_000, "predicted_seconds": 3600.0, "seconds": 3700.0,
}  # fmt: skip


@pytest.fixture(scope="module")
def planned():
    """What was planned last."""
    return stored()


class TestPage:
    def test_is_up_to_date(self, planned) -> None:
        """Frame, tables and sentences: all of it is what the script makes now."""
        assert PAGE.read_text(encoding="utf-8") == render(planned), (
            "run: python -m scripts.memory_tables"
        )

    def test_scenarios_are_those_that_were_planned(self, planned) -> None:
        """Files that changed are planned anew."""
        assert planned["digests"] == digests(), "run: python -m scripts.memory_tables --plan"
        for name in ("rows", "cards"):
            assert [r["scenario"] for r in planned[name]] == [s.name for s in scenarios_of(name)]

    def test_every_open_cell_is_there(self, planned) -> None:
        """Each configuration that was asked for has its row, and no cell of it is empty."""
        about = {s.name: s.about for s in scenarios_of("rows")}
        page = PAGE.read_text(encoding="utf-8")
        for name in ASKED:
            (line,) = re.findall(rf"^\| {re.escape(about[name])} \| (\d.*) \|$", page, re.MULTILINE)
            assert len(line.split(" | ")) == 7
            assert all(re.match(r"\d", cell) for cell in line.split(" | ")[:6])
        assert "{{" not in page

    def test_what_ran_stands_beside(self, planned, tmp_path) -> None:
        """A run at full size is in its budget's row and in the last table; nothing else is."""
        report = {"machine": {"device": "a CPU"}, "rows": [RUN, {"case": "without a peak"}]}
        (tmp_path / "full_size-x.json").write_text(json.dumps(report))
        page = render(planned, tmp_path)
        (line,) = re.findall(r"^\| The planner's own choice at 2 GiB \| \d.*$", page, re.MULTILINE)
        assert line.endswith("| 1.77 GiB on a CPU |")
        assert page.count("on a CPU") == 1
        assert "| `full_size-x` | a CPU | t2v-1.3b | 2.00 GiB | 1.86 GiB | 1.77 GiB |" in page
        assert "without a peak" not in page


class TestMeasured:
    def test_other_models_are_left_out(self, tmp_path) -> None:
        """Of other files only rows of 1.3B or of its text encoder; a lone run is a row."""
        for name, case in (("a.json", "14b"), ("b.json", "1.3b-cpu"), ("c.json", "umt5-xxl")):
            (tmp_path / name).write_text(json.dumps({"rows": [RUN | {"case": case}]}))
        (tmp_path / "full_size-d.json").write_text(json.dumps(RUN))
        found = measured_in(tmp_path)
        assert [m.case for m in found] == ["1.3b-cpu", "umt5-xxl", "t2v-1.3b"]
        assert [m.is_full_size for m in found] == [False, False, True]


class TestAccounts:
    @pytest.mark.parametrize(("machine", "vram"), [("rtx4090", "1GiB"), (None, "4.5MiB")])
    def test_peak_is_the_plans(self, machine, vram) -> None:
        """To the byte, with arenas and without, with values that wait elsewhere or not."""
        ram = "4GiB" if machine else None
        inputs = {"frames": 5, "steps": 2}
        request = Request(
            "t2v-tiny", inputs, vram=vram, machine=machine, device="cpu", ram=ram, probe=False
        )
        found = plan(request).plan
        accounts = Accounts.of(found)
        assert accounts.peak_bytes == found.predicted_peak_bytes
        assert set(accounts.weights_bytes) == {"text", "dit", "vae"}
        assert 0 < accounts.activation_bytes < accounts.peak_bytes


class TestPublished:
    def test_loading_is_what_was_logged(self, planned) -> None:
        """The allocator, played with the modules' sizes, has the log's figures to the digit."""
        found = loaded()
        calculated = {
            "t5": found.t5, "vae": found.vae, "dit": found.dit, "models": found.models,
            "loading peak": found.peak, "vae alone": found.vae_alone, "dit alone": found.dit_alone,
        }  # fmt: skip
        for name, nbytes in calculated.items():
            assert nbytes / MIB == pytest.approx(LOGGED[name], abs=0.005), name
        assert planned["loaded"]["peak"] == found.peak

    def test_decode_is_near_what_was_logged(self, planned) -> None:
        """Within two hundredths of what two logs have beside the models."""
        for peak, models in (("later peak", "models"), ("offload peak", "vae alone")):
            rest = LOGGED[peak] - LOGGED[models]
            assert planned["upstream_decode_bytes"] / MIB == pytest.approx(rest, rel=0.02)


@pytest.mark.wide
def test_plans_are_what_was_planned(planned) -> None:
    """The tightest row anew: the same figures, but for what has been learned since."""
    kept = {r["scenario"]: r for r in planned["rows"]}
    (scenario,) = (s for s in scenarios_of("rows") if s.name == "planner-2")
    anew = row(scenario)
    for name in ("predicted_peak_bytes", "predicted_seconds", "activation_bytes", "minimum_bytes"):
        assert anew[name] == pytest.approx(kept["planner-2"][name], rel=0.01)
