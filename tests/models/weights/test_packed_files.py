"""Files with packed weights: opened by each format's own arithmetic, or refused by tensor."""

import re

import gguf
import pytest
import torch
from safetensors.torch import load_file, save_file

from tests.jobs import TINY
from tests.official import official_state
from tests.packed_files import FORMATS, gguf_file, is_packed, lightx2v, write
from wanflow.errors import WeightsError
from wanflow.models.weights.layouts import open_part

STAGING = torch.empty(1 << 20, dtype=torch.uint8)
OFFICIAL = official_state("transformer")
# Of the weights against those that were packed, at most: by the width of the type's steps.
ERRORS = {
    "int8": 0.012, "fp8_e4m3": 0.028, "fp8_e5m2": 0.056, "int8 convrot": 0.012, "gguf Q8_0": 0.008,
    "gguf Q5_0": 0.06, "gguf Q5_1": 0.05, "gguf Q4_0": 0.11, "gguf Q4_1": 0.1, "gguf Q4_K": 0.1,
}  # fmt: skip


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """The tiny transformer in each format, written once."""
    folder = tmp_path_factory.mktemp("formats")
    return {kind: write(kind, folder / f"{kind}.bin") for kind in FORMATS}


@pytest.fixture(scope="module")
def source():
    """The weights as they were, under diffusers' names."""
    return load_file(TINY / "transformer" / "diffusion_pytorch_model.safetensors")


def opened_by_the_page(path):
    """Each packed weight by its official name, in fp64: by what the file's own page says."""
    if path.name.startswith("gguf"):
        for tensor in gguf.GGUFReader(path).tensors:
            if is_packed(tensor.name, torch.empty(tuple(tensor.shape))):
                numbers = gguf.quants.dequantize(tensor.data, tensor.tensor_type)
                yield tensor.name, torch.from_numpy(numbers.copy()).double()
        return
    tensors = load_file(path)
    for name, numbers in tensors.items():
        stem = re.sub(r"\.weight(\._data)?$", "", name)
        if stem == name or numbers.element_size() > 1 or numbers.dim() < 2:
            continue
        ends = (".scale_weight", ".weight_scale", ".weight._scale")
        scale = next((tensors[f"{stem}{end}"] for end in ends if f"{stem}{end}" in tensors), None)
        scale = torch.ones(()) if scale is None else scale
        rows = numbers.view(len(numbers), -1, 64) if scale.dim() == 3 else numbers
        weight = (rows.double() * scale.double()).view(numbers.shape)
        note = tensors.get(f"{stem}.comfy_quant")
        if note is not None and b"convrot" in note.numpy().tobytes():
            from comfy_kitchen.tensor.int8_utils import _build_hadamard

            turned = weight.view(len(weight), -1, 256)
            weight = (turned @ _build_hadamard(256, dtype=torch.float64)).view(weight.shape)
        yield f"{stem}.weight", weight


