"""`wanflow plan`: the page at two widths, the JSON, and the budget that can't."""

import json
from types import SimpleNamespace

import pytest

from wanflow.errors import BudgetError

MIB = 2**20


@pytest.fixture
def planned(session, report):
    """Let the session answer with `report`, and remember what it was asked."""
    asked = []

    def plan(request):
        asked.append(request)
        return SimpleNamespace(report=report, problem=None)

    session.plan = session.sweep = plan
    return asked


class TestPage:
    def test_fits_80_columns(self, planned, wanflow_here):
        """The reasons stand below the table, and nothing is cut."""
        code, out, err = wanflow_here("plan", "t2v-tiny", "--vram", "12MiB")
        assert (code, err) == (0, "")
        assert max(map(len, out.splitlines())) <= 80
        assert out.splitlines() == [
            "t2v-tiny on cpu (this machine), budget 12.0 MiB",
            "#  stage        op           where  how        weights      peak    time",
            "1  encode       encode_text  cpu    streamed  8.00 MiB  3.00 MiB  0.50 s",
            "2  denoise x50  denoise      cpu    50% kept  10.0 MiB  11.0 MiB    3:34",
            "3  write x9     write_video  cpu    -                -       0 B  0.10 s",
            "stage    why",
            "encode   24 layers, each used once: 2 in flight",
            "denoise  half of the weights stay; the upload of the rest hides behind compute",
            "         [rows=1024, cfg=serial]",
            "peak 11.0 MiB of 12.0 MiB (92%) at denoise",
            "smallest budget 3.00 MiB, everything resident 20.0 MiB",
            "estimate 3:35 (rates estimated: run wanflow machine probe), plan 7f3a91c2",
            "next: wanflow run t2v-tiny --vram 12MiB",
        ]

    def test_reasons_stand_beside_the_numbers_at_120(self, planned, wanflow_here, monkeypatch):
        """A wide terminal has one line a stage."""
        monkeypatch.setenv("COLUMNS", "120")
        _, out, _ = wanflow_here("plan", "t2v-tiny", "--vram", "12MiB")
        assert max(map(len, out.splitlines())) <= 120
        head = out.splitlines()[1]
        assert head.split() == "# stage op where how weights peak time why".split()
        assert "24 layers, each used once" in out

    def test_ends_with_what_to_type(self, planned, wanflow_here):
        """The next command is the same one, as a run."""
        words = ["t2v-tiny", "--vram", "12MiB", "--prompt", "a cat", "--set", "denoise.steps=4"]
        _, out, _ = wanflow_here("plan", *words, "--exact", "--no-prompt-cache")
        assert out.splitlines()[-1] == (
            "next: wanflow run t2v-tiny -i 'prompt=a cat' --vram 12MiB "
            "--set denoise.steps=4 --exact --no-prompt-cache"
        )

    def test_the_grid_is_set_where_latents_are_denoised(self, planned, wanflow_here):
        """`--sampler-grid` is short for `--set` on each such stage."""
        _, out, _ = wanflow_here("plan", "t2v-tiny", "--sampler-grid", "official")
        assert "--set denoise.grid=official" in out.splitlines()[-1]

    def test_says_peak_budget_minimum_and_that_rates_are_estimates(self, planned, wanflow_here):
        """The verdict has the numbers that decide."""
        _, out, _ = wanflow_here("plan", "t2v-tiny")
        assert "peak 11.0 MiB of 12.0 MiB (92%) at denoise" in out
        assert "smallest budget 3.00 MiB, everything resident 20.0 MiB" in out
        assert "estimate 3:35 (rates estimated: run wanflow machine probe), plan 7f3a91c2" in out

    @pytest.mark.parametrize(
        ("guessed_from", "said"),
        [(None, "(+-10%, published runs)"),
         ("rtx4090", "(+-10%, published runs: run wanflow machine probe)")],
    )  # fmt: skip
    def test_says_how_far_off_published_runs_were(
        self, planned, report, wanflow_here, guessed_from, said
    ):
        """Of a named card, and of one's own that is sold as that and was not measured."""
        report.update(published_error_percent=10, machine_guessed_from=guessed_from)
        assert f"estimate 3:35 {said}, plan 7f3a91c2" in wanflow_here("plan", "t2v-tiny")[1]

    def test_a_measured_machine_has_no_published_error(self, planned, report, wanflow_here):
        """Its rates are its own."""
        report.update(estimates=False, published_error_percent=None)
        assert "(rates measured)" in wanflow_here("plan", "t2v-tiny")[1]

    def test_says_what_bounds_an_auto_budget(self, planned, report, wanflow_here):
        """A limit that is not the memory's own."""
        report["limited_by"] = "ulimit -v"
        head = wanflow_here("plan", "t2v-tiny")[1].splitlines()[0]
        assert head.endswith("budget 12.0 MiB, limited by ulimit -v")

    def test_says_how_good_it_is(self, planned, report, wanflow_here):
        """The gap to the lower bound, what runs ahead, what it takes of the host."""
        report.update(bound_seconds=210.0, gap_percent=2.19, depth=2, host_bytes=5 * MIB)
        report.update(ram_bytes=16 * MIB)
        _, out, _ = wanflow_here("plan", "t2v-tiny")
        assert "\nlower bound 3:30, gap 2.2%, 2 loads ahead\n" in out
        assert "\nhost 5.00 MiB of 16.0 MiB for weights on their way\n" in out

    def test_sweep_has_one_row_a_budget(self, planned, report, wanflow_here):
        """A budget that can't hold it says so in words."""
        report["sweep"] = [
            {"budget_bytes": 2 * MIB, "predicted_peak_bytes": 0, "predicted_seconds": 0.0,
             "feasible": False},
            {"budget_bytes": 8 * MIB, "predicted_peak_bytes": 7 * MIB, "predicted_seconds": 9.5,
             "feasible": True},
        ]  # fmt: skip
        _, out, _ = wanflow_here("plan", "t2v-tiny", "--sweep")
        rows = [line.split() for line in out.splitlines()]
        assert ["2.00", "MiB", "-", "-", "no"] in rows
        assert ["8.00", "MiB", "7.00", "MiB", "9.50", "s", "yes"] in rows

    def test_says_what_is_cut(self, planned, report, wanflow_here):
        """One line for each prompt, however long, and what would hurt a terminal shown."""
        rest = "number 74 a red circle moves right and more\x1b"
        report["cut_prompts"] = [
            {"stage": "encode", "prompt": prompt, "tokens": 2801, "max_tokens": 512, "cut_at": 900,
             "cut_from": words}
            for prompt, words in (("prompt", rest), ("negative_prompt", "blur\x1b"))
        ]  # fmt: skip
        _, out, _ = wanflow_here("plan", "t2v-tiny")
        assert (
            "\nnote: prompt of encode: 2801 tokens, 512 count; "
            'cut from "number 74 a red circle moves rig..." on\n'
            'note: negative_prompt of encode: 2801 tokens, 512 count; cut from "blur\\x1b" on\n'
        ) in out

    def test_markup_in_names_is_text(self, planned, report, wanflow_here):
        """Square brackets and control characters out of a file are shown, not obeyed."""
        report["stages"][0]["why"] = "[red]\x1b[31m[/red]"
        _, out, _ = wanflow_here("plan", "t2v-tiny")
        assert "[red]\\x1b[31m[/red]" in out


