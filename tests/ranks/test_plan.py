"""Plans of several ranks: what is asked for, what is exchanged, and which way is taken."""

from __future__ import annotations

import io

import attrs
import pytest
import torch
from rich.console import Console

from wanflow.cli.render_ranks import render, render_explained
from wanflow.errors import InputError
from wanflow.models.wan.dit_ranks import RowShare
from wanflow.scheduler.machine.datasheets import named_machine
from wanflow.scheduler.profile.counted_exchange import CountedExchange
from wanflow.scheduler.profile.folded_loops import counted_by, passes
from wanflow.scheduler.ranks import Rank, groups_of
from wanflow.session import Request, explain_ranks, plan, plan_ranks
from wanflow.session.ranks.devices import parse_devices


def request(devices: str, **options) -> Request:
    """A plan of the tiny graph."""
    return Request("t2v-tiny", devices=devices, **{"vram": "1GiB", **options})


class TestParse:
    """`--devices` and `--vram`."""

    def test_a_request_a_rank(self) -> None:
        """Each with its device, and the one budget or its own."""
        seats = parse_devices(request("cuda*2", vram="8GiB,6GiB"))

        assert [(r.device, r.vram) for r in seats.requests] == [
            ("cuda:0", "8GiB"),
            ("cuda:1", "6GiB"),
        ]
        assert seats.kind == "cuda"
        assert seats.is_here

    def test_named_machines(self) -> None:
        """Are to plan for, and may differ."""
        seats = parse_devices(request("rtx4090*2,h100"))

        assert [r.machine for r in seats.requests] == ["rtx4090", "rtx4090", "h100"]
        assert not seats.is_here

    @pytest.mark.parametrize(
        ("devices", "options", "message"),
        [
            ("cuda:0,cuda:0", {}, "cuda:0 is given twice"),
            ("cpu,cuda:0", {}, "can't be mixed"),
            ("cpu,h100", {}, "can't be mixed"),
            ("cpu*0", {}, "is no device"),
            ("cpu*2,", {}, "'' is no device"),
            ("cpu*65", {}, "64 at the most"),
            ("gtx480*2", {}, "gtx480"),
            ("cpu*2", {"vram": "1GiB,1GiB,1GiB"}, "3 budgets for 2 ranks"),
            ("cpu*2", {"device": "cpu"}, "--device and --machine can't as well"),
        ],
    )
    def test_what_cannot_be_meant(self, devices, options, message) -> None:
        """Is told with what is wrong."""
        with pytest.raises(InputError, match=message):
            parse_devices(request(devices, **options))


class TestRows:
    """Shares of a sequence."""

    @pytest.mark.parametrize("tokens", [1, 7, 80, 1560, 32760, 75600])
    @pytest.mark.parametrize("ranks", [2, 3, 8])
    def test_every_row_once(self, tokens, ranks) -> None:
        """In order; and none has much more than its part."""
        group = tuple(range(ranks))
        parts = RowShare(tokens, group, 0, CountedExchange(0)).parts()

        assert [row for part in parts for row in range(tokens)[part]] == list(range(tokens))
        longest = max(part.stop - part.start for part in parts)
        assert longest <= 1.13 * tokens / ranks + 1

    def test_others_rows_are_counted(self) -> None:
        """As often as a folded loop stands for."""

        @attrs.define
        class Counting:
            times: int = 1
            total: int = 0

            def exchanged(self, nbytes: int) -> None:
                self.total += self.times * nbytes

        counting, share = Counting(), RowShare(100, (0, 1), 1, CountedExchange(1))
        whole = torch.empty(1, 100, 4)
        with counted_by(counting):
            for _ in passes([slice(n, n + 1) for n in range(5)]):
                share.gather(whole)

        others = share.parts()[0]
        assert counting.total == 5 * (others.stop - others.start) * 4 * whole.element_size()


def test_groups_agree() -> None:
    """Every rank's groups are among those that all make."""
    for count in (1, 2, 3, 4, 8):
        made = groups_of(count)
        for index in range(count):
            rank = Rank(index, count, "cpu")
            own = [rank.everyone, rank.pair, *(rank.halves or ())]
            assert all(group in made for group in own if group is not None and len(group) > 1)


