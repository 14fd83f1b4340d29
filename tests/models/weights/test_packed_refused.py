"""Packed weights that are not whole, or not what they say: exit 4, by the tensor."""

import json
import struct

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from tests import packed_files
from tests.official import official_state
from tests.packed_files import write
from wanflow.errors import WeightsError
from wanflow.models.weights.layouts import open_part

X = "blocks.0.ffn.0"


def eight_bits(dtype=torch.int8):
    return torch.ones(8, 256).to(dtype)


def note(**fields):
    return torch.frombuffer(bytearray(json.dumps(fields).encode()), dtype=torch.uint8)


ROW, ONE = torch.ones(8, 1), torch.ones(())
FP8 = torch.float8_e4m3fn
MARK = {"scaled_fp8": torch.zeros(2)}
INT8_NOTE = {f"{X}.comfy_quant": note(format="int8_tensorwise")}
WRONG = {
    "no scale, others have": (
        {f"{X}.weight": eight_bits(FP8), "b.weight": eight_bits(FP8), "b.scale_weight": ONE},
        f"'{X}.weight' is fp8_e4m3, and its scale is missing",
    ),
    "no scale, marked": ({f"{X}.weight": eight_bits(FP8), **MARK}, "its scale is missing"),
    "no scale, noted": ({f"{X}.weight": eight_bits(), **INT8_NOTE}, "its scale is missing"),
    "no weight": ({f"{X}.scale_weight": ONE}, f"scales '{X}.weight', which is not there"),
    "noted, no weight": ({f"{X}.bias": ONE, **INT8_NOTE}, "names a layer without a weight"),
    "two scales": (
        {f"{X}.weight": eight_bits(), f"{X}.scale_weight": ONE, f"{X}.weight_scale": ONE.clone()},
        f"both scale '{X}.weight'",
    ),
    "shape": (
        {f"{X}.weight": eight_bits(), f"{X}.weight_scale": torch.ones(7, 1)},
        rf"'{X}.weight_scale' is \[7, 1\] in float32: no scale of '{X}.weight', \[8, 256\]",
    ),
    "blocks": (
        {f"{X}.weight": eight_bits(FP8), f"{X}.scale_weight": torch.ones(8, 7, 1)}, "no scale of"
    ),
    "dtype": (
        {f"{X}.weight": eight_bits(FP8), f"{X}.weight_scale": torch.ones(8, 8, dtype=torch.uint8)},
        "in uint8: no scale of",
    ),
    "not packed": (
        {f"{X}.weight": torch.ones(8, 256), f"{X}.weight_scale": ROW},
        "which is float32 and not in 8 bits",
    ),
    "noted, not packed": (
        {f"{X}.weight": torch.ones(8, 256), **INT8_NOTE}, "is int8_tensorwise, and tensor"
    ),
    "marked, not packed": (
        {f"{X}.weight": torch.ones(8, 256), **MARK}, "says that weights are fp8"
    ),
    "five dimensions": (
        {"a.weight": torch.ones(8, 4, 1, 2, 2).to(FP8), "a.scale_weight": ONE},
        "only matrices are read so",
    ),
    "no rows": (
        {"a.weight": torch.ones(0, 256).to(torch.int8), "a.weight_scale": torch.ones(0, 1)},
        r"with a scale, is \[0, 256\]",
    ),
    "nvfp4": ({f"{X}.weight_scale_2": ONE, f"{X}.weight": eight_bits()}, "not read: nvfp4"),
    "bitsandbytes": ({f"{X}.SCB": ROW, f"{X}.weight": eight_bits()}, "not read: bitsandbytes"),
    "mxfp8": (
        {f"{X}.weight": eight_bits(FP8), f"{X}.comfy_quant": note(format="mxfp8")},
        "the format 'mxfp8' is not read",
    ),
    "convrot of 64": (
        {f"{X}.weight": eight_bits(), f"{X}.weight_scale": ROW, f"{X}.comfy_quant": note(
            format="int8_tensorwise", params={"convrot": True, "convrot_groupsize": 64})},
        "ConvRot of 64 columns",
    ),
    "no note": (
        {f"{X}.weight": eight_bits(), f"{X}.comfy_quant": torch.zeros(3, dtype=torch.uint8)},
        "is no JSON object",
    ),
    "quanto's activations": (
        {f"{X}.weight._data": eight_bits(), f"{X}.weight._scale": ROW, f"{X}.input_scale": 2 * ONE},
        "is 2.0: quantised activations",
    ),
    "quanto below 8 bits": (
        {f"{X}.weight._shift": ROW, f"{X}.weight._data": eight_bits()}, "below 8 bits"
    ),
}  # fmt: skip
SICK = {
    "zero": (torch.zeros(()), "is a scale of zero"),
    "NaN": (torch.tensor(float("nan")), "is a scale that is not finite"),
    "one row": (
        torch.ones(8, 1).index_fill(0, torch.tensor(3), float("inf")),
        "is a scale that is",
    ),
    "all rows": (torch.zeros(8, 1, dtype=torch.bfloat16), "is a scale of zero"),
}


