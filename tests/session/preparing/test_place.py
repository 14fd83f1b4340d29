"""Device and budget: what is asked for, in bytes, or exit 2 with what is allowed."""

import re
from functools import partial

import pytest
import torch

from wanflow import system
from wanflow.errors import InputError
from wanflow.memory_limits import MemoryLimit, tightest_free, tightest_total
from wanflow.scheduler.machine.datasheets import named_machine
from wanflow.session import machines
from wanflow.session.preparing import place as places
from wanflow.session.preparing.place import find_place
from wanflow.session.request import Request
from wanflow.system import Driver, SeenCard, System
from wanflow.units import GIB, MIB

GB = 10**9
CARD = 24 * GIB  # an rtx4090


@pytest.fixture(autouse=True)
def no_gpu(monkeypatch):
    """Whatever this machine has."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    monkeypatch.setattr(system, "look", lambda: System(Driver(), False, False, False))


@pytest.fixture
def memory(monkeypatch, tmp_path):
    """A computer with 16 GiB of RAM, 10 of them free: its root folder."""
    text = f"MemTotal: {16 * 2**20} kB\nMemAvailable: {10 * 2**20} kB\n"
    (tmp_path / "proc").mkdir()
    (tmp_path / "proc/meminfo").write_text(text)
    monkeypatch.setattr(machines, "tightest_total", partial(tightest_total, tmp_path))
    monkeypatch.setattr(places, "tightest_free", partial(tightest_free, tmp_path))
    return tmp_path


@pytest.fixture
def place(request_for):
    return lambda **options: find_place(request_for(**options))


@pytest.fixture
def card(place):
    return lambda **options: place(machine="rtx4090", **options)


class TestBudget:
    """`--vram` in every form that a size has."""

    @pytest.mark.parametrize(
        ("text", "nbytes"),
        [
            ("8GiB", 8 * GIB), ("8GB", 8 * GB), ("8gib", 8 * GIB), ("123456789B", 123456789),
            ("1.5GiB", 3 * GIB // 2), ("800 MiB", 800 * MIB), ("24GiB", CARD),
            ("2 gib", 2 * GIB), ("2000MiB", 2000 * MIB), ("1234567890B", 1_234_567_890),
            ("2GB", 2 * GB), ("100%", CARD), ("50%", CARD // 2), ("12.5%", CARD // 8),
        ],
    )  # fmt: skip
    def test_forms(self, card, text, nbytes):
        """A size counts as it stands, a share is of the device's total."""
        assert card(vram=text).budget_bytes == nbytes

    @pytest.mark.parametrize(
        "text",
        ["8", "8.5", "", "GiB", "-8GiB", "8GiBs", "0B", "0%", "101%", "1.5B", "9999999TiB", "lots"],
    )
    def test_no_size(self, card, text):
        """Anything else is refused with the option's name, a bare number too."""
        with pytest.raises(InputError, match=r"^--vram ") as caught:
            card(vram=text)
        assert caught.value.exit_code == 2

    def test_auto_on_a_named_machine(self, card):
        """A named machine is empty: a tenth of it is left alone."""
        assert card(vram="auto").budget_bytes == int(CARD * 0.9)

    def test_auto_on_a_cpu(self, place, memory):
        """On a CPU it is what is free now, less a tenth."""
        found = place(vram="auto")
        assert (found.budget_bytes, found.limited_by) == (int(10 * GIB * 0.9), "")

    def test_auto_in_a_container(self, place, memory):
        """It is what the group's limit leaves, and says so; a size that is asked for stands."""
        folder = memory / "sys/fs/cgroup"
        folder.mkdir(parents=True)
        (folder / "memory.max").write_text(f"{8 * GIB}\n")
        (folder / "memory.current").write_text(f"{8 * GIB}\n")
        (folder / "memory.stat").write_text(f"inactive_file {6 * GIB}\nactive_file 0\n")
        found = place(vram="auto")
        assert (found.budget_bytes, found.limited_by) == (int(6 * GIB * 0.9), "cgroup memory.max")
        assert found.budget_text == "auto, limited by cgroup memory.max"
        assert place(vram="7GiB").limited_by == ""
        with pytest.raises(InputError, match=r"more than the cpu has \(8.00 GiB\)"):
            place(vram="9GiB")

    def test_share_on_a_cpu(self, place, memory):
        """A share on a CPU is of all its RAM, not of what is free."""
        assert place(vram="25%").budget_bytes == 4 * GIB

    def test_larger_than_the_machine(self, card):
        """A budget above the device's total says what the device has."""
        with pytest.raises(InputError, match=r"more than the rtx4090 has \(24\.0 GiB\)"):
            card(vram=f"{CARD + 1}B")

    def test_overhead(self, card, place, memory):
        """On a GPU context and libraries are part of the budget, on a CPU there are none."""
        assert card(vram="8GiB").usable_bytes < 8 * GIB
        assert place(vram="8GiB").usable_bytes == 8 * GIB

    def test_overhead_is_the_machines(self, card):
        """What the driver takes, and what cuBLAS keeps: more from Hopper on."""
        found = card(vram="8GiB")
        assert found.overhead_bytes == 512 * MIB + found.machine.library_bytes
        older, newer = (named_machine(name).library_bytes for name in ("rtx4090", "h100"))
        assert (older, newer) == (22 * MIB, 42 * MIB)

    @pytest.mark.parametrize(
        ("settings", "expandable"),
        [
            ({}, True),
            ({"PYTORCH_ALLOC_CONF": "expandable_segments:True"}, True),
            ({"PYTORCH_CUDA_ALLOC_CONF": "max_split_size_mb:64, expandable_segments: True"}, True),
            ({"PYTORCH_CUDA_ALLOC_CONF": "max_split_size_mb:64"}, False),
            ({"PYTORCH_ALLOC_CONF": "expandable_segments:False"}, False),
        ],
    )
    def test_segments(self, monkeypatch, settings, expandable):
        """They are expandable unless the user has set the allocator up otherwise."""
        for name in ("PYTORCH_ALLOC_CONF", "PYTORCH_CUDA_ALLOC_CONF"):
            monkeypatch.delenv(name, raising=False)
        for name, text in settings.items():
            monkeypatch.setenv(name, text)
        assert places.expandable_segments() is expandable

    def test_more_than_is_free(self, place, memory):
        """It is noted with the numbers and not refused: who has the rest may end."""
        found = place(vram="12GiB")
        (note,) = found.notes
        assert note.startswith("--vram 12GiB is more than the 10.0 GiB that are free on cpu now, ")
        assert note.endswith("6.00 GiB are held by others; --vram auto takes what is free")
        assert place(vram="10GiB").notes == place(vram="auto").notes == ()

    def test_less_than_overhead(self, card):
        """A budget that the context alone fills leaves nothing, not less than nothing."""
        assert card(vram="1MiB").usable_bytes == 0


