"""A computer posed whole: its card by the emulator, its driver's library and files, its PyTorch."""

from __future__ import annotations

import functools
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import attrs
import pytest
import torch

from tests.cuda_emulator.card import CARDS, Card
from wanflow import system
from wanflow.session.preparing import card as session_card

_WSL = "Linux version 5.15.153.1-microsoft-standard-WSL2 (root@941d701f84f1)"


@contextmanager
def posing(
    emulate: Callable[[Card], Any], library: Path, root: Path, name: str, **changes: Any
) -> Iterator[Any]:
    """Pose as a named card, with *changes*: its computer's files lie below *root*."""
    card = attrs.evolve(CARDS[name], **changes)
    _files(root, card)
    release = torch.__version__.partition("+")[0]
    build = "cpu" if card.cuda is None else f"cu{card.cuda.replace('.', '')}"
    build = f"rocm{card.hip[:3]}" if card.hip else build
    session_card.own_context.cache_clear()
    with emulate(card) as emulator, pytest.MonkeyPatch.context() as patch:
        look = functools.partial(system.look, root, str(library))
        patch.setattr(system, "look", look)
        patch.setattr(torch, "__version__", f"{release}+{build}")
        patch.setattr(torch.cuda, "is_available", _warning_once(torch.cuda.is_available))
        yield emulator
    session_card.own_context.cache_clear()


def _files(root: Path, card: Card) -> None:
    (root / "proc").mkdir(parents=True, exist_ok=True)
    (root / "proc/version").write_text(_WSL if card.wsl else "Linux version 6.1.0 (Debian)")
    (root / "dev").mkdir(exist_ok=True)
    node = "dxg" if card.wsl else "nvidia0" if card.driver else "kfd"
    (root / "dev" / node).touch()


def _warning_once(ask: Callable[[], bool]) -> Callable[[], bool]:
    """Warn as PyTorch does, which looks for cards once in a process."""
    answers: list[bool] = []

    def is_available() -> bool:
        with warnings.catch_warnings():
            if answers:
                warnings.simplefilter("ignore")
            answers.append(ask())
        return answers[-1]

    return is_available
