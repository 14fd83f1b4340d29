"""Step caches: the steps that a plan leaves out, the frames of their authors' way, bit for bit."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import attrs
import pytest
import torch

from tests import step_caches
from tests.jobs import MeasuredRuns, budgets, run_watched
from tests.resuming import cut_short, events, resumed_frames
from wanflow.errors import InputError
from wanflow.scheduler.footprint.lifetimes import lifetimes
from wanflow.session import Request, explain, plan
from wanflow.session.planning.planned import Planned, plan_prepared
from wanflow.session.preparing.place import find_place
from wanflow.session.preparing.prepare import prepare
from wanflow.session.preparing.step_caches import with_caches
from wanflow.trace.events import Workspace

SEED, STEPS, SHIFT, GUIDANCE = 11, 10, 3.0, 3.0
PROMPT = "a red circle moves right on a blue background"
INPUTS: dict[str, Any] = {
    "prompt": PROMPT, "seed": SEED, "size": "32*32", "frames": 5, "steps": STEPS,
    "shift": SHIFT, "guidance": GUIDANCE,
}  # fmt: skip
# Of a model that has none: what its own numbers are is of no matter to who follows them.
COEFFICIENTS = (0.5, 1.0, 0.01)
RATIOS = [0.99, 0.97] * 4 + [0.95, 0.99] * 5
NUMBERS = {
    "teacache": f"denoise.cache_coefficients={','.join(map(str, COEFFICIENTS))}",
    "magcache": f"denoise.cache_ratios={','.join(map(str, RATIOS))}",
    "easycache": "denoise.cache_retention=0.3",
}
THRESHOLDS = {"teacache": 0.15, "magcache": 0.12, "easycache": 0.3}
KINDS = [*THRESHOLDS]
PAIRED = ("denoise.split=parts", "denoise.cfg=paired")
IN_PLACE = (
    "denoise.split=parts", "denoise.rows=1024", "decode.strips=whole", "encode.tokens=all",
)  # fmt: skip


def request(kind: str, threshold: float | None = None, **options: Any) -> Request:
    """The job as wanflow takes it; "" for none."""
    threshold = THRESHOLDS.get(kind, 0.0) if threshold is None else threshold
    said = f"denoise.cache={kind}", f"denoise.cache_threshold={threshold}"
    settings = (*said, NUMBERS[kind]) if kind else ()
    options.setdefault("exact", True)
    return Request("t2v-tiny", INPUTS, device="cpu", settings=settings, **options)


@attrs.frozen
class Expected:
    """What the authors' way gives: frames `[n, 3, H, W]`, and the steps left out by pass."""

    frames: torch.Tensor
    skipped: dict[str, list[int]]


@pytest.fixture(scope="module")
def expected() -> dict[str, Expected]:
    """Each kind inside diffusers' pipeline, which decides as it goes."""
    return {kind: _expected(kind) for kind in KINDS}


def _expected(kind: str) -> Expected:
    pipeline, transformer = (pipe := step_caches.pipeline(SHIFT)), pipe.transformer
    leaves: Any
    if kind == "easycache":
        whole = step_caches.EasyCache(transformer.forward, THRESHOLDS[kind], 3, STEPS)
        transformer.forward = whole
    elif kind == "teacache":
        leaves = step_caches.TeaCache(COEFFICIENTS, THRESHOLDS[kind], STEPS)
        transformer.condition_embedder.time_embedder.register_forward_hook(leaves.hook)
    else:
        leaves = step_caches.MagCache([1.0, 1.0, *RATIOS], THRESHOLDS[kind], 0.2, 2)
    if kind != "easycache":
        blocks = step_caches.CachedBlocks(transformer.blocks, leaves)
        transformer.blocks = torch.nn.ModuleList([blocks])
    frames = pipeline(
        prompt=PROMPT, width=32, height=32, num_frames=5, num_inference_steps=STEPS,
        guidance_scale=GUIDANCE, generator=torch.Generator("cpu").manual_seed(SEED),
        output_type="pt",
    ).frames[0]  # fmt: skip
    both = [whole.skipped] * 2 if kind == "easycache" else blocks.skipped
    return Expected(torch.as_tensor(frames), dict(zip(("positive", "negative"), both, strict=True)))


def cache_of(request: Request) -> dict[str, Any]:
    """What the plan says of the cache."""
    stages: Any = plan(request).report["stages"]
    return next(s["cache"] for s in stages if s["stage"] == "denoise")


def left_out(folder: Path) -> dict[str, list[int]]:
    """The steps at which a run's trace has no block of a pass."""
    ran = [e for e in events(folder) if isinstance(e, Workspace) and e.name.startswith("block.")]
    blocks = {(e.name.split(".")[1], e.step) for e in ran}
    names = sorted({name for name, _ in blocks}, reverse=True)
    return {n: [s for s in range(STEPS) if (n, s) not in blocks] for n in names}


