"""What the tests of the command line share: the command as a process, a session to play with."""

import os
import subprocess
import sys
import types
from pathlib import Path

import attrs
import pytest

import wanflow
from wanflow.cli import main
from wanflow.trace import TraceWriter
from wanflow.trace.events import Kind, Move, StageSpan, Step, Verb

ROOT = Path(__file__).parents[2]
MIB = 2**20


@attrs.frozen
class Request:
    """The request of `wanflow.session`, field by field."""

    graph: str
    inputs: dict = attrs.field(factory=dict)
    vram: str = "auto"
    ram: str | None = None
    device: str = "auto"
    weights: tuple = ()
    precision: tuple = ()
    settings: tuple = ()
    pins: tuple = ()
    exact: bool = False
    machine: str | None = None
    prompt_cache: bool = True
    probe: bool = True
    own_configs: bool = False
    metadata: bool = True
    allow_nonfinite: bool = False
    any_shape: bool = False
    loras: tuple = ()
    lora_partial: bool = False
    devices: str = ""
    preview_every: int = 0
    until: str = ""


@pytest.fixture
def wanflow_process(tmp_path):
    """Run the command as a process of its own."""

    def run(*arguments, **options):
        environment = {**os.environ, "XDG_CACHE_HOME": str(tmp_path / "cache")}
        environment.update(options.pop("env", {}))
        return subprocess.run(
            [sys.executable, ROOT / "cli.py", *map(str, arguments)],
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
            env=environment,
            **options,
        )

    return run


@pytest.fixture
def wanflow_here(capsys):
    """Run the command in this process: exit code, stdout, stderr."""

    def run(*arguments):
        code = main.run([str(a) for a in arguments])
        said = capsys.readouterr()
        return code, said.out, said.err

    return run


@pytest.fixture(scope="session")
def twins(tmp_path_factory):
    """Give the folder of every task's tiny twin, in either layout."""
    from tests.twins import TwinFolders

    return TwinFolders(tmp_path_factory.mktemp("twins"))


@pytest.fixture
def session(monkeypatch):
    """Stand in for `wanflow.session`; a test sets `plan`, `sweep` and `run` on it."""
    stub = types.ModuleType("wanflow.session")
    stub.Request = Request
    stub.is_batch = lambda _folder: False
    monkeypatch.setitem(sys.modules, "wanflow.session", stub)
    monkeypatch.setattr(wanflow, "session", stub, raising=False)
    return stub


@pytest.fixture
def report():
    """Make a feasible report of three stages."""
    encode = {
        "stage": "encode", "op": "encode_text", "model": "text", "steps": 1,
        "peak_bytes": 3 * MIB, "seconds": 0.5, "weights_bytes": 8 * MIB,
        "resident_weights_bytes": 0, "streamed_bytes": 8 * MIB, "workspace_bytes": MIB,
        "knobs": {}, "why": "24 layers, each used once: 2 in flight",
    }  # fmt: skip
    denoise = {
        "stage": "denoise", "op": "denoise", "model": "dit", "steps": 50,
        "peak_bytes": 11 * MIB, "seconds": 214.0, "weights_bytes": 10 * MIB,
        "resident_weights_bytes": 5 * MIB, "streamed_bytes": 250 * MIB, "workspace_bytes": 4 * MIB,
        "knobs": {"rows": 1024, "cfg": "serial"},
        "why": "half of the weights stay; the upload of the rest hides behind compute",
    }  # fmt: skip
    write = {
        "stage": "write", "op": "write_video", "model": None, "steps": 9, "peak_bytes": 0,
        "seconds": 0.1, "weights_bytes": 0, "resident_weights_bytes": 0, "streamed_bytes": 0,
        "workspace_bytes": 0, "knobs": {"where": "cpu"}, "why": "",
    }  # fmt: skip
    return {
        "feasible": True, "predicted_peak_bytes": 11 * MIB, "predicted_seconds": 214.6,
        "minimum_bytes": 3 * MIB, "resident_bytes": 20 * MIB, "budget_bytes": 12 * MIB,
        "device": "cpu", "machine": "this machine", "graph": "t2v-tiny", "exact": False,
        "plan_id": "7f3a91c2deadbeef", "estimates": True, "stages": [encode, denoise, write],
    }  # fmt: skip


@pytest.fixture
def trace(tmp_path):
    """Write a small trace of a whole run."""
    path = tmp_path / "trace.msgpack"
    header = {"graph": "t2v-tiny", "device": "cpu", "budget_bytes": 12 * MIB, "stages": ["denoise"]}
    writer = TraceWriter(path, header)
    for step in range(3):
        began, ended = step * 10**9, (step + 1) * 10**9
        writer.emit(
            Move(Verb.PLACE, Kind.WEIGHTS, f"dit.{step}", "denoise", step, "", "cpu",
                 MIB, (step + 1) * MIB, began, began + 10, 0, "next")
        )  # fmt: skip
        writer.emit(Step("denoise", step, 3, began, ended, (step + 1) * MIB, 0))
    writer.emit(StageSpan("denoise", "denoise", 0, 3 * 10**9, 3 * MIB, ()))
    writer.close("ok", {})
    return path
