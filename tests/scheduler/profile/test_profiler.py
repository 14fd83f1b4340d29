"""What calls cost, found on fake tensors: against sums done by hand, and against real calls."""

import attrs
import numpy as np
import pytest
import torch

from tests.scheduler.measured import peak_bytes
from tests.scheduler.toys import (
    ROWS,
    WIDTH,
    Script,
    one,
    profiled,
    random_weights,
    toy_model,
    toy_program,
)
from wanflow.graph.configs import known_config
from wanflow.models.bound import segmentation_of
from wanflow.models.segments.build import build
from wanflow.models.segments.cut import BoundModule
from wanflow.models.wan import dit, umt5, vae
from wanflow.scheduler.knobs import Knob
from wanflow.scheduler.last_look import ANSWER_BYTES
from wanflow.scheduler.profile.fakes import Fake
from wanflow.scheduler.profile.profiler import Profiler
from wanflow.scheduler.program import Call

N = 1000 * 4  # bytes of a thousand numbers
LOOK = ANSWER_BYTES["cpu"]  # beside what a call makes, whether it is finite


def seed_with(**tensors):
    """Make a call that makes values `a.NAME`; the profiler sees them fake."""
    return Call("seed", lambda _: {f"a.{name}": t.clone() for name, t in tensors.items()})


def step_of(run, reads=(), **fields):
    """Profile one call after one that makes `a.x` of a thousand numbers; return its step."""
    call = Call("call", run, reads, **fields)
    script = Script("a", lambda: iter([seed_with(x=torch.zeros(1000)), call]))
    return profiled(script).calls[1]


class TestPeak:
    """The most that is there at once, over what was there before."""

    def test_counts_what_lives(self) -> None:
        """Two are there while the second is made from the first; then the first goes."""

        def run(values):
            first = values["a.x"] + values["a.x"]
            second = first * values["a.x"]
            del first
            return {"a.y": second + values["a.x"]}

        assert step_of(run, ("a.x",)).cost.workspace_bytes == 2 * N

    def test_in_place_costs_nothing(self) -> None:
        """No storage is made."""

        def run(values):
            made = values["a.x"].clone()
            return {"a.y": made.mul_(values["a.x"]).neg_()}

        assert step_of(run, ("a.x",)).cost.workspace_bytes == N + LOOK

    def test_views_cost_nothing(self) -> None:
        """They are other names of what is there."""
        found = step_of(lambda v: {"a.y": v["a.x"].view(10, 100).t()[2:].sum()}, ("a.x",))

        assert found.cost.workspace_bytes == 4 + LOOK

    def test_kernels_own_room_is_in_it(self) -> None:
        """By the table: here a convolution's columns, and a copy of its weight, which is a view."""

        def run(values):
            data = values["a.x"].view(1, 1, 10, 10, 10)
            return {"a.y": torch.nn.functional.conv3d(data, data[..., :3, :3, :3])}

        assert step_of(run, ("a.x",)).cost.workspace_bytes == (27 + 1) * 8**3 * 4 + 27 * 4

    def test_weights_are_not_in_it(self) -> None:
        """They have their own entry."""
        found = profiled(toy_program(toy_model(), passes=1)).calls[2]
        hidden = ROWS * 4 * WIDTH * 4

        assert found.segment == "toy/block.0"
        # Two hidden states while GELU runs, less than any weights with them.
        assert found.cost.workspace_bytes == 2 * hidden

    def test_is_never_less_than_what_is_made(self) -> None:
        """Even if NumPy made it."""

        def run(_values):
            return {"a.y": torch.from_numpy(np.zeros(1000, np.float32))}

        assert step_of(run, numeric=True).cost.workspace_bytes == N + LOOK


