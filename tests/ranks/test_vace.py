"""VACE's blocks among ranks: each has its rows of the control, to the bits of one device."""

from __future__ import annotations

from pathlib import Path

import attrs
import pytest

from tests.ranks.denoising import Denoising, unlike, unplanned
from tests.ranks.folders import ran
from tests.vaced import make_folder, write_picture, write_video
from wanflow.session import Request

SIZE = "64*64"  # 4*4 tokens a latent frame


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The weights, and two pictures."""
    folder = make_folder(tmp_path_factory.mktemp("vace"))
    for number in (1, 2):
        write_picture(folder / f"{number}.png", number)
    return folder


def request(folder: Path, references: str, **options) -> Request:
    """A job of the tiny VACE graph: five latent frames of 4*4 tokens, and one for each picture."""
    inputs = {"prompt": "a red circle", "steps": 2, "reference_images": references}
    return Request(str(folder / "graph.yaml"), inputs, weights=(str(folder),), **options)


@pytest.fixture(scope="module")
def denoising(folder: Path) -> Denoising:
    """With two references in front."""
    return Denoising.of(request(folder, f"{folder}/1.png,{folder}/2.png", device="cpu"))


@pytest.mark.parametrize(
    ("count", "knobs"),
    [
        (2, {"share": "rows", "cfg": "paired"}),
        (3, {"share": "rows", "split": "parts"}),
        (2, {"share": "ulysses", "split": "parts"}),
        (4, {"share": "guidance.ulysses"}),
        (4, {"share": "guidance"}),
    ],
)
def test_same_latents_as_one_device(denoising: Denoising, count: int, knobs) -> None:
    """To the bit, on every rank, after every step."""
    wanted = denoising.alone()

    for found in denoising.shared(count, **knobs):
        assert unlike(found, wanted) == []


@pytest.mark.parametrize("cache", ["", "magcache"])
def test_calls_are_known_by_what_they_make(folder: Path, cache: str) -> None:
    """The middle one of three ranks has 72 rows without a picture and with one before the video."""
    ratios = ",".join(["0.9"] * 8)
    settings = ("cache_threshold=9", f"cache_ratios={ratios}", f"cache={cache}") if cache else ()
    settings = tuple(f"denoise.{said}" for said in settings)
    makes = []
    for pictures in ("", f"{folder}/1.png"):
        asked = request(folder, pictures, device="cpu", settings=settings)
        asked = attrs.evolve(asked, inputs=asked.inputs | {"frames": 49, "steps": 5, "size": SIZE})
        makes.append(Denoising.of(asked).makes(1, 3, share="rows"))

    plain, pictured = ({(m.kind, str(m.takes)): m.makes for m in made} for made in makes)
    alike = plain.keys() & pictured.keys()
    assert any(kind.startswith("vace.hint") for kind, _ in alike)  # of as many rows
    for key in alike:
        assert plain[key] == pictured[key], key


@pytest.mark.parametrize("share", ["rows", pytest.param("ulysses", marks=pytest.mark.wide)])
def test_calls_take_what_is_planned(denoising: Denoising, share: str) -> None:
    """Each call of each rank, to the byte but for a few numbers."""
    assert unplanned(denoising, 2, share=share, cfg="paired", split="parts") == {}


@pytest.fixture(scope="module")
def words(folder: Path) -> list[str]:
    """A job on a command line: a video, which of it is made anew, a picture of what to show."""
    size = (64, 64)  # SIZE
    told = {
        "video": write_video(folder / "video.mp4", 3, frames=17, size=size),
        "mask": write_video(folder / "mask.mp4", 4, grey=True, frames=17, size=size),
        "reference_images": f"{folder}/1.png",
        "steps": "2",
    }
    given = [word for name, value in told.items() for word in ("-i", f"{name}={value}")]
    graph = str(folder / "graph.yaml")
    return [graph, "--weights", str(folder), "--prompt", "a red circle", *given, "--vram", "1GiB"]


@pytest.fixture(scope="module")
def alone(words: list[str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The video of one device."""
    folder = tmp_path_factory.mktemp("alone")
    return Path(str(ran(*words, "--device", "cpu", "--out", str(folder))["video"]))


@pytest.mark.parametrize(
    ("devices", "share"),
    [
        ("cpu*2", "rows"),
        pytest.param("cpu*3", "rows", marks=pytest.mark.wide),
        pytest.param("cpu*2", "ulysses", marks=pytest.mark.wide),
    ],
)
def test_bits_and_bytes(
    alone: Path, words: list[str], devices: str, share: str, tmp_path: Path
) -> None:
    """The same file, and each rank takes what it planned."""
    report = ran(
        *words,
        "--devices",
        devices,
        "--pin",
        f"denoise.share={share}",
        "--out",
        str(tmp_path / "r"),
    )

    assert Path(report["video"]).read_bytes() == alone.read_bytes()
    for rank in report["ranks"]:
        assert 0.97 <= rank["peak_bytes"] / rank["predicted_peak_bytes"] <= 1.03
