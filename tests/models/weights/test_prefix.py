"""Whatever stands before a part's names: the part is read, and the prefix told."""

import pytest
import torch
from safetensors.torch import load_file, save_file

from tests.jobs import TINY
from tests.official import official_state
from tests.pictured import TWINS, make_folder
from wanflow.errors import WeightsError
from wanflow.models.weights.layouts import find_part, open_part

PREFIXES = [
    "model.diffusion_model.", "diffusion_model.", "model.", "module.", "transformer.", "vae.",
    "first_stage_model.", "text_encoder.", "base_model.model.", "state_dict.module.", "net.x.y.z.",
]  # fmt: skip
PARTS = ["text_encoder", "transformer", "vae"]


def own_state(part):
    (file,) = (TINY / part).glob("*.safetensors")
    return load_file(file)


STATES = {"official": official_state, "diffusers": own_state}


def written(tmp_path, state):
    path = tmp_path / "weights.safetensors"
    save_file({name: tensor.clone() for name, tensor in state.items()}, path)
    return path


class TestPrefix:
    @pytest.mark.parametrize("prefix", PREFIXES)
    @pytest.mark.parametrize("part", PARTS)
    @pytest.mark.parametrize("names", STATES)
    def test_is_taken_away(self, tmp_path, part, names, prefix):
        """The same names and bytes as without it; what is not under it stays as it is."""
        state = STATES[names](part)
        prefixed = {prefix + name: tensor for name, tensor in state.items()}
        path = written(tmp_path, prefixed | {"optimizer.step": torch.ones(1)})
        checkpoint = open_part(part, path)
        plain = open_part(part, find_part(TINY, part)).entries
        assert (checkpoint.prefix, checkpoint.is_official) == (prefix, names == "official")
        assert plain.keys() | {"optimizer.step"} == checkpoint.entries.keys()
        name = sorted(plain)[7]
        target = torch.empty(plain[name].shape)
        checkpoint.read_into(name, target, torch.empty(1 << 20, dtype=torch.uint8))
        assert torch.equal(target, own_state(part)[name].float())

    @pytest.mark.parametrize("part", PARTS)
    @pytest.mark.parametrize("names", STATES)
    def test_none(self, tmp_path, part, names):
        """Names as they should be have none."""
        checkpoint = open_part(part, written(tmp_path, STATES[names](part)))
        assert (checkpoint.prefix, checkpoint.notes) == ("", ())

    @pytest.mark.parametrize(
        "old", ["blocks.0.", "blocks.0._fsdp_wrapped_module._checkpoint_wrapped_module."]
    )
    def test_wrapped_modules(self, tmp_path, old):
        """torch.compile and FSDP put names around any module, and around the whole."""
        state = {
            f"_orig_mod.{name.replace('blocks.0.', old)}": tensor
            for name, tensor in own_state("transformer").items()
        }
        checkpoint = open_part("transformer", written(tmp_path, state))
        assert own_state("transformer").keys() == checkpoint.entries.keys()
        assert checkpoint.prefix == ""

    def test_all_parts_in_one_file(self, tmp_path):
        """Each part finds its own prefix in a checkpoint of everything."""
        prefixes = dict(zip(PARTS, ("cond.t5.", "model.diffusion_model.", "vae."), strict=True))
        state = {
            prefixes[part] + name: tensor
            for part in PARTS
            for name, tensor in own_state(part).items()
        }
        path = written(tmp_path, state)
        for part, prefix in prefixes.items():
            checkpoint = open_part(part, path)
            assert checkpoint.prefix == prefix
            assert own_state(part).keys() <= checkpoint.entries.keys()

    def test_beside_the_part_itself(self, tmp_path):
        """A second set beside plain names is left alone."""
        state = own_state("transformer")
        both = state | {f"ema.{name}": tensor + 1 for name, tensor in state.items()}
        checkpoint = open_part("transformer", written(tmp_path, both))
        assert checkpoint.prefix == ""
        assert state.keys() <= checkpoint.entries.keys()

    def test_two_of_them(self, tmp_path):
        """Of two that could be meant none is taken by chance."""
        state = own_state("transformer")
        both = {f"{p}.{name}": t for p in ("model", "ema") for name, t in state.items()}
        with pytest.raises(WeightsError, match=r"under 2 prefixes: ('model.', 'ema.'|'ema.', 'mo)"):
            open_part("transformer", written(tmp_path, both))

    def test_vision_tower(self, tmp_path):
        """CLIP as transformers 4 wrote it, and in a model of text and pictures."""
        folder = make_folder(TWINS["i2v"], tmp_path / "twin")
        tower = open_part("image_encoder", folder / "image_encoder")
        plain = {name: torch.ones(entry.shape) for name, entry in tower.entries.items()}
        text = {f"text_model.{name}": tensor for name, tensor in plain.items() if "layers" in name}
        path = written(tmp_path, {f"vision_model.{n}": t for n, t in plain.items()} | text)
        assert open_part("image_encoder", path).prefix == "vision_model."
