"""A card that others use too: what is free is said, and a run that loses it goes on in less."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from tests.cuda_emulator.card import Card
from tests.cuda_emulator.sessions import INPUTS, assert_nothing_left, at, on_card
from tests.jobs import Frames, run_watched
from wanflow.session import plan, run
from wanflow.trace import read
from wanflow.trace.events import Note
from wanflow.units import GIB, MIB


class Taking(Frames):
    """Frames, and another program that takes all that is free once denoising has begun."""

    def __init__(self, emulator) -> None:
        super().__init__()
        self._emulator, self.taken_bytes = emulator, 0

    def __call__(self, stage: str, name: str, tensor: torch.Tensor) -> None:
        """See a value."""
        super().__call__(stage, name, tensor)
        if stage == "denoise" and not self.taken_bytes:
            self.taken_bytes, _ = self._emulator.mem_get_info()
            self._emulator.others_take(self.taken_bytes)


def test_what_is_free_is_said(emulate) -> None:
    """`auto` takes what another process has left; more than that is asked for with a note."""
    with emulate(Card(used_bytes=5 * GIB)):
        auto = plan(on_card()).report
        assert auto["budget_bytes"] < 3 * GIB
        notes = plan(on_card(vram="6GiB")).report["notes"]
    assert any("are free on cuda:0 now, " in n and "are held by others" in n for n in notes)


@pytest.mark.wide
def test_what_is_free_is_lost(emulate, tmp_path: Path) -> None:
    """In the middle of a run: a smaller plan from the last step, the same frames, nothing left."""
    request = on_card(inputs={**INPUTS, "size": "96*96", "frames": 9})
    with emulate():
        needed = plan(request).report["resident_bytes"]
        wanted = run_watched(at(request, needed), tmp_path / "alone").frames
    # What is set aside for the context is what it takes: what is free is the allocator's.
    with emulate(Card(total_bytes=needed, context_bytes=512 * MIB, kernels_bytes=0)) as emulator:
        seen = Taking(emulator)
        done = run(at(request, needed), out=tmp_path / "card", watch=seen)
        assert_nothing_left(emulator)
    notes = [e for e in read(tmp_path / "card" / "trace.msgpack") if isinstance(e, Note)]
    assert seen.taken_bytes > 20 * MIB
    assert done["tries"] > 1
    assert {"out of memory", "re-plan"} <= {note.topic for note in notes}
    assert any("after step" in note.text for note in notes if note.topic == "re-plan")
    assert torch.equal(seen.all()[-len(wanted) :], wanted)
