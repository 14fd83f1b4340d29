"""The store of measured kinds: what goes in comes out; what happens to it is never an error."""

import os
import subprocess
import sys
from pathlib import Path

import msgpack
import pytest

from wanflow.files import cache as cache_files
from wanflow.files.cache import held, prune
from wanflow.scheduler.footprint.call_kinds import CallCost, Layout
from wanflow.scheduler.footprint.costs import Cost
from wanflow.scheduler.profile import kind_cache
from wanflow.scheduler.profile.kind_cache import CallKindCache

ROOT = Path(__file__).parents[3]
KEY = ("denoise", "block", (("x", (1, 2), (2, 1)),))
KIND = CallCost(
    Cost(123, {"gemm": 4.5e15, "attention": 7}, 89, 10),
    {"bfloat16": 4.5e15},
    {"denoise.x": Layout((2, 3), (1, 2), 4, "bfloat16", 64)},
    {"denoise.y": "denoise.x"},
)
ADDS = """
import sys
from pathlib import Path
from wanflow.scheduler.footprint.costs import Cost
from wanflow.scheduler.profile.kind_cache import CallKindCache
from wanflow.scheduler.footprint.call_kinds import CallCost
for number in range(100):
    cache = CallKindCache(Path(sys.argv[1]), {"denoise": 1}, {})
    cache.add("denoise", (sys.argv[2], number), CallCost(Cost(number, {}, 0), {}, {}, {}))
    cache.keep()
"""


def cache(folder, identity=1, conditions=2):
    """Open the cache of one stage."""
    return CallKindCache(folder, {"denoise": identity}, {"torch": conditions})


@pytest.fixture
def stored(tmp_path):
    """Keep one kind; give the folder and its file."""
    writer = cache(tmp_path)
    writer.add("denoise", KEY, KIND)
    writer.keep()
    (file,) = tmp_path.iterdir()
    return tmp_path, file


class TestCallKindCache:
    def test_gives_back_what_was_kept(self, stored) -> None:
        """Every field, with its type."""
        found = cache(stored[0]).find("denoise", KEY)

        assert found == KIND
        assert isinstance(found.makes["denoise.x"].shape, tuple)

    def test_knows_nothing_else(self, stored) -> None:
        """Another key, another identity, other conditions."""
        folder, _ = stored

        assert cache(folder).find("denoise", (*KEY, "more")) is None
        assert cache(folder, identity=3).find("denoise", KEY) is None
        assert cache(folder, conditions=3).find("denoise", KEY) is None

    def test_adds_to_what_is_there(self, stored) -> None:
        """Whoever comes second leaves the first one's kinds."""
        folder, _ = stored
        writer = cache(folder)
        writer.add("denoise", ("other",), KIND)
        writer.keep()

        assert [cache(folder).find("denoise", k) for k in (KEY, ("other",))] == [KIND, KIND]
        assert held(folder).files == 1

    def test_what_is_used_counts_as_new(self, stored) -> None:
        """It is removed last."""
        folder, file = stored
        os.utime(file, (1, 1))
        reader = cache(folder)
        reader.find("denoise", KEY)
        reader.keep()

        assert file.stat().st_mtime > 1

    def test_flops_past_64_bits_are_left_out(self, tmp_path) -> None:
        """They can't be written; the rest can."""
        writer = cache(tmp_path)
        writer.add("denoise", ("huge",), CallCost(Cost(1, {"gemm": 2**70}, 0), {}, {}, {}))
        writer.add("denoise", KEY, KIND)
        writer.keep()

        assert cache(tmp_path).find("denoise", ("huge",)) is None
        assert cache(tmp_path).find("denoise", KEY) == KIND


