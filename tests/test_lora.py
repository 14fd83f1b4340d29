"""Runs with LoRAs: the bits that peft's Linear makes, streamed or packed, and never another's."""

import importlib.util
from pathlib import Path

import attrs
import pytest
import torch
from diffusers import WanPipeline

from tests.jobs import TINY, MeasuredRuns, run_watched
from tests.loras import random, save
from tests.pipelines import parts_of
from tests.test_equality import SAMPLERS, Job, expected, prompt_of
from wanflow.errors import InputError, WeightsError
from wanflow.session import Request, plan, resume, run
from wanflow.session.preparing.loras import parse_loras
from wanflow.session.preparing.place import find_place
from wanflow.session.preparing.prepare import prepare

JOB = Job(prompt_of(9), steps=2, frames=5, width=32, height=32)
PLACES = {
    "self_attn.q": "attn1.to_q", "self_attn.v": "attn1.to_v", "cross_attn.k": "attn2.to_k",
    "cross_attn.o": "attn2.to_out.0", "ffn.0": "ffn.net.0.proj", "ffn.2": "ffn.net.2",
}  # fmt: skip
SMALL = {"prompt": "a red circle grows", "size": "32*32", "frames": 5, "steps": 2}


def write(path, blocks, rank, module, alpha=None):
    """A LoRA of some blocks in ComfyUI's naming."""
    tensors = {}
    for number in blocks:
        for official, theirs in PLACES.items():
            out, width = module.get_submodule(f"blocks.{number}.{theirs}").weight.shape
            stem = f"diffusion_model.blocks.{number}.{official}"
            tensors[f"{stem}.lora_A.weight"] = random(rank, width)
            tensors[f"{stem}.lora_B.weight"] = random(out, rank) / 2
            if alpha is not None:
                tensors[f"{stem}.alpha"] = torch.tensor(alpha)
    return save(tensors, path)


@pytest.fixture(scope="module")
def pipeline():
    return WanPipeline(**parts_of(TINY), scheduler=SAMPLERS["unipc"]())


@pytest.fixture(scope="module")
def files(tmp_path_factory, pipeline):
    """One of every block, and one of a few that has alpha."""
    folder = tmp_path_factory.mktemp("loras")
    module = pipeline.transformer
    every = write(folder / "every=all.safetensors", range(8), 4, module)
    return every, write(folder / "few.safetensors", (1, 4), 3, module, alpha=1.0)


class PeftLinear(torch.nn.Module):
    """What peft 0.21.2 makes of a Linear, in its order."""

    def __init__(self, base, adapters) -> None:
        super().__init__()
        self.base, self.adapters, self.weight = base, adapters, base.weight

    def forward(self, x):
        result = self.base(x)
        for down, up, scale in self.adapters:
            inner = torch.nn.functional.linear(x, down)
            result = result + torch.nn.functional.linear(inner, up) * scale
        return result


def put_in(module, files):
    """Let a module of diffusers have LoRAs, each with its weight; give what takes them out."""
    from safetensors.torch import load_file

    found = {}
    for file, weight in files:
        tensors = load_file(file)
        for name in [n for n in tensors if n.endswith("lora_A.weight")]:
            stem = name.removesuffix(".lora_A.weight")
            _, _, number, official = stem.split(".", 3)
            down, up = tensors[name], tensors[f"{stem}.lora_B.weight"]
            if f"{stem}.alpha" in tensors:
                scale, power = float(tensors[f"{stem}.alpha"]) / len(down), 1.0
                while scale * 2 < power:
                    scale, power = scale * 2, power / 2
                down, up = down * scale, up * power
            path = f"blocks.{number}.{PLACES[official]}"
            found.setdefault(path, []).append((down, up, weight))
    bases = {path: module.get_submodule(path) for path in found}
    for path, adapters in found.items():
        module.set_submodule(path, PeftLinear(bases[path], adapters))
    return lambda: [module.set_submodule(path, base) for path, base in bases.items()]


class TestBits:
    """One LoRA, and two with weights."""

    @pytest.mark.parametrize("weights", [(1.0,), (0.7, 1.5)])
    def test_frames_are_those_of_peft_s_linear(self, pipeline, files, weights, tmp_path) -> None:
        """Bit for bit, with all there; two at the smallest budget, and inside of it."""
        chosen = list(zip(files, weights, strict=False))
        take_out = put_in(pipeline.transformer, chosen)
        try:
            wanted = expected(pipeline, JOB)
        finally:
            take_out()
        job = JOB.request(loras=tuple(f"{file}@{weight}" for file, weight in chosen))
        least = plan(job).plan.minimum_bytes
        if len(weights) == 1:
            assert torch.equal(run_watched(job, tmp_path / "whole").frames, wanted)
            return
        made = MeasuredRuns(tmp_path)(attrs.evolve(job, vram=f"{least}B"))
        assert torch.equal(made.frames, wanted)
        made.assert_within(least)

    @pytest.mark.filterwarnings("ignore")
    @pytest.mark.skipif(importlib.util.find_spec("peft") is None, reason="peft is not installed")
    def test_frames_are_diffusers_own(self, pipeline, files, tmp_path) -> None:
        """Its loader and `set_adapters`, where peft is there."""
        own = WanPipeline(**parts_of(TINY), scheduler=SAMPLERS["unipc"]())
        for number, file in enumerate(files):
            own.load_lora_weights(str(file), adapter_name=f"n{number}")
        own.set_adapters(["n0", "n1"], [0.7, 1.5])
        words = (f"{files[0]}@0.7", f"{files[1]}@1.5")
        made = run_watched(JOB.request(loras=words), tmp_path / "run")
        assert torch.equal(made.frames, expected(own, JOB))


