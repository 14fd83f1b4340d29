"""The emulated card behaves as PyTorch's does, and leaves nothing behind."""

import os
import queue
import subprocess
import sys
import threading

import pytest
import torch

from tests.cuda_emulator.card import CARDS, Card, Faults
from wanflow.files.folders import PACKAGE
from wanflow.units import GIB, MIB


def test_after_it_there_is_no_card(emulate):
    names = ("is_available", "Stream", "Event", "cudart", "mem_get_info", "current_device")
    before = [getattr(torch.cuda, name) for name in names] + [torch.empty, queue.SimpleQueue]
    with emulate():
        assert torch.cuda.is_available()
        assert torch.empty is not before[-2]
        torch._C._accelerator_setAllocatorSettings("expandable_segments:True")
    assert [getattr(torch.cuda, name) for name in names] + [
        torch.empty,
        queue.SimpleQueue,
    ] == before
    assert "True" not in torch._C._accelerator_getAllocatorSettings()
    assert not torch.cuda.is_available()


class TestMemory:
    """The allocator, its counters, and its cap."""

    def test_mixed_devices_are_refused(self, emulator_library):
        command = [sys.executable, "-m", "tests.cuda_emulator.mixed_devices", str(emulator_library)]
        where = {**os.environ, "PYTHONPATH": str(PACKAGE.parent)}
        done = subprocess.run(command, env=where, capture_output=True, text=True, check=False)
        assert done.stdout == "refused\n", done.stderr

    def test_freed_memory_is_poison_and_given_again(self, emulator):
        kept = torch.ones(1000, device="cuda")
        address, alias = kept.data_ptr(), kept.cpu()
        del kept
        again = torch.empty(1000, device="cuda")
        assert again.data_ptr() == address
        assert again.isnan().all()
        assert alias.eq(1).all()

    def test_counters(self, emulator):
        kept = torch.empty(3 * MIB, dtype=torch.uint8, device="cuda")
        gone = torch.empty(MIB, dtype=torch.uint8, device="cuda")
        del gone
        assert torch.cuda.memory_allocated() == 3 * MIB == kept.nbytes
        assert torch.cuda.max_memory_allocated() == 4 * MIB
        assert torch.cuda.memory_reserved() >= 4 * MIB
        torch.cuda.reset_peak_memory_stats()
        assert torch.cuda.max_memory_allocated() == 3 * MIB
        torch.cuda.empty_cache()
        assert 3 * MIB <= torch.cuda.memory_reserved() < 40 * MIB

    def test_the_cap_raises_as_pytorch_does(self, emulator):
        torch.cuda.set_per_process_memory_fraction(0.01)
        first = torch.empty(60 * MIB, dtype=torch.uint8, device="cuda")
        del first  # what is free is given back before anything fails
        kept = torch.empty(64 * MIB, dtype=torch.uint8, device="cuda")
        with pytest.raises(
            torch.OutOfMemoryError, match=r"Tried to allocate 64\.00 MiB\. GPU 0 has"
        ):
            torch.empty(kept.nbytes, dtype=torch.uint8, device="cuda")
        counts = torch.cuda.memory_stats()
        assert (counts["num_alloc_retries"], counts["num_ooms"]) == (2, 1)

    def test_a_context_takes_memory_and_grows(self, emulate):
        card = Card(used_bytes=GIB)
        with emulate(card) as emulator:
            assert emulator.contexts == set()
            free, total = torch.cuda.mem_get_info()
            assert total - free == GIB + card.context_bytes
            torch.ones(1, device="cuda").add(1)
            grown = free - torch.cuda.mem_get_info()[0]
            assert card.kernels_bytes <= grown <= card.kernels_bytes + 2 * MIB


