"""Which kernels a run computes with, and that nothing of it stays in the process."""

import attrs
import pytest
import torch

from wanflow.errors import InputError, StageFailed
from wanflow.graph import load
from wanflow.session import Request, run
from wanflow.session.preparing.kernels import repeatable, stages_attend
from wanflow.session.preparing.place import find_place
from wanflow.session.preparing.prepare import prepare

CARD = torch.device("cuda")


def prepared(*settings, graph="t2v-a14b-tiny"):
    """A graph of two stages that attend, made ready to be planned."""
    request = Request(graph, {"prompt": "x"}, machine="rtx4090", settings=settings)
    return prepare(request, find_place(request), to_run=False)


def backends(model) -> set[str]:
    """What the attention of a model goes to."""
    blocks = model.model.module.blocks
    return {a.backend for b in blocks for a in (b.attn1, b.attn2)}


class TestAttention:
    def test_each_model_its_own(self) -> None:
        """Inside; native before and after."""
        ready = prepared("high.attention=_native_flash")
        names = ("high", "low")

        with stages_attend(ready.graph, ready.models, CARD):
            inside = {name: backends(ready.models[name]) for name in names}
        assert inside == {"high": {"_native_flash"}, "low": {"native"}}
        assert all(backends(ready.models[name]) == {"native"} for name in names)

    def test_one_model_has_one(self, tmp_path) -> None:
        """Two stages that want different kernels of the same model are told so."""
        lines = load("t2v-a14b-tiny").source.text.replace("model: low", "model: high").splitlines()
        path = tmp_path / "two.yaml"
        path.write_text("\n".join(n for n in lines if "low_noise" not in n), encoding="utf-8")
        ready = prepared("high.attention=_native_flash", graph=str(path))

        with (
            pytest.raises(InputError, match="stage low: attention=native, and another stage"),
            stages_attend(ready.graph, ready.models, CARD),
        ):
            pass
        assert backends(ready.models["high"]) == {"native"}

    def test_a_run_is_planned_natively(self, emulator, tmp_path) -> None:
        """A kernel that knows no fake tensors is chosen for the run alone, and not for the next."""
        request = Request(
            "t2v-tiny", {"prompt": "x", "size": "32*32", "frames": 1, "steps": 1}, device="cuda",
            prompt_cache=False,
        )  # fmt: skip
        cudnn = attrs.evolve(request, settings=("denoise.attention=_native_cudnn",))

        with pytest.raises(StageFailed, match="scaled_dot_product_attention"):
            run(cudnn, out=tmp_path / "cudnn")  # the emulated card has no such kernel either
        assert (tmp_path / "cudnn" / "plan.json").exists()
        assert run(request, out=tmp_path / "native")["status"] == "done"
        assert emulator.counters()["allocated"] == 0


class TestRepeatable:
    def test_on_a_card(self, emulator) -> None:
        """Deterministic inside, and as it was after a failure; cuBLAS has had its first product."""
        cudnn = torch.backends.cudnn
        before = cudnn.benchmark, cudnn.deterministic

        def fails() -> None:
            with repeatable(torch.device("cuda:0")):
                assert (cudnn.benchmark, cudnn.deterministic) == (False, True)
                raise KeyError

        launched = emulator.calls["launch"]
        with pytest.raises(KeyError):
            fails()
        assert emulator.calls["launch"] > launched
        assert (cudnn.benchmark, cudnn.deterministic) == before

    def test_leaves_a_processor_alone(self) -> None:
        """There is no cuDNN there."""
        cudnn = torch.backends.cudnn
        before = cudnn.benchmark, cudnn.deterministic
        with repeatable(torch.device("cpu")):
            assert (cudnn.benchmark, cudnn.deterministic) == before
