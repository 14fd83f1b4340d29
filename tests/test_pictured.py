"""Videos that start from pictures are diffusers' own, bit for bit, at every budget."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import attrs
import pytest
import torch
from diffusers import AutoencoderKLWan, WanImageToVideoPipeline, WanTransformer3DModel
from PIL import Image
from transformers import AutoTokenizer, CLIPVisionModel, UMT5EncoderModel
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

from tests.jobs import budgets, run_watched
from tests.pictured import TALL, TWINS, Twin, make_folder, picture
from tests.test_equality import SAMPLERS
from wanflow.errors import InputError
from wanflow.graph import BoundGraph, Size
from wanflow.session import Request, plan
from wanflow.session.preparing.place import find_place
from wanflow.session.preparing.prepare import prepare

SEED, PROMPT = 11, "a red circle moves right on a blue background"
FORMS = [("i2v", False), ("flf2v", True), ("i2v-2.2", False), ("i2v-2.2", True), ("ti2v", False)]
PARTS = ("denoise.split=parts", "denoise.cfg=paired")
STREAMED = ("given.weights=stream",)
EVERY = (
    "whole",
    "strips.12",
    "strips.8",
    "strips.4",
    "strips.2",
    "strips.1",
    "frames.8",
    "frames.2",
)
SOME = ("whole", "strips.2", "frames.2")


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The weights and the graph of every twin."""
    base = tmp_path_factory.mktemp("twins")
    return {name: make_folder(twin, base / name) for name, twin in TWINS.items()}


@pytest.fixture
def pictures(tmp_path: Path) -> tuple[str, str]:
    """A first and a last picture."""
    return picture(tmp_path / "first.png", 1), picture(tmp_path / "last.png", 2)


def request(folder: Path, pictures: tuple[str, ...], **options: Any) -> Request:
    """The job as wanflow takes it."""
    inputs: dict[str, Any] = {"prompt": PROMPT, "seed": SEED}
    inputs |= dict(zip(("image", "last_image"), pictures, strict=False))
    return Request(str(folder / "graph.yaml"), inputs, device="cpu", exact=True, **options)


def expected(
    twin: Twin,
    folder: Path,
    pictures: tuple[str, ...],
    dtype: torch.dtype = torch.float32,
    vae: torch.dtype = torch.float32,
) -> torch.Tensor:
    """The pipeline's frames `[n, 3, H, W]`, its parts loaded by their own classes in *dtype*."""
    tower = processor = None
    if twin.image:
        tower = CLIPVisionModel.from_pretrained(folder / "image_encoder", dtype=dtype)
        size = tower.config.image_size
        processor = CLIPImageProcessorPil(
            size={"shortest_edge": size}, crop_size={"height": size, "width": size}
        )
    pipeline = WanImageToVideoPipeline(
        tokenizer=AutoTokenizer.from_pretrained(folder / "tokenizer"),
        text_encoder=UMT5EncoderModel.from_pretrained(folder / "text_encoder", dtype=dtype),
        transformer=WanTransformer3DModel.from_pretrained(
            folder / "transformer", torch_dtype=dtype
        ),
        vae=AutoencoderKLWan.from_pretrained(folder / "vae", torch_dtype=vae),
        scheduler=SAMPLERS["unipc"](),
        image_encoder=tower,
        image_processor=processor,
        expand_timesteps=twin.name == "ti2v",
    )
    pipeline.set_progress_bar_config(disable=True)
    for module in (pipeline.text_encoder, pipeline.transformer, pipeline.vae, tower):
        # As loaded they lie in the mapped file at any multiple of eight bytes; MKL's products of
        # one row round differently where that is no multiple of 64.
        for parameter in module.parameters() if module is not None else ():
            parameter.data = parameter.data.clone()
    opened = [Image.open(path).convert("RGB") for path in pictures]
    made = pipeline(
        image=opened[0], last_image=opened[1] if len(opened) > 1 else None, prompt=PROMPT,
        width=64, height=48, num_frames=9, num_inference_steps=3, guidance_scale=5.0,
        generator=torch.Generator("cpu").manual_seed(SEED), output_type="pt",
    )  # fmt: skip
    return torch.as_tensor(made.frames[0])


class TestFrames:
    """Every form, from everything resident to the minimum."""

    @pytest.mark.parametrize(("name", "last"), FORMS)
    def test_are_the_pipelines(
        self,
        folders: dict[str, Path],
        pictures: tuple[str, str],
        name: str,
        last: bool,
        tmp_path: Path,
    ) -> None:
        """First and last frame, with and without CLIP; the frame in the noise's place."""
        given = pictures if last else pictures[:1]
        wanted = expected(TWINS[name], folders[name], given)
        most, _, least = budgets(request(folders[name], given))
        for budget in (most, least):
            made = run_watched(request(folders[name], given, vram=f"{budget}B"), tmp_path / "run")
            assert torch.equal(made.frames, wanted), budget

    @pytest.mark.parametrize(
        ("name", "last", "pins"),
        [
            ("flf2v", True, PARTS),
            ("ti2v", False, STREAMED),
            pytest.param("flf2v", True, STREAMED, marks=pytest.mark.wide),
            pytest.param("ti2v", False, PARTS, marks=pytest.mark.wide),
        ],
    )
    def test_at_pins(
        self,
        folders: dict[str, Path],
        pictures: tuple[str, str],
        name: str,
        last: bool,
        pins: tuple[str, ...],
        tmp_path: Path,
    ) -> None:
        """Blocks in parts, both passes together, weights read anew."""
        given = pictures if last else pictures[:1]
        wanted = expected(TWINS[name], folders[name], given)
        made = run_watched(request(folders[name], given, pins=pins), tmp_path / "run")
        assert torch.equal(made.frames, wanted)


