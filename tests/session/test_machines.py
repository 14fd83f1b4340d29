"""The machine of this computer: the stored one, else an estimate; what a run leaves in it."""

from types import SimpleNamespace

import attrs
import pytest
import torch

from wanflow.errors import InputError
from wanflow.scheduler.machine import store
from wanflow.scheduler.machine.datasheets import cpu_machine, named_machine
from wanflow.session import machines
from wanflow.session.preparing.place import find_place
from wanflow.session.request import Request
from wanflow.units import GIB

CPU = torch.device("cpu")
CARD = SimpleNamespace(name="NVIDIA GeForce RTX 4070", major=8, minor=9, total_memory=11 * GIB)


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    return tmp_path


@pytest.fixture
def measured():
    machine = cpu_machine(GIB)
    return machine.with_figures(dict.fromkeys(machine.flops, 1000000000.0), "measured")


class TestThisMachine:
    def test_is_an_estimate_at_first(self):
        """Of this computer's RAM, and nothing else that is known."""
        found = machines.this_machine(CPU)
        assert found.estimated
        assert found.capacity_bytes == found.ram_bytes > 0

    def test_is_the_stored_one(self, measured):
        """With today's RAM: a container may have been given less since."""
        machines.save(measured)
        found = machines.this_machine(CPU)
        assert found.figures == measured.figures
        assert found.capacity_bytes == machines.estimate(CPU).capacity_bytes

    def test_a_card_nobody_measured(self, monkeypatch):
        """The closest that has a name."""
        monkeypatch.setattr("torch.cuda.get_device_properties", lambda _device: CARD)
        found = machines.this_machine(torch.device("cuda:0"))
        assert (found.name, found.guessed_from, found.estimated) == (CARD.name, "rtx4070s", True)
        assert found.capacity_bytes == 11 * GIB

    def test_a_card_that_was_measured(self, monkeypatch):
        """It is found under the name that the driver gives it."""
        monkeypatch.setattr("torch.cuda.get_device_properties", lambda _device: CARD)
        card = attrs.evolve(named_machine("h100"), name=CARD.name)
        machines.save(card)
        assert machines.this_machine(torch.device("cuda:0")).figures == card.figures

    def test_of_another_kind(self):
        """Somebody called a card `cpu`."""
        machines.save(attrs.evolve(named_machine("h100"), name="cpu"))
        assert machines.this_machine(CPU).device == "cpu"


class TestPlace:
    def test_has_the_stored_machine(self, measured):
        """A plan is made with what was measured."""
        machines.save(measured)
        found = find_place(Request("g", device="cpu"))
        assert found.machine.source("gemm.float32") == "measured"

    def test_a_stored_machine_can_be_asked_for(self):
        """By its name, as one with datasheet figures."""
        machines.save(attrs.evolve(named_machine("rtx4060"), name="Old Laptop"))
        found = find_place(Request("g", machine="old-laptop", ram="50%"))
        assert found.machine.name == "Old Laptop"
        assert found.ram_bytes == 16 * GIB

    def test_a_damaged_file_is_told(self, home):
        """And not passed over: plans would change without a word."""
        path = store.path_of("cpu")
        path.parent.mkdir(parents=True)
        path.write_text("{}")
        with pytest.raises(InputError, match=r"cpu\.json"):
            find_place(Request("g", device="cpu"))


class TestKeepLearned:
    def test_is_stored(self, measured):
        """The next plan knows it."""
        after = measured.with_figures({"memory_rate": 5e9}, "learned")
        assert machines.keep_learned(measured, after) is None
        assert machines.this_machine(CPU).source("memory_rate") == "learned"

    def test_nothing_new(self, measured, home):
        """Nothing is written."""
        assert machines.keep_learned(measured, measured) is None
        assert list(home.iterdir()) == []

    def test_a_full_disk_fails_no_run(self, measured, home):
        """It is told."""
        (home / "wanflow").write_text("in the way")
        after = measured.with_figures({"memory_rate": 5e9}, "learned")
        told = machines.keep_learned(measured, after)
        assert told is not None
        assert told.startswith("what this run taught was not kept: ")


def test_measure_keeps_it_under_a_name(measured, monkeypatch):
    """The measuring itself is tested beside it."""
    monkeypatch.setattr("wanflow.scheduler.run.probe.probe", lambda _device, _base: measured)
    assert machines.measure(CPU, "mine").name == "mine"
    assert store.find("mine").figures == measured.figures