class TestFlops:
    """Work by class of kernel, against closed forms."""

    @pytest.mark.parametrize("bias", [True, False])
    def test_linear(self, bias) -> None:
        """Two per weight and row; a bias is free."""

        def run(values):
            rows = values["a.x"].view(50, 20)
            weight = rows[:30]
            return {"a.y": torch.nn.functional.linear(rows, weight, rows[0].repeat(2)[:30])}

        assert step_of(run, ("a.x",)).cost.flops == {"gemm": 2 * 50 * 20 * 30}

    def test_batched(self) -> None:
        """As often as there are matrices."""

        def run(values):
            many = values["a.x"].view(5, 10, 20)
            return {"a.y": many @ many.mT}

        assert step_of(run, ("a.x",)).cost.flops == {"gemm": 2 * 5 * 10 * 20 * 10}

    def test_convolution(self) -> None:
        """Two per weight and position."""

        def run(values):
            data = values["a.x"].view(1, 4, 10, 25)
            weight = values["a.x"][: 6 * 4 * 9].view(6, 4, 3, 3)
            return {"a.y": torch.nn.functional.conv2d(data, weight, padding=1)}

        assert step_of(run, ("a.x",)).cost.flops == {"conv": 2 * (6 * 4 * 9) * 250}

    def test_attention(self) -> None:
        """Scores and their use: two products of queries, keys and width a head."""

        def run(values):
            query = values["a.x"].view(1, 5, 20, 10)
            keys = values["a.x"][:450].view(1, 5, 9, 10)
            attend = torch.nn.functional.scaled_dot_product_attention
            return {"a.y": attend(query, keys, keys)}

        found = step_of(run, ("a.x",)).cost

        assert found.flops == {"attention": 2 * 2 * 5 * 20 * 9 * 10}
        assert found.workspace_bytes < 2 * N  # the scores are never all there

    def test_the_rest_is_traffic(self) -> None:
        """In and out."""
        found = step_of(lambda v: {"a.y": v["a.x"] + v["a.x"]}, ("a.x",)).cost

        assert found.memory_bytes == (2 + 1) * N
        assert found.flops == {}

    def test_kernels_are_counted(self) -> None:
        """What makes something new is one, a view is none."""

        def run(values):
            square = values["a.x"][:900].view(30, 30)
            return {"a.y": (square @ square + 1).t().relu()}

        assert step_of(run, ("a.x",)).cost.kernels == 3


class TestMemory:
    """A kind of call is run once."""

    @pytest.fixture
    def ran(self) -> list:
        return []

    def counted(self, ran, kind="call", reads=("a.x",)) -> Call:
        """Make a call that counts how often it runs."""

        def run(values):
            ran.append(kind)
            return {"a.y": next(iter(values.values())) + 1}

        return Call(kind, run, reads)

    def count(self, ran, *calls) -> int:
        """Profile calls after a few values are there."""
        values = seed_with(x=torch.zeros(9), z=torch.zeros(9), w=torch.zeros(8))
        profiled(Script("a", lambda: iter([values, *calls])))
        return len(ran)

    def test_same_kind_and_inputs(self, ran) -> None:
        """However often it comes, and it costs the same each time."""
        assert self.count(ran, *[self.counted(ran)] * 5) == 1

    def test_other_kind(self, ran) -> None:
        """A stage tells apart what differs."""
        assert self.count(ran, self.counted(ran, "one"), self.counted(ran, "two")) == 2

    @pytest.mark.parametrize("name", ["a.w", "a.z"])
    def test_other_inputs(self, ran, name) -> None:
        """Another shape, or another name."""
        assert self.count(ran, self.counted(ran), self.counted(ran, reads=(name,))) == 2

    def test_other_dtype(self, ran) -> None:
        """The same shape in half the bytes."""
        half = Call("half", lambda v: {"a.x": v["a.x"].half()}, ("a.x",))

        assert self.count(ran, self.counted(ran), half, self.counted(ran)) == 2

    def test_other_stage(self, ran) -> None:
        """Kinds are a stage's own words."""
        first = Script("a", lambda: iter([seed_with(x=torch.zeros(9)), self.counted(ran)]))
        profiled(first, one(self.counted(ran), "b"))

        assert len(ran) == 2

    def test_next_profile_knows_it_still(self, ran) -> None:
        """Another setting of the knobs costs only what it changes."""
        profiler = Profiler("cpu")
        script = Script("a", lambda: iter([seed_with(x=torch.zeros(9)), self.counted(ran)]))
        found = [profiler.profile((script,), {}, lambda _: False) for _ in range(2)]

        assert len(ran) == 1
        assert found[0] == found[1]


