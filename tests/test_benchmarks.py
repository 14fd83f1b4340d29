"""Each benchmark's `--shrink` form runs and says what the page promises."""

from __future__ import annotations

import gc
import json
import runpy
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import attrs
import pytest
import torch
from safetensors.torch import load_file

from benchmarks import call_cost, fewer_steps, gpu_lean, lean_peaks, tiny_run
from benchmarks.lib import alone, decodes, encodes, kernels
from benchmarks.lib.decodes import Decode
from benchmarks.lib.linked import linked
from benchmarks.lib.random_weights import RandomWeights
from benchmarks.lib.report import RESULTS, between
from benchmarks.prediction_errors import MARKS, PAGE, table
from scripts.make_checkpoint import make_part, tensors_of
from wanflow.graph.configs import known_config
from wanflow.models.weights.layouts import open_part

ROOT = Path(__file__).resolve().parent.parent
MEASURED = {
    "case": "c", "budget": "b", "budget_bytes": 200, "predicted_peak_bytes": 90, "peak_bytes": 100,
    "predicted_seconds": 3.0, "seconds": {"median": 2.0},
}  # fmt: skip
LINKED = frozenset({"case", "budget_bytes", "predicted_peak_bytes", "time_error"})
TIMED = frozenset({"case", "seconds", "share", "difference"})
PEER = frozenset({"case", "way", "peak_bytes", "seconds", "share", "difference", "within_bound"})
WAYS = ("diffusers", "tiling", "model offload", "group offload")
ROW = LINKED | {"peak_bytes", "peak_error"}


@pytest.fixture
def shrunken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., dict[str, Any]]:
    """Run a benchmark at its smallest, in this process; its report."""
    monkeypatch.chdir(ROOT)

    def run(name: str, *more: str, rows: frozenset[str] = ROW) -> dict[str, Any]:
        out = tmp_path / "report.json"
        monkeypatch.setattr(sys, "argv", [name, "--shrink", "--out", str(out), *more])
        runpy.run_path(str(ROOT / "benchmarks" / f"{name}.py"), run_name="__main__")
        report = json.loads(out.read_text())
        assert report["benchmark"] == name
        assert all(row.keys() >= rows for row in report["rows"])
        assert {"device", "cpus", "torch", "when"} <= report["machine"].keys()
        return report

    return run


