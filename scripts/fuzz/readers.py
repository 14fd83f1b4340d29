"""What stands in a command's place: the reading that it does of a file, and nothing after that."""

from __future__ import annotations

from itertools import islice
from pathlib import Path

import torch
from safetensors.torch import save_file

from tests import loras
from tests.official import official_state
from wanflow.files.folders import PACKAGE, config_folder
from wanflow.graph import bind, load
from wanflow.graph.source import Mark
from wanflow.graph.spec import ModelSpec
from wanflow.graph.values import ValueType
from wanflow.models.bound import bind_model
from wanflow.models.weights.checkpoint import STAGING_BYTES
from wanflow.models.weights.layouts import PARTS, open_part
from wanflow.models.weights.tokenizer import load_tokenizer
from wanflow.session.batch.rows_file import RowsFile
from wanflow.session.preparing.input_files import open_file
from wanflow.session.scenarios.reading import read_scenarios
from wanflow.stages.preview_map import find_map

_TINY = PACKAGE / "bundled" / "wan-tiny"
_TOKENS = 64
_PROMPT = "a red circle moves right, \u5b57 \U0001f600 " + "word " * 100
_FRAMES = 8
_TENSORS = 12


def weights(words: list[str]) -> int:
    """Index a file of weights, and read some of them as a run does."""
    checkpoint = open_part("transformer", Path(words[0]))
    staging = torch.empty(STAGING_BYTES, dtype=torch.uint8)
    for name, entry in islice(checkpoint.weights.items(), _TENSORS):
        checkpoint.check_weight(name, entry.shape)
        checkpoint.read_into(name, torch.empty(entry.shape), staging)
    return 0


def lora(words: list[str]) -> int:
    """Have a model's weights read with a LoRA."""
    path = Path(words[0])
    base = path.parent / "base" / "model.safetensors"
    if not base.is_file():
        loras.weights("t2v", base.parent)
    loras.bound(loras.located("t2v", base, [(path, 1.0)]))
    return 0


def config(words: list[str]) -> int:
    """Find the weights whose configuration this is, and build their module."""
    path = Path(words[0])
    part = path.parent.name if path.parent.name in PARTS else "transformer"
    spec = ModelSpec(name="model", part=part, fields=None, mark=Mark(1, 1))
    bind_model(spec, "fp32", path.parent, Path("graph.yaml"), own_config=True)
    return 0


def tokenizer(words: list[str]) -> int:
    """Read a tokenizer and a prompt with it, as a run does."""
    read = load_tokenizer(Path(words[0]))
    read("a kite", _TOKENS)
    read.cut(_PROMPT, _TOKENS)
    return 0


def picture(words: list[str]) -> int:
    """Check a picture, and show it."""
    opened = open_file("image", ValueType.IMAGE, Path(words[0]))
    opened.shown()  # type: ignore[union-attr]
    return 0


def video(words: list[str]) -> int:
    """Look a video through, and decode some frames."""
    opened = open_file("video", ValueType.VIDEO, Path(words[0]))
    for _ in islice(opened.frames(), _FRAMES):  # type: ignore[union-attr]
        pass
    return 0


def rows(words: list[str]) -> int:
    """Read every row of a file, and bind a graph with it."""
    found, graph = RowsFile.open(Path(words[0])), load("t2v-tiny")
    for number in range(len(found)):
        bind(graph, found.read(number), allow_missing_text=True)
    return 0


def scenarios(words: list[str]) -> int:
    """Read a file of scenarios."""
    read_scenarios(Path(words[0]))
    return 0


def preview(words: list[str]) -> int:
    """Find the map of a VAE, put into normalised latents."""
    found = find_map(Path(words[0]).stem)
    if found is not None:
        found.colours.of_normalised([0.0] * found.channels, [1.0] * found.channels)
    return 0


def model_of(path: Path) -> Path:
    """The folder of a model whose part's configuration *path* is."""
    return path.parents[1] if path.parent.name in PARTS else path.parent


def put_config(scratch: Path, seed: str) -> Path:
    """A folder of the tiny model: one part's configuration is a file of its own, the rest links.

    That of an official model is of one that has only its DiT.
    """
    folder, part = scratch / "model", seed.removesuffix(".json")
    if part not in PARTS:
        return _put_official(scratch / part)
    for source in sorted(_TINY.glob("*/*")):
        link = folder / source.parent.name / source.name
        link.parent.mkdir(parents=True, exist_ok=True)
        if source.name == "config.json":  # of another part, from the attempt before
            link.unlink(missing_ok=True)
        if not link.exists() and (source.name, source.parent.name) != ("config.json", part):
            link.symlink_to(source)
    return folder / part / "config.json"


def _put_official(folder: Path) -> Path:
    weights = folder / "diffusion_pytorch_model.safetensors"
    if not weights.is_file():
        folder.mkdir(parents=True)
        save_file(dict(official_state("transformer")), weights)
    return folder / "config.json"


def put_machine(_scratch: Path, seed: str) -> Path:
    """Where a user's machines are."""
    return config_folder() / "machines" / seed


def put_preview(_scratch: Path, seed: str) -> Path:
    """Where a user's maps are."""
    return config_folder() / "previews" / seed