def _far(one, other) -> float:
    return float((one.float() - other.float()).abs().mean() / 255)


def request(*loras, **options) -> Request:
    """A small job."""
    return Request("t2v-tiny", SMALL, device="cpu", prompt_cache=False, loras=loras, **options)


def prepared(job):
    """The graph and its models, without a plan."""
    return prepare(job, find_place(job), to_run=False)


class TestForms:
    @pytest.mark.wide
    @pytest.mark.parametrize("rows", ["4096", "grouped"])
    def test_packed_by_rows(self, files, rows, tmp_path) -> None:
        """By rows and by groups of heads it is about what it is on plain weights."""
        every = f"{files[0]}@2"
        plain = run_watched(request(every), tmp_path / "plain").frames
        packed = request(every, precision=("dit=int8",), pins=(f"denoise.rows={rows}",))
        assert _far(run_watched(packed, tmp_path / "packed").frames, plain) < 0.01
        without = attrs.evolve(packed, loras=())
        assert _far(run_watched(without, tmp_path / "without").frames, plain) > 0.03

    def test_bytes_are_planned(self, files) -> None:
        """In its blocks' segments alone, on the device and of what is read."""
        plain, adapted = (plan(request(*w)).plan.footprint.segments for w in ((), (str(files[1]),)))
        assert adapted["dit/block.0"] == plain["dit/block.0"]
        assert adapted["dit/block.1"].nbytes > plain["dit/block.1"].nbytes
        assert adapted["dit/block.1"].file_bytes > plain["dit/block.1"].file_bytes

    def test_weight_of_zero_is_none(self, files) -> None:
        planned = prepared(request(f"{files[0]}@0"))
        assert planned.models["dit"].loras == ()

    def test_plan_without_the_models_weights(self, files, tmp_path) -> None:
        """The LoRA's file says enough; one of another model is refused all the same."""
        big = Request("t2v-1.3b", {"prompt": "x"}, machine="rtx4060", loras=(str(files[0]),))
        with pytest.raises(WeightsError, match=r"fits nothing of model 'dit'"):
            prepared(big)


class TestGraph:
    def test_a_model_s_own_come_first(self, files, tmp_path) -> None:
        """From beside the graph; what the command line gives comes after them."""
        text = Path("graphs/t2v-tiny.yaml").read_text()
        dit = "part: transformer, config: wan-tiny"
        assert dit in text
        own = text.replace(dit, f"{dit}, loras: [own.safetensors@0.5]")
        (tmp_path / "graph.yaml").write_text(own)
        job = attrs.evolve(request(str(files[1])), graph=str(tmp_path / "graph.yaml"))
        with pytest.raises(WeightsError, match=r"own\.safetensors: no such LoRA file"):
            prepared(job)
        (tmp_path / "own.safetensors").write_bytes(files[0].read_bytes())
        loras = prepared(job).models["dit"].adapters.loras
        assert [lora.words for lora in loras] == ["own.safetensors@0.5", "few.safetensors@1"]


class TestResume:
    def test_goes_on_with_the_same_alone(self, files, tmp_path) -> None:
        """Its contents and its weight belong to the run."""
        file = tmp_path / "lora.safetensors"
        file.write_bytes(files[0].read_bytes())
        run(request(f"{file}@0.5"), out=tmp_path / "run")
        text = (tmp_path / "run" / "request.json").read_text()
        assert "LoRA 1 of dit" in text
        assert "lora.safetensors@0.5" in text
        (tmp_path / "run" / "run.json").unlink()
        file.write_bytes(files[1].read_bytes())
        with pytest.raises(InputError, match="LoRA 1 of dit was"):
            resume(tmp_path / "run")


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ("{0}@strong", "'strong' is no weight"),
        ("{0}@nan", "'nan' is no weight"),
        ("nobody=few.safetensors", "no model 'nobody'"),
        ("vae={0}", "'vae' is a vae"),
    ],
)
def test_wrong_words(files, words, told) -> None:
    with pytest.raises(InputError, match=told):
        parse_loras([words.format(*files)], {"dit": "transformer", "vae": "vae"})


def test_experts_have_their_own(files) -> None:
    """One for both, and one for one of them at a weight of its own."""
    words = (str(files[0]), f"high={files[1]}@3.0")
    planned = prepared(
        Request("t2v-a14b-tiny", SMALL, device="cpu", prompt_cache=False, loras=words)
    )
    models = planned.models.items()
    taken = {name: [x.words for x in m.adapters.loras] for name, m in models if m.loras}
    every = "every=all.safetensors@1"
    assert taken == {"high": [every, "few.safetensors@3"], "low": [every]}