class TestPlan:
    """`plan --devices`."""

    @pytest.mark.parametrize(
        ("share", "count", "of_a_block"),
        [("rows", 2, 2 / 2), ("ulysses", 2, 4 / 4), ("ulysses", 4, 4 * 3 / 16)],
    )
    def test_what_blocks_exchange(self, share, count, of_a_block) -> None:
        """What the formulas of the page say, and the seconds of the machine's rate."""
        planned = plan_ranks(request(f"rtx4090*{count}", pins=(f"denoise.share={share}",)))
        stage = next(s for s in planned.first.plan.footprint.stages if s.stage == "denoise")
        module = planned.first.prepared.models["dit"].model.module
        config = module.config
        width, tokens = config.num_attention_heads * config.attention_head_dim, 5 * 4 * 4
        out = config.out_channels * 4 * (count - 1) / count
        a_pass = (config.num_layers * of_a_block * width + out) * tokens * 4

        first = planned.chosen.ranks[0].planned
        costs = [c.cost for c in first.plan.footprint.calls if c.stage == "denoise"]
        exchanged = sum(cost.exchanged_bytes for cost in costs)
        assert exchanged == stage.steps * 2 * a_pass
        machine = named_machine("rtx4090")
        seconds = planned.chosen.ranks[0].exchange_seconds
        assert seconds >= exchanged / machine.exchange_rate
        second = planned.chosen.ranks[1].planned
        assert second.plan.predicted_peak_bytes < first.plan.predicted_peak_bytes

    @pytest.mark.parametrize(
        ("count", "ways"),
        [
            (2, ["guidance", "rows"]),
            (3, ["rows"]),  # of four heads
            (4, ["guidance", "ulysses"]),
        ],
    )
    def test_ways_that_are_planned(self, count, ways) -> None:
        """Where heads are sent less than rows and need no more room, rows are not tried."""
        planned = plan_ranks(request(f"rtx4090*{count}", pins=("decode.share=first",)))

        assert [row["share"] for row in planned.report["shares"]] == ways

    def test_guidance_wins_where_links_are_slow(self) -> None:
        """And is exact on any device."""
        planned = plan_ranks(request("rtx4090*2", exact=True))

        assert planned.chosen.share == "guidance"
        assert [row["share"] for row in planned.report["shares"]] == ["guidance"]

    def test_budgets_differ(self) -> None:
        """All ranks take the knobs of the one with least room."""
        planned = plan_ranks(request("cpu*2", vram="1GiB,8MiB", pins=("denoise.share=rows",)))
        knobs = [rank.planned.plan.knobs["denoise"] for rank in planned.chosen.ranks]

        assert planned.problem is None
        assert knobs[0] == knobs[1]
        assert planned.chosen.ranks[1].planned.plan.predicted_peak_bytes <= 8 << 20

    def test_a_rank_without_room(self) -> None:
        """Is named with what it needs."""
        planned = plan_ranks(request("cpu*2", vram="1GiB,1MiB"))

        assert planned.problem is not None
        assert planned.problem.message.startswith("rank 1: ")
        assert planned.problem.exit_code == 3

    def test_a_single_one_is_beside_it(self) -> None:
        """What the same device plans by itself."""
        planned = plan_ranks(request("h100*2"))
        alone = plan(Request("t2v-tiny", machine="h100", vram="1GiB"))

        assert planned.report["alone"]["predicted_seconds"] == alone.plan.predicted_seconds

    def test_one_plan_is_not_several(self) -> None:
        """Nothing that was asked for is left out in silence."""
        with pytest.raises(InputError, match="have a plan each"):
            plan(request("cpu*2"))

    @pytest.mark.parametrize(
        ("graph", "count", "ways"),
        [
            ("vace-tiny", 4, ["guidance", "ulysses"]),
            pytest.param("vace-tiny", 3, ["rows"], marks=pytest.mark.wide),
        ],
    )
    def test_a_control_is_shared_as_all_is(self, graph, count, ways) -> None:
        """VACE's blocks take their time, and exchange what the others do."""
        inputs = {"prompt": "a red circle"}
        options = {"devices": f"rtx4090*{count}", "vram": "1GiB", "inputs": inputs}
        planned = plan_ranks(Request(graph, pins=("decode.share=first",), **options))

        assert [row["share"] for row in planned.report["shares"]] == ways
        first = planned.chosen.ranks[0].planned
        calls = [c for c in first.plan.footprint.calls if c.stage == "denoise"]
        per_block = {c.cost.exchanged_bytes for c in calls if c.kind.startswith("block.")}
        per_vace = {
            c.cost.exchanged_bytes
            for c in calls
            if c.kind.startswith("vace.") and not c.kind.startswith(("vace.begin", "vace.hint"))
        }
        assert per_vace == per_block
        assert min(per_block) > 0