class TestFrames:
    """Against a pipeline that decides by itself, step by step."""

    @pytest.mark.parametrize("kind", KINDS)
    def test_are_the_authors(
        self, expected: dict[str, Expected], kind: str, tmp_path: Path
    ) -> None:
        """And the steps left out are those of the plan, of the authors' way and of the trace."""
        wanted, found = expected[kind], run_watched(request(kind), tmp_path / "run")
        assert 2 <= len(wanted.skipped["positive"]) < STEPS - 2
        assert torch.equal(found.frames, wanted.frames)
        assert found.report["skipped_steps"] == {"denoise": wanted.skipped}
        if kind != "easycache":  # which has all calls, some of which do nothing
            assert cache_of(request(kind))["skipped_steps"] == wanted.skipped
            assert left_out(tmp_path / "run") == wanted.skipped

    @pytest.mark.wide
    @pytest.mark.parametrize("kind", KINDS)
    def test_at_budgets(
        self, expected: dict[str, Expected], kind: str, measured_runs: MeasuredRuns
    ) -> None:
        """From everything resident to the minimum; what is measured is as planned."""
        most, _, least = budgets(request(kind))
        for budget in (most, least):
            measured = measured_runs(request(kind, vram=f"{budget}B"))
            assert torch.equal(measured.frames, expected[kind].frames), budget
            measured.assert_within(budget)

    def test_a_threshold_of_zero_is_no_cache(
        self, expected: dict[str, Expected], tmp_path: Path
    ) -> None:
        """The bits of none, by its calls; each cache makes another video."""
        plain = run_watched(request(""), tmp_path / "plain").frames
        zero = run_watched(request("magcache", 0), tmp_path / "zero")
        assert torch.equal(zero.frames, plain)
        assert zero.report["skipped_steps"] == {}
        for kind in KINDS:
            assert not torch.equal(expected[kind].frames, plain)
            asked = request(kind, 0)
            graph = prepare(asked, find_place(asked), to_run=False).graph
            assert graph.stage("denoise").reuse is None

    @pytest.mark.parametrize(
        ("kind", "pins"),
        [
            ("easycache", IN_PLACE),
            pytest.param("magcache", PAIRED, marks=pytest.mark.wide),
            pytest.param("magcache", IN_PLACE, marks=pytest.mark.wide),
            pytest.param("easycache", PAIRED, marks=pytest.mark.wide),
        ],
    )
    def test_do_not_depend_on_knobs(
        self, expected: dict[str, Expected], kind: str, pins: tuple[str, ...], tmp_path: Path
    ) -> None:
        """In parts, both passes together, and with the hidden state updated in place."""
        exact = pins == PAIRED
        got = run_watched(request(kind, pins=pins, exact=exact), tmp_path / "run").frames
        wanted = expected[kind].frames
        assert torch.equal(got, wanted) if exact else torch.allclose(got, wanted, atol=1e-4)


@pytest.mark.wide
@pytest.mark.parametrize("kind", ["magcache", "easycache"])
def test_a_control_is_skipped_too(kind: str, tiny_model: Any, tmp_path: Path) -> None:
    """VACE's blocks are left out with those that they hint, whichever way these run."""
    inputs = {"steps": 6, "size": "32*32", "frames": 5, "prompt": PROMPT}
    weights, settings = (str(tiny_model("wan-tiny-vace")),), request(kind, 3).settings
    runs = [
        run_watched(
            Request(
                "vace-tiny", inputs, device="cpu", weights=weights, settings=settings,
                pins=pins, exact=pins in ((), PAIRED),
            ),
            tmp_path / str(number),
        )
        for number, pins in enumerate(((), PAIRED, (*IN_PLACE, "control.strips=whole")))
    ]  # fmt: skip
    assert all(torch.allclose(runs[0].frames, run.frames, atol=1e-4) for run in runs[1:])
    steps: Any = runs[0].report["skipped_steps"]
    assert len(steps["denoise"]["positive"]) >= 2


