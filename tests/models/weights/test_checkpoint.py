"""Checkpoints: what is read is what was written, and nothing damaged is believed."""

import os
import pickle
import shutil
import sys

import pytest
import torch
from safetensors.torch import load_file, save_file

from tests.sentinel import Sentinel
from wanflow.errors import WeightsError
from wanflow.models.weights.layouts import open_part

NAMES = {"U16": "uint16", "U64": "uint64", "C64": "complex64", "F8_E8M0": "float8_e8m0fnu"}
GOOD = {"dtype": "F32", "shape": [2, 2], "data_offsets": [0, 16]}
LIMIT = 100_000_000
LONG_NUMBER = b'{"a": ' + b"1" * (sys.get_int_max_str_digits() + 1) + b"}"  # a digit too many
DEEP = b"[" * sys.getrecursionlimit()  # nested just deeper than Python's parser goes


def entry(**changes):
    return {"weight": {**GOOD, **changes}}


DAMAGED = {
    "dtype is no name": entry(dtype=[]),
    "no dtype": {"weight": {"shape": [2, 2], "data_offsets": [0, 16]}},
    "no offsets": {"weight": {"dtype": "F32", "shape": [2, 2]}},
    "three offsets": entry(data_offsets=[0, 8, 16]),
    "negative start": entry(data_offsets=[-8, 8]),
    "end before start": entry(data_offsets=[16, 0]),
    "offsets are text": entry(data_offsets=["0", "16"]),
    "offset is true": entry(data_offsets=[False, 16]),
    "negative side": entry(shape=[-2, -2]),
    "side is no int": entry(shape=[2.0, 2]),
    "shape is text": entry(shape="22"),
    "shape needs more bytes": entry(shape=[2, 3]),
    "shape needs fewer bytes": entry(shape=[2]),
    "shape overflows": entry(shape=[2**62, 2**62]),
    "past the end": entry(shape=[2, 4], data_offsets=[0, 32]),
    "overlap": {"weight": GOOD, "bias": {**GOOD, "data_offsets": [8, 24]}},
    "fields are a list": {"weight": [1, 2]},
    "fields are null": {"weight": None},
}


def refusal(folder):
    """What opening a folder is refused with: always exit 4 and one line."""
    with pytest.raises(WeightsError) as caught:
        open_part("vae", folder)
    assert caught.value.exit_code == 4
    assert "\n" not in caught.value.message
    return caught.value.message


