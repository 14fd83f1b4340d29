"""A saved state that can't be read now is not called damaged: nobody should run it anew."""

from __future__ import annotations

import resource
from pathlib import Path

import pytest
import torch

from tests.limited import limited, no_more_files
from wanflow.errors import InputError, StageFailed
from wanflow.session.running.saved_state import Boundary, StateStore

_ROOM_BYTES = 16 << 20  # for what reading takes beside the state, which is twice as large


@pytest.fixture
def store(tmp_path: Path) -> StateStore:
    """A state of 32 MiB."""
    saved = StateStore(tmp_path / "state")
    value = torch.zeros(2 * _ROOM_BYTES, dtype=torch.uint8)
    saved.save(Boundary("denoise", 1), {"latents": (3, value)})
    return StateStore(saved.folder)


def test_no_memory(store: StateStore) -> None:
    """Where the file can't be mapped; with memory it is read."""
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    with (
        limited(resource.RLIMIT_AS, pages * resource.getpagesize() + _ROOM_BYTES),
        pytest.raises(StageFailed, match=r"can't be read: .*allocate") as told,
    ):
        store.load()
    assert "\n" not in told.value.message
    saved = store.load()
    assert saved is not None
    assert saved.boundary == Boundary("denoise", 1)


def test_no_handles(store: StateStore) -> None:
    """Where no more files can be opened."""
    with (
        no_more_files(),
        pytest.raises(StageFailed, match=r"can't be read: Too many open files: index\.json$"),
    ):
        store.load()


def test_index_without_end(store: StateStore) -> None:
    """Nested as deep as no reader goes: damage."""
    (store.folder / "index.json").write_text("[" * 100_000)
    with pytest.raises(InputError, match="damaged state"):
        store.load()
