"""A run in short, as its folder tells it: what the page lists."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import PurePath
from typing import Any

import attrs

from wanflow.files.run_files import PLAN, REQUEST, RUN, STATE, TRACE
from wanflow.trace.plain import count_in, seconds_in
from wanflow.watch.shown import shown, shown_text
from wanflow.watch.tree import Parts, json_in, open_in

ENDED = ("done", "failed", "interrupted")
_PROMPT = 300  # characters in a list
_FRAMES = "frames"
_PREVIEWS = ("preview.webp", "preview.png")
_KINDS = {
    ".mp4": "video", ".png": "picture", ".webp": "picture", ".jpg": "picture",
    ".jpeg": "picture",
}  # fmt: skip
_TOLD = (RUN, PLAN)  # files that a reader may want as they are
_MOST_FILES = 64  # a run has a handful


@attrs.frozen
class RunFile:
    """A file of a run that may be fetched: `kind` is what it is for, `version` changes with it."""

    kind: str
    version: int
    nbytes: int


@attrs.frozen
class RunCard:
    """What is known of a run without reading its trace. `batch` is the key of the one it is of.

    `state` is `running`, one of `ENDED`, or `killed`. `began` is a time of the clock, in seconds.
    Texts are fit to be shown; what was not told is None or "".
    """

    key: str
    parts: Parts
    name: str
    batch: str
    state: str
    graph: str
    prompt: str
    device: str
    error: str
    began: float
    seconds: float | None
    predicted_seconds: float | None
    budget_bytes: int | None
    predicted_peak_bytes: int | None
    peak_bytes: int | None
    over_budget_bytes: int | None
    saved: bool
    files: Mapping[str, RunFile]

    def to_dict(self) -> dict[str, Any]:
        """Give what the page is told in lists."""
        fields = attrs.asdict(self, filter=lambda field, _: field.name not in ("parts", "files"))
        return {**fields, "files": {name: attrs.asdict(file) for name, file in self.files.items()}}

    def traces(self) -> list[str]:
        """Name the traces, the newest first: a run that was gone on with has one a try."""
        return sorted(
            (name for name, file in self.files.items() if file.kind == "trace"),
            key=lambda name: (name != TRACE, -_number(name)),
        )


def is_run(names: set[str]) -> bool:
    """Whether a folder with these names in it is a run's."""
    return REQUEST in names or RUN in names or TRACE in names


def read_card(
    folder: int, parts: Parts, key: str, batch: str, names: set[str], *, running: bool
) -> RunCard:
    """Read what a run folder says of itself, which may be anything."""
    told, asked = json_in(folder, RUN), json_in(folder, REQUEST)
    status = shown_text(told.get("status"))
    state = "running" if running else status if status in ENDED else "killed"
    if running:
        told = {**told, "status": None, "error": None}  # of an earlier try
    request = asked.get("request")
    wanted = request if isinstance(request, dict) else {}
    return RunCard(
        key=key,
        parts=parts,
        name=shown_text("/".join(parts)),
        batch=batch,
        state=state,
        graph=shown_text(told.get("graph")) or shown_text(_stem(wanted.get("graph"))),
        prompt=shown_text(_input(told, "prompt") or _input(wanted, "prompt"), _PROMPT),
        device=shown_text(told.get("device"), 40) or shown_text(wanted.get("device"), 40),
        error=shown_text(told.get("error")),
        began=_began(folder, names),
        seconds=seconds_in(told, "seconds"),
        predicted_seconds=seconds_in(told, "predicted_seconds"),
        budget_bytes=count_in(told, "budget_bytes"),
        predicted_peak_bytes=count_in(told, "predicted_peak_bytes"),
        peak_bytes=count_in(told, "peak_bytes"),
        over_budget_bytes=count_in(told, "over_budget_bytes"),
        saved=STATE in names,
        files=_files(folder, names),
    )


def read_inputs(folder: int) -> dict[str, Any]:
    """Read what a run was made from, for the page of one run."""
    told, asked = json_in(folder, RUN).get("inputs"), json_in(folder, REQUEST).get("request")
    if not isinstance(told, dict):
        told = asked.get("inputs") if isinstance(asked, dict) else None
    values: dict[str, Any] = shown(told) if isinstance(told, dict) else {}
    return values


def _files(folder: int, names: set[str]) -> dict[str, RunFile]:
    found: dict[str, RunFile] = {}
    for name in sorted(names):
        kind = _kind(name)
        if kind and len(found) < _MOST_FILES:
            _add(found, folder, name, name, kind)
    if _FRAMES in names:
        _add_first_frame(found, folder)
    return found


def _kind(name: str) -> str:
    if name in _PREVIEWS:
        return "preview"
    if name == TRACE or (name.startswith("trace-") and name.endswith(".msgpack")):
        return "trace"
    if name in _TOLD:
        return "told"
    return "" if name.startswith(".") else _KINDS.get(PurePath(name).suffix.lower(), "")


def _add_first_frame(found: dict[str, RunFile], folder: int) -> None:
    try:
        inner = os.open(_FRAMES, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=folder)
    except OSError:
        return
    try:
        _add(found, inner, f"{_FRAMES}/00000.png", "00000.png", "frame")
    finally:
        os.close(inner)


def _add(found: dict[str, RunFile], folder: int, name: str, own: str, kind: str) -> None:
    try:
        handle = open_in(folder, own)
    except OSError:  # a link, or it went away
        return
    there = os.fstat(handle)
    os.close(handle)
    found[name] = RunFile(kind, there.st_mtime_ns // 1_000_000, there.st_size)


def _began(folder: int, names: set[str]) -> float:
    """When a run began: its request is written first, and never again."""
    name = next((name for name in (REQUEST, TRACE, RUN) if name in names), ".")
    try:
        return os.stat(name, dir_fd=folder, follow_symlinks=False).st_mtime
    except OSError:
        return 0.0


def _input(values: Mapping[str, Any], name: str) -> object:
    inputs = values.get("inputs")
    return inputs.get(name) if isinstance(inputs, dict) else None


def _stem(graph: object) -> object:
    return PurePath(graph).stem if isinstance(graph, str) else None


def _number(name: str) -> int:
    digits = name.removeprefix("trace-").removesuffix(".msgpack")
    return int(digits) if digits.isascii() and digits.isdigit() and len(digits) < 10 else 0
