"""`.pth` files: what is indexed is what torch.load gives, and no byte of data is read for it."""

import collections
import contextlib
import io
import math
import os
import tracemalloc
import zipfile

import attrs
import pytest
import torch

from wanflow.errors import WeightsError
from wanflow.models.weights.checkpoint import Checkpoint
from wanflow.models.weights.torch_file import index_torch_file


def state_dict():
    """A module's state: views of shared storages, several dtypes, a scalar, something empty."""
    torch.manual_seed(0)
    module = torch.nn.Sequential(torch.nn.Linear(30, 40), torch.nn.Conv2d(3, 4, 3)).bfloat16()
    state = module.state_dict()
    matrix = torch.randn(40, 30)
    return collections.OrderedDict(
        state,
        matrix=matrix,
        rows=matrix[3:7],
        flat=matrix.view(-1)[5:],
        scalar=torch.tensor(2.5, dtype=torch.float64),
        empty=torch.empty(0, 4),
        one_row=matrix.t()[:, :1].t(),
        ids=torch.arange(6).reshape(2, 3),
        flags=torch.tensor([True, False]),
        half=torch.ones(3).half(),
        parameter=torch.nn.Parameter(torch.full((2,), 7.0)),
    )


def refusal(path):
    """What indexing is refused with: always exit 4 and one line, naming the file."""
    with pytest.raises(WeightsError) as caught:
        index_torch_file(path)
    assert caught.value.exit_code == 4
    assert "\n" not in caught.value.message
    assert str(path) in caught.value.message
    return caught.value.message


class TestReading:
    """Every tensor lies where the index says."""

    @pytest.fixture(params=["state_dict", "dict", "parameters"])
    def saved(self, request, tmp_path):
        """The file of a state with attributes, of a plain dictionary, of a module's parameters."""
        state = state_dict()
        if request.param == "state_dict":
            state._metadata = collections.OrderedDict({"": {"version": 1}})
        if request.param == "dict":
            state = dict(state)
        if request.param == "parameters":
            state = dict(torch.nn.Linear(7, 5).named_parameters())
        torch.save(state, tmp_path / "weights.pth")
        return tmp_path / "weights.pth"

    def test_as_torch_loads_it(self, saved):
        """Names, order, dtypes, shapes and bits are those of torch.load."""
        wanted = torch.load(saved, weights_only=True)
        entries = index_torch_file(saved)
        checkpoint = Checkpoint(saved, entries)
        assert list(wanted) == list(entries)
        for name, tensor in wanted.items():
            target = torch.empty_like(tensor, memory_format=torch.contiguous_format)
            checkpoint.read_into(name, target, None)
            assert tensor.dtype == entries[name].dtype
            assert torch.equal(tensor, target), name

    @pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
    def test_other_dtype(self, tmp_path, dtype):
        """A tensor is rounded once on the way in, as from safetensors, rows too."""
        matrix = torch.randn(40, 30)
        torch.save({"matrix": matrix}, tmp_path / "weights.pth")
        checkpoint = Checkpoint(tmp_path, index_torch_file(tmp_path / "weights.pth"))
        staging = torch.empty(64, dtype=torch.uint8)
        whole, rows = torch.empty(40, 30, dtype=dtype), torch.empty(2, 30, dtype=dtype)
        checkpoint.read_into("matrix", whole, staging)
        checkpoint.read_rows_into("matrix", [39, 3], rows, staging)
        assert torch.equal(matrix.to(dtype), whole)
        assert torch.equal(matrix[[39, 3]].to(dtype), rows)

    @pytest.mark.parametrize(
        "dtype",
        [torch.uint16, torch.complex64, torch.float8_e4m3fn, torch.float8_e8m0fnu, torch.int8],
    )
    def test_young_dtypes(self, tmp_path, dtype):
        """A tensor of a dtype younger than typed storages lies where the index says."""
        tensor = torch.arange(6).reshape(2, 3).to(dtype)
        torch.save({"first": torch.ones(5), "rows": tensor[1:]}, tmp_path / "weights.pth")
        entry = index_torch_file(tmp_path / "weights.pth")["rows"]
        content = (tmp_path / "weights.pth").read_bytes()[entry.offset :][: entry.nbytes]
        assert (entry.dtype, entry.shape) == (dtype, (1, 3))
        assert content == tensor[1].clone().view(torch.uint8).numpy().tobytes()

    def test_nested(self, tmp_path):
        """What a training framework saved has the model's tensors under the name it gave them."""
        saved = {"state_dict": {"weight": torch.ones(1)}, "epoch": 3, "rates": [0.1]}
        torch.save(saved, tmp_path / "weights.pth")
        assert list(index_torch_file(tmp_path / "weights.pth")) == ["state_dict.weight"]

    def test_past_four_gigabytes(self, tmp_path):
        """In a file with holes, larger than 32 bits can say, everything is found (zip64)."""
        path = tmp_path / "large.pth"
        with (
            torch._subclasses.FakeTensorMode(),
            torch.serialization.skip_data(materialize_fake_tensors=True),
        ):
            wide = {f"blocks.{n}": torch.empty(1200, 1 << 20) for n in range(2)}
            torch.save({**wide, "last": torch.empty(3)}, path)
        entry = index_torch_file(path)["last"]
        with path.open("r+b") as file:
            file.seek(entry.offset)
            file.write(torch.tensor([1.0, 2.0, 3.0]).numpy().tobytes())
        assert entry.offset > 9 << 30
        loaded = torch.load(path, weights_only=True, mmap=True)["last"]
        assert loaded.tolist() == [1.0, 2.0, 3.0]

    def test_no_data_is_held(self, tmp_path):
        """Indexing 64 MB of weights takes less than one."""
        torch.save({f"layer.{n}": torch.zeros(1 << 20) for n in range(16)}, tmp_path / "w.pth")
        tracemalloc.start()
        index_torch_file(tmp_path / "w.pth")
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak < 1 << 20