class TestShrunken:
    def test_cpu_budget(self, shrunken, tmp_path) -> None:
        """A quarter of the weights: the same bits, within 3 % of the predicted peak."""
        report = shrunken("cpu_budget", "--pairs", "1", "--scratch", str(tmp_path))

        resident, quarter = report["rows"]
        assert report["bit_identical"]
        assert report["finite"]
        assert quarter["budget_bytes"] < resident["budget_bytes"]
        assert quarter["streamed_bytes"] > 0 == resident["streamed_bytes"]
        assert all(abs(row["peak_error"]) < 0.03 for row in report["rows"])
        assert {"median", "fastest", "slowest"} == report["quarter_over_resident"].keys()

    def test_gpu_budget_on_a_cpu(self, shrunken, tmp_path) -> None:
        """One case at two budgets; no scratch is left."""
        report = shrunken(
            "gpu_budget", "--cases", "14b-480p", "--device", "cpu",
            "--scratch", str(tmp_path),
        )  # fmt: skip

        assert report["verdict"]["14b-480p"]["bit_identical"]
        assert [row["over_budget_bytes"] for row in report["rows"]] == [0, 0]
        assert {"stall_seconds", "driver_peak_bytes", "allocated_peak_bytes"} <= set(
            report["rows"][0]
        )
        assert [path.name for path in tmp_path.iterdir()] == ["report.json"]

    def test_sweep_order(self, shrunken) -> None:
        """Every peak within 3 %."""
        report = shrunken("sweep_order", "--rounds", "1", "--budgets", "3")

        assert len(report["rows"]) == 3
        assert report["largest_peak_error"] < 0.03
        assert {"rank_correlation", "swapped"} <= report.keys()

    def test_sweep_order_behind_a_link(self, shrunken) -> None:
        """A slow link makes less room cost time, predicted and measured."""
        more = ("--rounds", "1", "--budgets", "2", "--link", "4e6")
        tight, resident = shrunken("sweep_order", *more, rows=LINKED)["rows"]

        assert resident["predicted_seconds"] < tight["predicted_seconds"]
        assert resident["seconds"]["median"] < tight["seconds"]["median"]

    def test_dit_forward(self, shrunken) -> None:
        """Every value agrees with diffusers' forward within four roundings of bf16."""
        report = shrunken("dit_forward", "--rounds", "1", "--size", "64*64", rows=TIMED)

        assert [r["case"] for r in report["rows"]] == [
            "diffusers",
            "all",
            "4096",
            "1024",
            "grouped",
        ]
        assert all(row["difference"] <= 4 * 2**-8 for row in report["rows"])
        assert report["default"] in {"all", "4096", "1024", "grouped"}

    @pytest.mark.wide
    def test_compiled_forward(self, shrunken) -> None:
        """All four agree within four roundings of bf16, and compiling took its time."""
        report = shrunken("compiled_forward", "--rounds", "1", "--size", "64*64", rows=TIMED)

        rows = {row["case"]: row for row in report["rows"]}
        assert set(rows) == {
            f"{who}{how}" for who in ("diffusers", "wanflow") for how in ("", "-compiled")
        }
        assert all(row["difference"] <= 4 * 2**-8 for row in rows.values())
        assert all(
            (row["compile_seconds"] > 0) == ("compiled" in name) for name, row in rows.items()
        )

    @pytest.mark.wide
    def test_trace_share(self, shrunken, tmp_path) -> None:
        """Events of two graphs, in a row and in the run, against runs that drop them."""
        rows = frozenset({"case", "events", "share", "share_in_the_run", "traced_over_dropped"})
        report = shrunken("trace_share", "--pairs", "1", "--scratch", str(tmp_path), rows=rows)

        assert [row["case"] for row in report["rows"]] == ["t2v-tiny", "1.3b-2-layers"]
        for row in report["rows"]:
            assert row["events"] > row["calls"] > 0
            assert row["event_us"] > 0 < row["share_in_the_run"] < 1
            assert row["traced_seconds"]["median"] > 0

    @pytest.mark.wide
    def test_finite_share(self, shrunken, tmp_path) -> None:
        """Looks of two graphs, timed in the run, and runs that look against runs that don't."""
        rows = frozenset({"case", "looks", "look_us", "share", "looked_over_unlooked"})
        report = shrunken("finite_share", "--pairs", "1", "--scratch", str(tmp_path), rows=rows)

        assert [row["case"] for row in report["rows"]] == ["t2v-tiny", "1.3b-2-layers"]
        for row in report["rows"]:
            assert row["looks"] > 0 < row["share"] < 1
            assert row["unlooked_seconds"]["median"] > 0

    @pytest.mark.wide
    def test_text_encode(self, shrunken, tmp_path) -> None:
        """Both sides make the same text; wanflow's peak is the predicted one."""
        more = ("--pairs", "1", "--exact", "--scratch", str(tmp_path))
        report = shrunken("text_encode", *more)

        (row,) = report["rows"]
        assert report["agree"]
        assert report["exact_is_bit_identical"]
        assert row["peak_bytes"] <= row["budget_bytes"]
        assert abs(row["peak_error"]) < 0.03
        assert row["knobs"] == {"tokens": "real"}
        assert row["offload_modules"]["on_disk"] > 0
        assert {"offload_seconds", "rss_peak_bytes", "offload_rss_peak_bytes"} <= row.keys()


def _keeping(one: alone.Alone, chunks: list[torch.Tensor]) -> alone.Watch:
    """Keep a copy of what the stage makes for others."""

    def watch(_stage: str, name: str, value: torch.Tensor) -> None:
        if one.is_result(name):
            chunks.append(value.clone())

    return watch


