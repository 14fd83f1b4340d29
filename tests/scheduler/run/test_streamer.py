"""Segments come as one slab, are bound, and are let go of."""

import gc
import threading

import pytest
import torch

from tests.scheduler.toys import WIDTH, DictSource, random_weights, toy_model
from wanflow.scheduler.plan.host_memory import NOTHING
from wanflow.scheduler.plan.schedule import HostPlan
from wanflow.scheduler.run.call_meter import CallMeter
from wanflow.scheduler.run.devices import CpuDevice, LinkedDevice
from wanflow.scheduler.run.meter import StorageMeter
from wanflow.scheduler.run.streamer import Streamer


def ready(model, staging=0, **source):
    """Put a streamer and its source behind a model."""
    found = DictSource(random_weights(model.module), **source)
    streamer = Streamer({"toy": model}, {"toy": found}, CpuDevice())
    streamer.open(NOTHING, staging)
    return streamer, found


def load(streamer, key) -> None:
    """Start a load and wait for it."""
    streamer.start(key)
    streamer.ready(key)


def parameters(model, index=0) -> dict:
    """The parameters of a block."""
    return dict(model.module.blocks[index].named_parameters(prefix=f"blocks.{index}"))


@pytest.fixture
def model():
    return toy_model()


class TestLoad:
    """A segment comes."""

    def test_parameters_are_the_files(self, model) -> None:
        """To the bit, and of the other blocks none."""
        streamer, source = ready(model)
        load(streamer, "toy/block.0")

        for name, parameter in parameters(model).items():
            assert torch.equal(source.weights[name], parameter)
        assert all(p.is_meta for p in parameters(model, 1).values())

    def test_is_one_slab(self, model) -> None:
        """All parameters are views of one storage of the segment's size."""
        streamer, _ = ready(model)
        load(streamer, "toy/block.1")
        storages = {p.untyped_storage().data_ptr() for p in parameters(model, 1).values()}

        assert len(storages) == 1
        nbytes = parameters(model, 1)["blocks.1.up.weight"].untyped_storage().nbytes()
        assert nbytes == model.segments["block.1"].nbytes

    @pytest.mark.parametrize("staging", [0, 4096])
    def test_staging_is_what_was_planned(self, staging) -> None:
        """One buffer for all reads of a segment, or none."""
        streamer, source = ready(toy_model(), staging)
        load(streamer, "toy/block.0")

        assert [staging] * 4 == source.staged

    def test_failure_binds_nothing(self, model) -> None:
        """A segment is bound when all of it was read."""
        streamer, _ = ready(model, broken={"blocks.0.down.bias": OSError("bad sector")})

        with pytest.raises(OSError, match="bad sector"):
            load(streamer, "toy/block.0")

        assert all(p.is_meta for p in parameters(model).values())


class TestDrop:
    """A segment goes."""

    def test_parameters_are_meta_again(self, model) -> None:
        """Shapes and dtypes stay, memory doesn't."""
        before = {name: (p.shape, p.dtype) for name, p in parameters(model).items()}
        streamer, _ = ready(model)
        load(streamer, "toy/block.0")
        streamer.drop("toy/block.0")

        assert all(p.is_meta for p in parameters(model).values())
        assert before == {name: (p.shape, p.dtype) for name, p in parameters(model).items()}

    def test_gives_the_memory_back(self, model) -> None:
        """Nothing holds the slab."""
        streamer, _ = ready(model)
        with StorageMeter() as meter:
            load(streamer, "toy/block.0")
            there = meter.now_bytes
            streamer.drop("toy/block.0")
            gc.collect()

            assert (model.segments["block.0"].nbytes, 0) == (there, meter.now_bytes)

    def test_everything(self, model) -> None:
        """Whatever is bound goes; what isn't doesn't matter."""
        streamer, _ = ready(model)
        load(streamer, "toy/block.0")
        load(streamer, "toy/block.2")
        streamer.close()
        streamer.close()

        assert all(p.is_meta for p in model.module.parameters())