class TestDamagedFile:
    """A file that is not what torch.save wrote is refused, and the tensor is named."""

    @pytest.fixture
    def saved(self, tmp_path):
        path = tmp_path / "weights.pth"
        torch.save({f"layer.{n}": torch.full((300,), float(n)) for n in range(4)}, path)
        return path

    @pytest.mark.parametrize("number", range(4))
    def test_cut_in_a_tensor(self, saved, number):
        """A file cut in the middle of a tensor's bytes names the first that is not whole."""
        entry = index_torch_file(saved)[f"layer.{number}"]
        os.truncate(saved, entry.offset + 100)
        assert f"tensor 'layer.{number}' is not whole" in refusal(saved)

    def test_cut_behind_the_tensors(self, saved):
        """A file that lost its directory alone is refused: a part of it was not downloaded."""
        os.truncate(saved, saved.stat().st_size - 30)
        assert "the directory behind its tensors is not whole" in refusal(saved)

    def test_cut_anywhere(self, saved):
        """At whatever byte a file is cut, the error is one line and exit 4."""
        whole = saved.read_bytes()
        for size in range(0, len(whole), 61):
            saved.write_bytes(whole[:size])
            refusal(saved)

    def test_bytes_changed_anywhere(self, saved):
        """A file with a wrong byte is refused, or its tensors still lie inside of it."""
        whole = saved.read_bytes()
        head, tail = range(400), range(len(whole) - 1500, len(whole))
        for place in (*head, *tail):
            damaged = bytearray(whole)
            damaged[place] ^= 0x55
            saved.write_bytes(damaged)
            with contextlib.suppress(WeightsError):
                ends = [e.offset + e.nbytes for e in index_torch_file(saved).values()]
                assert max(ends) <= len(whole)

    def test_missing_storage(self, saved, tmp_path):
        """A tensor whose bytes are not in the archive is named."""
        kept = tmp_path / "kept.pth"
        with zipfile.ZipFile(saved) as whole, zipfile.ZipFile(kept, "w") as archive:
            for name in whole.namelist():
                if not name.endswith("data/2"):
                    archive.writestr(name, whole.read(name))
        assert "tensor 'layer.2' needs 1200 bytes of entry data/'2', which is missing" in refusal(
            kept
        )

    @pytest.mark.parametrize(
        ("tensor", "words"),
        [
            (torch.ones(4, 6).t(), "strides [1, 6]; only contiguous"),
            (torch.ones(4, 6)[:, 1:3], "strides [6, 1]; only contiguous"),
            (torch.ones(1).expand(5), "strides [0]; only contiguous"),
        ],
        ids=["transposed", "columns", "expanded"],
    )
    def test_not_contiguous(self, tmp_path, tensor, words):
        """A tensor whose elements do not follow each other is refused by name."""
        torch.save({"weight": tensor}, tmp_path / "weights.pth")
        message = refusal(tmp_path / "weights.pth")
        assert "'weight'" in message
        assert words in message

    @pytest.mark.parametrize(
        ("saved", "words"),
        [
            (
                {"model": {"weight": torch.ones(1)}, "ema": {"weight": torch.ones(1)}},
                "'model' is a dictionary",
            ),
            ({"model": {"weight": torch.ones(1), "step": 3}}, "'model.step' is a value"),
            ({"weight": torch.ones(1), "epoch": 3}, "'epoch' is a value"),
            ([torch.ones(1)], "holds a list"),
            ({1: torch.ones(1)}, "has a value for a name"),
        ],
        ids=["two nested", "number inside", "number", "list", "numbered"],
    )
    def test_no_dictionary_of_tensors(self, tmp_path, saved, words):
        """What is no dictionary of tensors is refused with what it is."""
        torch.save(saved, tmp_path / "weights.pth")
        assert words in refusal(tmp_path / "weights.pth")

    @pytest.mark.parametrize(
        ("change", "words"),
        [
            ({"offset": 1}, "ends 28 bytes into an entry of 24"),
            ({"offset": -1}, "is malformed"),
            ({"offset": 2**62}, "into an entry of 24"),
            ({"shape": (3, 3), "stride": (3, 1)}, "ends 36 bytes into"),
            ({"shape": (2**40, 2**40), "stride": (2**40, 1)}, "into an entry of 24"),
            ({"shape": (3, -2)}, "is malformed"),
            ({"shape": (6,)}, "is malformed"),
            ({"shape": "32"}, "is malformed"),
            ({"shape": (1,) * 17, "stride": (1,) * 17}, "is malformed"),
            ({"stride": (True, 1)}, "is malformed"),
        ],
        ids=lambda value: str(value)[:40],
    )
    def test_a_view_that_lies(self, archive_file, monkeypatch, change, words):
        """However a tensor's place or shape is wrong, it is named."""
        from wanflow.models.weights import torch_file

        path = archive_file(pickle_of({"weight": torch.ones(3, 2)}), {"0": bytes(24)})
        assert index_torch_file(path)["weight"].shape == (3, 2)

        def read(data, path):
            pickled = real(data, path)
            stored = attrs.evolve(pickled.tensors["weight"], **change)
            return attrs.evolve(pickled, tensors={"weight": stored})

        real = torch_file.read_pickle
        monkeypatch.setattr(torch_file, "read_pickle", read)
        message = refusal(path)
        assert "tensor 'weight'" in message
        assert words in message

    @pytest.mark.parametrize("nbytes", [23, 25, 0])
    def test_storage_of_another_size(self, archive_file, nbytes):
        """A storage that has not the bytes that the pickle says is refused."""
        path = archive_file(pickle_of({"weight": torch.ones(3, 2)}), {"0": bytes(nbytes)})
        assert f"'weight' needs 24 bytes of entry data/'0', which has {nbytes}" in refusal(path)


