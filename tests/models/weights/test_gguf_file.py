"""The index of a GGUF file: what gguf-py's reader says, and one sentence for what is damaged."""

import os
import struct
from contextlib import suppress

import gguf
import numpy as np
import pytest
import torch

from wanflow.errors import WeightsError
from wanflow.models.weights.gguf_file import index_gguf


@pytest.fixture
def written(tmp_path):
    """Write tensors `(numbers, type)` and fields by gguf-py."""

    def write(tensors, arch="wan", **fields):
        writer = gguf.GGUFWriter(tmp_path / "model.gguf", arch)
        for name, value in fields.items():
            writer.add_array(name, value) if isinstance(value, list) else writer.add_uint32(
                name, value
            )
        for name, (numbers, kind) in tensors.items():
            of = None if kind is None else gguf.GGMLQuantizationType[kind]
            raw = numbers if of is None else gguf.quants.quantize(numbers, of)
            writer.add_tensor(name, raw, raw_dtype=of)
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
        writer.close()
        return tmp_path / "model.gguf"

    return write


def numbers(*shape):
    return np.random.default_rng(0).normal(size=shape).astype(np.float32)


TENSORS = {
    "patch_embedding.weight": (numbers(8, 4, 1, 2, 2), None),
    "patch_embedding.bias": (numbers(8), None),
    "blocks.0.ffn.0.weight": (numbers(6, 64), "Q8_0"),
    "blocks.0.ffn.2.weight": (numbers(6, 64), "BF16"),
    "head.head.weight": (numbers(4, 8).astype(np.float16), None),
}


class TestIndex:
    def test_is_the_readers(self, written) -> None:
        """Offsets, shapes and types, five dimensions too; a tokenizer's words are passed over."""
        path = written(TENSORS, words=["a", "bc", "\u00e9"], scores=[0.5, 1.0], **{"general.x": 7})
        entries = index_gguf(path)
        for tensor in gguf.GGUFReader(path).tensors:
            entry = entries[tensor.name]
            assert (entry.offset, entry.nbytes) == (tensor.data_offset, tensor.n_bytes)
            if not entry.foreign_dtype:
                assert entry.shape == tuple(tensor.shape[::-1].tolist())
        assert entries["blocks.0.ffn.0.weight"].foreign_dtype == "Q8_0"
        assert entries["blocks.0.ffn.2.weight"].dtype == torch.bfloat16
        assert entries["head.head.weight"].dtype == torch.float16

    def test_what_a_c_writer_leaves_out(self, written) -> None:
        """Four dimensions at most, none of them one at the front."""
        folded = {
            "patch_embedding.weight": (numbers(32, 1, 2, 2), None),
            "patch_embedding.bias": (numbers(8), None),
            "blocks.0.modulation": (numbers(6, 8), None),
        }
        shapes = {name: entry.shape for name, entry in index_gguf(written(folded)).items()}
        assert shapes["patch_embedding.weight"] == (8, 4, 1, 2, 2)
        assert shapes["blocks.0.modulation"] == (1, 6, 8)

    def test_what_no_form_opens(self, written) -> None:
        """It is bytes of that type, left alone until a module needs it."""
        entries = index_gguf(
            written({"a": (numbers(2, 4, 64), "Q8_0"), "b": (numbers(2, 256), "TQ1_0")})
        )
        assert [entry.foreign_dtype for entry in entries.values()] == ["Q8_0", "TQ1_0"]
        assert not any(entry.is_weight for entry in entries.values())


def refused(path):
    with pytest.raises(WeightsError) as caught:
        index_gguf(path)
    assert caught.value.exit_code == 4
    assert str(path) in caught.value.message
    return caught.value.message


class TestDamage:
    def test_cut_anywhere(self, written) -> None:
        """Never an index of what is not there; the tensor is named once the header is whole."""
        path = written(TENSORS, words=["a", "b"])
        whole = path.read_bytes()
        for size in range(8, len(whole) - 32, 7):
            os.truncate(path, 0)
            path.write_bytes(whole[:size])
            assert "is cut" in refused(path)
        assert "tensor 'head.head.weight' is not whole" in refused(path)

    def test_every_byte_of_the_header(self, written) -> None:
        """Turned over, it is refused or another index: no other error, and soon."""
        path = written(TENSORS, words=["a", "b"])
        whole = path.read_bytes()
        for at in range(4, 700, 3):
            changed = bytearray(whole)
            changed[at] ^= 0xFF
            path.write_bytes(changed)
            with suppress(WeightsError):
                index_gguf(path)

    @pytest.mark.parametrize("count", [2**40, 2**63, 2**64 - 1])
    @pytest.mark.parametrize("at", [8, 16])
    def test_hostile_counts(self, written, at, count) -> None:
        """A count that the file has no room for."""
        path = written(TENSORS)
        raw = bytearray(path.read_bytes())
        raw[at : at + 8] = struct.pack("<Q", count)
        path.write_bytes(raw)
        refused(path)

    def test_in_parts(self, written) -> None:
        """One file of several says how to put them together."""
        assert "is one of 3 files" in refused(written(TENSORS, **{"split.count": 3}))

    def test_no_whole_blocks(self, written) -> None:
        """Rows that no blocks fill."""
        path = written({"a": (numbers(4, 64), "Q8_0")})
        raw = path.read_bytes().replace(struct.pack("<QQ", 64, 4), struct.pack("<QQ", 60, 4))
        path.write_bytes(raw)
        assert "tensor 'a' has rows of 60, no blocks of 32 (Q8_0)" in refused(path)
