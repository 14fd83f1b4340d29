"""The card of a run, posed: what is free of it, what is tried on it, and that it is put back."""

import pytest
import torch

from tests.posed import posing
from wanflow.errors import InputError
from wanflow.session import Request, run
from wanflow.session.planning.planned import plan
from wanflow.session.preparing.place import enforced, find_place
from wanflow.units import GIB, MIB

SETTINGS = torch._C._accelerator_getAllocatorSettings


@pytest.fixture
def pose(emulate, emulator_library, tmp_path):
    """Pose as a named card."""
    folder = tmp_path / "computer"
    return lambda name="rtx4060", **changes: posing(
        emulate, emulator_library, folder, name, **changes
    )


@pytest.fixture(autouse=True)
def no_settings(monkeypatch):
    """The allocator is set up by nobody."""
    for name in ("PYTORCH_ALLOC_CONF", "PYTORCH_CUDA_ALLOC_CONF", "CUDA_VISIBLE_DEVICES"):
        monkeypatch.delenv(name, raising=False)


def place(device="cuda", **options):
    return find_place(Request("t2v-tiny", device=device, **options))


class TestFree:
    """What a budget is taken from."""

    @pytest.mark.parametrize("used_bytes", [0, GIB])
    def test_auto_counts_our_context_once(self, pose, used_bytes):
        """It is a part of the budget: what was free before it was there is what there is."""
        with pose(used_bytes=used_bytes):
            first, second = place(), place()
        assert first.budget_bytes == int((8 * GIB - used_bytes) * 0.9)
        assert second.budget_bytes == first.budget_bytes

    def test_a_driver_that_does_not_tell(self, pose):
        """Then our context counts as somebody else's, which is safe."""
        with pose(driver=""):
            assert place().budget_bytes == int((8 * GIB - 256 * MIB) * 0.9)

    def test_more_than_is_free(self, pose):
        """Noted with the numbers: another program may have ended by then."""
        with pose(used_bytes=2 * GIB):
            (note,) = place(vram="8GB").notes
            assert place(vram="6GB").notes == ()
        assert note.startswith(
            "--vram 8GB is more than the 6.00 GiB that are free on cuda:0 now, 2.00 GiB are held"
        )

    def test_a_card_that_another_program_has_alone(self, pose, monkeypatch):
        """In exclusive compute mode no context can be made beside another one."""
        busy = "CUDA error: CUDA-capable device(s) is/are busy or unavailable\nCUDA kernel errors"

        def mem_get_info(_device):
            raise torch.AcceleratorError(busy)

        with pose(), monkeypatch.context() as patch:
            patch.setattr(torch.cuda, "mem_get_info", mem_get_info)
            with pytest.raises(InputError, match=r"cuda:0 can't be opened: CUDA error.*e$") as told:
                place()
        assert "nvidia-smi -c DEFAULT" in told.value.hint

    def test_a_card_that_is_not_there(self, pose):
        """The cards there are, and one of them."""
        with pose(), pytest.raises(InputError, match=r"cuda:3: there is 1 CUDA device$") as told:
            place("cuda:3")
        assert told.value.hint == "use --device cuda:0"

    def test_memory_shared_with_the_processor(self, pose, monkeypatch):
        """A Jetson's card: both budgets are of the same memory."""
        with pose(), monkeypatch.context() as patch:
            about = torch.cuda.get_device_properties(0)
            patch.setattr(about, "is_integrated", True)
            (note,) = place().notes
        assert "no memory of its own: --vram and --ram are of the same one" in note