class TestValues:
    """What calls read and make."""

    def test_numbers_follow_the_names(self) -> None:
        """A name that is rewritten is another value."""
        again = Call("call", lambda v: {"a.x": v["a.x"] + 1}, ("a.x",))
        steps = profiled(
            Script("a", lambda: iter([seed_with(x=torch.zeros(2)), *[again] * 2]))
        ).calls

        assert [step.reads for step in steps] == [(), (1,), (2,)]
        assert [made.value for step in steps for made in step.makes] == [1, 2, 3]

    def test_what_does_not_exist_is_left_out(self) -> None:
        """The first step of a stage finds no state."""
        found = step_of(lambda v: {"a.state.x": v["a.x"] + 1}, ("a.x", "a.state.x"))

        assert found.reads == (1,)
        assert [(m.name, m.nbytes, m.is_state) for m in found.makes] == [("a.state.x", N, True)]

    def test_input_by_a_new_name_is_the_same_value(self) -> None:
        """Nothing is made; who reads the new name reads the old value."""
        rename = Call("rename", lambda v: {"a.y": v["a.x"]}, ("a.x",))
        reader = Call("read", lambda v: {"a.out": v["a.y"] + 1}, ("a.y",))
        calls = [seed_with(x=torch.zeros(9)), rename, reader]
        steps = profiled(Script("a", lambda: iter(calls))).calls

        assert steps[1].makes == ()
        assert steps[2].reads == steps[1].reads == (1,)

    @pytest.mark.parametrize(
        "run",
        [
            lambda v: {"a.y": v["a.x"][1:]},
            lambda v: {"a.y": v["a.x"].add_(1)[:]},
            lambda v: dict(zip(["a.y", "a.z"], (v["a.x"] + 1).split(500), strict=True)),
        ],
        ids=["part of an input", "all of an input", "two parts of one"],
    )
    def test_shared_storage_is_refused(self, run) -> None:
        """It would be counted twice, or freed too early."""
        with pytest.raises(AssertionError, match=r"a/call: a\.[yz] shares its storage with a\."):
            step_of(run, ("a.x",))

    def test_whole_storage_is_counted(self) -> None:
        """A part of a large one keeps all of it."""
        found = step_of(lambda v: {"a.y": (v["a.x"] + 1)[:3]}, ("a.x",))

        assert found.makes[0].nbytes == N

    def test_outputs_are_kept(self) -> None:
        """By the name they have at the end."""
        found = profiled(toy_program(toy_model()))
        last = found.calls[-2].makes

        assert {m.value for m in last if m.name == "toy.x"} == found.keeps

    def test_dtype_is_that_of_most_flops(self) -> None:
        """The rate of the kernels depends on it, however the stage's last value is kept."""

        def multiply(values):
            half = values["a.x"].bfloat16()
            return {"a.y": (half @ half).float()}

        calls = [seed_with(x=torch.zeros(4, 4)), Call("h", multiply, ("a.x",))]

        assert profiled(Script("a", lambda: iter(calls))).dtypes == {"a": "bfloat16"}

    def test_dtype_without_flops_is_that_of_the_values(self) -> None:
        """There is nothing else to go by."""
        calls = [seed_with(x=torch.zeros(2).half())]

        assert profiled(Script("a", lambda: iter(calls))).dtypes == {"a": "float16"}


class TestCalls:
    """Which code runs, on what."""

    def test_no_real_memory(self) -> None:
        """A terabyte costs nothing."""
        found = step_of(lambda _: {"a.y": torch.empty(2**38)}, ())

        assert found.makes[0].nbytes == 2**40

    def test_stand_in_runs_instead(self) -> None:
        """What reaches outside isn't called."""

        def run(_values):
            pytest.fail("it ran")

        assert step_of(run, stand_in=lambda _: {"a.y": torch.zeros(3)}).makes[0].nbytes == 12

    def test_numeric_sees_numbers(self) -> None:
        """A sampler computes with its small tensors."""
        found = step_of(lambda _: {"a.y": torch.zeros(int(torch.arange(9).sum()))}, numeric=True)

        assert found.makes[0].nbytes == 36 * 4

    def test_gathered_rows(self) -> None:
        """As many as ids, each as long as a row."""
        found = profiled(toy_program(toy_model())).calls[1]

        assert found.gathered_bytes == ROWS * WIDTH * 4
        # They are there before the call: it makes a copy.
        assert found.cost.workspace_bytes == ROWS * WIDTH * 4 + LOOK

    def test_no_weights_are_left(self) -> None:
        """Neither fake nor real."""
        model = toy_model()
        profiled(toy_program(model))

        found = [p.data for p in model.module.parameters()]
        assert all(data.is_meta and not isinstance(data, Fake) for data in found)

    def test_segments_are_the_models(self) -> None:
        """All of them with their bytes, and one staging buffer for all."""
        model = toy_model(staging_bytes=9)
        found = profiled(toy_program(model))

        assert {f"toy/{n}": s.nbytes for n, s in model.segments.items()} == {
            n: s.nbytes for n, s in found.segments.items()
        }
        assert found.staging_bytes == 9

    def test_knobs_that_round_are_named(self) -> None:
        """The plan says what `--exact` would not do."""
        knobs = tuple(Knob(n, {"off": "bitwise", "on": k}, "") for n, k in KINDS.items())
        script = attrs.evolve(one(Call("a", lambda _: {}), "a"), knobs=knobs)
        chosen = {"a": dict.fromkeys(KINDS, "on")}
        facts = Profiler("cpu").profile((script,), chosen, lambda _: False).stages[0]

        assert facts.rounding == ("strips",)
        assert facts.knobs == {"rows": "on", "strips": "on"}


