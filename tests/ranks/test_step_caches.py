"""Step caches among ranks: each holds its rows within a step, and all the same after it."""

from __future__ import annotations

import functools
import json
from pathlib import Path

import pytest
import torch

from tests.ranks.denoising import Denoising, unlike, unplanned
from tests.ranks.folders import ran, wanflow
from tests.ranks.threads import together
from wanflow.scheduler.ranks import Rank
from wanflow.scheduler.run.resume_point import resume_point
from wanflow.session import Request, plan, plan_ranks
from wanflow.stages.denoise_ranks import Sharing
from wanflow.stages.step_cache import PASSES

STEPS = 8
# Of a model that has none; MagCache's have the two passes skip other steps.
RATIOS = ",".join(["0.99,0.97"] * 3 + ["0.95,0.99"] * 4)
NUMBERS = {
    "teacache": ("denoise.cache_threshold=0.4", "denoise.cache_coefficients=0.5,1.0,0.01"),
    "magcache": ("denoise.cache_threshold=0.12", f"denoise.cache_ratios={RATIOS}"),
    "easycache": ("denoise.cache_threshold=0.3", "denoise.cache_retention=0.3"),
}
ROOM = ("--vram", "1GiB")


def settings(kind: str) -> tuple[str, ...]:
    """What turns a cache on."""
    return (f"denoise.cache={kind}", *NUMBERS[kind])


def request(kind: str, **options) -> Request:
    """A job of the tiny graph with a cache."""
    inputs = {"prompt": "a red circle", "steps": STEPS}
    return Request("t2v-tiny", inputs, settings=settings(kind), **{"vram": "1GiB", **options})


@pytest.fixture(scope="module")
def denoising():
    """The stage with a cache, read once."""
    return functools.cache(lambda kind: Denoising.of(request(kind, device="cpu")))


@pytest.mark.parametrize(
    ("kind", "count", "knobs"),
    [
        ("magcache", 2, {"share": "guidance"}),
        ("magcache", 3, {"share": "rows", "cfg": "paired"}),
        ("magcache", 4, {"share": "guidance.ulysses", "split": "parts"}),
        ("teacache", 2, {"share": "ulysses"}),
        ("easycache", 2, {"share": "guidance", "split": "parts"}),
        ("easycache", 3, {"share": "rows"}),
        ("easycache", 4, {"share": "guidance"}),
    ],
)
def test_same_states_as_one_device(denoising, kind, count, knobs) -> None:
    """Latents and what is held, on every rank after every step, to the bit."""
    stage = denoising(kind)
    wanted = stage.alone()

    for found in stage.shared(count, **knobs):
        assert unlike(found, wanted) == []
    assert any(_skipped(stage, wanted, name) for name in ("positive", "negative"))


@pytest.mark.parametrize(
    ("kind", "count", "share"),
    [
        ("magcache", 2, "rows"),
        pytest.param("magcache", 4, "guidance", marks=pytest.mark.wide),
    ],
)
def test_calls_take_what_is_planned(denoising, kind, count, share) -> None:
    """Each call of each rank, to the byte but for a few numbers."""
    assert unplanned(denoising(kind), count, share=share, cfg="serial", split="whole") == {}


def _skipped(stage, after, name) -> list[int]:
    """The steps that were left out of a pass."""
    reuse = stage.prepared.graph.stage("denoise").reuse
    if reuse.kind == "easycache":
        return after[-1]["denoise.state.easy.skipped"].nonzero().flatten().tolist()
    return sorted(reuse.steps[name])


def test_all_decide_by_the_first_ones_number() -> None:
    """Whatever theirs is: who decided otherwise would be waited for."""

    def decide(index, exchange) -> float:
        number = torch.full((), float(index + 1))
        Sharing(None, Rank(index, 3, "cpu"), exchange, "rows", PASSES).agreed(number)
        return number.item()

    assert together(3, decide) == [1.0] * 3


def test_passes_skip_other_steps(denoising) -> None:
    """So that a half of guidance computes while the other does not."""
    steps = denoising("magcache").prepared.graph.stage("denoise").reuse.steps

    assert steps["positive"] - steps["negative"]
    assert steps["negative"] - steps["positive"]


@pytest.mark.parametrize(
    ("kind", "devices", "share"),
    [
        ("magcache", "cpu*2", "guidance"),
        ("magcache", "cpu*3", "rows"),
        pytest.param("easycache", "cpu*2", "guidance", marks=pytest.mark.wide),
        pytest.param("teacache", "cpu*4", "guidance", marks=pytest.mark.wide),
    ],
)
def test_the_same_is_alive_between_steps(kind, devices, share) -> None:
    """On every rank what one device has, so that any number goes on from what one saves."""
    pins = ("denoise.cfg=serial", "denoise.rows=all", "denoise.split=whole", "decode.strips=whole")
    wanted = plan(request(kind, device="cpu", pins=pins)).plan
    pins = (*pins, f"denoise.share={share}", "decode.share=first")
    ranks = plan_ranks(request(kind, devices=devices, pins=pins)).chosen.ranks

    for step in range(STEPS - 1):
        for rank in ranks:
            assert _alive(rank.planned.plan, step) == _alive(wanted, step)


def _alive(plan, step) -> dict[str, tuple[int, ...]]:
    values = resume_point(plan, "denoise", step).values
    return {name: made.shape for name, made in values.items() if ".rope." not in name}


