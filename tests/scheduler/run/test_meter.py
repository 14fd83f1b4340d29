"""The meter of a CPU against memory whose size is known."""

import gc

import pytest
import torch
from torch.nn.functional import conv3d

from tests.scheduler.measured import CPU, profile
from wanflow.scheduler.run import meter as meter_module
from wanflow.scheduler.run.meter import AllocationMeter, CudaMeter, StorageMeter, meter_for

KIB = 1024


def kib(count: int) -> torch.Tensor:
    """Make a tensor of so many KiB."""
    return torch.empty(count * KIB, dtype=torch.uint8)


@pytest.fixture
def meter():
    with StorageMeter() as entered:
        yield entered


class TestStorages:
    """What lives between kernels."""

    def test_counts_what_lives(self, meter) -> None:
        """Up when it is made, down when it goes; the peak stays."""
        first, second = kib(3), kib(4)
        del first
        third = kib(2)

        assert (meter.now_bytes, meter.peak_bytes) == (6 * KIB, 7 * KIB)
        del second, third
        assert meter.now_bytes == 0

    def test_views_count_once(self, meter) -> None:
        """A storage lives as long as any view of it."""
        whole = kib(4)
        part = whole[:10]
        del whole

        assert meter.now_bytes == 4 * KIB
        del part
        assert meter.now_bytes == 0

    def test_what_was_there_before_is_not_counted(self) -> None:
        """The meter starts from nothing."""
        before = kib(4)
        with StorageMeter() as meter:
            made = before + 1

            assert meter.now_bytes == made.nbytes

    def test_nothing_is_counted_after(self) -> None:
        """What is made outside isn't seen, what goes outside is."""
        with StorageMeter() as meter:
            made = kib(1)
        other = kib(1)

        assert meter.now_bytes == made.nbytes == other.nbytes
        del made
        gc.collect()
        assert meter.now_bytes == 0


class TestAllocations:
    """What is allocated by anybody, kernels for themselves included."""

    # Columns of the slow path: 27 values for each of 8 channels and 8 * 8 * 8 positions.
    COLUMNS = 27 * 8 * 512 * 4

    @pytest.fixture
    def data(self):
        return torch.rand(1, 8, 8, 8, 8), torch.rand(8, 8, 3, 3, 3)

    def convolve(self, data) -> torch.Tensor:
        """Run a convolution that needs columns."""
        return conv3d(*data, padding=1)

    def test_kernels_are_seen(self, data) -> None:
        """The columns are there together with the output, and gone afterwards."""
        with AllocationMeter() as meter:
            made = self.convolve(data)
            meter.collect()

            assert meter.peak_bytes == made.nbytes + self.COLUMNS
            assert meter.now_bytes == made.nbytes

    def test_comes_on_top(self, data) -> None:
        """Of what lives already, over any number of collections."""
        with AllocationMeter() as meter:
            lives = kib(50)
            meter.collect()
            made = self.convolve(data)
            meter.collect()
            del lives

        assert meter.peak_bytes == 50 * KIB + made.nbytes + self.COLUMNS
        assert meter.now_bytes == made.nbytes

    def test_failure_turns_it_off(self, data) -> None:
        """The next meter is not disturbed."""
        with pytest.raises(ValueError, match="shape"), AllocationMeter():
            raise ValueError("shape")
        with AllocationMeter() as meter:
            made = self.convolve(data)

        assert meter.peak_bytes == made.nbytes + self.COLUMNS

    def test_somebody_elses_profiler_stays(self, data) -> None:
        """PyTorch has one: then storages are counted, and kernels are left to it."""
        with profile(activities=CPU, profile_memory=True):
            meter = meter_for(torch.device("cpu"))
            with meter:
                made = self.convolve(data)
                meter.collect()

        assert isinstance(meter, StorageMeter)
        assert (made.nbytes, made.nbytes) == (meter.now_bytes, meter.peak_bytes)


def test_each_device_has_its_own() -> None:
    """The reports name who counted."""
    found = [meter_for(torch.device(name)) for name in ("cpu", "cuda:0")]

    assert [AllocationMeter, CudaMeter] == [type(meter) for meter in found]
    assert [meter.source for meter in found] == ["tracked", "allocator"]


class TestOthers:
    """What the system and the driver say beside the meter."""

    def test_pages_of_the_process(self) -> None:
        """Touched memory is in RAM; its peak is never below it."""
        with AllocationMeter() as meter:
            before = meter.others()[0]
            kept = torch.ones(2**25)
            (after,) = meter.others()
        assert (before.source, after.source) == ("rss", "rss")
        assert after.now_bytes - before.now_bytes >= kept.nbytes // 2
        assert after.peak_bytes >= after.now_bytes

    @pytest.mark.gpu
    def test_allocator_and_driver(self) -> None:
        """The allocator holds at least what it gave out; a context lies beside it."""
        with meter_for(torch.device("cuda:0")) as meter:
            kept = torch.ones(2**24, device="cuda:0")
            reserved, beside = meter.others()
        assert reserved.source == "reserved"
        assert reserved.peak_bytes >= reserved.now_bytes >= kept.nbytes
        assert beside.source in ("context", "context+others")
        assert beside.peak_bytes >= beside.now_bytes


class TestOps:
    """Ops by themselves are not reported: that would take most of a tiny run."""

    def test_only_memory_is(self) -> None:
        """While it counts."""
        with AllocationMeter():
            kib(3) + 1
            threads = meter_module._profiler._disable_profiler_legacy()
            meter_module.Reports().begin()
        kinds = {record.kind() for thread in threads for record in thread}
        assert "memory_alloc" in kinds
        assert not {"push", "pop"} & kinds

    def test_a_profiler_sees_them_afterwards(self) -> None:
        """What was turned off is on again."""
        with AllocationMeter():
            kib(3)
        with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as seen:
            kib(3) + 1
        assert "aten::add" in {event.key for event in seen.key_averages()}
