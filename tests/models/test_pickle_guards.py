"""Only what `torch.save` writes of tensors is read of a pickle, and nothing that it names is run.

The guards: names outside a short list are refused by their text, before anything could be imported;
opcodes that `torch.save` does not write are refused; the pickle and the directory of its archive
have a largest size, so that what the reader holds is bounded.
"""

import contextlib
import pickle
import pickletools
import subprocess
import sys
import zipfile

import pytest
import torch

from tests.sentinel import PICKLES, Sentinel, text
from wanflow.errors import WeightsError
from wanflow.models.weights.archive import PICKLE_LIMIT_BYTES, open_archive
from wanflow.models.weights.layouts import open_part
from wanflow.models.weights.pickle_reader import read_pickle
from wanflow.models.weights.torch_file import index_torch_file

OPCODES = {opcode.name: opcode.code.encode("latin-1") for opcode in pickletools.opcodes}


@pytest.fixture(autouse=True)
def _count(monkeypatch):
    """Count from none in each test."""
    monkeypatch.setattr(Sentinel, "unpickled", 0)


def refused(path):
    """The message that a file is refused with."""
    with pytest.raises(WeightsError) as caught:
        index_torch_file(path)
    assert caught.value.exit_code == 4
    assert "\n" not in caught.value.message
    return caught.value


class TestNames:
    """What a pickle names is never looked up."""

    @pytest.mark.parametrize("place", PICKLES)
    def test_is_counted(self, place):
        """Python's own pickle makes the sentinel: that it is not made below says something."""
        pickle.loads(PICKLES[place])  # noqa: S301 - the pickle is ours
        assert Sentinel.unpickled == 1

    @pytest.mark.parametrize("place", PICKLES)
    @pytest.mark.parametrize("name", ["weights.pth", "weights.bin", "weights.pt", "weights.ckpt"])
    def test_in_an_archive(self, archive_file, place, name):
        """In an archive of torch.save, under any name."""
        path = archive_file(PICKLES[place], {"0": bytes(4)}, name=name)
        assert refused(path).code == "pickle-refused"
        assert not Sentinel.unpickled

    @pytest.mark.parametrize("place", PICKLES)
    @pytest.mark.parametrize("name", ["weights.pth", "model.safetensors"])
    def test_bare(self, tmp_path, place, name):
        """As a file by itself, which torch.load would have taken for one of its old ones."""
        (tmp_path / name).write_bytes(PICKLES[place])
        with pytest.raises(WeightsError):
            open_part("vae", tmp_path / name)
        assert not Sentinel.unpickled

    def test_the_refused_name_is_told(self, archive_file):
        """The message names what the pickle asks for."""
        error = refused(archive_file(PICKLES["alone"]))
        assert error.code == "pickle-refused"
        assert "its pickle asks for 'tests.sentinel.count', and no pickle is executed" in (
            error.message
        )

    def test_a_name_alone_imports_nothing(self, archive_file, tmp_path, monkeypatch):
        """Asking for a name already imports the module that has it; here it does not."""
        (tmp_path / "sentinel_module.py").write_text("name = 1\n")
        monkeypatch.syspath_prepend(str(tmp_path))
        refused(archive_file(b"\x80\x02csentinel_module\nname\n."))
        assert "sentinel_module" not in sys.modules

    @pytest.mark.parametrize(
        "name",
        [
            "tests.sentinel Sentinel", "torch Size", "torch QInt8Storage",
            "torch._utils _rebuild_tensor", "torch._utils _rebuild_qtensor",
            "collections Counter", "builtins dict",
        ],
    )  # fmt: skip
    def test_names_beside_the_list(self, archive_file, name):
        """Of torch and of the collections, too, nothing but the few names is taken."""
        asked = b"\x80\x02c" + name.replace(" ", "\n", 1).encode() + b"\n."
        assert refused(archive_file(asked)).code == "pickle-refused"

    @pytest.mark.parametrize(
        ("opcode", "arg"),
        [
            ("INST", b"tests.sentinel\nSentinel\n"), ("OBJ", b""), ("NEWOBJ", b""),
            ("NEWOBJ_EX", b""), ("STACK_GLOBAL", b""), ("EXT1", b"\x01"), ("EXT2", b"\x01\0"),
            ("EXT4", b"\x01\0\0\0"), ("PERSID", b"storage\n"), ("UNICODE", b"a\n"),
            ("BINBYTES", b"\x01\0\0\0a"), ("FRAME", bytes(8)), ("DUP", b""), ("POP", b""),
        ],
    )  # fmt: skip
    def test_opcodes_beside_the_list(self, archive_file, opcode, arg):
        """An opcode that torch.save does not write is refused by its name."""
        path = archive_file(b"\x80\x02" + OPCODES[opcode] + arg + b".")
        assert f"its pickle asks for the opcode {opcode}," in refused(path).message

    def test_a_persistent_id_beside_storages(self, archive_file):
        """Only a storage may lie outside the pickle."""
        path = archive_file(b"\x80\x02(" + text("sentinel") + b"tQ.")
        assert "a persistent id that is no storage" in refused(path).message

    @pytest.mark.parametrize(
        ("pickled", "words"),
        [
            (b"N)R.", "a call of what is no name"),
            (b"ccollections\nOrderedDict\nN\x85R.", "'collections.OrderedDict' in an unknown way"),
            (b"ctorch._utils\n_rebuild_tensor_v2\n)R.", "_rebuild_tensor_v2' in an unknown way"),
            (b"ctorch._utils\n_rebuild_parameter\n)R.", "_rebuild_parameter' in an unknown way"),
            (b"ctorch\nFloatStorage\n)R.", "'torch.FloatStorage' in an unknown way"),
            (b"NNb.", "the opcode BUILD"),
        ],
    )  # fmt: skip
    def test_listed_names_in_another_use(self, archive_file, pickled, words):
        """A name of the list is called with what torch.save gives it, or not at all."""
        error = refused(archive_file(b"\x80\x02" + pickled))
        assert error.code == "pickle-refused"
        assert words in error.message

    def test_old_format(self, tmp_path):
        """A file of torch.save before 1.6 is refused with what would write it anew."""
        path = tmp_path / "old.pth"
        torch.save({"weight": torch.ones(2)}, path, _use_new_zipfile_serialization=False)
        error = refused(path)
        assert "is a bare pickle" in error.message
        assert "weights_only=True" in error.hint

    def test_the_hint_is_true(self, tmp_path):
        """What the hint says makes a file that is read."""
        torch.save(
            {"weight": torch.ones(2)}, tmp_path / "old", _use_new_zipfile_serialization=False
        )
        torch.save(torch.load(tmp_path / "old", weights_only=True), tmp_path / "new.pth")
        assert list(index_torch_file(tmp_path / "new.pth")) == ["weight"]

    def test_whole_modules(self, tmp_path):
        """A module saved whole, with its class, is refused by that class's name."""
        torch.save(torch.nn.Linear(2, 2), tmp_path / "weights.pth")
        assert "torch.nn.modules.linear.Linear" in refused(tmp_path / "weights.pth").message


