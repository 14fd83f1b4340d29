"""Weights are what their contents are: not their names, sizes, times or layouts."""

import os
import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file

from tests.official import write_official
from wanflow.models.weights import identity as identities
from wanflow.models.weights.checkpoint import Checkpoint
from wanflow.models.weights.identity import identity, rows_digest
from wanflow.models.weights.layouts import find_part, open_part
from wanflow.models.weights.sample import sample

PARTS = ["text_encoder", "transformer", "vae"]
ROWS, WIDTH = 8192, 512  # 16 MB, of which a sample reads a part


def identity_of(folder, part="transformer"):
    return identity(open_part(part, find_part(folder, part)))


def table(path, change=lambda _: None):
    """A file with one large table, changed in place; its checkpoint."""
    tensor = torch.arange(ROWS * WIDTH, dtype=torch.float32).reshape(ROWS, WIDTH)
    tensor = tensor.remainder_(65537).sin_()
    change(tensor)
    save_file({"table": tensor}, path)
    return open_part("vae", path)


@pytest.fixture(scope="module")
def plain(tmp_path_factory):
    return sample(table(tmp_path_factory.mktemp("table") / "t.safetensors").entries["table"])


CHANGES = {
    "rows in another order": lambda t: t.copy_(t.flip(0)),
    "columns in another order": lambda t: t.copy_(t.flip(1)),
    "every number a little": lambda t: t.mul_(1.0001),
    "an eighth of the rows": lambda t: t[3000:4024].zero_(),
    "every 64th column": lambda t: t[:, ::64].zero_(),
    "the first number": lambda t: t[0, 0].add_(1),
    "the last number": lambda t: t[-1, -1].add_(1),
}


class TestSample:
    @pytest.mark.parametrize("change", CHANGES)
    def test_is_seen(self, plain, tmp_path, change):
        """What differs in many places, or at an end, differs."""
        checkpoint = table(tmp_path / "t.safetensors", CHANGES[change])
        assert sample(checkpoint.entries["table"]) != plain

    def test_may_be_missed(self, plain, tmp_path):
        """A single row between two pages: a prompt that reads it is told apart by its rows."""
        checkpoint = table(tmp_path / "t.safetensors", lambda t: t[4].zero_())
        assert sample(checkpoint.entries["table"]) == plain
        other = table(tmp_path / "o.safetensors")
        digests = [
            [rows_digest(c, "table", ids) for c in (checkpoint, other)] for ids in ([4], [5])
        ]
        assert digests[0][0] != digests[0][1]
        assert digests[1][0] == digests[1][1]

    def test_reads_little(self, tmp_path, monkeypatch):
        """Of an embedding of 2 GB, with holes for data, 4 MB."""
        with (
            torch._subclasses.FakeTensorMode(),
            torch.serialization.skip_data(materialize_fake_tensors=True),
        ):
            torch.save({"t": torch.empty(256384, 4096, dtype=torch.bfloat16)}, tmp_path / "t.pth")
        entry, counts, read = open_part("vae", tmp_path / "t.pth").entries["t"], [], os.pread
        monkeypatch.setattr(os, "pread", lambda *args: counts.append(args[1]) or read(*args))
        sample(entry)
        assert entry.nbytes == 2_100_297_728
        assert sum(counts) < 5 << 20


