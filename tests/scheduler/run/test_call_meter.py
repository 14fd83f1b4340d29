"""The meter of a run: each kind of call is watched once, what calls make is counted always."""

from __future__ import annotations

import gc

import attrs
import pytest
import torch
from torch.nn.functional import conv3d
from torch.profiler import ProfilerActivity, profile

from wanflow.scheduler.footprint.costs import CallRecord, Cost
from wanflow.scheduler.run.call_meter import CallMeter, run_meter
from wanflow.scheduler.run.meter import CudaMeter, StorageMeter, somebody_profiles
from wanflow.session import Request, plan, run

KIB = 1024
# Columns of the slow path: 27 values for each of 8 channels and 8 * 8 * 8 positions.
COLUMNS = 27 * 8 * 512 * 4


def kib(count: int) -> torch.Tensor:
    """Make a tensor of so many KiB."""
    return torch.empty(count * KIB, dtype=torch.uint8)


def record(kind: str = "a", workspace_bytes: int = 0) -> CallRecord:
    """A call of a kind."""
    return CallRecord("s", kind, 0, Cost(workspace_bytes, {}, 0), None, 0, (), ())


@attrs.define
class Convolution:
    """A call whose kernel needs columns beside what it makes."""

    data: torch.Tensor = attrs.field(factory=lambda: torch.rand(1, 8, 8, 8, 8))
    weight: torch.Tensor = attrs.field(factory=lambda: torch.rand(8, 8, 3, 3, 3))

    def run(self, meter: CallMeter, kind: str = "conv") -> torch.Tensor:
        """Run it as an executor does."""
        meter.begin(record(kind))
        made = conv3d(self.data, self.weight, padding=1)
        meter.end([made])
        return made


class TestCalls:
    """What kernels take for themselves is seen once, and counted every time."""

    def test_first_of_a_kind_is_watched(self) -> None:
        """The second peak is that of the first over what lives by then."""
        call = Convolution()
        with CallMeter() as meter:
            first = call.run(meter)
            assert meter.peak_bytes == first.nbytes + COLUMNS
            second = call.run(meter)

            assert (meter.watched, meter.calls) == (1, 2)
            assert meter.now_bytes == first.nbytes + second.nbytes
            assert meter.peak_bytes == first.nbytes + second.nbytes + COLUMNS

    def test_another_kind_or_cost_is_watched_too(self) -> None:
        """Calls are alike where stage, kind and cost are."""
        call = Convolution()
        with CallMeter() as meter:
            call.run(meter)
            call.run(meter, "other")
            meter.begin(record("conv", 5))
            meter.end([])

        assert meter.watched == meter.calls == 3

    def test_every_call(self) -> None:
        """Where it was asked for."""
        call = Convolution()
        with CallMeter(every=True) as meter:
            for _ in range(3):
                made = call.run(meter)

        assert meter.watched == 3
        assert meter.now_bytes == made.nbytes

    def test_values_are_counted_until_nobody_holds_them(self) -> None:
        """Whoever holds them, and whatever views there are of them."""
        call = Convolution()
        with CallMeter() as meter:
            made = call.run(meter)
            view = call.run(meter)[0]
            del made
            gc.collect()
            assert meter.now_bytes == view.untyped_storage().nbytes()
            del view
            assert meter.now_bytes == 0

    def test_what_is_passed_on_is_counted_once(self) -> None:
        """A value by another name is the same memory."""
        with CallMeter() as meter:
            x = kib(3)
            assert meter.holds(x) == 3 * KIB
            meter.begin(record())
            meter.end([x])

            assert meter.now_bytes == 3 * KIB

    def test_what_stays_behind_counts_to_the_end(self) -> None:
        """A call that keeps a tensor which is no value is found out."""
        kept = []
        with CallMeter() as meter:
            meter.begin(record())
            kept.append(kib(7))
            made = kib(2)
            meter.end([made])
            del made

            assert meter.now_bytes == 7 * KIB
            assert meter.peak_bytes == 9 * KIB

    def test_memory_that_no_call_made(self) -> None:
        """Slabs are noticed as they come, and as they go, by whichever thread."""
        with CallMeter() as meter:
            slab = kib(100)
            meter.holds(slab)
            small = Convolution().run(meter)
            del slab

            assert meter.now_bytes == small.nbytes
            assert meter.peak_bytes == 100 * KIB + small.nbytes + COLUMNS

    def test_failure_turns_it_off(self) -> None:
        """In the middle of a call too: the next meter is not disturbed."""

        def fail() -> None:
            with CallMeter() as meter:
                meter.begin(record())
                raise ValueError("shape")

        with pytest.raises(ValueError, match="shape"):
            fail()
        with CallMeter() as meter:
            made = Convolution().run(meter)

        assert meter.peak_bytes == made.nbytes + COLUMNS

    def test_what_goes_after_a_failure_is_not_told(self, capfd) -> None:
        """PyTorch warns of memory that is freed while it watches and was there before."""
        before = kib(100)
        with CallMeter() as meter:
            meter.begin(record())
            assert somebody_profiles()
            meter.fail()
            assert not somebody_profiles()  # PyTorch says it once in a process
            del before
        assert capfd.readouterr().err == ""


def test_a_run_that_is_sampled_measures_what_a_watched_one_does(tmp_path, monkeypatch) -> None:
    """At the smallest budget, by the first call of each kind and by all of them."""
    request = Request("t2v-tiny", {"prompt": "x", "steps": 2}, device="cpu", prompt_cache=False)
    least = plan(request).report["minimum_bytes"]
    request = attrs.evolve(request, vram=f"{least}B")
    peaks = []
    for check in ("0", "1"):
        monkeypatch.setenv("WANFLOW_CHECK", check)
        done = run(request, out=tmp_path / check)
        watched, calls = done["watched_calls"]
        assert 0 < watched < calls if check == "0" else watched == calls
        peaks.append(done["peak_bytes"])

    assert peaks[0] == peaks[1] <= least


def test_each_device_has_its_own() -> None:
    """PyTorch has one profiler: where somebody else uses it, storages alone are counted."""
    cpu = torch.device("cpu")
    assert isinstance(run_meter(cpu), CallMeter)
    assert isinstance(run_meter(torch.device("cuda:0")), CudaMeter)
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True):
        assert isinstance(run_meter(cpu), StorageMeter)
