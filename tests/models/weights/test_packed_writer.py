"""Files of packed weights: what is in them, gone on with after a stop, little memory."""

import pytest
import torch
from safetensors.torch import load_file, save_file

from tests.measure import peak_allocated_bytes
from wanflow.errors import WeightsError
from wanflow.models.packing.made import form_of, pack
from wanflow.models.weights.packed_writer import PackedFile, TensorToWrite, write_packed
from wanflow.models.weights.safetensors_file import index_safetensors

SHAPES = {"a.weight": (96, 40), "a.bias": (96,), "norm": (3,), "b.weight": (33, 7)}
PACKED = ("a.weight", "b.weight")


@pytest.fixture
def source(tmp_path):
    """A file of bf16 tensors, with one that leaves the next unaligned."""
    torch.manual_seed(0)
    tensors = {name: torch.randn(shape).bfloat16() for name, shape in SHAPES.items()}
    tensors["flag"] = torch.tensor([1], dtype=torch.uint8)
    save_file(tensors, tmp_path / "source.safetensors")
    return tmp_path / "source.safetensors"


def to_be(source, kind="int8"):
    """What it is to be written as."""
    entries = index_safetensors(source)
    return PackedFile(
        [
            TensorToWrite(name, entry, kind if name in PACKED else "")
            for name, entry in entries.items()
        ],
        {"format": "pt"},
    )


@pytest.mark.parametrize("kind", ["int8", "fp8"])
def test_what_is_in_it(source, tmp_path, kind):
    """Packed as anywhere else, the rest in its bytes; safetensors itself reads it."""
    heard = []
    write_packed(to_be(source, kind), tmp_path / "new", heard.append)
    old, new = load_file(source), load_file(tmp_path / "new")

    assert sum(heard) == sum(t.nbytes for t in old.values())
    assert new.keys() == {*old, *(f"{name}_scale" for name in PACKED)}
    for name, tensor in old.items():
        if name in PACKED:
            pieces = pack(kind, tensor)
            assert new[name].float().equal(pieces["packed"].float())
            assert new[name].dtype == form_of(kind, SHAPES[name]).dtype
            assert new[f"{name}_scale"].equal(pieces["packed_scale"])
        else:
            assert new[name].equal(tensor)
    assert not (tmp_path / "new.done").exists()


class Stopped(Exception):
    """A stop in the middle."""


@pytest.mark.parametrize("after", [1, 3])
def test_goes_on(source, tmp_path, after):
    """What was whole is not read again, and the file is the same in bytes."""
    write_packed(to_be(source), tmp_path / "whole", lambda _: None)
    heard = []

    def stop(nbytes):
        heard.append(nbytes)
        if len(heard) == after:
            raise Stopped

    with pytest.raises(Stopped):
        write_packed(to_be(source), tmp_path / "new", stop)
    done = (tmp_path / "new.done").read_text().splitlines()[1:]
    assert len(done) == after
    with (tmp_path / "new").open("r+b") as part:  # what is whole is believed, not written again
        place = index_safetensors(tmp_path / "new")[done[0]].offset
        part.seek(place)
        kept = part.read(1)
        part.seek(place)
        part.write(bytes([kept[0] ^ 1]))
    write_packed(to_be(source), tmp_path / "new", lambda _: None)
    ended, whole = ((tmp_path / name).read_bytes() for name in ("new", "whole"))
    assert [n for n, (x, y) in enumerate(zip(ended, whole, strict=True)) if x != y] == [place]


def test_of_another_source_it_begins_anew(source, tmp_path):
    """The header says what it is of; a damaged note is none."""
    (tmp_path / "new").write_bytes(b"x" * 50)
    (tmp_path / "new.done").write_text("nonsense\na.weight\n")
    write_packed(to_be(source), tmp_path / "new", lambda _: None)
    assert load_file(tmp_path / "new").keys() >= SHAPES.keys()


def test_not_finite_is_named(source, tmp_path):
    tensors = load_file(source)
    tensors["b.weight"][30, 2] = float("inf")
    save_file(tensors, source)
    with pytest.raises(WeightsError, match=r"'b.weight' can't be packed: row 30"):
        write_packed(to_be(source), tmp_path / "new", lambda _: None)


def test_takes_little_memory(tmp_path):
    """A tensor of 64 MiB goes by in pieces."""
    save_file({"a.weight": torch.ones(8192, 4096, dtype=torch.bfloat16)}, tmp_path / "source")
    file = PackedFile(
        [TensorToWrite("a.weight", index_safetensors(tmp_path / "source")["a.weight"], "int8")], {}
    )
    assert (
        peak_allocated_bytes(lambda: write_packed(file, tmp_path / "new", lambda _: None)) < 4 << 20
    )
