"""Short runs put a probed CPU's figures right: the calls of the models, with random weights."""

import attrs
import pytest
import torch

from wanflow.files.folders import cache_folder
from wanflow.scheduler.machine import store
from wanflow.session.machines import estimate
from wanflow.session.running import calibrate

SLOW = 1000  # times as slow as any machine here


@pytest.fixture
def small(own_cache, tmp_path, monkeypatch):
    """Run the tiny model's layers, on few pixels, with a configuration of its own."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.setattr(calibrate, "_MODEL", "wan-tiny")
    monkeypatch.setattr(calibrate, "_LAYERS", {})
    monkeypatch.setattr(calibrate, "_WAYS", ("whole", "strips.1"))
    monkeypatch.setattr(calibrate, "_INPUTS", {**calibrate._INPUTS, "size": "64*32"})


def slow_machine():
    """A CPU whose probe was far off: all kernels a thousand times too slow."""
    machine = estimate(torch.device("cpu"))
    figures = {name: rate / SLOW for name, rate in machine.flops.items()}
    figures |= {"memory_rate": machine.memory_rate / SLOW, "call_seconds": 1.0}
    return machine.with_figures(figures, "measured")


def test_figures_come_nearer(small) -> None:
    """What was too slow is faster, known as measured, and kept; nothing else is left behind."""
    before = slow_machine()
    store.save(before)

    after = calibrate.calibrate(before)

    assert after.call_seconds < before.call_seconds
    assert {after.source(name) for name in after.sources} == {"measured"}
    assert not after.was
    assert store.load("cpu") == after
    assert not list(cache_folder().glob("probe-*"))


def test_under_another_name(small) -> None:
    """The machine of this device is left as it was."""
    before = attrs.evolve(slow_machine(), name="mine")
    store.save(before)

    assert calibrate.calibrate(before).name == "mine"
    assert store.load("cpu") is None