class TestPlan:
    """What is known before the run."""

    def test_a_skipped_step_takes_less(self) -> None:
        """Its blocks are no calls of the plan, and its weights are not brought."""
        pins = ("denoise.weights=stream",)
        plain, cached = (plan(request(kind, pins=pins)) for kind in ("", "magcache"))
        assert cached.plan.predicted_seconds < plain.plan.predicted_seconds
        stages: Any = [planned.report["stages"] for planned in (plain, cached)]
        sent = [s["streamed_bytes"] for rows in stages for s in rows if s["stage"] == "denoise"]
        assert sent[1] < sent[0]

    def test_each_step_is_explained(self, expected: dict[str, Expected]) -> None:
        """Its seconds, which add up to the stage's, and what of it is skipped."""
        stage: Any = explain(request("magcache"), "denoise").report["stage"]
        rows, skipped = stage["each_step"], expected["magcache"].skipped
        assert sum(row["seconds"] for row in rows) == pytest.approx(stage["seconds"])
        for name, steps in skipped.items():
            assert [row["step"] for row in rows if name in row["skipped"]] == steps
        computed, reused = (rows[at]["seconds"] for at in (1, skipped["positive"][0]))
        assert reused < computed / 2

    def test_easycache_has_a_range(self) -> None:
        """From all steps that it may skip to none."""
        planned = plan(request("easycache"))
        said: Any = cache_of(request("easycache"))
        assert said["may_skip"] == [3, 4, 5, 6, 7, 8]
        assert 0 < said["least_seconds"] < _seconds(planned)
        least: Any = planned.report["least_seconds"]
        assert 0 < least < planned.plan.predicted_seconds

    def test_teacache_without_weights_has_a_range(self) -> None:
        """The time embedding decides, which is not here; what is held is in the plan."""
        asked = request("teacache", pins=("denoise.cfg=serial", "denoise.split=whole"))
        prepared = prepare(asked, find_place(asked), to_run=False)
        bare = {
            name: attrs.evolve(model, checkpoint=None, folder=None)
            for name, model in prepared.models.items()
        }
        prepared = attrs.evolve(prepared, graph=with_caches(prepared.graph, bare))
        planned = plan_prepared(prepared)
        stages: Any = planned.report["stages"]
        said = next(s["cache"] for s in stages if s["stage"] == "denoise")
        assert (said["skipped_steps"], said["may_skip"]) == ({}, [*range(1, STEPS - 1)])
        assert 0 < said["least_seconds"] < _seconds(planned)
        known = plan(asked)
        assert said["least_seconds"] < _seconds(known) < _seconds(planned)
        need, known_need = (max(_needs(found)) for found in (planned, known))
        assert known_need == need

    def test_second_expert_counts_anew(self) -> None:
        """It holds nothing at its first step, and its own share is retained."""
        said = {
            "cache": "magcache", "cache_threshold": 5, "cache_k": 20, "cache_retention": 0.3,
            "cache_ratios": ",".join(map(str, RATIOS)),
        }  # fmt: skip
        settings = tuple(f"{s}.{name}={v}" for s in ("high", "low") for name, v in said.items())
        inputs = {**INPUTS, "steps": 16, "guidance_high": 3.0, "guidance_low": 3.0}
        del inputs["guidance"]
        asked = Request("t2v-a14b-tiny", inputs, device="cpu", settings=settings)
        graph = prepare(asked, find_place(asked), to_run=False).graph
        for name, first in (("high", 2), ("low", 3)):
            stage = graph.stage(name)
            assert stage.reuse is not None
            assert stage.reuse.steps["positive"] == frozenset(stage.steps[first:])


def _needs(planned: Planned) -> list[int]:
    """What each call of denoise needs, besides weights that stay."""
    footprint = planned.plan.footprint
    needs = zip(footprint.calls, lifetimes(footprint).need_bytes, strict=True)
    return [nbytes for call, nbytes in needs if call.stage == "denoise"]


def _seconds(planned: Planned) -> float:
    """What the denoise stage takes."""
    return next(s.seconds for s in planned.plan.stages if s.stage == "denoise")


@pytest.mark.parametrize("kind", ["magcache", "easycache"])
def test_resumed(expected: dict[str, Expected], kind: str, tmp_path: Path) -> None:
    """Cut short right before a step that is left out, it goes on with what was held."""
    at = expected[kind].skipped["positive"][1]
    cut = cut_short(request(kind), tmp_path / "cut", at + 1)
    assert torch.equal(resumed_frames(cut), expected[kind].frames)


class TestRefused:
    """With what there is."""

    @pytest.mark.parametrize("kind", ["teacache", "magcache"])
    def test_a_model_without_numbers(self, kind: str) -> None:
        """The models that have some, and what would do."""
        asked = attrs.evolve(request(kind), settings=request(kind).settings[:2])
        with pytest.raises(InputError) as caught:
            plan(asked)
        assert "for its model 'dit' (wan-tiny)" in caught.value.message
        assert "wan2.1-t2v-1.3b" in (caught.value.hint or "")
        assert "easycache would do" in (caught.value.hint or "")

    def test_ratios_of_half_a_step(self) -> None:
        """They come in pairs."""
        settings = (*request("magcache").settings[:2], "denoise.cache_ratios=1,0.9,0.8")
        with pytest.raises(InputError, match="3 cache_ratios, wants two a step"):
            plan(attrs.evolve(request("magcache"), settings=settings))