class TestKnobs:
    """What the stages that read pictures can be told."""

    @pytest.mark.parametrize("tried", [SOME, pytest.param(EVERY, marks=pytest.mark.wide)])
    def test_every_value(
        self,
        folders: dict[str, Path],
        pictures: tuple[str, str],
        tried: tuple[str, ...],
        tmp_path: Path,
    ) -> None:
        """With each value the run has it, and the frames are the same, or nearly."""
        asked = request(folders["flf2v"], pictures)
        asked = attrs.evolve(asked, inputs={**asked.inputs, "size": TALL, "frames": 5}, exact=False)
        programs = prepare(asked, find_place(asked), to_run=False).programs(None)
        (knob,) = next(p.knobs for p in programs if p.stage == "given")
        assert tuple(knob.choices) == EVERY
        frames = {}
        for value in tried:
            pins = (f"given.strips={value}", "decode.strips=whole", "denoise.cfg=serial")
            pinned = attrs.evolve(asked, pins=pins)
            made = run_watched(pinned, tmp_path / value)
            frames[value] = made.frames
        assert all(
            torch.allclose(each, frames["whole"], rtol=0, atol=1e-3) for each in frames.values()
        )

    @pytest.mark.parametrize("form", ["flf2v", pytest.param("ti2v", marks=pytest.mark.wide)])
    def test_by_rows(
        self, form: str, folders: dict[str, Path], pictures: tuple[str, str], tmp_path: Path
    ) -> None:
        """The transformer a chunk of rows at a time takes the same conditions and timesteps."""
        given = pictures[:1] if form == "ti2v" else pictures
        asked = attrs.evolve(request(folders[form], given), exact=False)
        wanted = expected(TWINS[form], folders[form], given)
        for value, split in (("1024", "whole"), ("grouped", "whole"), ("1024", "parts")):
            pins = (f"denoise.rows={value}", f"denoise.split={split}", "decode.strips=whole")
            pinned = attrs.evolve(asked, pins=pins)
            made = run_watched(pinned, tmp_path / value / split)
            assert torch.allclose(made.frames, wanted, rtol=0, atol=1e-3), (value, split)


class TestSize:
    """A size that is like a picture."""

    def test_takes_its_shape(self, pictures: tuple[str, str]) -> None:
        """The area stays, nearly; the sides are multiples of sixteen, as Wan's own code has it."""
        inputs = {"image": pictures[0]}  # 90*70
        graph = self._bound(inputs)
        assert graph.inputs["size"] == Size(704, 544)
        assert graph.stage("given").inputs["size"] == Size(704, 544)

    def test_without_a_picture(self) -> None:
        """A plan takes the size as it stands."""
        assert self._bound({}).inputs["size"] == Size(832, 480)

    def _bound(self, inputs: dict[str, Any]) -> BoundGraph:
        request = Request("i2v-14b-480p", inputs, machine="rtx4090", ram="64GiB")
        return prepare(request, find_place(request), to_run=False).graph


class TestRefused:
    """What is asked for wrongly ends before anything runs."""

    def test_no_picture(self, folders: dict[str, Path]) -> None:
        """A run needs it, a plan does not."""
        with pytest.raises(InputError, match="needs -i image"):
            run_watched(request(folders["i2v"], ()), Path("never"))
        assert plan(request(folders["i2v"], ())).report["feasible"]

    def test_a_picture_that_is_not_there(self, folders: dict[str, Path], tmp_path: Path) -> None:
        """Told with its path; a plan goes without, and says so."""
        asked = request(folders["i2v"], (str(tmp_path / "none.png"),))
        with pytest.raises(InputError, match=r"none\.png: no such file"):
            run_watched(asked, tmp_path / "never")
        assert not (tmp_path / "never").exists()
        report = plan(asked).report
        assert report["feasible"]
        assert any("none.png is not here" in note for note in report["notes"])

    def test_a_last_picture_of_one_frame(
        self, folders: dict[str, Path], pictures: tuple[str, str]
    ) -> None:
        """The one frame is the first one."""
        asked = request(folders["flf2v"], pictures)
        with pytest.raises(InputError, match="a last image and one frame"):
            plan(Request(asked.graph, {**asked.inputs, "frames": 1}, device="cpu"))