class TestTrials:
    """What plans rest on is tried."""

    def test_leaves_nothing(self, pose):
        """No memory, no setting, no device is left changed."""
        before = SETTINGS()
        with pose(count=2) as emulator:
            trials = place("cuda:1").trials
            assert torch.cuda.memory_reserved(1) == 0
            assert not emulator.registered
            assert emulator.contexts == {1}
            assert emulator.current_device() == 0
            assert SETTINGS().replace("expandable_segments:False", "") == before
        assert trials is not None
        assert (trials.expandable_refused, trials.pinned_refused) == ("", "")

    def test_refused(self, pose):
        """The plan is made without: other slack, slower copies, and the machine itself is kept."""
        # Whole, decoding asks for pieces above 1 MiB: below, both kinds of segments have 2 MiB.
        request = Request("t2v-tiny", device="cuda", vram="560MiB", prompt_cache=False,
                          pins=("decode.strips=whole",))  # fmt: skip
        with pose("wsl"):
            refused = plan(request)
        with pose():
            allowed = plan(request)
        here = refused.prepared.place
        assert (here.expandable, here.pinned) == (False, False)
        assert here.rates.upload_rate == here.machine.upload_pageable_rate
        assert here.machine == allowed.prepared.place.machine
        loads = [
            sum(ended - began for began, ended in planned.plan.timeline.loads)
            for planned in (refused, allowed)
        ]
        assert loads[0] > loads[1]
        slacks = [sum(c.cost.slack_bytes for c in p.plan.footprint.calls)
                  for p in (refused, allowed)]  # fmt: skip
        assert slacks[0] != slacks[1]

    @pytest.mark.parametrize("name", ["PYTORCH_ALLOC_CONF", "PYTORCH_CUDA_ALLOC_CONF"])
    def test_asked_for_and_refused(self, pose, monkeypatch, name):
        """What the user has set is not overruled: it is refused by name."""
        monkeypatch.setenv(name, "expandable_segments:True")
        with pose("wsl"):
            torch._C._accelerator_setAllocatorSettings(
                "expandable_segments:True"
            )  # as at its start
            with pytest.raises(InputError, match=f"^{name} asks for expandable segm") as told:
                place()
        assert f"{name}=expandable_segments:False" in told.value.hint

    def test_set_off(self, pose, monkeypatch):
        """Then they are not tried."""
        monkeypatch.setenv("PYTORCH_ALLOC_CONF", "expandable_segments:False")
        with pose("wsl"):
            found = place()
        assert not found.expandable
        assert found.trials is not None
        assert found.trials.expandable_refused == ""


class TestEnforced:
    """A budget is held inside, and everything is put back after it."""

    @pytest.mark.parametrize("before", ["", "max_split_size_mb:64", "expandable_segments:False"])
    def test_put_back(self, pose, before):
        """The cap, the allocator's settings, the current card."""
        torch._C._accelerator_setAllocatorSettings(before)
        with pose(count=2) as emulator:
            found = place("cuda:1", vram="4GiB")
            torch.cuda.set_per_process_memory_fraction(0.75, 1)
            with enforced(found):
                assert torch.cuda.get_per_process_memory_fraction(1) == pytest.approx(3.5 / 8)
                assert SETTINGS().endswith("expandable_segments:True")
                assert SETTINGS().startswith(before.partition("expandable")[0])
                assert emulator.current_device() == 1
            assert torch.cuda.get_per_process_memory_fraction(1) == 0.75
            assert emulator.current_device() == 0
            assert "expandable_segments:True" not in SETTINGS()
            assert SETTINGS().startswith(before.partition("expandable")[0])

    def test_plain_where_refused(self, pose):
        """The run makes the segments that the plan counts on."""
        with pose("wsl"), enforced(place()):
            assert SETTINGS().endswith("expandable_segments:False")

    def test_a_run_on_the_second_card(self, pose, tmp_path):
        """Everything is there, nothing on the first; afterwards the process is as it was."""
        inputs = {"prompt": "a red circle", "frames": "5", "size": "32*32", "steps": "1"}
        request = Request(
            "t2v-tiny", inputs=inputs, device="cuda:1", vram="1GiB", prompt_cache=False
        )
        with pose(count=2) as emulator:
            report = run(request, out=tmp_path / "run")
            assert emulator.contexts == {1}
            assert emulator.current_device() == 0
            assert torch.cuda.get_per_process_memory_fraction(1) == 1.0
            assert "expandable_segments:True" not in SETTINGS()
        assert (report["status"], report["device"]) == ("done", "cuda:1")