class TestDamage:
    """A cache that can't be used is a cache that is empty."""

    @pytest.mark.parametrize("share", [0, 0.3, 0.7, 0.99])
    def test_cut_file(self, stored, share) -> None:
        """Wherever it is cut."""
        folder, file = stored
        content = file.read_bytes()
        file.write_bytes(content[: int(len(content) * share)])

        assert cache(folder).find("denoise", KEY) is None

    def test_any_changed_byte(self, stored) -> None:
        """No bit can turn into another cost."""
        folder, file = stored
        content = file.read_bytes()
        for place in range(len(content)):
            file.write_bytes(
                content[:place] + bytes([content[place] ^ 0x10]) + content[place + 1 :]
            )
            assert cache(folder).find("denoise", KEY) is None

    @pytest.mark.parametrize(
        "kinds", [[1], {b"": 1}, {KEY[0]: "text"}, 7], ids=["list", "number", "text", "no map"]
    )
    def test_foreign_content(self, stored, kinds) -> None:
        """Well-formed, and not ours."""
        folder, file = stored
        body = msgpack.packb(kinds)
        file.write_bytes(cache_files.head(cache_files.MAGIC, body) + body)

        assert cache(folder).find("denoise", KEY) is None

    @pytest.mark.parametrize("packed", [b"", b"\xc1", b"\x90", b"\x94\x01\x02\x03\x04", "text", 7])
    def test_foreign_kind(self, packed) -> None:
        """Nothing is made of it."""
        assert kind_cache.unpack(packed) is None

    def test_too_large_a_file(self, stored) -> None:
        """It isn't read."""
        folder, file = stored
        with file.open("ab") as more:
            more.truncate(cache_files.LARGEST_BYTES + 1)

        assert cache(folder).find("denoise", KEY) is None

    def test_is_mended_by_the_next(self, stored) -> None:
        """What was damaged is written anew."""
        folder, file = stored
        file.write_bytes(b"rubbish")
        writer = cache(folder)
        writer.add("denoise", KEY, KIND)
        writer.keep()

        assert cache(folder).find("denoise", KEY) == KIND

    def test_a_file_where_the_folder_should_be(self, tmp_path) -> None:
        """Reading and writing fail without a word."""
        (tmp_path / "file").touch()
        broken = cache(tmp_path / "file" / "under")
        broken.add("denoise", KEY, KIND)
        broken.keep()

        assert broken.find("denoise", KEY) is None
        assert (held(tmp_path / "file").files, held(tmp_path / "none").nbytes) == (0, 0)

    def test_a_folder_where_the_file_should_be(self, stored) -> None:
        """The same."""
        folder, file = stored
        file.unlink()
        file.mkdir()
        writer = cache(folder)
        writer.add("denoise", KEY, KIND)
        writer.keep()

        assert cache(folder).find("denoise", KEY) is None
        assert [file] == list(folder.iterdir())


class TestPrune:
    @pytest.fixture
    def files(self, tmp_path):
        """Make five files of a hundred bytes, each younger than the one before."""
        for number in range(5):
            path = tmp_path / str(number)
            path.write_bytes(b"x" * 100)
            os.utime(path, (number, number))
        return tmp_path

    @pytest.mark.parametrize(("nbytes", "number", "left"), [(250, 9, "34"), (999, 3, "234")])
    def test_oldest_go(self, files, nbytes, number, left) -> None:
        """Until bytes and number of files are in bounds."""
        prune(files, nbytes, number)

        assert list(left) == sorted(path.name for path in files.iterdir())

    def test_keep_prunes(self, files, monkeypatch) -> None:
        """Each time something was added."""
        monkeypatch.setattr(cache_files, "FOLDER_FILES", 2)
        writer = cache(files)
        writer.add("denoise", KEY, KIND)
        writer.keep()

        assert held(files).files == 2
        assert cache(files).find("denoise", KEY) == KIND


def test_two_processes_at_once(tmp_path) -> None:
    """Neither fails, the file is whole, no part of one is left."""
    command = [sys.executable, "-c", ADDS, tmp_path]
    children = [
        subprocess.Popen([*command, name], cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT)})
        for name in "ab"
    ]
    assert [child.wait(timeout=60) for child in children] == [0, 0]
    (file,) = tmp_path.iterdir()
    known = cache_files.read_map(file)
    last = kind_cache._digest(("a", 99)), kind_cache._digest(("b", 99))

    assert any(key in known for key in last)
    assert all(kind_cache.unpack(packed) is not None for packed in known.values())
