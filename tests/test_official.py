"""An official Wan2.1 folder gives its diffusers twin's frames; a damaged one names a tensor."""

from __future__ import annotations

import json
import os
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path

import attrs
import pytest
import torch
from safetensors.torch import load_file, save_file

from tests import test_pictured as pictured
from tests.jobs import budgets, run_watched
from tests.official import DIT as SHARDS
from tests.official import T5, VAE, official_state, write_official
from tests.pictured import TWINS, make_folder, picture
from tests.sentinel import PICKLES, Sentinel
from wanflow.cli import main
from wanflow.errors import WeightsError
from wanflow.session import Request, plan

DIT = SHARDS[0]
LATER = (
    ("t2v-a14b-tiny", "wan-tiny"), ("ti2v-tiny", "wan-tiny-ti2v"), ("vace-tiny", "wan-tiny-vace"),
)  # fmt: skip
ASKED = {"prompt": "a red circle", "steps": 2, "frames": 5, "seed": 3}


@pytest.fixture(scope="module")
def official(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_official(tmp_path_factory.mktemp("official") / "Wan2.1-T2V-tiny")


def request(*weights: Path | str, **options: object) -> Request:
    return Request(
        "t2v-tiny", ASKED, device="cpu", exact=True, weights=tuple(map(str, weights)), **options
    )


@pytest.fixture(scope="module")
def twins(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Twins that start from pictures."""
    base = tmp_path_factory.mktemp("twins")
    return {name: make_folder(TWINS[name], base / name) for name in ("i2v", "flf2v")}


class TestFrames:
    @pytest.mark.parametrize("precision", ["fp32", pytest.param("bf16", marks=pytest.mark.wide)])
    def test_twins(self, official: Path, precision: str, tmp_path: Path) -> None:
        """Resident, halfway and at the minimum the frames are those of the diffusers folder."""
        asked = {"precision": (precision,)}
        wanted = run_watched(request(**asked), tmp_path / "diffusers")
        for budget in budgets(request(official, **asked)):
            made = run_watched(request(official, vram=f"{budget}B", **asked), tmp_path / "run")
            assert torch.equal(wanted.frames, made.frames), budget

    @pytest.mark.parametrize("name", ["flf2v", pytest.param("i2v", marks=pytest.mark.wide)])
    def test_with_pictures(self, twins: dict[str, Path], name: str, tmp_path: Path) -> None:
        """CLIP and the transformer's part for pictures too, of official names and fused tensors."""
        given = [picture(tmp_path / f"{n}.png", n) for n in range(1 + (name == "flf2v"))]
        asked = pictured.request(twins[name], tuple(given))
        weights = write_official(tmp_path / "official", twins[name])
        wanted = run_watched(asked, tmp_path / "diffusers").frames
        made = run_watched(attrs.evolve(asked, weights=(str(weights),)), tmp_path / "run")
        assert torch.equal(wanted, made.frames)

    @pytest.mark.parametrize(("graph", "config"), LATER)
    def test_later_models(
        self, tiny_model: Callable[..., Path], graph: str, config: str, tmp_path: Path
    ) -> None:
        """Two experts, each in shards of its own number; the other autoencoder; VACE."""
        experts = "a14b" in graph
        frames = []
        for official in (False, True):
            weights = tiny_model(config, experts=experts, official=official)
            asked = Request(graph, ASKED, device="cpu", exact=True, weights=(str(weights),))
            frames.append(run_watched(asked, tmp_path / f"run-{official}").frames)
        assert torch.equal(*frames)

    def test_same_plan(self, official: Path) -> None:
        """The plan does not depend on the layout."""
        twins = request(vram="24MiB"), request(official, vram="24MiB")
        assert len({plan(twin).report["plan_id"] for twin in twins}) == 1

    def test_single_files(self, official: Path, tmp_path: Path) -> None:
        """The DiT as one file under the prefix of single-file checkpoints, each part named."""
        dit = {f"model.diffusion_model.{n}": t for n, t in official_state("transformer").items()}
        save_file(dit, tmp_path / "wan.safetensors")
        save_file(official_state("vae"), tmp_path / "vae.safetensors")
        files = (f"text={official / T5}", f"dit={tmp_path / 'wan.safetensors'}",
                 f"vae={tmp_path / 'vae.safetensors'}")  # fmt: skip
        made = run_watched(request(*files), tmp_path / "run")
        assert torch.equal(run_watched(request(), tmp_path / "diffusers").frames, made.frames)

    def test_official_names_in_a_diffusers_folder(self, tmp_path: Path) -> None:
        """Names are seen from the tensors, wherever these lie."""
        (tmp_path / "vae").mkdir()
        save_file(official_state("vae"), tmp_path / "vae" / "Wan2.1_VAE.safetensors")
        made = run_watched(request(f"vae={tmp_path}"), tmp_path / "run")
        assert torch.equal(run_watched(request(), tmp_path / "diffusers").frames, made.frames)


def cut(file: str) -> Callable[[Path], None]:
    def damage(folder: Path) -> None:
        os.truncate(folder / file, (folder / file).stat().st_size // 2)

    return damage


def changed(file: str, name: str, change: Callable[[torch.Tensor], torch.Tensor | None]):
    """Save a `.pth` or safetensors file anew with one tensor changed or left out."""

    def damage(folder: Path) -> None:
        path = folder / file
        state = torch.load(path) if path.suffix == ".pth" else load_file(path)
        tensor = change(state.pop(name))
        if tensor is not None:
            state[name] = tensor
        if path.suffix == ".pth":
            torch.save(state, path)
        else:
            save_file(state, path)

    return damage


def renamed(file: str, old: str, new: str) -> Callable[[Path], None]:
    def damage(folder: Path) -> None:
        path = folder / file
        state = torch.load(path) if path.suffix == ".pth" else load_file(path)
        state[new] = state.pop(old)
        torch.save(state, path) if path.suffix == ".pth" else save_file(state, path)

    return damage


def index_says(name: str, file: str) -> Callable[[Path], None]:
    def damage(folder: Path) -> None:
        path = folder / "diffusion_pytorch_model.safetensors.index.json"
        index = json.loads(path.read_text())
        index["weight_map"][name] = file
        path.write_text(json.dumps(index))

    return damage


NORM, Q, BIAS = "blocks.1.norm2.weight", "blocks.2.attn.q.weight", "blocks.0.ffn.0.bias"
CONV = "decoder.upsamples.4.residual.2.weight"
EMBEDDING, TABLE = "token_embedding.weight", "blocks.0.modulation"
# What the module calls them: the error has these names where the file has none.
NORM_HERE = "encoder.block.1.layer.1.layer_norm.weight"
Q_HERE = "encoder.block.2.layer.0.SelfAttention.q.weight"
BIAS_HERE, CONV_HERE = "blocks.0.ffn.net.0.proj.bias", "decoder.up_blocks.1.resnets.0.conv1.weight"


def gone(_: torch.Tensor) -> None:
    return None


def copied(folder: Path) -> None:
    shutil.copy(folder / DIT, folder / "diffusion_pytorch_model.safetensors")


# What is done to the folder, and what the error says of the tensor.
DAMAGE = {
    "text encoder cut": (cut(T5), "is not whole"),
    "VAE cut": (cut(VAE), "tensor 'decoder."),
    "DiT cut": (cut(DIT), "tensor 'blocks."),
    "text encoder: missing": (changed(T5, NORM, gone), f"{NORM_HERE!r} is missing"),
    "text encoder: another shape": (changed(T5, Q, lambda t: t[:-1]), f"{Q!r} is [127, 128]"),
    "text encoder: strided": (changed(T5, Q, torch.t), f"{Q!r} is [128, 128] with strides"),
    "text encoder: misnamed": (renamed(T5, Q, f"{Q}s"), f"{Q_HERE!r} is missing"),
    "text encoder: vocabulary": (changed(T5, EMBEDDING, lambda t: t[:9]), f"{EMBEDDING!r} is [9, "),
    "VAE: missing": (changed(VAE, CONV, gone), f"{CONV_HERE!r} is missing"),
    "VAE: another shape": (changed(VAE, CONV, lambda t: t[:, :, :2].clone()), f"{CONV!r} is ["),
    "VAE: another dtype": (changed(VAE, CONV, torch.Tensor.char), f"{CONV!r} is int8"),
    "VAE: misnamed": (renamed(VAE, CONV, "decoder.x"), f"{CONV_HERE!r} is missing"),
    "DiT: missing": (changed(DIT, BIAS, gone), f"{BIAS_HERE!r} is missing"),
    "DiT: another shape": (changed(DIT, TABLE, lambda t: t[:, :5].clone()), f"{TABLE!r} is [1, 5,"),
    "DiT: misnamed": (renamed(DIT, BIAS, "blocks.0.ffn.1.bias"), f"{BIAS_HERE!r} is missing"),
    "DiT: missing shard": (
        index_says("blocks.9.x", "absent.safetensors"),
        "which has 'blocks.9.x'",
    ),
    "DiT: tensor in two shards": (copied, "-00001-of-00002.safetensors too"),
}


class TestDamaged:
    @pytest.mark.parametrize("case", DAMAGE)
    def test_names_the_tensor(self, official: Path, case: str, tmp_path: Path) -> None:
        """Planning already ends with exit 4 and one line that names file and tensor."""
        damage, words = DAMAGE[case]
        folder = tmp_path / "damaged"
        shutil.copytree(official, folder)
        damage(folder)
        with pytest.raises(WeightsError) as caught:
            plan(request(folder))
        assert caught.value.exit_code == 4
        assert words in caught.value.message
        assert str(folder) in caught.value.message
        assert "\n" not in caught.value.message

    def test_as_a_command(
        self, official: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        """The command ends with 4, one error and no run folder."""
        folder = tmp_path / "damaged"
        shutil.copytree(official, folder)
        os.truncate(folder / VAE, 100_000)
        out = tmp_path / "run"
        code = main.run(["run", "t2v-tiny", "--weights", str(folder), "--out", str(out), "--json"])
        error = json.loads(capsys.readouterr().err)["error"]
        assert (code, error["exit_code"], error["code"]) == (4, 4, "cut-weights")
        assert not out.exists()

    @pytest.mark.parametrize("place", PICKLES)
    @pytest.mark.parametrize("file", [T5, VAE])
    def test_a_class(
        self,
        official: Path,
        place: str,
        file: str,
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
        capsys: pytest.CaptureFixture[str],
    ) -> None:
        """A pickle that names a class ends the command with 4, and the class is not made."""
        monkeypatch.setattr(Sentinel, "unpickled", 0)
        folder = tmp_path / "other"
        shutil.copytree(official, folder)
        with zipfile.ZipFile(folder / file, "w") as archive:
            archive.writestr("weights/data.pkl", PICKLES[place])
        code = main.run(["plan", "t2v-tiny", "--weights", str(folder), "--device", "cpu"])
        assert code == 4
        assert file in capsys.readouterr().err
        assert not Sentinel.unpickled

    def test_no_tokenizer(self, official: Path, tmp_path: Path) -> None:
        """A folder without the tokenizer says where it belongs."""
        folder = tmp_path / "damaged"
        shutil.copytree(official, folder)
        (folder / "google" / "umt5-xxl" / "tokenizer.json").unlink()
        with pytest.raises(WeightsError, match=r"google/umt5-xxl: no tokenizer.json"):
            run_watched(request(folder), tmp_path / "run")