def pickle_of(state):
    """The pickle that torch.save writes of a state."""
    buffer = io.BytesIO()
    torch.save(state, buffer)
    with zipfile.ZipFile(buffer) as archive:
        return archive.read("archive/data.pkl")


class TestFullSize:
    """The official files, with holes for data: from the key lists, at their full size."""

    @pytest.mark.parametrize(
        ("name", "stem", "dtype", "published_bytes"),
        [
            # huggingface.co/Wan-AI/Wan2.1-T2V-1.3B, revision 37ec512624d6
            ("umt5-xxl", "umt5-xxl-enc-bf16", torch.bfloat16, 11_361_920_418),
            ("vae", "wanx_vae", torch.float32, 507_609_880),
            # huggingface.co/Wan-AI/Wan2.1-I2V-14B-480P, revision 6b73f84e6637
            ("clip", "clip", torch.float32, 4_772_359_047),
        ],
    )
    def test_indexed(self, official_keys, tmp_path, name, stem, dtype, published_bytes):
        """Every tensor has its shape, and their bytes are the published file's but for headers."""
        shapes, path = official_keys(name), tmp_path / f"{stem}.pth"
        with (
            torch._subclasses.FakeTensorMode(),
            torch.serialization.skip_data(materialize_fake_tensors=True),
        ):
            torch.save({n: torch.empty(s, dtype=dtype) for n, s in shapes.items()}, path)
        entries = index_torch_file(path)
        assert shapes == {n: entry.shape for n, entry in entries.items()}
        nbytes = sum(math.prod(s) * dtype.itemsize for s in shapes.values())
        assert nbytes < published_bytes < nbytes + 500 * len(shapes)
