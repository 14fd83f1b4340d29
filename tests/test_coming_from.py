"""docs/from-diffusers.md and docs/from-comfyui.md: both sides of each line are there."""

from __future__ import annotations

import inspect
import re
from pathlib import Path

import diffusers
import pytest
from diffusers import (
    AutoencoderKLWan,
    MagCacheConfig,
    UniPCMultistepScheduler,
    WanPipeline,
    WanTransformer3DModel,
    WanVideoToVideoPipeline,
)
from diffusers.models.modeling_utils import ModelMixin
from diffusers.utils import export_to_video
from typer.main import get_command

from wanflow.cli.app import app
from wanflow.graph import describe, load
from wanflow.graph.ops import OPS
from wanflow.session import Request, plan

DOCS = Path(__file__).resolve().parent.parent / "docs"
PAGES = ("from-diffusers.md", "from-comfyui.md")
GRAPHS = sorted(path.stem for path in (DOCS.parent / "graphs").glob("*.yaml"))
SPAN = re.compile(r"`([^`]+)`")
# What stands in the first columns and is no name of diffusers: places for words, and torch's.
NOT_THEIRS = {
    "True", "REPO", "FOLDER", "FILE", "NAME", "Generator", "manual_seed", "max_memory_allocated",
}  # fmt: skip


def rows(page: str) -> list[list[str]]:
    """The rows of a page's tables, without their heads."""
    lines = [line for line in (DOCS / page).read_text().splitlines() if line.startswith("| ")]
    return [[cell.strip() for cell in line.strip("|").split(" | ")] for line in lines]


def ours(page: str) -> list[str]:
    """Every bit of code in the last columns."""
    return [span for row in rows(page) for span in SPAN.findall(row[-1])]


def defaults(function: object) -> dict[str, object]:
    """What a function takes where nothing is said."""
    return {n: p.default for n, p in inspect.signature(function).parameters.items()}


def row_of(page: str, name: str) -> str:
    """The row that begins with a name."""
    return next(" | ".join(row) for row in rows(page) if SPAN.findall(row[0])[:1] == [name])


def options(command: object) -> set[str]:
    """The options of a command, and of those under it."""
    under = getattr(command, "commands", {}).values()
    return {name for p in command.params for name in p.opts}.union(*map(options, under))


@pytest.mark.parametrize("page", PAGES)
class TestOurs:
    """What a line says that there is here."""

    def test_options(self, page) -> None:
        """Each `--option` is one of a command."""
        said = {o for span in ours(page) for o in re.findall(r"(?<!\S)--[a-z-]+", span)}
        assert len(said) > 8
        assert said - options(get_command(app)) == set()

    def test_settings(self, page) -> None:
        """Each `--set STAGE.PARAM=VALUE` is a param of the op, with a value that it takes."""
        said = {s for span in ours(page) for s in re.findall(r"--set ([a-z]+\.\S+)", span)}
        assert len(said) > 4
        ops = {"denoise": OPS["denoise"], "encode": OPS["encode_text"]}
        for setting in said:
            stage, name, value = re.fullmatch(r"(\w+)\.(\w+)=(\S+)", setting).groups()
            param = ops[stage].params[name]
            assert not param.choices or value in {*param.choices, "NAME"}, setting

    def test_pins(self, page) -> None:
        """Each `--pin STAGE.KNOB=VALUE` can be planned."""
        said = {s for span in ours(page) for s in re.findall(r"--pin ([a-z]+\.\S+)", span)}
        assert len(said) > 3
        for pin in sorted(said):
            inputs: dict[str, str | int | float] = {"size": "256*256", "frames": 5, "steps": 2}
            if pin.startswith("given."):
                inputs["image"] = str(DOCS / "strip.png")
            graph = "i2v-tiny" if "image" in inputs else "t2v-tiny"
            request = Request(graph, inputs, device="cpu", pins=(pin,))
            assert plan(request).report["feasible"], pin

    def test_graphs(self, page) -> None:
        """Each name of a graph is a shipped one."""
        pattern = re.compile(r"(?:t2v|i2v|flf2v|ti2v|v2v|vace|t2i)-[\w.-]+(?=$| )")
        said = {name for span in ours(page) for name in pattern.findall(span)}
        assert len(said) >= 8
        assert said <= set(GRAPHS)

    def test_numbers(self, page) -> None:
        """Steps, shift, guidance, rate and frames of the graphs, as the table groups them."""
        table = (DOCS / page).read_text()
        for words in ("`t2v-a14b` 12, FLF2V and VACE 16, I2V at 480p 3",
                      "I2V and both A14B 40", "`t2v-a14b` 4 and 3, `i2v-a14b` 3.5 twice",
                      "`ti2v-5b` 24", "`ti2v-5b` 121"):  # fmt: skip
            assert words in table, words
        for graph in GRAPHS:
            if graph.endswith(("-tiny", "-4step")):
                continue
            inputs = {i["name"]: i["default"] for i in describe(load(graph))["inputs"]}
            is_14b_i2v = graph.startswith("i2v-")
            assert inputs["steps"] == (40 if is_14b_i2v or graph.endswith("a14b") else 50), graph
            special = {"t2v-a14b": 12, "flf2v-14b": 16, "i2v-14b-480p": 3}
            shift = 16 if graph.startswith("vace") else special.get(graph, 5)
            assert inputs["shift"] == shift, graph
            pairs = {"t2v-a14b": (4, 3), "i2v-a14b": (3.5, 3.5)}
            if graph in pairs:
                assert (inputs["guidance_high"], inputs["guidance_low"]) == pairs[graph]
            else:
                assert inputs["guidance"] == 5, graph
            if graph != "t2i-14b":
                is_5b = graph == "ti2v-5b"
                assert (inputs["frames"], inputs["fps"]) == ((121, 24) if is_5b else (81, 16))