class TestRefused:
    """Exit 4, and the tensor by its name in the file."""

    @pytest.mark.parametrize("case", WRONG)
    def test_before_anything_is_read(self, tmp_path, case) -> None:
        tensors, words = WRONG[case]
        save_file(tensors, tmp_path / "model.safetensors")
        with pytest.raises(WeightsError, match=words) as caught:
            open_part("transformer", tmp_path / "model.safetensors")
        assert caught.value.exit_code == 4
        assert any(name.rpartition(".")[0] in caught.value.message for name in tensors)

    @pytest.mark.parametrize("case", SICK)
    def test_a_scale_that_is_none(self, tmp_path, case) -> None:
        """Told when the weights are checked, before anything runs."""
        scale, words = SICK[case]
        tensors = {f"{X}.weight": eight_bits(), f"{X}.weight_scale": scale}
        save_file(tensors, tmp_path / "model.safetensors")
        checkpoint = open_part("vae", tmp_path / "model.safetensors")
        with pytest.raises(WeightsError, match=f"'{X}.weight_scale' {words}") as caught:
            checkpoint.check_weight(f"{X}.weight", (8, 256))
        assert caught.value.exit_code == 4

    def test_headers_that_say_what_is_not(self, tmp_path) -> None:
        """A header of quantised layers, over floats; or over no JSON."""
        path = write("comfy-fp8", tmp_path / "model.safetensors")
        said = safe_open(path, "pt").metadata()
        save_file(dict(official_state("transformer")), path, metadata=said)
        with pytest.raises(WeightsError, match=r"layer 'blocks.*' is float8_e4m3fn, and tensor"):
            open_part("transformer", path)
        for name in ("_quantization_metadata", "quantization_map_base64"):
            save_file(dict(official_state("transformer")), path, metadata={name: "no"})
            with pytest.raises(WeightsError, match=f"{name} in its header is no"):
                open_part("transformer", path)

    @pytest.mark.parametrize("name", ["norm_k", "modulation"])
    def test_blocks_of_what_is_no_matrix(self, tmp_path, name, monkeypatch) -> None:
        """No form opens them: told when a module needs one, not when the file is looked through."""
        monkeypatch.setattr(
            packed_files,
            "is_packed",
            lambda n, tensor: n.rpartition(".weight")[0].endswith(name) or n.endswith(name),
        )
        path = write("gguf-Q8_0", tmp_path / "model.gguf")
        checkpoint = open_part("transformer", path)
        spoilt = [n for n, entry in checkpoint.entries.items() if entry.foreign_dtype == "Q8_0"]
        assert len(spoilt) >= 8
        with pytest.raises(WeightsError, match="Q8_0") as caught:
            checkpoint.check_weight(spoilt[0], (128,))
        assert caught.value.exit_code == 4

    @pytest.mark.parametrize("sizes", [(128, 0), (0, 128)])
    def test_blocks_of_nothing(self, tmp_path, sizes) -> None:
        """A matrix without a row, or with empty ones, is none of a model's."""
        path = write("gguf-Q8_0", tmp_path / "model.gguf")
        raw = bytearray(path.read_bytes())
        name = b"blocks.3.cross_attn.v.weight"
        at = raw.index(name) + len(name)
        assert struct.unpack_from("<IQQ", raw, at) == (2, 128, 128)
        struct.pack_into("<QQ", raw, at + 4, *sizes)
        path.write_bytes(raw)
        checkpoint = open_part("transformer", path)
        with pytest.raises(WeightsError, match=r"cross_attn\.v\.weight") as caught:
            checkpoint.check_weight("blocks.3.attn2.to_v.weight", (128, 128))
        assert caught.value.exit_code == 4

    def test_a_damaged_block(self, tmp_path) -> None:
        """By row, when it is first read; whole rows of it opened by themselves too."""
        path = write("gguf-Q8_0", tmp_path / "damaged.gguf")
        raw = bytearray(path.read_bytes())
        entry = open_part("transformer", path).entries["blocks.3.attn2.to_v.packed"]
        at = entry.offset + 70 * entry.shape[1] + 34
        raw[at : at + 2] = b"\xff\x7f"
        path.write_bytes(raw)
        checkpoint = open_part("transformer", path)
        words = r"'blocks.3.cross_attn.v.weight' is damaged: row 70 has a Q8_0 block"
        with pytest.raises(WeightsError, match=words):
            checkpoint.read_into(
                "blocks.3.attn2.to_v.packed", torch.empty(entry.shape, dtype=torch.uint8), None
            )
        with pytest.raises(WeightsError, match=r"cross_attn.v.weight' is damaged"):
            checkpoint.read_rows_into("blocks.3.attn2.to_v.weight", [70], torch.empty(1, 128), None)