class TestReading:
    """Tensors come as they were saved, in the dtype that is asked for."""

    @pytest.fixture
    def saved(self, tmp_path):
        generator = torch.Generator().manual_seed(0)
        tensors = {
            "matrix": torch.randn(40, 30, generator=generator),
            "half": torch.randn(7, 5, generator=generator).bfloat16(),
            "scalar": torch.tensor(2.5),
            "empty": torch.empty(0, 4),
            "ids": torch.arange(6).reshape(2, 3),
        }
        save_file(tensors, tmp_path / "model.safetensors", metadata={"format": "pt"})
        return tensors, open_part("vae", tmp_path)

    @pytest.mark.parametrize("name", ["matrix", "half", "scalar", "empty", "ids"])
    def test_same_dtype(self, saved, name):
        """A tensor read in its own dtype has the saved bits, whatever its shape."""
        tensors, checkpoint = saved
        target = torch.empty_like(tensors[name])
        checkpoint.read_into(name, target, None)
        assert torch.equal(target, tensors[name])

    @pytest.mark.parametrize("staging_bytes", [8, 1000, 1 << 20])
    @pytest.mark.parametrize(
        ("name", "dtype"),
        [("matrix", torch.bfloat16), ("matrix", torch.float16), ("half", torch.float32)],
    )
    def test_other_dtype(self, saved, name, dtype, staging_bytes):
        """Through a staging buffer of any size a tensor is rounded once, as `.to` does it."""
        tensors, checkpoint = saved
        target = torch.empty(tensors[name].shape, dtype=dtype)
        checkpoint.read_into(name, target, torch.empty(staging_bytes, dtype=torch.uint8))
        assert torch.equal(target, tensors[name].to(dtype))

    @pytest.mark.parametrize("most", [3, 1000, 1 << 20])
    def test_all_at_once(self, saved, most, monkeypatch):
        """Neighbours in a file are read together, however few bytes the system gives at a time."""
        tensors, checkpoint = saved
        preadv, asked = os.preadv, []

        def few(handle, views, offset):
            asked.append(len(views))
            return preadv(handle, [views[0][:most]] if most < 1 << 20 else views, offset)

        monkeypatch.setattr(os, "preadv", few)
        targets = {name: torch.empty_like(tensor) for name, tensor in tensors.items()}
        targets["matrix"] = torch.empty(40, 30, dtype=torch.bfloat16)
        checkpoint.read_each_into(targets, torch.empty(1000, dtype=torch.uint8))
        for name, target in targets.items():
            assert torch.equal(target, tensors[name].to(target.dtype))
        assert max(asked) > 1

    def test_all_at_once_from_a_cut_file(self, saved):
        """A file that was cut after it was opened is named."""
        tensors, checkpoint = saved
        path = checkpoint.entries["half"].path
        os.truncate(path, path.stat().st_size - 200)
        targets = {name: torch.empty_like(tensor) for name, tensor in tensors.items()}
        with pytest.raises(WeightsError, match="ends before byte"):
            checkpoint.read_each_into(targets, None)

    def test_only_the_target_is_written(self, saved):
        """A view into a slab is filled, and nothing beside it."""
        tensors, checkpoint = saved
        slab = torch.full((1202,), 9.0)
        checkpoint.read_into("matrix", slab[1:1201].view(40, 30), None)
        assert torch.equal(slab[1:1201].view(40, 30), tensors["matrix"])
        assert slab[0] == slab[-1] == 9

    @pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
    def test_rows(self, saved, dtype):
        """Rows come in the asked order, repeated ones too."""
        tensors, checkpoint = saved
        rows, staging = [3, 39, 3, 0], torch.empty(64, dtype=torch.uint8)
        target = torch.empty(4, 30, dtype=dtype)
        checkpoint.read_rows_into("matrix", rows, target, staging)
        assert torch.equal(target, tensors["matrix"][rows].to(dtype))

    @pytest.mark.parametrize("row", [-1, 40])
    def test_row_outside(self, saved, row):
        """A token id that the table doesn't have is a mismatch of files, not a crash."""
        _, checkpoint = saved
        with pytest.raises(WeightsError, match=f"token id {row} is outside 'matrix'"):
            checkpoint.read_rows_into("matrix", [row], torch.empty(1, 30), None)

    def test_missing_tensor(self, saved):
        """A tensor that isn't there is named, with the folder."""
        _, checkpoint = saved
        with pytest.raises(WeightsError, match=f"{checkpoint.folder}.*'bias' is missing"):
            checkpoint.read_into("bias", torch.empty(1), None)

    def test_misshapen_tensor(self, saved):
        """A tensor of another shape is named with both shapes."""
        _, checkpoint = saved
        with pytest.raises(WeightsError, match=r"'matrix' is \[40, 30\].*\[30, 40\]"):
            checkpoint.read_into("matrix", torch.empty(30, 40), None)

    def test_file_cut_after_opening(self, saved):
        """A file that shrinks after the index was made is refused when it is read."""
        _, checkpoint = saved
        path = checkpoint.entries["matrix"].path
        os.truncate(path, checkpoint.entries["matrix"].offset + 100)
        with pytest.raises(WeightsError, match=r"model.safetensors: ends before byte"):
            checkpoint.read_into("matrix", torch.empty(40, 30), None)

    def test_file_gone_after_opening(self, saved):
        """A file that vanishes after the index was made is an error with its name."""
        _, checkpoint = saved
        checkpoint.entries["matrix"].path.unlink()
        with pytest.raises(WeightsError, match=r"model.safetensors: No such file"):
            checkpoint.read_into("matrix", torch.empty(40, 30), None)

    @pytest.mark.parametrize("dtype", ["U16", "U64", "C64", "F8_E8M0", "F4", "F99"])
    def test_odd_dtype(self, safetensors_file, dtype):
        """A tensor of any dtype is left alone; as a weight it is refused by its dtype."""
        wide = {"U16": 2, "U64": 8, "C64": 8}.get(dtype, 1)
        odd = {"dtype": dtype, "shape": [4], "data_offsets": [16, 16 + 4 * wide]}
        path = safetensors_file({"weight": GOOD, "odd": odd}, nbytes=16 + 4 * wide)
        checkpoint = open_part("vae", path)
        checkpoint.check_weight("weight", (2, 2))
        with pytest.raises(WeightsError, match=f"'odd' is {NAMES.get(dtype, dtype)}, not floats"):
            checkpoint.check_weight("odd", (4,))

    def test_shards(self, tmp_path):
        """A part in several files is one checkpoint."""
        for name in ("a", "b"):
            save_file({name: torch.ones(1)}, tmp_path / f"model-{name}.safetensors")
        assert sorted(open_part("vae", tmp_path).entries) == ["a", "b"]