class TestRefusals:
    """What a driver may refuse, and where it shows."""

    def test_a_refused_registration_poisons_the_next_call(self, emulate):
        with emulate(Card(faults=Faults(refuses_registering=True))) as emulator:
            runtime, buffer = torch.cuda.cudart(), torch.empty(4096, dtype=torch.uint8)
            code = runtime.cudaHostRegister(buffer.data_ptr(), 4096, 0)
            assert runtime.cudaGetErrorString(code) == "operation not supported"
            others = threading.Thread(target=lambda: torch.zeros(1, device="cuda"))
            others.start()
            others.join()  # an error is its thread's own
            with pytest.raises(torch.AcceleratorError, match="operation not supported"):
                torch.zeros(1, device="cuda")
            torch.zeros(1, device="cuda")
            assert emulator.registered == {}

    def test_expandable_segments_show_at_the_first_memory(self, emulate):
        with emulate(Card(faults=Faults(refuses_expandable_segments=True))):
            torch.zeros(1, device="cuda")
            torch._C._accelerator_setAllocatorSettings("expandable_segments:True")
            with pytest.raises(RuntimeError, match="CUDA driver error: operation not supported"):
                torch.zeros(1, device="cuda")

    def test_pinned_memory(self, emulator):
        assert torch.empty(8, pin_memory=True).nbytes == 32
        emulator.faults.refuses_pinned = True
        with pytest.raises(RuntimeError, match="out of memory"):
            torch.empty(8, pin_memory=True)

    def test_a_lost_context_fails_everything(self, emulator):
        emulator.lost = "CUDA error: an illegal memory access was encountered"
        for act in (torch.cuda.synchronize, torch.cuda.empty_cache, torch.cuda.Event().record):
            with pytest.raises(torch.AcceleratorError, match="illegal memory"):
                act()


class TestOrder:
    """Streams, events, and the current device."""

    def test_copies_are_late_until_somebody_waits(self, emulator):
        side, host = torch.cuda.Stream(), torch.arange(4.0)
        card, event = torch.zeros(4, device="cuda"), torch.cuda.Event(enable_timing=True)
        begun = torch.cuda.Event(enable_timing=True)
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):
            begun.record()
            card.copy_(host, non_blocking=True)
            event.record()
        assert not event.query()
        assert card.sum().item() == 0  # nobody waited: the race is seen, too
        torch.cuda.current_stream().wait_event(event)
        assert card.sum().item() == 6
        assert begun.elapsed_time(event) >= 0
        (race,) = emulator.clocks.races
        assert "aten::sum" in race
        assert "upload by stream" in race

    def test_time_is_refused_as_pytorch_refuses_it(self, emulator):
        marks = [torch.cuda.Event(enable_timing=True) for _ in range(2)]
        with pytest.raises(ValueError, match="must be recorded"):
            marks[0].elapsed_time(marks[1])
        with pytest.raises(ValueError, match="enable_timing"):
            torch.cuda.Event().elapsed_time(marks[1])

    def test_a_current_device_for_each_thread(self, emulate):
        with emulate(Card(count=2)) as emulator:
            seen = []
            with torch.cuda.device(1):
                other = threading.Thread(target=lambda: seen.append(torch.cuda.current_device()))
                other.start()
                other.join()
                assert torch.ones(1, device="cuda").device.index == 1
                assert torch.cuda.current_stream().device.index == 1
            assert (seen, torch.cuda.current_device()) == ([0], 0)
            assert emulator.contexts == {1}


@pytest.mark.parametrize("name", CARDS)
def test_cards(emulate, name):
    card = CARDS[name]
    with emulate(card):
        if card.unusable is None:
            about = torch.cuda.get_device_properties(0)
            assert (about.name, (about.major, about.minor)) == (card.name, card.capability)
        elif card.unusable:
            with pytest.warns(UserWarning, match="too old"):
                assert not torch.cuda.is_available()
        else:
            assert not torch.cuda.is_available()
        assert (torch.version.cuda, torch.version.hip) == (card.cuda, card.hip)
