"""Traces to read: events with a running number, a small run, and files made of them."""

import os
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest

import wanflow
from wanflow.trace import TraceWriter
from wanflow.trace.events import (
    Event,
    Kind,
    Memory,
    Move,
    Note,
    StageSpan,
    Step,
    Verb,
    Workspace,
)

GIB, SECOND = 2**30, 10**9


@pytest.fixture
def numbered() -> Callable[[int], Move]:
    """Make the event with this number."""

    def make(number: int) -> Move:
        cause = "x" * (number % 7)
        return Move(
            Verb.STREAM, Kind.WEIGHTS, f"dit.blocks.{number % 40}", "denoise", number, "cpu",
            "cuda:0", 717_000_000, 6_900_000_000, number * 1000, number * 1000 + 900, 12, cause,
        )  # fmt: skip

    return make


@pytest.fixture
def write(tmp_path: Path) -> Iterator[Callable[..., Path]]:
    """Write events into a closed trace file; without a status it is left as a kill would."""
    unclosed: list[TraceWriter] = []

    def make(
        events: Iterable[Event],
        header: dict[str, Any] | None = None,
        status: str | None = "done",
        name: str = "trace.msgpack",
    ) -> Path:
        writer = TraceWriter(tmp_path / name, header or {"graph": "t2v-tiny"}, overwrite=True)
        for event in events:
            writer.emit(event)
        if status is None:
            writer.sync()
            unclosed.append(writer)
        else:
            writer.close(status, {"seconds": 1.5})
        return writer.path

    yield make
    for writer in unclosed:
        writer.close("left open", {})


@pytest.fixture
def header() -> dict[str, Any]:
    """Give what a run writes into its header."""
    return {
        "graph": "t2v-1.3b",
        "plan_id": "7f3a91c2",
        "device": "cuda:0",
        "budget_bytes": 8 * GIB,
        "budget_tier": "cuda:0",
        "predicted_peak_bytes": 7 * GIB,
        "predicted_seconds": 240.0,
        "versions": {"wanflow": "0.1.0"},
        "seed": 42,
        "simulated": False,
        "stages": ["encode", "denoise", "decode"],
        "started": "2026-11-23T04:12:00Z",
    }


@pytest.fixture
def run() -> list[Event]:
    """Give a run of two stages out of three; a workspace makes its peak of 7 GiB."""
    gpu, text, dit = "cuda:0", "text.layers.0", "dit"
    return [
        Move(Verb.STREAM, Kind.WEIGHTS, text, "encode", 0, "disk", gpu, 2 * GIB, 2 * GIB, 0, SECOND,
             4 * SECOND, "next in line"),
        Workspace(text, "encode", 0, gpu, GIB, 3 * GIB, SECOND, 8 * SECOND),
        Move(Verb.FREE, Kind.WEIGHTS, text, "encode", 0, "", gpu, 2 * GIB, 0, 8 * SECOND,
             8 * SECOND, 0, "last use"),
        Move(Verb.PLACE, Kind.VALUE, "encode.text", "encode", 0, "", gpu, GIB, GIB, 8 * SECOND,
             8 * SECOND, 0, "made"),
        StageSpan("encode", "encode_text", 0, 12 * SECOND, 3 * GIB, ("order=layers",)),
        Move(Verb.PLACE, Kind.WEIGHTS, dit, "denoise", 0, "cpu", gpu, 3 * GIB, 4 * GIB, 12 * SECOND,
             13 * SECOND, SECOND, "fits"),
        Workspace(dit, "denoise", 0, gpu, 3 * GIB, 7 * GIB, 13 * SECOND, 100 * SECOND),
        Step("denoise", 0, 2, 13 * SECOND, 100 * SECOND, 4 * GIB, 0),
        Workspace(dit, "denoise", 1, gpu, 3 * GIB, 7 * GIB, 100 * SECOND, 228 * SECOND),
        Step("denoise", 1, 2, 100 * SECOND, 228 * SECOND, 4 * GIB, 0),
        Move(Verb.OFFLOAD, Kind.VALUE, "encode.text", "denoise", 1, gpu, "cpu", GIB, GIB,
             228 * SECOND, 229 * SECOND, 0, "room for decode"),
        Move(Verb.FREE, Kind.VALUE, "encode.text", "denoise", 1, gpu, gpu, GIB, 3 * GIB,
             229 * SECOND, 229 * SECOND, 0, "offloaded"),
        StageSpan("denoise", "denoise", 12 * SECOND, 230 * SECOND, 7 * GIB,
                  ("attn_rows=1024", "cfg=serial")),
        Memory("allocator", gpu, 3 * GIB, 7 * GIB + GIB // 8, 230 * SECOND),
        Memory("rss", "cpu", GIB, GIB, 230 * SECOND),
        Note("re-plan", "the device is fuller than planned", 231 * SECOND),
    ]  # fmt: skip


@pytest.fixture
def child_env() -> dict[str, str]:
    """Give the environment of a child that must find this wanflow, installed or not."""
    return {**os.environ, "PYTHONPATH": str(Path(wanflow.__file__).parents[1])}
