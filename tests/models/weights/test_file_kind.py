"""What a file is, is seen from its bytes; what holds no tensors is called what it is."""

import os
import tarfile
import zipfile

import pytest
import torch
from safetensors.torch import save_file

from wanflow.errors import WeightsError
from wanflow.models.weights.file_kind import index_file

POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 2838276968\n"
OTHERS = {
    "GGUF": (b"GGUF\1\0\0\0" + bytes(600), "is GGUF of version 1, which is not read", ""),
    "LFS": (POINTER, "is a Git LFS pointer; the file itself, of 2838276968 bytes", "git lfs pull"),
    "HTML": (b"\n<!doctype html><title>401</title>", "is an HTML page ('401')", "login"),
    "HTML, old": (b"\xef\xbb\xbf<HTML><body>gone", "is an HTML page, not", "login"),
    "XML": (b'<?xml version="1.0"?><Error><Code>AccessDenied', "is an XML page", "login"),
    "JSON": (b'{"error":"Repository not found"}', "is a JSON text, not weights", "login"),
    "shards": (b'{"metadata": {}, "weight_map": {"a": "b"}}', "is an index of shards", "folder"),
    "text": (b"Entry not found", "is a text, not weights: 'Entry not found'", "login"),
    "long text": ("\u00e9".encode() * 700, "is a text, not weights", "login"),
    "empty": (b"", "is empty", "again"),
    "zeros": (bytes(4096), "begins with 512 zeros", "again"),
    "gzip": (b"\x1f\x8b\x08" + bytes(99), "is packed with gzip", "unpack"),
    "HDF5": (b"\x89HDF\r\n\x1a\n" + bytes(99), "is an HDF5 file", "variant"),
    "noise": (bytes(range(255, 0, -1)), "is neither safetensors nor of torch.save", ""),
    "old torch": (b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19.", "is a bare pickle", "torch.save"),
}


def refused(path):
    """What a file is refused with: exit 4, one line, its name in front."""
    with pytest.raises(WeightsError) as caught:
        index_file(path)
    assert caught.value.exit_code == 4
    assert caught.value.message.startswith(str(path))
    assert "\n" not in caught.value.message
    return caught.value


class TestNames:
    """No name decides."""

    NAMES = ("a.sft", "A.SAFETENSORS", "96b6b242ca1c2f24", "weights.pth", "x.crdownload", "y.gguf")

    @pytest.mark.parametrize("name", NAMES)
    def test_safetensors(self, tmp_path, name):
        """By any name, behind a link too."""
        save_file({"weight": torch.ones(2)}, tmp_path / "blob")
        (tmp_path / name).symlink_to(tmp_path / "blob")
        assert list(index_file(tmp_path / name)) == ["weight"]

    @pytest.mark.parametrize("name", [*NAMES, "model.safetensors"])
    def test_torch(self, tmp_path, name):
        """The same of what torch.save wrote."""
        torch.save({"weight": torch.ones(2)}, tmp_path / name)
        assert list(index_file(tmp_path / name)) == ["weight"]

    def test_every_length_of_a_header(self, tmp_path):
        """A header of 128 bytes begins as a pickle does."""
        for spaces in range(64, 200):
            path = tmp_path / "model.safetensors"
            save_file({"weight": torch.ones(2)}, path, metadata={"a": "x" * spaces})
            assert list(index_file(path)) == ["weight"]


class TestOthers:
    @pytest.mark.parametrize("suffix", ["safetensors", "pth"])
    @pytest.mark.parametrize("kind", OTHERS)
    def test_is_told(self, tmp_path, kind, suffix):
        """By its first bytes, whatever its name, with what to do."""
        content, words, hint = OTHERS[kind]
        path = tmp_path / f"weights.{suffix}"
        path.write_bytes(content)
        error = refused(path)
        assert words in error.message
        assert hint in error.hint

    @pytest.mark.parametrize("kind", ["stored", "packed"])
    def test_zip(self, tmp_path, kind):
        """A zip file with weights in it is none of torch.save."""
        path = tmp_path / "weights.zip"
        packing = zipfile.ZIP_DEFLATED if kind == "packed" else zipfile.ZIP_STORED
        with zipfile.ZipFile(path, "w", packing) as archive:
            archive.writestr("model.safetensors", bytes(99))
        error = refused(path)
        assert "is a zip file, but none of torch.save" in error.message
        assert "unpack it" in error.hint

    def test_tar(self, tmp_path):
        """A tar file too."""
        with tarfile.open(tmp_path / "weights.safetensors", "w") as archive:
            archive.add(__file__, "model.safetensors")
        assert "is an archive of tar" in refused(tmp_path / "weights.safetensors").message

    def test_on_its_way(self, tmp_path):
        """A download of full size whose holes come later has a file beside it that says so."""
        save_file({"weight": torch.ones(2)}, tmp_path / "a.safetensors")
        (tmp_path / "a.safetensors.aria2").touch()
        assert "a.safetensors.aria2 beside it" in refused(tmp_path / "a.safetensors").message

    def test_lost_blob(self, tmp_path):
        """A link of the hub's whose blob is gone names it."""
        (tmp_path / "a.safetensors").symlink_to("../../blobs/12ab")
        error = refused(tmp_path / "a.safetensors")
        assert "a link to ../../blobs/12ab: No such file" in error.message
        assert "again" in error.hint

    def test_cut_pickle(self, tmp_path):
        """What its tensors have and what the file has."""
        path = tmp_path / "weights.pth"
        torch.save({"weight": torch.ones(500)}, path)
        os.truncate(path, 1500)
        assert "its tensors have 2000 bytes, the file 1500" in refused(path).message