class TestFormats:
    @pytest.mark.parametrize("kind", FORMATS)
    def test_opens_to_what_the_page_says(self, files, source, kind) -> None:
        """To a rounding in fp32 (of a rotation, of its sums); all else is there in bits."""
        checkpoint = open_part("transformer", files[kind])
        stored = {
            checkpoint._stored(name).removesuffix("._data"): name for name in checkpoint.forms
        }
        pages = dict(opened_by_the_page(files[kind]))
        assert pages.keys() == stored.keys()
        assert len(pages) == 80
        for name, wanted in pages.items():
            form, weight = checkpoint.forms[stored[name]], torch.empty(wanted.shape)
            checkpoint.read_into(stored[name], weight, STAGING)
            bound = 2e-6 if "convrot" in form.name else 2.0**-23
            size = wanted.abs().amax() if "convrot" in form.name else wanted.abs()
            assert ((weight.double() - wanted).abs() <= bound * size).all()
            was = source[stored[name]]
            assert (weight - was).norm() <= ERRORS[form.name] * was.norm()
        for name in source.keys() - checkpoint.forms.keys():
            weight = torch.empty(source[name].shape)
            checkpoint.read_into(name, weight, STAGING)
            assert torch.equal(weight, source[name])

    def test_names_of_formats(self, files) -> None:
        """As people call them."""
        said = {kind: open_part("transformer", path).format for kind, path in files.items()}
        assert said["comfy-old"] == said["musubi-row"] == "scale_weight"
        assert said["comfy-int8"] == "weight_scale and comfy_quant"
        assert (said["lightx2v-fp8"], said["quanto"]) == ("weight_scale", "quanto")
        assert (said["plain-e5m2"], said["gguf-Q4_K"]) == ("fp8, a plain cast", "GGUF")

    def test_scales_of_inputs_are_said(self, files) -> None:
        """They are not needed, and not dropped in silence; quanto's ones mean nothing."""
        assert "80 tensors like" in open_part("transformer", files["comfy-old"]).notes[0]
        assert not open_part("transformer", files["quanto"]).notes

    def test_pickled(self, tmp_path) -> None:
        """LightX2V's `.pth`, of either kind."""
        for dtype in (torch.int8, torch.float8_e4m3fn):
            lightx2v(dict(OFFICIAL), tmp_path / "models.pth", dtype)
            assert len(open_part("transformer", tmp_path / "models.pth").forms) == 80

    def test_clip_is_cut_in_three(self, tmp_path) -> None:
        """A fused matrix is three, each with the scales of its rows."""
        torch.manual_seed(0)
        numbers, scale = torch.randint(-127, 127, (12, 4), dtype=torch.int8), torch.rand(12, 1)
        name = "visual.transformer.0.attn.to_qkv"
        file = tmp_path / "clip.safetensors"
        save_file({"visual.cls_embedding": torch.ones(1, 1, 4), f"{name}.weight": numbers,
                   f"{name}.weight_scale": scale}, file)  # fmt: skip
        checkpoint = open_part("image_encoder", file)
        for number, which in enumerate("qkv"):
            weight, rows = torch.empty(4, 4), slice(4 * number, 4 * number + 4)
            checkpoint.read_into(f"encoder.layers.0.self_attn.{which}_proj.weight", weight, None)
            assert torch.equal(weight, numbers[rows] * scale[rows])


LLAMA = {
    "layer.0.SelfAttention.relative_attention_bias": "attn_rel_b",
    "layer.0.layer_norm": "attn_norm",
    "layer.0.SelfAttention.": "attn_", "layer.1.layer_norm": "ffn_norm",
    "layer.1.DenseReluDense.wi_0": "ffn_gate", "layer.1.DenseReluDense.wi_1": "ffn_up",
    "layer.1.DenseReluDense.wo": "ffn_down", "encoder.block.": "enc.blk.",
    "encoder.final_layer_norm": "enc.output_norm", "shared": "token_embd",
}  # fmt: skip


class TestTextEncoder:
    @pytest.fixture
    def umt5(self, tmp_path):
        """The tiny text encoder as llama.cpp's converter names it."""
        tensors = load_file(TINY / "text_encoder" / "model.safetensors")
        renamed = {}
        for name, tensor in tensors.items():
            own = name
            for part, llama in LLAMA.items():
                own = own.replace(part, llama)
            renamed[own] = tensor
        path = tmp_path / "umt5.gguf"
        gguf_file(renamed, path, arch="t5encoder")
        return open_part("text_encoder", path), tensors

    def test_names(self, umt5) -> None:
        """Every one of transformers' is there, in its shape."""
        checkpoint, tensors = umt5
        shapes = {name: entry.shape for name, entry in checkpoint.weights.items()}
        assert shapes == {name: tuple(tensor.shape) for name, tensor in tensors.items()}
        assert "shared.weight" in checkpoint.forms

    def test_rows_of_a_packed_table(self, umt5) -> None:
        """Opened one by one, as gguf-py opens all; a row that is not there is refused."""
        checkpoint, tensors = umt5
        table = tensors["shared.weight"].numpy()
        kind = gguf.GGMLQuantizationType.Q8_0
        wanted = gguf.quants.dequantize(gguf.quants.quantize(table, kind), kind)
        rows = torch.empty(4, table.shape[1])
        checkpoint.read_rows_into("shared.weight", [7, 1023, 7, 0], rows, None)
        assert torch.equal(rows, torch.from_numpy(wanted)[[7, 1023, 7, 0]])
        with pytest.raises(WeightsError, match="token id 1024 is outside"):
            checkpoint.read_rows_into("shared.weight", [1024], rows[:1], None)