class TestJson:
    def test_is_the_report(self, planned, report, wanflow_here):
        """What the session reports is what a program gets."""
        code, out, err = wanflow_here("plan", "t2v-tiny", "--json")
        assert (code, err) == (0, "")
        assert json.loads(out) == report

    def test_is_printed_when_it_does_not_fit(self, session, report, wanflow_here):
        """Exit 3: the report on stdout, the reason on stderr."""
        report["feasible"] = False
        problem = BudgetError("needs 3.00 MiB", hint="--vram 3MiB", detail={"minimum_bytes": 3})
        session.plan = lambda _: SimpleNamespace(report=report, problem=problem)
        code, out, err = wanflow_here("plan", "t2v-tiny", "--json")
        assert code == 3
        assert json.loads(out)["feasible"] is False
        assert json.loads(err)["error"]["minimum_bytes"] == 3
        code, out, err = wanflow_here("plan", "t2v-tiny")
        assert code == 3
        assert "does not fit" in out
        assert "next:" not in out
        assert err == "error: needs 3.00 MiB\nhint: --vram 3MiB\n"


class TestRequest:
    def test_takes_every_option(self, planned, wanflow_here):
        """Each option arrives where the session looks for it."""
        words = (
            "plan t2v-tiny -i frames=9 -i steps=4 --prompt cat --seed 7 --vram 12MiB --ram 1GiB "
            "--device cuda:1 --weights dit=/a --weights /b --precision bf16 --set denoise.shift=3 "
            "--pin denoise.rows=8 --exact --no-prompt-cache --machine rtx4090"
        ).split()
        assert wanflow_here(*words)[0] == 0
        (request,) = planned
        assert request.inputs == {"frames": "9", "steps": "4", "prompt": "cat", "seed": "7"}
        assert (request.vram, request.ram, request.device) == ("12MiB", "1GiB", "cuda:1")
        assert request.weights == ("dit=/a", "/b")
        assert (request.precision, request.settings) == (("bf16",), ("denoise.shift=3",))
        assert (request.pins, request.exact) == (("denoise.rows=8",), True)
        assert (request.machine, request.prompt_cache) == ("rtx4090", False)

    def test_reads_budget_and_device_from_the_environment(self, planned, wanflow_here, monkeypatch):
        """A flag wins over the environment."""
        monkeypatch.setenv("WANFLOW_VRAM", "6GiB")
        monkeypatch.setenv("WANFLOW_DEVICE", "cpu")
        wanflow_here("plan", "t2v-tiny")
        wanflow_here("plan", "t2v-tiny", "--vram", "7GiB")
        assert [(r.vram, r.device) for r in planned] == [("6GiB", "cpu"), ("7GiB", "cpu")]

    @pytest.mark.parametrize(
        "words",
        [["-i", "frames"], ["-i", "=3"], ["-i", "a=1", "-i", "a=2"], ["--seed", "x"]],
    )
    def test_a_wrong_input_exits_2(self, words, planned, wanflow_here):
        """What can't be read as NAME=VALUE is refused before anything is planned."""
        code, out, err = wanflow_here("plan", "t2v-tiny", *words)
        assert (code, out, planned) == (2, "", [])
        assert err.startswith("error: ")

    def test_an_input_may_hold_equals_signs_and_nothing(self, planned, wanflow_here):
        """Only the first `=` parts name and value."""
        wanflow_here("plan", "t2v-tiny", "-i", "prompt=a=b", "-i", "negative_prompt=")
        assert planned[0].inputs == {"prompt": "a=b", "negative_prompt": ""}