class TestLean:
    def test_one_case_on_a_cpu(self, shrunken) -> None:
        """The text encoder beside its peers, each twice; no way fails."""
        cases = ("--device", "cpu", "--rounds", "1", "--cases", "umt5-xxl")
        report = shrunken("gpu_lean", *cases, rows=PEER)

        assert report["failed"] == []
        assert {"wanflow", "diffusers"} <= {row["way"] for row in report["rows"]}
        assert report["verdict"]["umt5-xxl"]["within_bound"]

    @pytest.mark.wide
    def test_on_a_cpu(self, shrunken) -> None:
        """Every value of every knob beside every peer; what a CPU can't measure is named."""
        report = shrunken(
            "gpu_lean", "--device", "cpu", "--rounds", "1",
            "--cases", "14b-480p,vae-720p,vae-encode-480p,umt5-xxl", rows=PEER,
        )  # fmt: skip
        ours = [row for row in report["rows"] if row["way"] == "wanflow"]
        values = {f"{k}={v}" for row in ours for k, v in row["knobs"].items()}

        assert report["failed"] == []
        assert values >= {"rows=all", "rows=1024", "split=parts", "strips=whole", "strips=strips.2"}
        assert {row["budget"] for row in ours} == {"resident", "minimum"}
        assert {row["way"] for row in report["rows"]} == {"wanflow", *WAYS}
        # What oneDNN takes in bf16 depends on the processor, and the table has one of them.
        exact = [r for r in ours if r["precision"] == "fp32" or not r["case"].startswith("vae")]
        assert all(abs(row["peak_error"]) < 0.03 for row in exact)
        assert len(report["verdict"]) == 4
        for found in report["verdict"].values():
            assert found["within_bound"]
            assert found["bitwise_is_identical"]
            assert 0 < found["least_bytes"] < found["least_bytes_of_diffusers"]
        assert [text for text in report["left_out"] if "attention=_native_" in text]
        attending = [k for k in report["kernels"] if "_scaled_dot_product" in k["op"]]
        assert len({k["case"] for k in attending}) == 4
        assert all(k["workspace_bytes"] == k["predicted_workspace_bytes"] for k in attending)

    def test_in_the_minimum_of_a_card(self, tmp_path) -> None:
        """Behind a link the weights are streamed, and the frames are the same."""
        (case,) = (case for case in gpu_lean.CASES if case.name == "vae-480p")
        with linked(1e9) as on:
            one = alone.Alone.of(gpu_lean.shrunken(case), RandomWeights(), tmp_path, "cpu", on=on)
            footprint = one.footprint({"strips": "strips.2"})
            made, budget_bytes = {}, one.plan(footprint, None).minimum_bytes
            for name, nbytes in (("resident", None), ("minimum", budget_bytes)):
                plan, chunks = one.plan(footprint, nbytes), []
                one.run(plan, _keeping(one, chunks))
                made[name] = torch.cat(chunks), plan.stages[-1]

        (resident, _), (least, stage) = made["resident"], made["minimum"]
        assert torch.equal(resident, least)
        assert stage.streamed_bytes > 0

    def test_kernel_again(self) -> None:
        """A kernel runs again on the layouts that it ran on, those of an expanded view too."""
        cpu, weight = torch.device("cpu"), torch.rand(4, 8).t()
        with kernels.Seen() as seen:
            for _ in range(3):
                torch.mm(torch.rand(1, 8).expand(5, 8), weight)
        ((kernel, count),) = seen.kernels.values()
        row = kernels.measured(kernel, cpu, "native")

        assert count == 3
        assert row["operands"] == ["5x8 float32 strides 0x1", "8x4 float32 strides 1x8"]
        assert row["output_bytes"] == 5 * 4 * 4

    def test_rows_of_random_weights(self) -> None:
        """Rows that are gathered are those of the whole matrix, whatever its height."""
        weights = RandomWeights()
        for height in (40, 600_000):
            whole, rows = torch.empty(height, 16), torch.empty(3, 16)
            weights.read_into("shared.weight", whole)
            weights.read_rows_into("shared.weight", [7, 0, 33], rows)
            assert torch.equal(whole[[7, 0, 33]], rows)


