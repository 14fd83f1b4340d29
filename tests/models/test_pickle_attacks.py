"""No pickle is executed, whatever it does and wherever it lies. Each payload here is a live one."""

import contextlib
import copyreg
import io
import pickle
import socket
import subprocess
import sys
import zipfile

import pytest
import torch

from tests.payloads import EXTENSION, FORMS, payloads, text
from wanflow.errors import WeightsError
from wanflow.models.weights.archive import PICKLE_LIMIT_BYTES
from wanflow.models.weights.layouts import open_part
from wanflow.models.weights.pickle_reader import read_pickle
from wanflow.models.weights.torch_file import index_torch_file


@pytest.fixture
def sentinel(tmp_path, monkeypatch):
    """The file that a payload would leave; no network, and one extension code that is known."""
    monkeypatch.setattr(socket, "socket", None)
    copyreg.add_extension("os", "system", EXTENSION)
    yield tmp_path / "ran"
    copyreg.remove_extension("os", "system", EXTENSION)


def refused(path):
    """The message that a file is refused with."""
    with pytest.raises(WeightsError) as caught:
        index_torch_file(path)
    assert caught.value.exit_code == 4
    assert "\n" not in caught.value.message
    return caught.value


class TestPayloads:
    """Refused, and not run."""

    @pytest.mark.parametrize("form", FORMS)
    def test_is_live(self, sentinel, form):
        """Python's own pickle runs it: what is refused below is the real thing."""
        payload = payloads(f"touch {sentinel}")[form]
        unpickler = pickle.Unpickler(io.BytesIO(payload))  # noqa: S301 - the payload is ours
        unpickler.persistent_load = lambda found: found
        with contextlib.suppress(Exception):
            unpickler.load()
        assert sentinel.exists()

    @pytest.mark.parametrize("form", FORMS)
    @pytest.mark.parametrize("name", ["weights.pth", "weights.bin", "weights.pt", "weights.ckpt"])
    def test_in_an_archive(self, archive_file, sentinel, form, name):
        """In an archive of torch.save, under any name."""
        path = archive_file(payloads(f"touch {sentinel}")[form], {"0": bytes(4)}, name=name)
        assert refused(path).code in ("pickle-refused", "bad-weights")
        assert not sentinel.exists()

    @pytest.mark.parametrize("form", FORMS)
    @pytest.mark.parametrize("name", ["weights.pth", "model.safetensors"])
    def test_bare(self, sentinel, tmp_path, form, name):
        """As a file by itself, which torch.load would have taken for one of its old ones."""
        (tmp_path / name).write_bytes(payloads(f"touch {sentinel}")[form])
        with pytest.raises(WeightsError):
            open_part("vae", tmp_path / name)
        assert not sentinel.exists()

    def test_the_refused_name_is_told(self, archive_file, tmp_path):
        """The message names what the pickle asks for."""
        error = refused(archive_file(payloads("true")["REDUCE"]))
        assert error.code == "pickle-refused"
        assert "its pickle asks for 'os.system', and no pickle is executed" in error.message

    def test_a_name_alone_imports_nothing(self, archive_file, tmp_path, monkeypatch):
        """Asking for a name already runs the module that has it; here it does not."""
        (tmp_path / "hostile_module.py").write_text("raise SystemExit('ran')\n")
        monkeypatch.syspath_prepend(str(tmp_path))
        refused(archive_file(b"\x80\x02chostile_module\nname\n."))
        assert "hostile_module" not in sys.modules

    @pytest.mark.parametrize(
        "name",
        [
            "torch load", "torch.storage _load_from_bytes", "torch._utils _rebuild_tensor_v2 ",
            "torch._utils _rebuild_wrapper_subclass", "builtins getattr", "torch UntypedStorage",
            "collections OrderedDict.update", "torch.jit load", "functools partial",
        ],
    )  # fmt: skip
    def test_names_of_torch(self, archive_file, name):
        """Of torch and of the collections, too, nothing but the few names is taken."""
        asked = b"\x80\x02c" + name.replace(" ", "\n", 1).encode() + b"\n)R."
        assert refused(archive_file(asked)).code == "pickle-refused"

    def test_old_format(self, sentinel, tmp_path):
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
            b"\x80\x02X\xff\xff\xff\x7fa.", b"\x80\x02X\x02\x00\x00\x00\xff\xfe.", b"\x80\x02}(N.u",
            b"\x80\x02R.", b"\x80\x02Q.", b"\x80\x02b.", b"\x80\x02}}b", b"\xff\xff",
            b"\x80\x02}(" + text("a") + b"u.", b"\x80\x02}." + b"more", b"\x80\x02NN\x86R.",
            b"\x80\x02}}.", b"\x80\x02Nq\x00s.", b"\x80\x02]Na.",
            b"\x80\x02}" + (text("a") + b"}s") * 2 + b".",
        ],
    )  # fmt: skip
    def test_is_refused(self, archive_file, pickled):
        """One line, exit 4."""
        refused(archive_file(pickled))

    def test_any_bytes(self, tmp_path):
        """Random opcodes end in a refusal or in a dictionary, never in another exception."""
        generator = torch.Generator().manual_seed(5)
        known = b"}]()NqhKMJtsueaQRbX.\x80\x02\x85\x86\x87\x88\x89r" + text("storage") + text("cpu")
        opcodes = torch.tensor(list(known), dtype=torch.uint8)
        for _ in range(3000):
            picked = torch.randint(len(opcodes), (40,), generator=generator)
            with contextlib.suppress(WeightsError):
                assert read_pickle(bytes(opcodes[picked].tolist()), tmp_path).tensors == {}


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
    made = subprocess.run(command, capture_output=True, text=True, check=True)
    message, grown = made.stdout.splitlines()
    return message, int(grown)


class TestBombs:
    """What a hostile file can make the process hold is bounded."""

    @pytest.mark.parametrize("opcode", [b"}", b"(", b"]", b"\x89", b"}\x85", b"(t"], ids=repr)
    def test_as_many_opcodes_as_are_read(self, archive_file, opcode):
        """The largest pickle that is read, all of what takes the most memory."""
        count = PICKLE_LIMIT_BYTES // len(opcode) - 2
        message, grown = measured(archive_file(b"\x80\x02" + opcode * count))
        assert "pickle" in message
        assert grown < 256 << 20

    def test_large_pickle(self, archive_file):
        """A larger pickle is not read at all."""
        path = archive_file(b"\x80\x02" + b"}" * (64 << 20))
        message, grown = measured(path)
        assert f"its pickle has {(64 << 20) + 2} bytes" in message
        assert grown < 16 << 20

    def test_packed(self, tmp_path):
        """A pickle that unpacks to a gigabyte is not unpacked."""
        path = tmp_path / "weights.pth"
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr("weights/data.pkl", bytes(1 << 30))
        message, grown = measured(path)
        assert "'weights/data.pkl' is packed" in message
        assert grown < 16 << 20

    def test_a_hundred_thousand_entries(self, tmp_path):
        """A directory of any size is not read."""
        path = tmp_path / "weights.pth"
        with zipfile.ZipFile(path, "w") as archive:
            for number in range(100_000):
                archive.writestr(f"weights/data/{number}", b"")
        message, grown = measured(path)
        assert "its directory is damaged" in message
        assert grown < 64 << 20