class TestPlan:
    """`plan --devices`, without a card."""

    @pytest.mark.parametrize(
        ("share", "gathered", "traded"),
        [
            ("guidance", (1 / 2, 0), (0, 1)),
            pytest.param("ulysses", (3 / 4, 3 / 4), (0, 0), marks=pytest.mark.wide),
        ],
    )
    def test_what_is_exchanged(self, share, gathered, traded) -> None:
        """Of each residual that is held others' rows of a rank's own pass, all of another's."""
        pins = (f"denoise.share={share}", "decode.share=first")
        planned = plan_ranks(request("magcache", devices="rtx4090*4", pins=pins))
        stage = planned.first.prepared.graph.stage("denoise")
        config = planned.first.prepared.models["dit"].model.module.config
        state = 5 * 4 * 4 * config.num_attention_heads * config.attention_head_dim * 4
        holds = [sum(stage.reuse.holds(n, at) for at in stage.steps[:-1]) for n in PASSES]
        assert min(holds) > 0

        for number, rank in enumerate(planned.chosen.ranks):
            by_pass = holds[::-1] if share == "guidance" and number >= 2 else holds
            assert _sent(rank, "gather") == state * _product(by_pass, gathered)
            assert _sent(rank, "trade") == state * _product(by_pass, traded)
        stages = {s["stage"]: s for s in planned.report["stages"]}
        skipped = {name: sorted(map(stage.steps.index, stage.reuse.steps[name])) for name in PASSES}
        assert stages["denoise"]["cache"]["skipped_steps"] == skipped

    def test_easycache_has_a_range(self) -> None:
        """From all steps that it may skip to none, by the rank that ends last."""
        planned = plan_ranks(request("easycache", devices="rtx4090*2"))

        assert 0 < planned.report["least_seconds"] < planned.report["predicted_seconds"]
        stages = {s["stage"]: s for s in planned.report["stages"]}
        assert stages["denoise"]["cache"]["may_skip"] == [2, 3, 4, 5, 6]


def _sent(rank, word) -> int:
    """The bytes that a rank is sent by such calls."""
    calls = rank.planned.plan.footprint.calls
    return sum(c.cost.exchanged_bytes for c in calls if c.kind.startswith(f"cache.{word}."))


def _product(ones, others) -> float:
    return sum(one * other for one, other in zip(ones, others, strict=True))


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    """What one device makes with a cache, each once."""

    @functools.cache
    def run(kind: str) -> dict[str, object]:
        folder = tmp_path_factory.mktemp(kind)
        return ran("t2v-tiny", *ROOM, *words(kind), "--device", "cpu", "--out", str(folder))

    return run


def words(kind: str) -> list[str]:
    """The job on a command line."""
    return ["-i", f"steps={STEPS}", *(w for s in settings(kind) for w in ("--set", s))]


@pytest.mark.parametrize(
    ("kind", "devices", "share"),
    [
        ("magcache", "cpu*2", "guidance"),
        pytest.param("easycache", "cpu*2", "rows", marks=pytest.mark.wide),
        pytest.param("teacache", "cpu*3", "rows", marks=pytest.mark.wide),
        pytest.param("easycache", "cpu*4", "guidance", marks=pytest.mark.wide),
    ],
)
def test_bits_and_bytes(alone, tmp_path, kind, devices, share) -> None:
    """The same file, the same steps skipped, and each rank takes what it planned."""
    folder = tmp_path / "run"
    report = ran(
        "t2v-tiny", *ROOM, *words(kind), "--devices", devices, "--pin", f"denoise.share={share}",
        "--out", str(folder),
    )  # fmt: skip

    assert Path(report["video"]).read_bytes() == Path(alone(kind)["video"]).read_bytes()
    assert report["skipped_steps"] == alone(kind)["skipped_steps"] != {"denoise": {}}
    for rank in report["ranks"]:
        assert rank["peak_bytes"] == rank["predicted_peak_bytes"]


@pytest.mark.parametrize(
    ("kind", "before", "share", "after"),
    [
        ("magcache", "cpu*2", "rows", "cpu"),
        pytest.param("magcache", "cpu*2", "rows", "cpu*3", marks=pytest.mark.wide),
        pytest.param("magcache", "cpu*2", "guidance", "cpu", marks=pytest.mark.wide),
        pytest.param("easycache", "cpu*2", "guidance", "cpu", marks=pytest.mark.wide),
    ],
)
def test_resumed_by_others(alone, tmp_path, kind, before, share, after) -> None:
    """Stopped right before a step that is skipped, others go on with what the first one saved."""
    folder, at = tmp_path / "run", alone(kind)["skipped_steps"]["denoise"]["positive"][1]
    stopped = ran(
        "t2v-tiny", *ROOM, *words(kind), "--devices", before, "--pin", f"denoise.share={share}",
        "--until", f"denoise:{at}", "--out", str(folder),
    )  # fmt: skip
    index = json.loads((folder / "state" / "index.json").read_text())
    held = "easy.kept" if kind == "easycache" else "residual"
    assert (stopped["status"], index["step"]) == ("stopped", at - 1)
    assert f"denoise.state.{held}.positive" in index["values"]

    done = wanflow("resume", str(folder), "--devices", after, "--json")

    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    for rank in report.get("ranks", [])[1:]:  # the first one's includes what was done before
        assert rank["peak_bytes"] == rank["predicted_peak_bytes"]
    assert (folder / "video.mp4").read_bytes() == Path(alone(kind)["video"]).read_bytes()