class TestCheckpoint:
    @pytest.mark.parametrize("part", ["text_encoder", "transformer", "vae"])
    def test_is_read(self, tmp_path, part) -> None:
        """Every tensor is there with its shape; norms are ones, the rest is small noise."""
        fields = known_config("wan-tiny", part)
        folder = make_part(tmp_path, part, fields, "bf16")

        checkpoint = open_part(part, folder)
        for tensor in tensors_of(part, fields, "bf16"):
            assert checkpoint.check(tensor.name, tensor.shape).dtype == tensor.dtype
        (file,) = folder.glob("*.safetensors")
        assert all(t.isfinite().all() and 0 < t.abs().max() <= 1 for t in load_file(file).values())
        assert (part == "text_encoder") == (tmp_path / "tokenizer" / "tokenizer.json").is_file()

    def test_is_kept(self, tmp_path) -> None:
        """The same one is not written again, another seed is."""
        fields = known_config("wan-tiny", "vae")
        first = make_part(tmp_path, "vae", fields, "bf16")
        made = first.stat().st_mtime_ns
        assert make_part(tmp_path, "vae", fields, "bf16").stat().st_mtime_ns == made
        assert make_part(tmp_path, "vae", fields, "bf16", seed=1).stat().st_mtime_ns > made


class TestErrors:
    def test_page_is_up_to_date(self) -> None:
        """The table in docs/benchmarks.md is that of the committed results."""
        text = PAGE.read_text()
        assert all(mark.strip() in text for mark in MARKS)
        assert text == between(MARKS, text, table()), (
            "run: python benchmarks/prediction_errors.py --write"
        )

    def test_every_file_is_read(self, tmp_path) -> None:
        """Each row that measured a peak is in the table, in whatever folder its file lies."""
        names = ("b-cpu.json", "a-gpu.json", "h200/a-gpu.json", "h200/more/c.json")
        for number, name in enumerate(names):
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            rows = [MEASURED | {"case": f"case{number}.{n}"} for n in range(number + 1)]
            report = {"benchmark": "x", "machine": {"device": "d"}, "rows": rows}
            (tmp_path / name).write_text(json.dumps(report))
        (tmp_path / "planner.json").write_text('{"benchmark": "planner", "rows": [{"calls": 9}]}')

        cases = [line.split(" | ")[2] for line in table(tmp_path).splitlines()[2:]]
        wanted = {f"case{number}.{n}" for number in range(len(names)) for n in range(number + 1)}
        assert (set(cases), len(cases)) == (wanted, len(wanted))

    def test_what_the_benchmarks_keep(self) -> None:
        """As many rows in the table as have an error, of peak or time, in the committed files."""
        kept = [json.loads(path.read_text()) for path in RESULTS.rglob("*.json")]
        rows = [row for each in kept for row in each.get("rows", [])]
        count = sum(not {"peak_error", "time_error"}.isdisjoint(row) for row in rows)
        assert len(table().splitlines()) == (count + 2 if count else 1)

    def test_row_without_a_name_is_no_row_less(self, tmp_path) -> None:
        """A file that lacks what the table needs is told, not passed over."""
        row = {name: value for name, value in MEASURED.items() if name != "case"}
        report = {"benchmark": "x", "machine": {"device": "d"}, "rows": [row]}
        (tmp_path / "x.json").write_text(json.dumps(report))
        with pytest.raises(KeyError, match="case"):
            table(tmp_path)

    def test_row(self, tmp_path) -> None:
        """A prediction of 90 for 100 is off by a tenth."""
        rows = [MEASURED, {"case": "failed"}]
        report = {"benchmark": "x", "machine": {"device": "d"}, "rows": rows}
        (tmp_path / "x.json").write_text(json.dumps(report))

        assert table(tmp_path).splitlines()[2:] == [
            "| x | d | c | b 200 B | 90 B | 100 B | -10.0% | 3.00 s | 2.00 s | +50% |"
        ]


