"""Which kernels a run computes with, and that nothing of it stays in the process."""

import pytest
import torch

from wanflow.errors import InputError
from wanflow.graph import load
from wanflow.session import Request
from wanflow.session.preparing.kernels import repeatable, stages_attend
from wanflow.session.preparing.place import find_place
from wanflow.session.preparing.prepared import prepare

CARD = torch.device("cuda")


def prepared(*settings, graph="t2v-a14b-tiny"):
    """A graph of two stages that attend, made ready to be planned."""
    request = Request(graph, {"prompt": "x"}, machine="rtx4090", settings=settings)
    return prepare(request, find_place(request), to_run=False)


def backends(model) -> set[str]:
    """What the attention of a model goes to."""
    blocks = model.model.module.blocks
    return {a.processor._attention_backend.value for b in blocks for a in (b.attn1, b.attn2)}


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


class TestRepeatable:
    def test_leaves_a_processor_alone(self) -> None:
        """There is no cuDNN there."""
        cudnn = torch.backends.cudnn
        before = cudnn.benchmark, cudnn.deterministic
        with repeatable(torch.device("cpu")):
            assert (cudnn.benchmark, cudnn.deterministic) == before