class TestDamagedHeader:
    """A header that lies is refused with one line that names the file and the tensor."""

    def test_the_pattern_is_good(self, safetensors_file):
        """What the cases below damage can be opened."""
        path = safetensors_file(entry())
        assert open_part("vae", path.parent).entries["weight"].shape == (2, 2)

    @pytest.mark.parametrize("case", DAMAGED)
    def test_wrong_entry(self, safetensors_file, case):
        """Every way an entry can be wrong names the file and the tensor."""
        path = safetensors_file(DAMAGED[case], nbytes=24 if case == "overlap" else 16)
        message = refusal(path.parent)
        assert str(path) in message
        assert "'weight'" in message

    @pytest.mark.parametrize(
        "header",
        [b"", b"{", b"[1]", b"null", b"\xff\xfe", LONG_NUMBER, DEEP],
        ids=["empty", "cut", "list", "null", "not text", "long number", "deep"],
    )
    def test_no_object(self, safetensors_file, header):
        """A header that is no JSON object is refused, however it is broken."""
        path = safetensors_file(header)
        assert str(path) in refusal(path.parent)

    def test_a_name_with_line_breaks(self, safetensors_file):
        """A name with control characters can't break the message into lines."""
        path = safetensors_file({"a\n\x1b[31mb": None})
        assert r"a\n\x1b[31mb" in refusal(path.parent)


class TestDamagedFile:
    """A file that is not what its name says is refused before anything of it is believed."""

    @pytest.mark.parametrize(
        ("content", "words"),
        [
            (b"", "is empty"),
            (b"\x10\0\0", "is neither safetensors nor of torch.save"),
            (b"\x10" + bytes(7) + b"{}", "is cut: its header has 16 bytes, 2 of them are there"),
        ],
    )
    def test_too_short(self, tmp_path, content, words):
        """An empty file, half a length and half a header are refused."""
        (tmp_path / "model.safetensors").write_bytes(content)
        assert f"model.safetensors: {words}" in refusal(tmp_path)

    def test_header_too_big(self, tmp_path):
        """A header above the format's limit isn't read, even if the file is that large."""
        path = tmp_path / "model.safetensors"
        path.write_bytes((LIMIT + 1).to_bytes(8, "little"))
        os.truncate(path, LIMIT + 100)
        assert "is neither safetensors nor" in refusal(tmp_path)

    def test_truncated(self, tiny, tmp_path):
        """A real file cut in the middle: what it should have, and its first tensor not whole."""
        path = tmp_path / "model.safetensors"
        shutil.copy(tiny / "vae" / "diffusion_pytorch_model.safetensors", path)
        size = path.stat().st_size
        os.truncate(path, size - 1)
        last = max(load_file(tiny / "vae" / "diffusion_pytorch_model.safetensors"))
        message = refusal(tmp_path)
        assert f"is cut: its header wants {size} bytes, {size - 1} are there" in message
        assert f"tensor {last!r} is not whole" in message

    def test_same_tensor_twice(self, tmp_path):
        """Two files with the same tensor (a variant beside the model) are not mixed by chance."""
        for name in ("model.fp16", "model"):
            save_file({"weight": torch.ones(1)}, tmp_path / f"{name}.safetensors")
        assert "'weight' is in model.fp16.safetensors too" in refusal(tmp_path)

    def test_a_folder(self, tmp_path):
        """A folder with the name of a file is refused."""
        (tmp_path / "model.safetensors").mkdir()
        assert "model.safetensors: Is a directory" in refusal(tmp_path)

    def test_no_file(self, tmp_path):
        """A folder without safetensors names what was looked for."""
        assert f"{tmp_path}: no safetensors file" in refusal(tmp_path)


class TestPickle:
    """No pickle is executed, whatever its name."""

    @pytest.fixture(autouse=True)
    def _count(self, monkeypatch):
        monkeypatch.setattr(Sentinel, "unpickled", 0)

    @pytest.mark.parametrize("name", ["model.safetensors", "model.pth", "model.bin", "model.ckpt"])
    def test_plain(self, tmp_path, name):
        """A pickle that names a class is refused, and the class is not made."""
        (tmp_path / name).write_bytes(pickle.dumps(Sentinel()))
        refusal(tmp_path)
        assert not Sentinel.unpickled

    @pytest.mark.parametrize("name", ["model.safetensors", "model.pt"])
    def test_torch_archive(self, tmp_path, name):
        """The same inside an archive of `torch.save`."""
        torch.save({"weight": Sentinel()}, tmp_path / name)
        refusal(tmp_path)
        assert not Sentinel.unpickled
