"""Any diffusers transformer is planned from its module and a forward's arguments."""

from __future__ import annotations

import pytest
import torch

from tests.scheduler.measured import peak_bytes
from tests.scheduler.replay import replay
from tests.tiny_transformers import MOCHI, TINY
from wanflow.errors import InputError
from wanflow.graph.configs import known_config
from wanflow.models.build import build
from wanflow.scheduler.lifetimes import lifetimes
from wanflow.scheduler.machine_names import named_machine
from wanflow.scheduler.outline import Asked
from wanflow.scheduler.planner import plan as plan_footprints
from wanflow.session import Request, plan, plan_module
from wanflow.session.modules import outline_module

pytestmark = pytest.mark.filterwarnings("ignore")  # diffusers' own, of autocast on a CPU

# A depthwise convolution's weights are charged as if every channel met every other.
BOUNDS = {"SanaTransformer2DModel": 1.6}


@pytest.fixture(params=TINY, ids=lambda tiny: tiny.name)
def tiny(request):
    return request.param


def peak_of(footprint) -> int:
    """Bytes of values and workspace at the highest call of a forward, what was given aside."""
    live = lifetimes(footprint).live_bytes
    steps = list(zip(live, footprint.steps, strict=True))[1:]
    given = footprint.steps[0].makes[0].nbytes
    return max(nbytes + step.cost.workspace_bytes for nbytes, step in steps) - given


class TestFootprints:
    """What the outline says, against what happens."""

    def test_peak_is_the_measured_one(self, tiny):
        """A real forward allocates no more, by torch.profiler, and 3 % less at most."""
        footprints = outline_module(tiny.build(), Asked((), tiny.inputs(), 1, "cpu"), "fp32")
        module, inputs = tiny.build("cpu"), tiny.inputs("cpu")
        measured = peak_bytes(lambda: module(**inputs))
        for footprint in footprints:
            assert measured <= peak_of(footprint) <= measured * BOUNDS.get(tiny.name, 1.03)

    @pytest.mark.parametrize("share", [0, 0.4, 1])
    def test_plans_replay(self, tiny, share):
        """At the minimum, between, and resident, nothing is over budget or used when not there."""
        footprints = outline_module(tiny.build(), Asked((), tiny.inputs(), 3, "cpu"), "fp32")
        machine = named_machine("cpu")
        ends = plan_footprints(footprints, machine, None)
        budget = int(ends.minimum_bytes + share * (ends.resident_bytes - ends.minimum_bytes))
        made = plan_footprints(footprints, machine, budget)
        assert made.feasible
        assert replay(made).peak_bytes <= budget

    @pytest.mark.parametrize("precision", ["bf16", "fp32"])
    def test_wan_is_as_its_stage_says(self, precision):
        """At 480p a forward's highest call is within 3 % of the profiler's for `denoise`.

        The stage has the latents beside it; the forward as a whole holds what its frames hold.
        """
        inputs = {"prompt": "", "size": "832*480", "frames": 17, "steps": 1, "guidance": 1.0}
        request = Request(
            "t2v-1.3b", inputs, device="cpu", precision=(f"dit={precision}",),
            pins=("denoise.split=whole", "denoise.rows=all", "decode.strips=whole"), vram="1GiB",
        )  # fmt: skip
        (footprint,) = plan(request).footprints
        needs = lifetimes(footprint).need_bytes
        denoise = [n for n, s in zip(needs, footprint.steps, strict=True) if s.stage == "denoise"]
        staged = max(denoise) - footprint.staging_bytes
        fields = known_config("wan2.1-t2v-1.3b", "transformer")
        dtype = {"bf16": torch.bfloat16, "fp32": torch.float32}[precision]
        with torch.device("meta"):
            given = {
                "hidden_states": torch.empty(1, 16, 5, 60, 104, dtype=dtype),
                "timestep": torch.empty(1, dtype=torch.int64),
                "encoder_hidden_states": torch.empty(1, 512, 4096, dtype=dtype),
            }
        module = build("transformer", fields)
        whole, _ = outline_module(module, Asked((), given, 1, "cpu"), precision)
        assert max(lifetimes(whole).need_bytes) == pytest.approx(staged, rel=0.03)


class TestPlanModule:
    """The function for people."""

    def test_fits(self):
        """The plan fits its budget, and names segments by what they are."""
        flux = TINY[1]
        made = plan_module(flux.build(), kwargs=flux.inputs(), machine="cpu", precision="fp32")
        assert made.feasible
        assert made.predicted_peak_bytes <= made.budget_bytes
        assert "FluxTransformer2DModel/single_transformer.2" in made.footprint.segments

    def test_minimum(self):
        """A byte less than the minimum is not feasible; the minimum is, and is slower."""
        tiny = TINY[0]

        def planned(vram):
            return plan_module(
                tiny.build(), kwargs=tiny.inputs(), vram=vram, machine="cpu", precision="fp32",
                repeats=4,
            )  # fmt: skip

        most = planned("1GiB")
        least = planned(f"{most.minimum_bytes}B")
        assert least.feasible
        assert least.predicted_seconds > most.predicted_seconds
        assert not planned(f"{most.minimum_bytes - 1}B").feasible

    def test_positional_arguments(self):
        """Arguments by place are the same as by name."""
        sana = next(tiny for tiny in TINY if tiny.name.startswith("Sana"))
        rest = sana.inputs()
        first = [rest.pop("hidden_states")]
        options = {"machine": "cpu", "precision": "fp32"}
        by_place = plan_module(sana.build(), first, rest, **options)
        by_name = plan_module(sana.build(), kwargs=sana.inputs(), **options)
        assert by_name.minimum_bytes == by_place.minimum_bytes

    def test_a_card(self):
        """For a GPU that is not there, weights in bf16."""
        made = plan_module(*half(TINY[2]), machine="rtx4060", repeats=2)
        assert made.feasible
        assert made.footprint.dtypes == {"forward": "bfloat16"}

    def test_depends_on_numbers(self):
        """A forward that looks into a mask is refused with the op that does."""
        with pytest.raises(InputError, match=r"Mochi.*numbers in a tensor .*nonzero") as caught:
            plan_module(MOCHI.build(), kwargs=MOCHI.inputs(), machine="cpu", precision="fp32")
        assert caught.value.exit_code == 2

    def test_precision(self):
        """A precision that isn't says which are."""
        with pytest.raises(InputError, match="'fp64' is not known") as caught:
            plan_module(torch.nn.Linear(1, 1), precision="fp64")
        assert caught.value.hint == "allowed: fp32, bf16, fp16"


def half(tiny):
    """A module with its inputs in bf16."""
    inputs = {
        name: value.bfloat16() if isinstance(value, torch.Tensor) else value
        for name, value in tiny.inputs().items()
    }
    return tiny.build(), (), inputs
