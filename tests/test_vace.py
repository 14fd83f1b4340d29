"""Videos of a VACE model are diffusers' own, bit for bit, at every budget."""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path

import attrs
import pytest
import torch

from tests.jobs import budgets, run_watched
from tests.vaced import (
    FRAMES,
    GRAPH,
    HEIGHT,
    WIDTH,
    expected,
    make_folder,
    request,
    write_picture,
    write_video,
)
from wanflow.errors import InputError
from wanflow.session import Request, plan

Wanted = Callable[..., torch.Tensor]
FORMS = [
    ("video",),
    ("video", "mask"),
    ("one",),
    ("video", "mask", "one"),
    pytest.param((), marks=pytest.mark.wide),
    pytest.param(("two",), marks=pytest.mark.wide),
    ("video", "two"),
]


MORE_ROWS = [("4096", "whole"), ("4096", "parts"), ("1024", "whole"), ("grouped", "parts")]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The weights."""
    return make_folder(tmp_path_factory.mktemp("vace"))


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """What a model is told by."""
    base = tmp_path_factory.mktemp("files")
    one, other = (write_picture(base / f"{n}.png", n) for n in (1, 2))
    return {
        "video": write_video(base / "video.mp4", 3),
        "mask": write_video(base / "mask.mp4", 4, grey=True),
        "one": one,
        "two": f"{one},{other}",
    }


@pytest.fixture(scope="module")
def wanted(folder: Path) -> Wanted:
    """Diffusers' frames for what is given, made once."""
    return functools.cache(lambda *told, **options: expected(folder, dict(told), **options))


def given(files: dict[str, str], names: tuple[str, ...]) -> dict[str, str]:
    """The inputs that take these files."""
    return {n if n in ("video", "mask") else "reference_images": files[n] for n in names}


class TestFrames:
    """Every form, from everything resident to the minimum."""

    @pytest.mark.parametrize("names", FORMS, ids="+".join)
    def test_are_the_pipelines(
        self,
        folder: Path,
        files: dict[str, str],
        wanted: Wanted,
        names: tuple[str, ...],
        tmp_path: Path,
    ) -> None:
        """Video, mask, pictures in the order that they are given in, and what goes together."""
        asked = request(folder, given(files, names), exact=True)
        frames = wanted(*given(files, names).items())
        most, _, least = budgets(asked)
        for budget in (most, least):
            made = run_watched(attrs.evolve(asked, vram=f"{budget}B"), tmp_path / "run")
            assert torch.equal(made.frames, frames), budget

    def test_at_bf16(
        self, folder: Path, files: dict[str, str], wanted: Wanted, tmp_path: Path
    ) -> None:
        """With upstream's dtypes, weight by weight."""
        told = given(files, ("video", "mask", "one"))
        precision = ("text=bf16", "dit=bf16")
        made = run_watched(
            request(folder, told, exact=True, precision=precision), tmp_path / "run"
        )  # fmt: skip
        assert torch.equal(made.frames, wanted(*told.items(), dtype=torch.bfloat16))

    def test_scale(
        self, folder: Path, files: dict[str, str], wanted: Wanted, tmp_path: Path
    ) -> None:
        """The control pulls half as much."""
        told = given(files, ("video",))
        made = run_watched(
            request(folder, told | {"control_scale": 0.5}, exact=True), tmp_path / "r"
        )
        assert torch.equal(made.frames, wanted(*told.items(), scale=0.5))
        assert not torch.equal(made.frames, wanted(*told.items()))


