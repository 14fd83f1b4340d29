"""What is written past Python to stderr: after the block, or never."""

import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from wanflow.native_lines import held_back


def told_by(words: str) -> bytes:
    """Run Python in a new process; what it wrote to stderr."""
    words = f"import os, sys; from wanflow.native_lines import held_back\n{words}"
    return subprocess.run([sys.executable, "-c", words], capture_output=True, check=True).stderr


def test_comes_after_a_block_that_ends_well() -> None:
    """Nobody's warning is lost, and the order of what Python wrote stays."""
    told = told_by(
        "sys.stderr.write('first ')\n"
        "real = os.dup(2)\n"
        "with held_back():\n"
        " os.write(2, b'from C ')\n sys.stderr.write('from Python ')\n os.write(real, b'before ')\n"
        "os.write(2, b'last')"
    )
    assert told == b"first before from C from Python last"


@pytest.mark.parametrize("kind", [ValueError, KeyboardInterrupt])
def test_is_gone_where_the_block_fails(capfd, kind) -> None:
    """Whoever catches the error tells it; stderr is itself again."""

    def block() -> None:
        with held_back():
            os.write(2, b"from C\n")
            raise kind

    with pytest.raises(kind):
        block()
    os.write(2, b"later\n")
    assert capfd.readouterr().err == "later\n"


def test_no_handle_stays_open() -> None:
    """A queue reads a picture a row."""
    handles = Path("/proc/self/fd")
    before = len([*handles.iterdir()])
    for _ in range(3):
        with held_back():
            pass
    assert len([*handles.iterdir()]) == before


def test_two_threads(capfd) -> None:
    """Neither puts back what the other had put there."""

    def write() -> None:
        for _ in range(200):
            with held_back():
                os.write(2, b"x")

    threads = [threading.Thread(target=write) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    os.write(2, b"!")
    assert capfd.readouterr().err == "x" * 800 + "!"


def test_without_a_stderr() -> None:
    """As a service may be started."""
    words = "import os; os.close(2); from wanflow.native_lines import held_back\n"
    words += "with held_back(): print('read')"
    done = subprocess.run([sys.executable, "-c", words], capture_output=True, check=True)
    assert done.stdout == b"read\n"
