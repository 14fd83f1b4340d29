"""What the driver's tool says of a process; a tool of the test's stands for it."""

import os
import stat
import types

import pytest
import torch

from wanflow.scheduler.run.process_memory import process_bytes

CARD = torch.device("cuda:0")
UUID = "11111111-2222-3333-4444-555555555555"


@pytest.fixture
def tool(tmp_path, monkeypatch):
    """Put a tool first on the path that checks what it is asked and says a text."""

    def make(text: str, code: int = 0) -> None:
        path = tmp_path / "nvidia-smi"
        path.write_text(
            f'#!/bin/sh\n[ "$1" = "--id=GPU-{UUID}" ] || exit 9\n'
            f"cat <<'E'\n{text}\nE\nexit {code}\n"
        )
        path.chmod(path.stat().st_mode | stat.S_IXUSR)
        monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")

    about = types.SimpleNamespace(uuid=UUID)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda _device: about)
    return make


def test_our_own_line(tool) -> None:
    """By the number of this process, in MiB."""
    tool(f"1, 77\n{os.getpid()}, 812\n99999999, 5")
    assert process_bytes(CARD) == 812 << 20


@pytest.mark.parametrize(
    "text", ["", "1, 77", "{pid}, [N/A]", "{pid}", "No running processes found"]
)
def test_it_does_not_tell(tool, text) -> None:
    """A container, Windows, a part of a card."""
    tool(text.format(pid=os.getpid()))
    assert process_bytes(CARD) is None


def test_it_fails(tool) -> None:
    """The driver does not answer."""
    tool(f"{os.getpid()}, 812", code=9)
    assert process_bytes(CARD) is None


def test_there_is_none(tool, monkeypatch, tmp_path) -> None:
    """Nothing of the driver's is here."""
    monkeypatch.setenv("PATH", str(tmp_path))
    assert process_bytes(CARD) is None