@pytest.mark.wide
def test_whole_process(tmp_path) -> None:
    """A run beside a plain script, and a cold and a warm plan, each a process of its own."""
    out = tmp_path / "report.json"
    command = [sys.executable, "-m", "benchmarks.whole_process", "--shrink", "--out", str(out)]
    subprocess.run(command, check=True, cwd=ROOT, capture_output=True)
    report = json.loads(out.read_text())

    assert set(report["run"]["share"]) == {"seconds", "processor_seconds", "peak_bytes"}
    assert report["run"]["share"]["peak_bytes"] < 1
    assert report["plan"]["warm"]["peak_bytes"]["median"] < 2**27  # PyTorch alone takes more


@pytest.mark.wide
def test_batch_rows(tmp_path) -> None:
    """A batch beside single runs and a loop, memory over rows, the start of a queue."""
    out = tmp_path / "report.json"
    command = [sys.executable, "-m", "benchmarks.batch_rows", "--shrink", "--out", str(out)]
    subprocess.run(command, check=True, cwd=ROOT, capture_output=True)
    report = json.loads(out.read_text())

    assert set(report["turns"]["share"]) == {"of_single_runs", "of_plain_loop"}
    assert report["turns"]["share"]["of_single_runs"] < 1
    assert report["flat"]["exit"] == 0
    assert report["queue"]["many"]["resident_bytes"] > 0


@pytest.mark.wide
def test_planning_time(tmp_path) -> None:
    """Cold, warm and the planner alone, of the tiny graph; as a process, as all can be run."""
    out = tmp_path / "report.json"
    command = [sys.executable, "-m", "benchmarks.planning_time", "--shrink", "--out", str(out)]
    subprocess.run(command, check=True, cwd=ROOT, capture_output=True)
    report = json.loads(out.read_text())

    assert report["cold"]["median"] > report["planner_alone"]["median"] > 0
    assert report["warm"]["median"] > 0
    assert report["calls"] > 0 < report["cache"]["files"]


@pytest.mark.wide
def test_decode_spills(tmp_path) -> None:
    """The same checkout as both sides: the same plans; only the smallest budget moves values."""
    out = tmp_path / "report.json"
    command = [sys.executable, "-m", "benchmarks.decode_spills", "--shrink", "--repeats", "0"]
    more = ["--against", str(ROOT), "--out", str(out)]
    subprocess.run([*command, *more], check=True, cwd=ROOT, capture_output=True)
    rows = json.loads(out.read_text())["rows"]

    before, now = ([row for row in rows if row["side"] == side] for side in ("before", "now"))
    assert [{**row, "side": "now"} for row in before] == now
    least, most = now
    assert least["budget_bytes"] == least["minimum_bytes"]
    assert least["decode_spilled_bytes"] > 0 == most["decode_spilled_bytes"]


@pytest.mark.parametrize(
    ("name", "most_bytes"),
    [("14b-480p", 1_150_000_000), ("1.3b-480p", 360_000_000), ("ti2v-5b-704p-121", 700_000_000)],
)
def test_lean_peaks(name, most_bytes) -> None:
    """By rows a forward does no more work than diffusers' own, in a third of its room or less."""
    plain, by_rows = (lean_peaks.peak(lean_peaks.CASES[name], value) for value in ("all", "1024"))
    assert by_rows["peak_bytes"] <= min(most_bytes, plain["peak_bytes"] / 3)
    assert by_rows["flops"] <= plain["flops"]


def test_encode_peaks() -> None:
    """In strips encode is small, does no more work, and takes no more room for a longer clip."""
    peaks = []
    for frames in (17, 33):
        case = attrs.evolve(encodes.CASES["encode-480p-17"], frames=frames)
        rows = {row["strips"]: row for row in encodes.measured(case, ("plain", "strips.4"))}
        assert rows["strips.4"]["flops"] <= rows["plain"]["flops"]
        peaks.append(rows["strips.4"]["peak_bytes"])
    assert max(peaks) <= 450_000_000
    assert peaks[1] <= 1.01 * peaks[0]