KINDS = {"rows": "bitwise", "strips": "rounding"}


def tiny(part: str, precision: str) -> BoundModule:
    """Build a part of the tiny configuration on the meta device."""
    module = build(part, known_config("wan-tiny", part))
    return BoundModule(part, module, segmentation_of(part, module), 0, precision)


@attrs.frozen
class Real:
    """A call of a real model: what it needs by the profiler, and by torch.profiler."""

    model: BoundModule
    segment: str
    run: object
    inputs: dict

    def predicted(self) -> int:
        """Ask the profiler."""

        def seed(_values):
            return {name: torch.empty_like(t) for name, t in self.inputs.items()}

        call = Call("real", self.run, tuple(self.inputs), segment=self.segment)
        script = Script("a", lambda: iter([Call("seed", seed), call]), self.model)
        return profiled(script).calls[1].cost.workspace_bytes

    def measured(self) -> int:
        """Bind weights and run it."""
        weights = random_weights(self.model.module)
        specs = self.model.segments[self.segment].tensors
        self.model.bind(self.segment, {s.name: weights[s.name].to(s.dtype) for s in specs})
        return peak_bytes(lambda: self.run(self.inputs))


class TestModels:
    """Predictions for the models' own parts against what PyTorch's profiler sees."""

    @pytest.mark.parametrize("precision", ["fp32", "bf16"])
    @pytest.mark.parametrize("tokens", [48, 1000])
    def test_transformer_block(self, tokens, precision) -> None:
        """Self-attention, cross-attention and FFN."""
        model = tiny("transformer", precision)
        dtype = torch.bfloat16 if precision == "bf16" else torch.float32
        inputs = {
            "a.hidden": torch.rand(1, tokens, 128).to(dtype),
            "a.context": torch.rand(1, 512, 128).to(dtype),
            "a.modulation": torch.rand(1, 6, 128).to(dtype),
            "a.cos": torch.rand(1, tokens, 1, 32),
            "a.sin": torch.rand(1, tokens, 1, 32),
        }

        def run(v):
            rotary = (v["a.cos"], v["a.sin"])
            args = (v["a.hidden"], v["a.context"], v["a.modulation"], rotary)
            return {"a.hidden": dit.block(model.module.blocks[3], *args)}

        check(Real(model, "block.3", run, inputs))

    @pytest.mark.parametrize("precision", ["fp32", "bf16"])
    @pytest.mark.parametrize("tokens", [16, 512])
    def test_text_attention(self, tokens, precision) -> None:
        """Attention with a bias."""
        model = tiny("text_encoder", precision)
        dtype = torch.bfloat16 if precision == "bf16" else torch.float32
        inputs = {
            "a.hidden": torch.rand(1, tokens, 128).to(dtype),
            "a.mask": torch.rand(1, 1, tokens, tokens) > 0.2,
        }

        def run(v):
            return {"a.hidden": umt5.attend(model.module, 1, v["a.hidden"], v["a.mask"])}

        check(Real(model, "block.1.layer.0", run, inputs))

    @pytest.mark.parametrize("precision", ["fp32", "bf16"])
    @pytest.mark.parametrize("tokens", [16, 512])
    def test_text_feed(self, tokens, precision) -> None:
        """The gated FFN."""
        model = tiny("text_encoder", precision)
        dtype = torch.bfloat16 if precision == "bf16" else torch.float32

        def run(v):
            return {"a.hidden": umt5.feed(model.module, 1, v["a.hidden"])}

        check(
            Real(model, "block.1.layer.1", run, {"a.hidden": torch.rand(1, tokens, 128).to(dtype)})
        )

    @pytest.mark.parametrize("part", ["mid", "up.0", "up.3"])
    @pytest.mark.parametrize("first", [True, False])
    def test_decoder_part(self, part, first) -> None:
        """Causal convolutions with their cache, and the upsampler."""
        model = tiny("vae", "fp32")
        channels = {"mid": 32, "up.0": 32, "up.3": 8}[part]
        x = torch.rand(1, channels, 1, 12, 16)
        places = [f"a.state.{i}" for i in range(vae.cache_places(model.module, part))]
        inputs = {"a.x": x}
        if not first:
            inputs |= warm(model, part, x, places)

        def run(v):
            cache = vae.fill_cache([v.get(name) for name in places], 0 if first else 1)
            made = vae.run(model.module, part, v["a.x"], cache, first=first)
            kept = zip(places, cache, strict=True)
            return {"a.y": made, **{n: t for n, t in kept if isinstance(t, torch.Tensor)}}

        check(Real(model, model.segment_of(*vae.paths(part)), run, inputs))