def test_explained() -> None:
    """What an exchange costs, and the link at which it begins to pay."""
    explained = explain_ranks(request("rtx4090*2"), "denoise")
    rows = {row["share"]: row for row in explained.report["shares"]}

    assert set(rows) == {"guidance", "rows"}
    assert rows["rows"]["exchanged_bytes"] > rows["guidance"]["exchanged_bytes"]
    for row in rows.values():
        assert 0 < row["exchange_seconds"] <= row["stage_seconds"]


class TestScreens:
    """What `plan` and `explain` print at 80 columns: no number is cut."""

    def test_plan(self) -> None:
        """With more ranks than there is room for, it is said that there are more."""
        stage = {"stage": "denoise", "peak_bytes": 23 << 30, "seconds": 1359.3}
        ranks = [
            {"rank": n, "device": "rtx4090", "machine": "rtx4090", "budget_bytes": 23 << 30,
             "predicted_peak_bytes": 22 << 30, "feasible": True, "exchanged_bytes": 1552618803200,
             "exchange_seconds": 130.3, "predicted_seconds": 4938.5,
             "stages": [{**stage, "seconds": 1359.3 + n}]}
            for n in range(8)
        ]  # fmt: skip
        way = {"share": "guidance.ulysses", "decode": "strips", "predicted_seconds": 800.0}
        alone = {"feasible": True, "predicted_seconds": 4938.5}
        cache = {"kind": "magcache", "may_skip": [], "skipped_steps": {"positive": [3, 4, 6]}}
        report = {"graph": "t2v-14b", "devices": "rtx4090*8", "exact": False, "ranks": ranks, **way,
                  "shares": [{**way, "feasible": True}], "alone": alone, "notes": [],
                  "stages": [{**stage, "steps": 50, "cache": cache}]}  # fmt: skip

        text = self._printed(render, report)

        assert "rank 3" in text.replace("\n", " ")
        assert "4 more ranks" in text
        assert "22:39" in text
        assert "denoise: magcache skips 3 of 50 steps: 3-4, 6" in text

    def test_explain(self) -> None:
        """The longest way of sharing beside the longest numbers."""
        way = {
            "share": "guidance.ulysses", "decode": "strips", "feasible": True, "exchanges": 123456,
            "predicted_seconds": 4938.5, "exchanged_bytes": 1552618803200, "exchange_rate": 12e9,
            "exchange_seconds": 130.3, "stage_seconds": 1359.3, "even_rate": 0.00533e9,
        }  # fmt: skip
        report = {
            **way, "stage": "decode", "graph": "t2v-14b", "devices": "rtx4090*8", "why": "so",
            "shares": [way], "alone": {"feasible": True, "predicted_seconds": 4938.5},
        }  # fmt: skip

        text = self._printed(render_explained, report)

        row = "guidance.ulysses, strips  1.41 TiB        2:10  22:39  1:22:18  0.00533 GB/s"
        assert row in text

    def _printed(self, show, report) -> str:
        console = Console(file=io.StringIO(), width=80)
        show(report, console)
        text = console.file.getvalue()
        assert "\N{HORIZONTAL ELLIPSIS}" not in text
        return text
