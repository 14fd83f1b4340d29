"""A wait that is taken out is caught: the controls of every run that is said to have no race."""

from contextlib import suppress

import pytest

from tests.cuda_emulator.card import Card
from tests.cuda_emulator.emulated import emulated
from tests.cuda_emulator.sessions import MOVING, least, on_card, run_clean
from wanflow.errors import WanflowError
from wanflow.scheduler.run import devices, spilled_values
from wanflow.session import run


@pytest.fixture(scope="module")
def moving(emulator_library):
    """A run in which all that can move does."""
    with emulated(emulator_library, Card()):
        return least(on_card(pins=MOVING))


def test_as_it_is_there_is_none(emulator, moving, tmp_path):
    run_clean(emulator, moving, tmp_path / "run")
    assert min(emulator.calls[what] for what in ("upload", "download", "launch")) > 20


def _no_spill_wait(self, number, tensor):
    source = spilled_values.bytes_of(tensor)
    memory = self._buffer(source.numel())
    copied = self._device.download(source, memory)
    layout = spilled_values._HostLayout.of(tensor)
    self._away[number] = spilled_values._Spilled(layout, memory, copied)


WITHOUT = {
    "reuse": (devices.CudaDevice, "reuse", lambda self, part: part),
    "ready": (devices._CudaTicket, "wait", lambda self: None),
    "spill": (spilled_values.HostValues, "spill", _no_spill_wait),
    "host_is_free": (devices._CudaTicket, "host_is_free", lambda self: None),
    "download": (
        devices.CudaDevice,
        "download",
        lambda self, slab, host: self._copy(slab, host, self._downloads),
    ),
}


@pytest.mark.parametrize(
    "wait",
    [
        pytest.param(w, marks=pytest.mark.wide if w in {"spill", "download"} else ())
        for w in WITHOUT
    ],
)
def test_a_wait_taken_out(emulator, moving, monkeypatch, tmp_path, wait):
    monkeypatch.setattr(*WITHOUT[wait])
    with suppress(WanflowError, IndexError):  # what is read too early may be poison
        run(moving, out=tmp_path / "run")
    assert emulator.clocks.races
