"""Runs on the emulated card: requests as small as they can be, their frames, what they leave."""

from __future__ import annotations

from pathlib import Path

import attrs
import torch

from tests.cuda_emulator.device import Emulator
from tests.jobs import Watched, run_watched
from wanflow.session import Request, plan
from wanflow.session.preparing.place import find_place
from wanflow.session.preparing.prepare import prepare

INPUTS: dict[str, str | int | float] = {
    "prompt": "a red circle grows", "frames": 5, "size": "32*32", "steps": 2,
}  # fmt: skip
# Everything moves: weights come from disk or host at each use, what waits is on the host.
MOVING = ("decode.strips=strips.1", "decode.spill=all", "denoise.spill=all",
          "denoise.weights=stream", "encode.weights=stream")  # fmt: skip


def on_card(graph: str = "t2v-tiny", picture: Path | None = None, **changes: object) -> Request:
    """Ask for a run on the card."""
    inputs = INPUTS if picture is None else {**INPUTS, "image": str(picture)}
    request = Request(graph, inputs, device="cuda", vram="auto", prompt_cache=False)
    return attrs.evolve(request, **changes)  # type: ignore[arg-type]


def at(request: Request, nbytes: int) -> Request:
    """Ask for the same within so many bytes."""
    return attrs.evolve(request, vram=f"{nbytes}B")


def least(request: Request) -> Request:
    """Ask for the same at the smallest budget."""
    nbytes = plan(request).report["minimum_bytes"]
    assert isinstance(nbytes, int)
    return at(request, nbytes)


def frames_on_cpu(request: Request, out: Path) -> torch.Tensor:
    """Make the frames on the CPU, where nothing is spilled."""
    pins = tuple(pin for pin in request.pins if ".spill=" not in pin)
    return run_watched(attrs.evolve(request, device="cpu", vram="1GiB", pins=pins), out).frames


def settings(request: Request) -> list[tuple[str, ...]]:
    """Pins in which each value of each knob of a graph stands at least once.

    But for `compile`: an emulated card has no Triton.
    """
    programs = prepare(request, find_place(request), to_run=False).programs(None)
    knobs = [(p.stage, knob) for p in programs for knob in p.knobs if knob.name != "compile"]
    most = max(len(knob.choices) for _, knob in knobs)
    values = [[f"{stage}.{knob.name}={value}" for value in knob.choices] for stage, knob in knobs]
    return [tuple(words[number % len(words)] for words in values) for number in range(most)]


def run_clean(card: Emulator | None, request: Request, out: Path) -> Watched:
    """Run, and see that nothing raced and nothing is left."""
    done = run_watched(request, out)
    assert_nothing_left(card)
    return done


def assert_nothing_left(card: Emulator | None) -> None:
    """Nothing is allocated on the card; on the emulated one nothing raced or is page-locked."""
    assert torch.cuda.memory_allocated() == 0
    if card is not None:
        assert not card.clocks.races, "\n".join(card.clocks.races)
        assert card.registered == {}