class TestGather:
    """Rows of a table come."""

    def test_rows_in_the_order_of_the_ids(self, model) -> None:
        """Twice where asked for twice; any shape of ids."""
        streamer, source = ready(model)
        ids = torch.tensor([[7, 0], [7, 99]])
        rows = streamer.gather(model, "table.weight", ids)

        assert rows.shape == (4, WIDTH)
        assert torch.equal(source.weights["table.weight"][ids.flatten()], rows)


class TestAhead:
    """Loads that are started before they are needed."""

    def test_serves_in_order(self, model) -> None:
        """Started first, read first; each is bound only when it is asked for."""
        streamer, source = ready(model)
        for index in (2, 0, 1):
            streamer.start(f"toy/block.{index}")
        streamer.ready("toy/block.1")

        blocks = [name.split(".")[1] for name in source.read]
        assert blocks == sorted(blocks, key="201".index)
        assert all(p.is_meta for p in parameters(model, 2).values())
        streamer.close()

    def test_ready_twice_is_no_second_wait(self, model) -> None:
        """What was waited for is there."""
        streamer, _ = ready(model)
        streamer.start("toy/block.0")

        assert streamer.ready("toy/block.0") is not None
        assert streamer.ready("toy/block.0") is None

    def test_close_ends_what_was_started(self, model) -> None:
        """No thread of ours writes to memory after it."""
        streamer, _ = ready(model)
        before = set(threading.enumerate())
        streamer.open(NOTHING, 0)
        (reader,) = set(threading.enumerate()) - before
        for index in range(3):
            streamer.start(f"toy/block.{index}")
        streamer.close()

        assert not reader.is_alive()


class TestHostTier:
    """A device behind a link: every byte passes through the host."""

    @pytest.fixture
    def link(self):
        device = LinkedDevice(rate=1e9)
        yield device
        device.close()

    def test_what_was_copied_may_go(self, link) -> None:
        """Nothing of a copy is held once it is said that it ended, though no other one comes."""
        meter, slab = CallMeter(), link.slab(64)
        assert meter.holds(slab) == 64
        link.upload(link.host_buffer(64), slab).wait()
        del slab
        assert meter.now_bytes == 0

    @pytest.mark.parametrize(("device", "counted"), [(CpuDevice(), 128), (None, 0)])
    def test_staging_is_counted_where_it_lies(self, model, link, device, counted) -> None:
        """It is the host's memory where there is a link, not the device's."""
        source = DictSource(random_weights(model.module))
        streamer = Streamer({"toy": model}, {"toy": source}, device or link)
        meter = CallMeter()
        streamer.notice = meter.holds
        streamer.open(NOTHING, 128)
        assert meter.now_bytes == counted
        streamer.close()

    @pytest.mark.parametrize("cached", [(), ("toy/block.0", "toy/block.1")])
    def test_bits_arrive(self, model, link, cached) -> None:
        """Through the ring or from the host's own copy, again and again."""
        source = DictSource(random_weights(model.module))
        streamer = Streamer({"toy": model}, {"toy": source}, link)
        largest = max(s.nbytes for s in model.segments.values())
        streamer.open(HostPlan(frozenset(cached), largest, 0, 0), 0)
        for _ in range(3):
            for index in range(3):
                streamer.start(f"toy/block.{index}")
            for index in range(3):
                streamer.ready(f"toy/block.{index}")
                for name, parameter in parameters(model, index).items():
                    assert torch.equal(source.weights[name], parameter)
                streamer.drop(f"toy/block.{index}")
        streamer.close()

        reads = {
            f"blocks.{i}": sum(n.startswith(f"blocks.{i}.") for n in source.read) for i in range(3)
        }
        once, thrice = 4, 12
        assert reads == {
            f"blocks.{i}": once if f"toy/block.{i}" in cached else thrice for i in range(3)
        }

    def test_slab_is_poisoned_until_the_bytes_come(self, link) -> None:
        """Reading too early shows as NaN."""
        assert link.slab(8).view(torch.float32).isnan().all()
