"""The look at what a step leaves: right for every dtype and layout, and next to no memory."""

import math

import pytest
import torch

from tests.scheduler.toys import Script, bench, one, profiled, toy_model, toy_program
from wanflow.errors import StageFailed
from wanflow.scheduler.last_look import ANSWER_BYTES, last_look
from wanflow.scheduler.program import Call
from wanflow.scheduler.run.executor import Resumption
from wanflow.scheduler.run.finite_check import extremes, is_finite, outliving
from wanflow.scheduler.run.meter import AllocationMeter

DTYPES = (torch.float16, torch.bfloat16, torch.float32, torch.float64)
LAYOUTS = {
    "plain": lambda tensor: tensor,
    "turned": lambda tensor: tensor.transpose(0, 2),
    "channels last": lambda tensor: tensor.to(memory_format=torch.channels_last),
    "gaps": lambda tensor: tensor[:, ::2],
}


def filled(step: int, bad: float, *, steps: int = 3) -> Script:
    """Make a program of *steps* steps; one of them leaves *bad* in its value, for the next."""

    def call(index: int) -> Call:
        def run(values):
            x = values["toy.x"] + 1 if index else torch.ones(4, 5)
            if index == step:
                x[1, 2] = bad
            return {"toy.x": x}

        reads = ("toy.x",) if index else ()
        return Call(f"fill.{index}", run, reads, step=index, stand_in=lambda _: stand_in())

    def stand_in():
        return {"toy.x": torch.empty(4, 5)}

    def end(values):
        return {"toy.out": values["toy.x"].nan_to_num(0)}

    return Script(
        "toy",
        lambda: iter([*map(call, range(steps)), Call("end", end, ("toy.x",), step=steps)]),
        steps=steps + 1,
    )


class TestIsFinite:
    """One element decides, wherever it lies."""

    @pytest.mark.parametrize("dtype", DTYPES)
    @pytest.mark.parametrize("layout", LAYOUTS)
    def test_finds_one_element(self, dtype, layout) -> None:
        """NaN and both infinities are seen anywhere; the largest numbers are fine."""
        plain = torch.full((2, 3, 40, 21), torch.finfo(dtype).max, dtype=dtype)
        plain[:, :, ::3] = torch.finfo(dtype).min
        assert is_finite(LAYOUTS[layout](plain))
        for bad in (math.nan, math.inf, -math.inf):
            for place in ((0, 0, 0, 0), (1, 2, 17, 5), (1, 2, 39, 20)):
                spoilt = plain.clone()
                spoilt[place] = bad
                assert not is_finite(LAYOUTS[layout](spoilt)), (bad, place)

    def test_nothing_is_finite(self) -> None:
        """A tensor without elements has none that is wrong."""
        assert is_finite(torch.empty(0, 3))

    @pytest.mark.parametrize("dtype", DTYPES[:3])
    @pytest.mark.parametrize("layout", LAYOUTS)
    def test_takes_what_is_planned(self, dtype, layout) -> None:
        """No copy of what is looked at, whatever its layout."""
        tensor = LAYOUTS[layout](torch.zeros(2, 3, 400, 21, dtype=dtype))
        with AllocationMeter() as meter:
            extremes(tensor)
        assert 0 < meter.peak_bytes <= ANSWER_BYTES["cpu"]


class TestOutliving:
    """Which values are looked at."""

    def test_are_those_that_a_later_step_reads(self) -> None:
        """And what is left at the end; states and what a step uses up are not."""
        footprint = profiled(toy_program(toy_model(blocks=2), passes=2))
        numbers = outliving(footprint)
        made = [(v.name, c.kind, c.step) for c in footprint.calls for v in c.makes
                if v.value in numbers]  # fmt: skip
        assert made == [("toy.x", "block.1", 0), ("toy.x", "block.1", 1)]


class TestRun:
    """A run that leaves something that is not finite."""

    @pytest.mark.parametrize(("bad", "word"), [(math.nan, "NaN"), (-math.inf, "infinity")])
    def test_ends_at_the_first_step(self, bad, word) -> None:
        """Told by stage, step and value; nothing is saved of that step."""
        saved = []
        ran = bench(filled(1, bad), save=lambda _stage, step, _values: saved.append(step))
        with pytest.raises(StageFailed) as caught:
            ran.run()
        assert caught.value.message == f"stage 'toy', step 2 of 4: {word} in toy.x"
        assert "--allow-nonfinite" in caught.value.hint
        assert (caught.value.code, caught.value.exit_code) == ("not-finite", 1)
        assert saved == [0]
        assert ran.ledger.resident_bytes("cpu") == 0

    def test_goes_on_where_it_may(self) -> None:
        """It is told once, of the first step."""
        said = []
        outcome = bench(filled(0, math.nan), nonfinite=said.append).run()
        assert said == ["stage 'toy', step 1 of 4: NaN in toy.x"]
        assert "toy.out" in outcome.values

    def test_sees_what_a_call_loses(self) -> None:
        """A clamp hides an infinity; the look before it doesn't."""

        def clamped(_values):
            return {"toy.out": last_look(torch.full((4,), math.inf)).clamp(-1, 1)}

        with pytest.raises(StageFailed, match=r"step 1 of 1: infinity in toy\.out"):
            bench(one(Call("clamp", clamped))).run()

    def test_a_saved_state_is_looked_at(self) -> None:
        """A run doesn't go on from latents that are not finite, whoever saved them."""
        state = {"toy.x": torch.full((4, 5), math.nan)}
        ran = bench(filled(9, 0.0), resume=Resumption("toy", 1, state))
        with pytest.raises(StageFailed, match=r"step 2 of 4: NaN in toy\.x"):
            ran.run()

    def test_many_looks_in_a_step(self) -> None:
        """More than are on their way at once: the one that is wrong is seen all the same."""

        def run(_values):
            for _ in range(200):
                last_look(torch.ones(3))
            return {"toy.out": last_look(torch.full((3,), math.nan)).nan_to_num(0)}

        with pytest.raises(StageFailed, match="NaN"):
            bench(one(Call("many", run))).run()
