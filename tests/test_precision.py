"""At fp16 and bf16 a model is upstream's too: its dtypes, its bytes, its frames, within budget."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import AutoencoderKLWan, WanPipeline, WanTransformer3DModel
from transformers import AutoTokenizer, CLIPVisionModel, UMT5EncoderModel

from tests import test_pictured as pictured
from tests.jobs import TINY, MeasuredRuns, budgets, run_watched
from tests.pictured import TWINS, make_folder, picture
from tests.test_equality import SAMPLERS, Job, expected, prompt_of
from wanflow.models.segments.cut import ALIGNMENT_BYTES
from wanflow.session import Request, plan
from wanflow.session.preparing.place import find_place
from wanflow.session.preparing.prepare import prepare

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
# Of text encoder and transformer, and of the VAE: the second as upstream does, which keeps it.
FORMS = [("fp16", "fp16"), ("fp16", "fp32"), ("bf16", "fp32")]
LOADERS = {
    "text_encoder": UMT5EncoderModel,
    "transformer": WanTransformer3DModel,
    "image_encoder": CLIPVisionModel,
    "vae": AutoencoderKLWan,
}
PICTURED = [
    ("i2v", False, "fp16"), ("flf2v", True, "fp16"), ("ti2v", False, "fp16"),
    ("flf2v", True, "bf16"),
]  # fmt: skip
JOB = Job(prompt_of(9), steps=2, frames=5, width=32, height=32)


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The weights and the graph of every twin that starts from pictures."""
    base = tmp_path_factory.mktemp("twins")
    return {name: make_folder(twin, base / name) for name, twin in TWINS.items()}


def load(part: str, folder: Path, precision: str) -> Any:
    """A part as upstream loads it, its tensors as aligned as ours."""
    module = LOADERS[part].from_pretrained(folder / part, torch_dtype=DTYPES[precision])
    for parameter in module.parameters():
        parameter.data = parameter.data.clone()
    return module


def precisions(half: str, vae: str) -> tuple[str, ...]:
    """What the command line is given for it."""
    return (f"text={half}", f"dit={half}", f"vae={vae}")


def job(half: str, vae: str, **options: Any) -> Request:
    """The job at these precisions."""
    return JOB.request(precision=precisions(half, vae), **options)


def planned_dtypes(request: Request, model: str) -> Mapping[str, torch.dtype]:
    """What the plan takes each weight of a model for."""
    models = prepare(request, find_place(request), to_run=False).models
    segments = models[model].model.segments.values()
    return {tensor.name: tensor.dtype for segment in segments for tensor in segment.tensors}


class TestDtypes:
    """Modules that upstream keeps in fp32 are kept so, weight by weight."""

    @pytest.mark.parametrize("precision", ["fp16", "bf16"])
    @pytest.mark.parametrize("name", TWINS)
    def test_are_upstreams(self, folders: dict[str, Path], name: str, precision: str) -> None:
        """In every twin, those with CLIP and its projection too."""
        twin = Request(str(folders[name] / "graph.yaml"), device="cpu", precision=(precision,))
        models = {"text": "text_encoder", "dit": "transformer", "vae": "vae"}
        if TWINS[name].image:
            models["clip"] = "image_encoder"
        for model, part in models.items():
            theirs = {
                name: parameter.dtype
                for name, parameter in load(part, folders[name], precision).named_parameters()
            }
            ours = planned_dtypes(twin, model)
            assert ours == {name: theirs[name] for name in ours}, model
            assert DTYPES[precision] in ours.values()

    def test_some_are_kept(self) -> None:
        """The norms and tables of the transformer at either, UMT5's `wo` at fp16 alone."""
        for half in ("fp16", "bf16"):
            dit = planned_dtypes(job(half, half), "dit")
            assert {n for n in dit if "norm2" in n or "scale_shift_table" in n} <= {
                name for name, dtype in dit.items() if dtype == torch.float32
            }
            text = planned_dtypes(job(half, half), "text")
            kept = {name for name, dtype in text.items() if dtype == torch.float32}
            assert kept == ({n for n in text if ".wo." in n} if half == "fp16" else set())


class TestBytes:
    """The plan counts the bytes of the dtypes that are used."""

    @pytest.mark.parametrize(("half", "vae"), FORMS)
    def test_weights(self, half: str, vae: str) -> None:
        """What a stage has to hold is the sum of upstream's parameters, each aligned."""
        stages = {each["stage"]: each for each in plan(job(half, vae)).report["stages"]}
        cases = {
            "encode": ("text_encoder", half, ("shared.", "encoder.embed_tokens.")),  # gathered
            "denoise": ("transformer", half, ()),
            "decode": ("vae", vae, ("encoder.", "quant_conv.")),
        }
        for stage, (part, precision, unused) in cases.items():
            total = sum(
                -(-parameter.nbytes // ALIGNMENT_BYTES) * ALIGNMENT_BYTES
                for name, parameter in load(part, TINY, precision).named_parameters()
                if not name.startswith(unused)
            )
            assert stages[stage]["weights_bytes"] == total, stage


class TestRuns:
    """Text to video, from everything resident to the minimum."""

    @pytest.mark.parametrize(("half", "vae"), FORMS)
    def test_frames_are_the_pipelines_within_the_budget(
        self, half: str, vae: str, measured_runs: MeasuredRuns
    ) -> None:
        """Bit for bit; the budget is hard at these precisions too."""
        pipeline = WanPipeline(
            tokenizer=AutoTokenizer.from_pretrained(TINY / "tokenizer"),
            text_encoder=load("text_encoder", TINY, half),
            transformer=load("transformer", TINY, half),
            vae=load("vae", TINY, vae),
            scheduler=SAMPLERS["unipc"](),
        )
        wanted = expected(pipeline, JOB)
        assert torch.isfinite(wanted).all()
        most, _, least = budgets(job(half, vae))
        for budget in (most, least):
            made = measured_runs(job(half, vae, vram=f"{budget}B"))
            assert made.frames.dtype == DTYPES[vae]
            assert torch.equal(made.frames, wanted), budget
            made.assert_within(budget)


class TestFrames:
    """The pipeline's, bit for bit."""

    @pytest.mark.parametrize(("name", "last", "half"), PICTURED)
    def test_with_pictures(
        self, folders: dict[str, Path], name: str, last: bool, half: str, tmp_path: Path
    ) -> None:
        """From pictures, CLIP at the same precision and the VAE kept, as upstream does."""
        given = (picture(tmp_path / "first.png", 1), picture(tmp_path / "last.png", 2))
        given = given if last else given[:1]
        wanted = pictured.expected(TWINS[name], folders[name], given, DTYPES[half])
        precision = (half, "vae=fp32")
        request = pictured.request(folders[name], given, precision=precision)
        most, _, least = budgets(request)
        for budget in (most, least):
            options = {"precision": precision, "vram": f"{budget}B"}
            made = run_watched(pictured.request(folders[name], given, **options), tmp_path / "run")
            assert torch.equal(made.frames, wanted), budget