class TestIdentity:
    @pytest.mark.parametrize("part", PARTS)
    def test_layouts(self, tiny, tmp_path, part):
        """The same tensors in official files, under other names, are the same."""
        folder = write_official(tmp_path / "official")
        assert identity_of(folder, part) == identity_of(tiny, part)

    def test_copies(self, tiny, tmp_path):
        """Another file of another time with the same bytes; a prefix makes no difference."""
        shutil.copytree(tiny / "transformer", tmp_path / "a" / "transformer")
        (file,) = (tmp_path / "a" / "transformer").glob("*.safetensors")
        os.utime(file, (1, 1))
        state = {f"model.{name}": tensor for name, tensor in load_file(file).items()}
        save_file(state, tmp_path / "b.sft")
        prefixed = identity(open_part("transformer", tmp_path / "b.sft"))
        assert identity_of(tiny) == identity_of(tmp_path / "a") == prefixed

    def test_every_tensor_counts(self, tiny, tmp_path):
        """Each alone, changed in one number with the file's size and time kept."""
        (file,) = (tiny / "transformer").glob("*.safetensors")
        copy = tmp_path / "t.safetensors"
        shutil.copy2(file, copy)
        about, content = copy.stat(), copy.read_bytes()
        plain = open_part("transformer", copy)
        seen = {identity(plain)}
        for entry in plain.entries.values():
            changed = bytearray(content)
            changed[entry.offset + entry.nbytes // 2] ^= 1
            copy.write_bytes(changed)
            os.utime(copy, ns=(about.st_atime_ns, about.st_mtime_ns))
            seen.add(identity(plain))
        assert len(seen) == 1 + len(plain.entries)

    def test_dtype(self, tmp_path):
        """The same bytes as other numbers are others."""
        ones = torch.ones(4)
        save_file({"a": ones}, tmp_path / "a.safetensors")
        save_file({"a": ones.view(torch.int32)}, tmp_path / "b.safetensors")
        made = {identity(open_part("vae", tmp_path / f"{name}.safetensors")) for name in "ab"}
        assert len(made) == 2


class TestRemembered:
    """A file that stays is sampled once."""

    @pytest.fixture
    def aged(self, tmp_path, own_cache, monkeypatch):
        """A checkpoint in a file that counts as old; how often a span of it was read."""
        checkpoint = table(tmp_path / "t.safetensors")
        monkeypatch.setattr(identities, "_YOUNG_NS", -1)
        reads, sampled = [], identities.sampled

        def counted(handle, offset, nbytes, pages=None):
            reads.extend([] if pages else [offset])
            return sampled(handle, offset, nbytes, pages)

        monkeypatch.setattr(identities, "sampled", counted)
        return checkpoint, reads

    def test_once(self, aged):
        """As long as nothing of it changes."""
        checkpoint, reads = aged
        assert identity(checkpoint) == identity(checkpoint)
        assert len(reads) == 1

    @pytest.mark.parametrize("change", ["time", "replaced", "damaged memo"])
    def test_again(self, aged, own_cache, change):
        """Another time, another file in its place, a memo that is not as it was written."""
        checkpoint, reads = aged
        first, path = identity(checkpoint), checkpoint.entries["table"].path
        (memo,) = own_cache.rglob("*.bin")
        if change == "time":
            os.utime(path, (1, 1))
        elif change == "replaced":
            shutil.copy2(path, path.with_name("copy")).replace(path)
        else:
            memo.write_bytes(memo.read_bytes()[:-1] + b"x")
        assert identity(checkpoint) == first
        assert len(reads) == 2

    def test_image_of_a_file_system(self, aged, monkeypatch):
        """Inode, size and times may come with an image: a few pages of the file are looked at."""
        checkpoint, reads = aged
        monkeypatch.setattr(identities, "stat_key", lambda about: (about.st_size,))
        first, entry = identity(checkpoint), checkpoint.entries["table"]
        table(entry.path, lambda t: t.mul_(1.0001))
        assert identity(Checkpoint(checkpoint.folder, {"table": entry})) != first
        assert len(reads) == 2

    def test_too_young(self, aged, own_cache, monkeypatch):
        """A file just written may change again within a tick of its clock."""
        checkpoint, reads = aged
        monkeypatch.setattr(identities, "_YOUNG_NS", 3600 * 10**9)
        assert identity(checkpoint) == identity(checkpoint)
        assert len(reads) == 2
        assert not list(own_cache.rglob("*.bin"))

    def test_no_home(self, aged, monkeypatch):
        """Without one it is read each time."""
        checkpoint, reads = aged

        def nowhere():
            raise RuntimeError

        monkeypatch.setattr(identities, "cache_folder", nowhere)
        assert identity(checkpoint) == identity(checkpoint)
        assert len(reads) == 2
