"""What `doctor` says of the cards of this computer: never an error, whatever a driver answers."""

from __future__ import annotations

import attrs
import torch

from wanflow import cards, system
from wanflow.errors import InputError
from wanflow.scheduler.run.devices import refused_pinning
from wanflow.session.preparing.card import (
    expandable_segments,
    find_card,
    free_on,
    refused_expandable,
    why_none,
)
from wanflow.units import GIB, MIB, format_bytes

_PINNED = (64 * MIB, GIB)


@attrs.frozen
class CardReport:
    """A card, what of it is free, and what its driver allows: `refused: ` and why, or `works`.

    `held_bytes` is what others have of it; what could not be asked for is empty.
    """

    name: str
    about: str
    capability: str = ""
    total_bytes: int = 0
    free_bytes: int = 0
    held_bytes: int = 0
    expandable_segments: str = ""
    pinned: dict[str, str] = attrs.field(factory=dict)


@attrs.frozen
class GraphicsReport:
    """PyTorch's build, the driver, the cards; what stops a run on them, what it does without."""

    build: cards.TorchBuild
    system: system.System
    cards: tuple[CardReport, ...]
    problems: tuple[str, ...]
    notes: tuple[str, ...]


def report() -> GraphicsReport:
    """Look at every card; each is opened and tried."""
    build, seen = cards.torch_build(), system.look()
    count, words = cards.cards_there()
    problem = None if count else why_none(words)
    problems = [f"no card is used: {problem.message}; {problem.hint}"] if problem else []
    notes, reports = _of_build(build, count), []
    for index in range(count):
        try:
            reports.append(_report(index))
            problems += _of_precision(index)
            notes += _of_memory(index)
        except (InputError, RuntimeError) as error:
            reports.append(CardReport(f"cuda:{index}", _name(index)))
            problems.append(_said(index, error))
    notes += [note for card in reports for note in _of_trials(card, seen)]
    return GraphicsReport(build, seen, tuple(reports), tuple(problems), tuple(notes))


def _report(index: int) -> CardReport:
    device, card = find_card(index), cards.torch_card(index)
    limit = free_on(device)
    with torch.cuda.device(device):
        expandable = _outcome(refused_expandable(device)) if expandable_segments() else "set off"
        pinned = {
            format_bytes(nbytes): _outcome(refused_pinning(device, nbytes)) for nbytes in _PINNED
        }
    capability = ".".join(map(str, card.capability))
    reserved = torch.cuda.memory_reserved(device)
    return CardReport(
        str(device), card.name, capability, limit.total_bytes, limit.free_bytes,
        max(limit.total_bytes - limit.free_bytes - reserved, 0), expandable, pinned,
    )  # fmt: skip


def _outcome(refused: str) -> str:
    return f"refused: {refused}" if refused else "works"


def _name(index: int) -> str:
    try:
        return cards.torch_card(index).name
    except RuntimeError:
        return "does not answer"


def _said(index: int, error: Exception) -> str:
    if isinstance(error, InputError):
        return f"cuda:{index}: {error.message}; {error.hint}"
    return f"cuda:{index}: {str(error).partition(chr(10))[0]}"


def _of_precision(index: int) -> list[str]:
    """Say of an old card what most graphs need to run on it."""
    problem = cards.no_bf16(cards.torch_card(index), {"most graphs' models": "bf16"})
    if problem is None:
        return []
    cure = "--precision fp16, for the models that wanflow plan GRAPH names"
    return [f"cuda:{index}: {problem.message}; {cure}"]


def _of_memory(index: int) -> list[str]:
    card = cards.torch_card(index)
    note = f"cuda:{index}: {card.name} has no memory of its own; --vram and --ram are of the same"
    return [note] if card.shares_ram else []


def _of_build(build: cards.TorchBuild, count: int) -> list[str]:
    note = (
        f"cuDNN {build.cudnn}: before 9.15 PyTorch convolves videos in bf16 and fp16 without it, "
        "in far more memory; leave the VAE in fp32"
    )
    return [note] if count and build.convolves_slowly else []


def _of_trials(card: CardReport, seen: system.System) -> list[str]:
    """Say what goes on without what a driver refuses, and what may mend it."""
    notes = []
    update = "; in WSL: wsl --update, and NVIDIA's newest driver in Windows" if seen.wsl else ""
    if card.expandable_segments.startswith("refused"):
        notes.append(
            f"{card.name}: plans take plain segments, which lose more memory to fragments{update}"
        )
    if any(outcome.startswith("refused") for outcome in card.pinned.values()):
        memory = "; in WSL: more memory in .wslconfig" if seen.wsl else ""
        notes.append(f"{card.name}: plans take plain memory, from which copies are slower{memory}")
    return notes