class TestRam:
    """`--ram` bounds the host beside a GPU."""

    def test_on_a_cpu(self, place):
        """On a CPU there is no host tier."""
        with pytest.raises(InputError, match="--ram has no meaning on a CPU") as caught:
            place(ram="8GiB")
        assert caught.value.exit_code == 2

    def test_on_a_named_cpu(self, place):
        """A named CPU is a CPU."""
        with pytest.raises(InputError, match="--ram has no meaning"):
            place(machine="cpu", ram="8GiB")

    @pytest.mark.parametrize(
        ("text", "nbytes"),
        [("8GiB", 8 * GIB), ("8GB", 8 * GB), ("1GiB", GIB), ("1B", 1)],
    )
    def test_forms(self, card, text, nbytes):
        """A size counts as it stands."""
        assert card(ram=text).ram_bytes == nbytes

    @pytest.mark.parametrize(("text", "share"), [("50%", 0.5), ("100%", 1)])
    def test_share(self, card, text, share):
        """A share is of the machine's RAM."""
        found = card(ram=text)
        assert found.ram_bytes == int(found.machine.ram_bytes * share)

    @pytest.mark.parametrize("text", ["auto", None])
    def test_auto(self, card, text):
        """What is pinned can't be given back: three fifths at most; it is the default too."""
        found = card(ram=text)
        assert found.ram_bytes == int(found.machine.ram_bytes * 0.6)

    @pytest.mark.parametrize(
        ("free", "taken"), [(32, 19.2), (10, 6), (8, 4), (6, 2), (4, 1), (1, 0.25), (0, 0)]
    )
    def test_auto_leaves_the_computer_alive(self, monkeypatch, free, taken):
        """4 GiB stay free where there are as many, else three quarters."""
        limit = MemoryLimit("RAM", 64 * GIB, free * GIB)
        monkeypatch.setattr(places, "tightest_free", lambda: limit)
        request = Request("g", vram="8GiB")
        found = places.place_on(named_machine("rtx4090"), torch.device("cpu"), request)
        assert found.ram_bytes == pytest.approx(taken * GIB, abs=8)

    def test_more_than_there_is(self, card):
        """Refused, as `--vram` is."""
        with pytest.raises(InputError, match=r"--ram 900GiB is more than the rtx4090 has"):
            card(ram="900GiB")

    def test_no_size(self, card):
        """A bad size names the option it was given to."""
        with pytest.raises(InputError, match=r"^--ram '8' has no unit"):
            card(ram="8")