@pytest.mark.wide
def test_vae_decode(shrunken) -> None:
    """Plain, tiled and in strips, of the tiny VAE: the same frames to a level."""
    report = shrunken("vae_decode", "--precision", "fp32", rows=frozenset({"case"}))

    assert [row["case"] for row in report["rows"]] == ["plain", "tiled", "strips"]
    assert all(row["levels_off_strips"] <= 1 for row in report["rows"])
    assert all(row["peak_rss_bytes"] > row["rss_growth_bytes"] > 0 for row in report["rows"])
    assert report["seconds_over_plain"]["median"] > 0 < report["seconds_over_tiled"]["median"]


def test_decode_peaks() -> None:
    """In strips a decode takes as much at any length, and no more work than whole."""
    clips = [Decode(832, 480, frames, "bf16", ()) for frames in (13, 29)]
    whole = decodes.row("whole", clips[0], "whole")
    rows = [decodes.row("strips", clip, "strips.8") for clip in clips]

    assert rows[0]["lines_peak_bytes"] == rows[1]["lines_peak_bytes"] <= 450_000_000
    assert rows[0]["spilled_peak_bytes"] == rows[1]["spilled_peak_bytes"]
    assert 0 < rows[0]["lines_traffic_bytes"] < rows[1]["lines_traffic_bytes"]
    assert rows[0]["lines_host_bytes"] <= rows[0]["lines_traffic_bytes"]
    assert rows[0]["flops"] <= whole["flops"]


@pytest.mark.wide
def test_tiny_run(capsys) -> None:
    """Four budgets, none passed, and diffusers' pipeline, which takes more than any."""
    gc.collect()  # a benchmark before this one left cycles: freed under the meter, they count
    tiny_run.main(1)
    told = json.loads(capsys.readouterr().out)
    rows = [told[name] for name in ("resident", "halfway", "minimum", "lean")]

    assert all(row["peak_bytes"] <= row["budget_bytes"] for row in rows)
    assert told["lean"]["budget_bytes"] < told["minimum"]["budget_bytes"]
    assert max(row["peak_bytes"] for row in rows) < told["diffusers"]["peak_bytes"]


def test_call_cost() -> None:
    """Both ways are told, over the bare function."""
    rows = [
        call_cost.measured(way, run, 100, 1)
        for way, run in (("in place", call_cost.in_place), ("a new value", call_cost.anew))
    ]
    assert all(row["bare_us"] > 0 for row in rows)
    assert all(row["over_cpu_us"]["median"] > 0 for row in rows)


def test_fewer_steps() -> None:
    """Medians, not means, and the jobs are those that are named."""
    rows = [
        {"seconds": s, "predicted_seconds": p, "skipped_steps": {"denoise": {"positive": [1, 2]}}}
        for s, p in ((2.0, 1.0), (4.0, 3.0), (90.0, 3.5))
    ]
    assert fewer_steps.sums(rows) == {
        "seconds": 4.0, "predicted_seconds": 3.0, "error_percent": -25.0,
        "skipped_steps": {"positive": 2},
    }  # fmt: skip
    assert [*fewer_steps.jobs()] == ["four timesteps", "no cache", "magcache", "teacache"]


@pytest.mark.wide
def test_full_size(tmp_path, monkeypatch) -> None:
    """With the tiny model: its stages as planned, and what its process had in memory meanwhile."""
    monkeypatch.chdir(ROOT)
    out, kept = tmp_path / "run", tmp_path / "kept.json"
    words = ["benchmarks.full_size", "--shrink", "--out", str(out), "--keep", str(kept)]
    subprocess.run([sys.executable, "-m", *words], check=True, capture_output=True)
    report = json.loads(kept.read_text())
    assert (report["case"], report["exit_code"]) == ("t2v-tiny", 0)
    assert report["peak_bytes"] == report["predicted_peak_bytes"] <= report["budget_bytes"]
    assert {"encode", "noise", "denoise", "decode", "write"} == report["stages"].keys()
    process = report["process"]
    assert process["rss_peak_bytes"] > process["anonymous_peak_bytes"] > report["peak_bytes"]
    assert report["rss_over_budget_bytes"] == process["rss_peak_bytes"] - report["budget_bytes"]
    assert process["starts"] == 1