class TestMalformed:
    """A pickle that no pickler writes."""

    @pytest.mark.parametrize(
        "pickled",
        [
            b"", b".", b"\x80\x02", b"\x80\x02}", b"N.", b"\x80\x02N.", b"\x80\x02(.",
            b"\x80\x02t.", b"\x80\x02\x86.", b"\x80\x02h\x05.", b"\x80\x02}NNs.",
            b"\x80\x02X\x03\x00\x00\x00a.", b"\x80\x02X\x02\x00\x00\x00\xff\xfe.", b"\x80\x02}(N.u",
            b"\x80\x02R.", b"\x80\x02Q.", b"\x80\x02b.", b"\x80\x02}}b", b"\xff\xff",
            b"\x80\x02}(" + text("a") + b"u.", b"\x80\x02}." + b"more", b"\x80\x02NN\x86R.",
            b"\x80\x02}}.", b"\x80\x02Nq\x00s.", b"\x80\x02]Na.",
            b"\x80\x02}" + (text("a") + b"}s") * 2 + b".",
        ],
    )  # fmt: skip
    def test_is_refused(self, archive_file, pickled):
        """One line, exit 4."""
        refused(archive_file(pickled))

    def test_any_order(self, tmp_path):
        """Opcodes in any order end in a refusal or in a dictionary, never in another exception."""
        generator = torch.Generator().manual_seed(5)
        opcodes = [bytes([code]) for code in b"}]()NtsueaQRb.\x85\x86\x87\x88\x89"]
        opcodes += [b"K\x01", b"q\x01", b"h\x01", text("storage"), text("cpu")]
        for _ in range(3000):
            picked = torch.randint(len(opcodes), (30,), generator=generator).tolist()
            with contextlib.suppress(WeightsError):
                assert read_pickle(b"".join(opcodes[n] for n in picked), tmp_path).tensors == {}


LIMITED = """
import resource, sys, time
from pathlib import Path
from wanflow.errors import WeightsError
from wanflow.models.weights.torch_file import index_torch_file
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
began = time.monotonic()
try:
    index_torch_file(Path(sys.argv[1]))
except WeightsError as error:
    print(error.message)
grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
print(grown * 1024)
"""


def measured(path):
    """The refusal of a file, and by how many bytes the process grew that read it."""
    command = [sys.executable, "-c", LIMITED, str(path)]
    run = subprocess.run(command, capture_output=True, text=True, check=True)
    message, grown = run.stdout.splitlines()
    return message, int(grown)


class TestLimits:
    """What a file can make the process hold is bounded: each file here is just at a limit."""

    @pytest.mark.parametrize("opcode", [b"}", b"]", b"\x89"], ids=repr)
    def test_as_many_opcodes_as_are_read(self, archive_file, opcode):
        """A list that fills the largest pickle that is read, of what takes the most memory."""
        start, end = b"\x80\x02](", b"e."
        count = PICKLE_LIMIT_BYTES - len(start) - len(end)
        message, grown = measured(archive_file(start + opcode * count + end))
        assert "holds a list, not a dictionary of tensors" in message
        assert grown < 256 << 20

    def test_large_pickle(self, archive_file):
        """A pickle of one byte more is not read at all."""
        path = archive_file(b"\x80\x02}." + bytes(PICKLE_LIMIT_BYTES - 3))
        message, grown = measured(path)
        assert f"its pickle has {PICKLE_LIMIT_BYTES + 1} bytes" in message
        assert grown < 16 << 20

    def test_packed(self, tmp_path):
        """A packed pickle is not unpacked."""
        path = tmp_path / "weights.pth"
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr("weights/data.pkl", PICKLES["alone"])
        assert "'weights/data.pkl' is packed" in refused(path).message

    def test_large_directory(self, archive_file, monkeypatch):
        """A directory at the limit is read; one byte more is not, and is called damaged."""
        path = archive_file(b"\x80\x02}.")
        nbytes = zipfile.sizeCentralDir + len("weights/data.pkl")  # one record
        monkeypatch.setattr("wanflow.models.weights.archive._DIRECTORY_LIMIT_BYTES", nbytes)
        assert open_archive(path).storages == {}
        monkeypatch.setattr("wanflow.models.weights.archive._DIRECTORY_LIMIT_BYTES", nbytes - 1)
        with pytest.raises(WeightsError, match="its directory is damaged"):
            open_archive(path)