def warm(model: BoundModule, part: str, x: torch.Tensor, places: list[str]) -> dict:
    """Run the first frame; return the cache that it leaves."""
    weights = random_weights(model.module)
    segment = model.segment_of(*vae.paths(part))
    model.bind(segment, {s.name: weights[s.name] for s in model.segments[segment].tensors})
    cache = vae.fill_cache([None] * len(places), 0)
    with torch.no_grad():
        vae.run(model.module, part, x, cache, first=True)
    model.unbind(segment)
    return {n: t for n, t in zip(places, cache, strict=True) if isinstance(t, torch.Tensor)}


def check(real: Real) -> None:
    """Never too little, and at most 3 % too much."""
    predicted, measured = real.predicted(), real.measured()

    assert measured <= predicted <= measured * 1.03


@attrs.define
class Shelf:
    """A store of kinds in a dict."""

    kinds: dict = attrs.field(factory=dict)

    def find(self, stage, key):
        return self.kinds.get((stage, key))

    def add(self, stage, key, kind):
        self.kinds[stage, key] = kind


class TestStore:
    """Kinds that another process has measured."""

    def script(self, run, x=None, kind="call", **fields):
        """Make a program whose second call is looked up in the store."""
        x = torch.zeros(6, 4) if x is None else x
        seed = Call("seed", lambda _: {}, stand_in=lambda _: {"a.x": x})
        return Script("a", lambda: iter([seed, Call(kind, run, ("a.x",), **fields)]))

    def profile(self, shelf, program, knobs=None):
        """Profile with a profiler of its own."""
        return Profiler("cpu", shelf).profile((program,), {"a": knobs or {}}, lambda _: False)

    def test_is_asked_first(self) -> None:
        """What it knows is not run; the footprint is the same."""
        ran = []

        def run(values):
            ran.append(1)
            return {"a.y": (values["a.x"] @ values["a.x"].t()).t(), "a.z": values["a.x"]}

        shelf = Shelf()
        cold = self.profile(shelf, self.script(run))
        warm = self.profile(shelf, self.script(run))

        assert len(ran) == 1
        assert cold == warm

    def test_makes_again_what_was_made(self) -> None:
        """Shape, stride, place in the storage, the storage's size and the dtype."""

        def run(values):
            return {"a.y": torch.empty(10, 8, dtype=torch.bfloat16).t()[2:5, 1:]}

        shelf, found = Shelf(), []
        for _ in range(2):
            reader = Call("read", lambda v: found.append(v["a.y"]) or {}, ("a.y",), stand_in=None)
            calls = [*self.script(run).script(), reader]
            Profiler("cpu", shelf).profile((Script("a", lambda c=calls: iter(c)),), {}, bool)
            shelf.kinds.pop(next(k for k in shelf.kinds if k[1][1] == "read"))
        facts = [
            (t.shape, t.stride(), t.storage_offset(), t.untyped_storage().nbytes(), t.dtype)
            for t in found
        ]

        assert facts == [((3, 9), (1, 8), 10, 160, torch.bfloat16)] * 2
        assert all(isinstance(t, Fake) for t in found)

    @pytest.mark.parametrize(
        "other",
        [
            {"x": torch.zeros(6, 5)},
            {"x": torch.zeros(4, 6).t()},
            {"x": torch.zeros(6, 4, dtype=torch.bfloat16)},
            {"kind": "other"},
            {"knobs": {"rows": "64"}},
        ],
        ids=["shape", "stride", "dtype", "kind", "knobs"],
    )
    def test_key_has_all_that_decides(self, other) -> None:
        """Whatever is different is measured."""

        def run(values):
            return {"a.y": values["a.x"] + 1}

        shelf, knob = Shelf(), Knob("rows", {"64": "bitwise"}, "")
        knobs = other.pop("knobs", None) if "knobs" in other else None
        self.profile(shelf, self.script(run))
        program = self.script(run, **other)
        program.knobs = (knob,)
        self.profile(shelf, program, knobs)

        assert len(shelf.kinds) == 2

    @pytest.mark.parametrize("fields", [{"numeric": True}, {"stand_in": lambda _: {}}])
    def test_is_not_asked_for(self, fields) -> None:
        """Real values can't be made again, and what is outside isn't in the key."""
        shelf = Shelf()
        self.profile(shelf, self.script(lambda _: {}, x=torch.zeros(2), **fields))

        assert shelf.kinds == {}
