"""The container of `.pth` files: nothing that its directory says is believed unchecked."""

import struct
import zipfile

import pytest
import torch

from wanflow.errors import WeightsError
from wanflow.models.weights.archive import open_archive

CENTRAL = b"PK\x01\x02"


def refused(path):
    with pytest.raises(WeightsError) as caught:
        open_archive(path)
    assert str(path) in caught.value.message
    return caught.value.message


@pytest.fixture
def saved(tmp_path):
    """An archive with two storages, and its bytes."""
    path = tmp_path / "weights.pth"
    torch.save({"a": torch.ones(8), "b": torch.zeros(8)}, path)
    return path, bytearray(path.read_bytes())


def central(content, name):
    """Where the directory's record of an entry begins."""
    return content.rindex(CENTRAL, 0, content.rindex(name.encode()))


def patched(saved, name, field, value):
    """Change a field of an entry's record in the directory."""
    path, content = saved
    struct.pack_into("<I", content, central(content, name) + field, value)
    path.write_bytes(content)
    return path


class TestDirectory:
    """Where entries lie."""

    def test_offsets(self, saved):
        """The bytes at the offset are the storage's."""
        path, content = saved
        span = open_archive(path).storages["0"]
        assert torch.ones(8).numpy().tobytes() == content[span.offset : span.offset + span.nbytes]

    def test_entry_elsewhere(self, saved):
        """An entry that is not where the directory says is refused."""
        _, content = saved
        header = struct.unpack_from("<I", content, central(content, "/data/1") + 42)[0]
        assert "is not where the directory says" in refused(
            patched(saved, "weights/data/1", 42, header + 4)
        )

    def test_entry_of_another(self, saved):
        """Two records with one place are refused."""
        _, content = saved
        header = struct.unpack_from("<I", content, central(content, "/data/0") + 42)[0]
        assert "is not where the directory says" in refused(
            patched(saved, "weights/data/1", 42, header)
        )

    def test_bytes_lost_at_the_front(self, saved):
        """A file that lost bytes before its directory has entries before its start: refused."""
        path, content = saved
        path.write_bytes(content[:4] + content[104:])
        assert "'weights/data.pkl' is not where the directory says" in refused(path)

    def test_two_sizes(self, saved):
        """A stored entry whose packed size is another one is refused."""
        assert "has two sizes" in refused(patched(saved, "weights/data/1", 20, 31))

    def test_overlap(self, saved):
        """An entry that reaches into the next is refused."""
        path, content = saved
        struct.pack_into("<I", content, central(content, "weights/data/0") + 20, 400)
        assert "overlap" in refused(patched((path, content), "weights/data/0", 24, 400))

    def test_past_the_directory(self, saved):
        """An entry that reaches past the end is refused."""
        path, content = saved
        place = central(content, "weights/.data/serialization_id")
        struct.pack_into("<I", content, place + 20, 1 << 20)
        assert "overlap" in refused(
            patched((path, content), "weights/.data/serialization_id", 24, 1 << 20)
        )

    def test_twice(self, tmp_path):
        """An entry that is there twice is refused."""
        path = tmp_path / "weights.pth"
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("weights/data.pkl", b"\x80\x02}.")
            with pytest.warns(UserWarning, match="Duplicate"):
                archive.writestr("weights/data.pkl", b"\x80\x02}.")
        assert "is there twice" in refused(path)

    def test_encrypted(self, saved):
        """An encrypted entry is refused."""
        path, content = saved
        content[central(content, "weights/data/0") + 8] |= 1
        path.write_bytes(content)
        assert "is packed" in refused(path)


class TestWhatItIs:
    """Archives of something else."""

    @pytest.mark.parametrize(
        ("entries", "words"),
        [
            ({"a/b.txt": b""}, "has no data.pkl"),
            ({"a/data.pkl": b"", "b/data.pkl": b""}, "has 2 data.pkl"),
            ({"data.pkl": b""}, "has no data.pkl"),
            ({"a/data.pkl": b"", "a/constants.pkl": b""}, "is a TorchScript program"),
            ({"a/data.pkl": b"", "a/byteorder": b"big"}, "are not little-endian"),
        ],
    )
    def test_is_refused(self, tmp_path, entries, words):
        """It is said what is not as it should be."""
        path = tmp_path / "weights.pth"
        with zipfile.ZipFile(path, "w") as archive:
            for name, content in entries.items():
                archive.writestr(name, content)
        assert words in refused(path)

    @pytest.mark.parametrize("content", [b"", b"PK", bytes(400)])
    def test_no_archive(self, tmp_path, content):
        """What does not begin as an archive is none."""
        path = tmp_path / "weights.pth"
        path.write_bytes(content)
        assert "is no file of torch.save" in refused(path)

    def test_not_there(self, tmp_path):
        """A file that is gone is said so."""
        assert "No such file" in refused(tmp_path / "weights.pth")