class TestKnobs:
    """Every value of every knob."""

    @pytest.mark.parametrize(
        "pins",
        [
            ("denoise.split=parts", "denoise.cfg=paired", "denoise.weights=stream"),
            ("denoise.split=parts", "denoise.cfg=serial", "control.weights=stream"),
        ],
    )
    def test_that_round_nothing(
        self,
        folder: Path,
        files: dict[str, str],
        wanted: Wanted,
        pins: tuple[str, ...],
        tmp_path: Path,
    ) -> None:
        """Blocks in parts, both passes together, weights read anew: the same bits."""
        told = given(files, ("video", "one"))
        made = run_watched(request(folder, told, exact=True, pins=pins), tmp_path / "run")
        assert torch.equal(made.frames, wanted(*told.items()))

    @pytest.mark.parametrize(
        ("rows", "split"),
        [
            ("1024", "parts"),
            ("grouped", "whole"),
            *(pytest.param(*more, marks=pytest.mark.wide) for more in MORE_ROWS),
        ],
    )
    def test_rows(
        self,
        folder: Path,
        files: dict[str, str],
        wanted: Wanted,
        rows: str,
        split: str,
        tmp_path: Path,
    ) -> None:
        """The transformer a chunk of rows at a time, VACE's blocks too."""
        told = given(files, ("video", "one"))
        pins = (f"denoise.rows={rows}", f"denoise.split={split}", "decode.strips=whole")
        made = run_watched(request(folder, told, pins=(*pins, "control.strips=whole")), tmp_path)
        assert torch.allclose(made.frames, wanted(*told.items()), rtol=0, atol=1e-4)

    @pytest.mark.parametrize(
        "strips", ["strips.1", pytest.param("frames.2", marks=pytest.mark.wide)]
    )
    def test_strips(
        self, folder: Path, files: dict[str, str], wanted: Wanted, strips: str, tmp_path: Path
    ) -> None:
        """Each clip in strips, one after another."""
        told = given(files, ("video", "mask", "one"))
        pins = (f"control.strips={strips}", "decode.strips=whole", "denoise.rows=all")
        made = run_watched(request(folder, told, pins=pins), tmp_path)
        assert torch.allclose(made.frames, wanted(*told.items()), rtol=0, atol=1e-4)


class TestRefused:
    """What is asked for wrongly ends before anything runs."""

    def test_mask_alone(self, folder: Path, files: dict[str, str]) -> None:
        """Peers ignore it in silence."""
        with pytest.raises(InputError, match="has a mask and no video"):
            plan(request(folder, given(files, ("mask",))))

    @pytest.mark.parametrize(
        ("frames", "size", "message"),
        [
            (FRAMES + 1, (WIDTH, HEIGHT), r"different lengths: .* 5 frames of 48\*32, .* has 6"),
            (FRAMES, (WIDTH, WIDTH), r"different shapes: .* of 48\*32, .* of 48\*48"),
        ],
    )
    def test_mask_of_another_video(
        self, folder: Path, files: dict[str, str], frames: int, size: tuple[int, int],
        message: str, tmp_path: Path,
    ) -> None:  # fmt: skip
        """It would change another part than is meant, or not all."""
        mask = write_video(tmp_path / "mask.mp4", 4, frames=frames, size=size)
        with pytest.raises(InputError, match=message):
            plan(request(folder, given(files, ("video",)) | {"mask": mask}))

    def test_smaller_mask(self, folder: Path, files: dict[str, str], tmp_path: Path) -> None:
        """One that is the video's shape lies on all of it."""
        mask = write_video(tmp_path / "mask.mp4", 4, size=(WIDTH * 2, HEIGHT * 2))
        assert plan(request(folder, given(files, ("video",)) | {"mask": mask})).report["feasible"]

    @pytest.mark.parametrize(
        ("old", "new", "message"),
        [
            ("wan-tiny-vace", "wan-tiny", "its model takes no control: it has no blocks of VACE"),
            (", control: control.control", "", "its model wants a control"),
            (", reference_images: $reference_images}", "}", "control has 5 latent frames of 4"),
            ("      frames: $frames", "      frames: 5", "control has 4 latent frames of 4"),
        ],
    )
    def test_wired_wrongly(
        self, files: dict[str, str], old: str, new: str, message: str, tmp_path: Path
    ) -> None:
        """A control goes to VACE's models and no others, and is of the noise's frames."""
        graph = tmp_path / "graph.yaml"
        graph.write_text(GRAPH.read_text().replace(old, new))
        told = {"size": "32*32", "frames": 9, "reference_images": files["two"]}
        with pytest.raises(InputError, match=message):
            plan(Request(str(graph), told, device="cpu"))
