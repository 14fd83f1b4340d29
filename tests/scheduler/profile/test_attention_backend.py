"""Which attention kernel is meant while calls are profiled."""

from unittest.mock import patch

import pytest
import torch
from torch.nn import functional

from wanflow.models.wan import dit
from wanflow.scheduler.profile.attention_backend import meaning, meant, with_meant
from wanflow.scheduler.profile.fakes import FakeMode
from wanflow.scheduler.profile.kernel_workspace import workspace_of
from wanflow.scheduler.profile.recorder import Recorder
from wanflow.session import Request
from wanflow.session.preparing.place import find_place
from wanflow.session.preparing.prepare import prepare


def room_bytes(backend: str) -> int:
    """What attention on a card takes at its peak, its result included."""
    with FakeMode(), meaning(backend):
        query, key, value = (torch.empty(1, 2, n, 16, dtype=torch.bfloat16) for n in (32, 64, 64))
        recorder = Recorder([query, key, value], workspace_of("cuda"))
        with recorder:
            kept = functional.scaled_dot_product_attention(query, key, value)
    return recorder.peak_bytes if kept.numel() else 0


class TestMeant:
    def test_native_unless_said(self) -> None:
        """And again afterwards, whatever happened inside."""

        def fails() -> None:
            with meaning("sage"):
                assert meant() == "sage"
                raise KeyError

        with pytest.raises(KeyError):
            fails()
        assert meant() == "native"

    def test_a_function(self) -> None:
        """Means it while it runs."""
        assert with_meant("flash", meant)() == "flash"


class TestRoom:
    def test_of_sage(self) -> None:
        """Its int8 copies are counted; flash and cuDNN take nothing."""
        native = room_bytes("native")

        assert room_bytes("sage") == native + 2 * 16 * (32 + 64 + 64)
        assert room_bytes("_native_cudnn") == room_bytes("flash") == native


class TestStage:
    def test_denoise_means_its_param(self) -> None:
        """While its calls run, the kernel that the graph asks for is meant."""
        settings = ("denoise.attention=sage",)
        request = Request("t2v-tiny", {"prompt": "x"}, machine="rtx4090", settings=settings)
        prepared = prepare(request, find_place(request), to_run=False)
        (denoise,) = (p for p in prepared.programs(None) if p.stage == "denoise")
        first = next(iter(denoise.calls({}, lambda _name: (1, 16, 5, 8, 8))))

        with FakeMode(), patch.object(dit, "rotary_tables", lambda *_: (meant(), 0)):
            latents = torch.empty(1, 16, 5, 8, 8)
            assert first.run({"noise.latents": latents})["denoise.rope.cos"] == "sage"