class TestDiffusers:
    """What a line says of diffusers, asked of the one that is installed."""

    def test_version(self) -> None:
        """It is the one that was compared."""
        assert f"diffusers {diffusers.__version__}." in (DOCS / PAGES[0]).read_text()

    def test_names_exist(self) -> None:
        """Classes and methods of the first columns are there, by the name that is said."""
        places = (diffusers, diffusers.hooks, WanPipeline, ModelMixin, WanTransformer3DModel,
                  AutoencoderKLWan, diffusers.quantizers)  # fmt: skip
        said = set()
        for row in rows(PAGES[0]):
            for span in SPAN.findall(row[0]):
                said |= set(re.findall(r"\b([A-Z][A-Za-z0-9]+|[a-z_]+)(?=\(|$)", span))
        names = {n for n in said if n[0].isupper() or "_" in n} - NOT_THEIRS
        arguments = {
            name for function in (
                WanPipeline.__call__, WanPipeline.__init__, WanPipeline.enable_group_offload,
                WanPipeline.load_lora_weights, WanVideoToVideoPipeline.__call__,
                UniPCMultistepScheduler.__init__,
            ) for name in defaults(function)
        } | {"torch_dtype", "device_map", "use_safetensors", "trust_remote_code"}  # fmt: skip
        assert len(names) > 30
        absent = {n for n in names - arguments if not any(hasattr(p, n) for p in places)}
        assert absent == {"export_to_video"}, "which diffusers.utils has"

    def test_defaults(self) -> None:
        """The numbers of the first table."""
        page, call = PAGES[0], defaults(WanPipeline.__call__)
        assert f"{call['height']}, {call['width']}," in row_of(page, "height")
        for name, value in (
            ("num_frames", call["num_frames"]),
            ("num_inference_steps", call["num_inference_steps"]),
            ("guidance_scale", call["guidance_scale"]),
            ("max_sequence_length", call["max_sequence_length"]),
            ("strength", defaults(WanVideoToVideoPipeline.__call__)["strength"]),
            ("export_to_video(fps=)", defaults(export_to_video)["fps"]),
        ):
            assert f"| {value}" in row_of(page, name), name
        assert call["negative_prompt"] is None
        assert defaults(export_to_video)["quality"] == 5

    def test_magcache(self) -> None:
        """Its threshold, the steps in a row, and the share that is computed first."""
        there = MagCacheConfig(mag_ratios=[1.0])
        told = row_of(PAGES[0], "enable_cache(MagCacheConfig(...))")
        assert f"`threshold` is {there.threshold} there" in told
        assert f"`max_skip_steps` {there.max_skip_steps} is `cache_k`, 2 here" in told
        assert f"`retention_ratio` {there.retention_ratio} is `cache_retention`, the same" in told
        params = OPS["denoise"].params
        assert (params["cache_k"].default, params["cache_retention"].default) == (2, 0.2)

    def test_attention_slicing_does_nothing(self) -> None:
        """The pipeline asks its components alone, and the transformer has no such method."""
        assert not hasattr(WanTransformer3DModel, "set_attention_slice")
        assert not hasattr(AutoencoderKLWan, "set_attention_slice")
        assert hasattr(WanPipeline, "enable_attention_slicing")

    def test_tiles(self) -> None:
        """Of 256 pixels."""
        vae = AutoencoderKLWan(base_dim=4, dim_mult=[1], num_res_blocks=1, temperal_downsample=[])
        assert (vae.tile_sample_min_height, vae.tile_sample_min_width) == (256, 256)