class TestDevice:
    """`--device auto|cuda[:N]|cpu` and `--machine NAME`."""

    @pytest.mark.parametrize("name", ["auto", "cpu"])
    def test_cpu(self, place, name):
        """Without a GPU `auto` is the CPU."""
        found = place(device=name)
        assert (found.device.type, found.tier, found.machine.device) == ("cpu", "cpu", "cpu")

    @pytest.mark.parametrize(
        "name", ["gpu", "mps", "", "CPU", "cpu:0", "cuda:x", "cuda:-1", "cuda0"]
    )
    def test_unknown(self, place, name):
        """Another name lists those that are allowed."""
        with pytest.raises(InputError, match=r"--device .* is not known") as caught:
            place(device=name)
        assert caught.value.hint == "allowed: auto, cpu, cuda, cuda:N"

    @pytest.mark.parametrize("name", ["cuda", "cuda:0", "cuda:7"])
    def test_no_gpu(self, place, name):
        """A GPU that isn't there says how many there are, and how to plan for one."""
        with pytest.raises(InputError, match=f"--device {name}: there are 0 CUDA") as caught:
            place(device=name)
        assert "--machine" in caught.value.hint

    @pytest.mark.parametrize("name", ["auto", "cuda"])
    def test_a_card_that_pytorch_does_not_use(self, place, monkeypatch, name):
        """`auto` is the CPU and says why, `cuda` is refused for the same reason, with the cure."""
        seen = SeenCard("NVIDIA GeForce RTX 4090", "GPU-1", (8, 9), 24 * GIB, 24 * GIB)
        driver = Driver("580.65.06", (13, 0), (seen,))
        monkeypatch.setattr(system, "look", lambda: System(driver, True, False, False))
        monkeypatch.setattr(torch, "__version__", "2.13.0+cpu")
        monkeypatch.setattr(torch.version, "cuda", None)
        cure = "pip install torch==2.13.0+cu130 --index-url https://download.pytorch.org/whl/cu130"
        reason = "PyTorch 2.13.0+cpu is a build without CUDA"
        if name == "auto":
            found = place(device=name)
            assert found.device.type == "cpu"
            assert found.notes == (f"on the CPU, not on NVIDIA's card: {reason}; {cure}",)
            return
        with pytest.raises(
            InputError, match=re.escape(f"there are 0 CUDA devices: {reason}")
        ) as caught:
            place(device=name)
        assert caught.value.hint == cure

    @pytest.mark.parametrize("device", ["auto", "cpu", "cuda"])
    def test_named_machine(self, card, monkeypatch, device):
        """Planning for a named machine asks nothing of a GPU, whatever device is given."""
        monkeypatch.setattr(torch.cuda, "is_available", None)
        monkeypatch.setattr(torch.cuda, "device_count", None)
        found = card(device=device)
        assert (found.tier, found.machine.name) == ("cuda:0", "rtx4090")

    def test_unknown_machine(self, place):
        """A machine that isn't known lists those that are."""
        with pytest.raises(InputError, match="--machine 'rtx409' is not known") as caught:
            place(machine="rtx409")
        assert "did you mean 'rtx4090'" in caught.value.hint
