"""`wanflow machine`: measured, shown and listed, as text and as JSON."""

import json
import subprocess
import sys

import attrs
import pytest

from wanflow.cli.render_machine import format_figure
from wanflow.scheduler.machine import store
from wanflow.scheduler.machine.datasheets import NAMES, cpu_machine, named_machine
from wanflow.units import GIB


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    """Give the user a configuration of their own."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    return tmp_path


@pytest.fixture
def measured():
    """Make a CPU that was measured."""
    machine = cpu_machine(16 * GIB)
    machine = machine.with_figures({n: machine.figure(n) for n in machine.matters}, "measured")
    spreads = {"gemm.float32": 0.031}
    return attrs.evolve(machine, spreads=spreads, about="probed today with torch 2, 2 threads")


@pytest.fixture
def asked(monkeypatch, measured):
    """Stand in for the measuring, and remember what was asked for."""
    from wanflow.scheduler.run import probe
    from wanflow.session.running import calibrate

    devices = []

    def stand_in(device, base):
        devices.append(str(device))
        return attrs.evolve(measured, capacity_bytes=base.capacity_bytes)

    monkeypatch.setattr(probe, "probe", stand_in)
    monkeypatch.setattr(calibrate, "calibrate", lambda machine: machine)
    return devices


class TestProbe:
    def test_keeps_what_it_finds(self, asked, wanflow_here, home):
        """The figures on stdout, the file at the end."""
        code, out, err = wanflow_here("machine", "probe", "--device", "cpu")
        assert (code, asked) == (0, ["cpu"])
        assert err == "measuring cpu; it takes up to a minute\n"
        assert out.splitlines()[-1] == f"file: {home}/wanflow/machines/cpu.json"
        assert not store.find("cpu").estimated

    def test_json(self, asked, wanflow_here, home):
        """One value, nothing else."""
        code, out, err = wanflow_here("machine", "probe", "--device", "cpu", "--json")
        found = json.loads(out)
        assert (code, err) == (0, "")
        assert (found["name"], found["estimated"]) == ("cpu", False)
        assert found["file"] == f"{home}/wanflow/machines/cpu.json"
        assert found["figures"]["gemm.float32"] == {
            "value": 1e11, "source": "measured", "spread": 0.031,
        }  # fmt: skip

    def test_another_name(self, asked, wanflow_here):
        """It does not become the machine of this device."""
        assert wanflow_here("machine", "probe", "--device", "cpu", "--name", "Old Laptop")[0] == 0
        assert store.find("old-laptop").name == "Old Laptop"
        assert store.load("cpu") is None

    @pytest.mark.parametrize(
        ("words", "said"),
        [
            (["--device", "tpu"], "--device 'tpu' is not known"),
            (["--device", "cuda:99"], "--device cuda:99"),
            (["--name", "..."], "'...' is no name for a machine"),
        ],
    )
    def test_what_can_not_be_exits_2(self, words, said, asked, wanflow_here):
        """Before a second is spent."""
        code, out, err = wanflow_here("machine", "probe", *words)
        assert (code, out, asked) == (2, "", [])
        assert err.startswith(f"error: {said}")


class TestShow:
    def test_named(self, wanflow_here):
        """Datasheet figures say so, and what to do about it."""
        code, out, err = wanflow_here("machine", "show", "rtx4090")
        lines = out.splitlines()
        assert (code, err) == (0, "")
        assert lines[0] == "rtx4090: cuda, 24.0 GiB, host RAM 64.0 GiB"
        assert lines[1].split() == ["figure", "value", "known", "spread"]
        assert lines[2].split() == ["gemm,", "bfloat16", "152", "TFLOP/s", "estimate", "-"]
        assert lines[-1] == "next: wanflow machine probe"
        assert max(map(len, lines)) <= 80

    def test_stored(self, measured, wanflow_here):
        """Spread, circumstances and file."""
        path = store.save(measured)
        lines = wanflow_here("machine", "show", "cpu")[1].splitlines()
        assert lines[:2] == ["cpu: cpu, 16.0 GiB", "probed today with torch 2, 2 threads"]
        assert "gemm, float32              100 GFLOP/s  measured      3%" in lines
        assert "small conv, float32 10 GFLOP/s measured -".split() in [x.split() for x in lines]
        assert not any("upload" in line or line.startswith("next") for line in lines)
        assert lines[-1] == f"file: {path}"

    def test_this_one(self, wanflow_here, monkeypatch):
        """Without a name: the machine of the device that would be used."""
        monkeypatch.setattr("torch.cuda.is_available", lambda: False)
        assert wanflow_here("machine", "show")[1].startswith("cpu: cpu, ")

    def test_guessed(self, wanflow_here):
        """Whose rates they are."""
        store.save(attrs.evolve(named_machine("h100"), name="x", guessed_from="h100"))
        out = wanflow_here("machine", "show", "x")[1]
        assert "guessed: what was not measured goes by the h100" in out

    def test_markup_in_a_name_is_text(self, measured, wanflow_here):
        """A file may say anything."""
        path = store.save(attrs.evolve(measured, about="[red]\x1b[31m"))
        assert "[red]\\x1b[31m" in wanflow_here("machine", "show", path.stem)[1]

    @pytest.mark.parametrize("command", [["show", "cpu"], ["list"]])
    def test_a_damaged_file_exits_2(self, command, measured, wanflow_here):
        """The message names file and field."""
        path = store.save(measured)
        path.write_text(path.read_text().replace('"value": 100000000000.0', '"value": -1'))
        code, out, err = wanflow_here("machine", *command)
        assert (code, out) == (2, "")
        assert err.startswith(f"error: {path}: figures.gemm.float32.value is -1, not from 1 to")
        assert "hint: measure again: wanflow machine probe" in err

    def test_unknown_exits_2(self, wanflow_here):
        """With what there is."""
        code, _, err = wanflow_here("machine", "show", "rtx490")
        assert code == 2
        assert "did you mean 'rtx4090'?" in err


class TestList:
    def test_named_ones(self, wanflow_here):
        """A line each."""
        code, out, err = wanflow_here("machine", "list")
        assert (code, err) == (0, "")
        assert [line.split()[0] for line in out.splitlines()] == ["machine", *NAMES]
        assert out.splitlines()[5].split() == "rtx4070s cuda 12.0 GiB 20 estimate".split()

    def test_a_stored_one_takes_the_place_of_a_name(self, measured, wanflow_here, home):
        """What was measured goes first."""
        store.save(measured.with_figures({"conv.float32": 1e9}, "learned"))
        found = json.loads(wanflow_here("machine", "list", "--json")[1])
        names = [m["name"] for m in found["machines"]]
        assert found["folder"] == f"{home}/wanflow/machines"
        assert sorted(names) == sorted(NAMES)
        assert found["machines"][0] == {
            "name": "cpu", "device": "cpu", "capacity_bytes": 16 * GIB, "estimated": False,
            "sources": {"measured": 27, "learned": 1},
            "file": f"{home}/wanflow/machines/cpu.json",
        }  # fmt: skip

    @pytest.mark.parametrize("words", ["list", "show h100"])
    def test_loads_no_torch(self, words):
        """It answers at once."""
        block = "import sys; sys.modules['torch'] = None; from wanflow.cli.main import run; "
        command = f"{block} sys.exit(run(['machine', *{words.split()}]))"
        done = subprocess.run(
            [sys.executable, "-c", command], capture_output=True, text=True, timeout=60, check=False
        )
        assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize(
    ("name", "value", "text"),
    [
        ("gemm.float32", 1.01e11, "101 GFLOP/s"),
        ("gemm.bfloat16", 9.894e14, "989 TFLOP/s"),
        ("disk_rate", 3.5e9, "3.5 GB/s"),
        ("disk_rate", 12.0, "12 B/s"),
        ("kernel_seconds", 1.5e-5, "15 us"),
        ("save_seconds", 1.5e-3, "1.5 ms"),
        ("small.gemm.float32", 1.01e11, "101 GFLOP/s"),
        ("small.memory_rate", 9e9, "9 GB/s"),
        ("context_bytes", 2**29, "512 MiB"),
    ],
)
def test_figures_have_units(name, value, text):
    """Three digits are enough."""
    assert text == format_figure(name, value)
