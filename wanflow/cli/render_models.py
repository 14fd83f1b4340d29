"""Weights as a table: the parts, what is wrong with them, and the graphs they serve."""

import shlex
from collections.abc import Iterator
from typing import Any

import attrs
from rich.console import Console, JustifyMethod

from wanflow.session.weights.download import Downloaded
from wanflow.session.weights.fit_preview import FittedMap
from wanflow.session.weights.inspect import Inspected, ModelPart
from wanflow.session.weights.shrink import Shrunk
from wanflow.terminal.layout import add_row, bare_table, line
from wanflow.units import format_bytes, format_seconds

_NAMED = 3  # names of a kind in the text; all of them are in the JSON


def as_data(inspected: Inspected) -> dict[str, Any]:
    """Give it as JSON data."""
    parts = [attrs.asdict(part) | {"files": _files(part)} for part in inspected.parts]
    return {
        "path": inspected.path,
        "whole": inspected.is_whole,
        "parts": [{("bytes" if k == "nbytes" else k): v for k, v in p.items()} for p in parts],
        "tokenizer": inspected.tokenizer,
        "graphs": [
            {"graph": graph.graph, "serves": not graph.lacks, "lacks": list(graph.lacks)}
            for graph in inspected.graphs
        ],
    }


def fitted(done: FittedMap) -> dict[str, Any]:
    """Give a fitted preview map as JSON data."""
    found = done.map
    return {
        "path": str(done.path),
        "vae": found.vae,
        "channels": found.channels,
        "latents": found.pixels,
        "psnr": found.psnr,
        "fitted_on": found.about,
        "seconds": done.seconds,
    }


def render_fitted(done: FittedMap, console: Console) -> None:
    """Say how near the colours come, and where the map is."""
    found = done.map
    near = f"{found.psnr:.1f} dB from what it decodes, on {found.pixels} latents"
    line(console, f"{found.channels} channels to colours: {near} ({found.about})")
    line(console, f"kept in {done.path}, {format_seconds(done.seconds)}", soft_wrap=True)
    line(console, "next: wanflow run GRAPH --preview")


def downloaded(done: Downloaded) -> dict[str, Any]:
    """Give a download as JSON data."""
    task = done.task
    return {
        "repo": task.snapshot.repo,
        "revision": task.snapshot.revision,
        "commit": task.snapshot.commit,
        "folder": str(task.folder),
        "bytes": task.total_bytes,
        "fetched_bytes": done.fetched_bytes,
        "files": [{"file": file.path, "bytes": file.nbytes} for file in task.files],
    }


def render_download(done: Downloaded, console: Console) -> None:
    """Print what came and where it is, then what it is."""
    task, got = done.task, done.task.snapshot
    size, came = format_bytes(task.total_bytes), format_bytes(done.fetched_bytes)
    line(console, f"{got.repo}, commit {got.commit}", soft_wrap=True)
    text = f"{len(task.files)} files, {size}, of which {came} came now, in {task.folder}\n"
    line(console, text, soft_wrap=True)
    render(done.inspected, console)


def render_shrunk(done: Shrunk, console: Console) -> None:
    """Print what was packed, then what came of it."""
    sizes = f"{format_bytes(done.read_bytes)} are {format_bytes(done.written_bytes)} now"
    text = f"{done.packed} weights as {done.kind}: {sizes}, in {done.output}\n"
    line(console, text, soft_wrap=True)
    render(done.inspected, console)


def render(inspected: Inspected, console: Console) -> None:
    """Print a line a part, then what is wrong, then the graphs."""
    table = bare_table()
    for title in ("part", "layout", "files", "tensors", "size", "dtypes", "fits"):
        right = title in ("files", "tensors", "size")
        justify: JustifyMethod = "right" if right else "left"
        table.add_column(title, justify=justify, overflow="fold", no_wrap=title == "part")
    for part in inspected.parts:
        add_row(table, *_row(part))
    console.print(table)
    for text in _lines(inspected):
        line(console, text, soft_wrap=True)


def _files(part: ModelPart) -> list[dict[str, object]]:
    return [{"file": name, "bytes": nbytes} for name, nbytes in part.files.items()]


def _row(part: ModelPart) -> tuple[str, ...]:
    if not part.layout:
        return (_named(part) or "unknown", "-", "-", "-", "-", "-", "-")
    dtypes = sorted(part.dtypes, key=lambda name: -part.dtypes[name])
    return (
        _named(part),
        part.layout,
        str(len(part.files)),
        str(part.tensors),
        format_bytes(part.nbytes),
        ", ".join(dtypes),
        _some(part.fits) or "-",
    )


def _named(part: ModelPart) -> str:
    return f"{part.part} {part.expert.removesuffix('_noise')}".rstrip()


def _packed(part: ModelPart) -> Iterator[str]:
    if part.packed:
        kinds = "; ".join(f"{e.count} {e.type} ({_some(e.tensors)})" for e in part.packed)
        yield f"packed, format {part.format}: {kinds}"


def _lines(inspected: Inspected) -> Iterator[str]:
    for part in inspected.parts:
        if part.problem:
            yield f"{_named(part) or 'file'}: {part.problem}"
        if part.prefix:
            yield f"{_named(part)}: its keys have the prefix {part.prefix!r}"
        yield from (f"{_named(part)}: {note}" for note in (*_packed(part), *part.notes))
        if part.missing:
            yield f"{_named(part)}: of {part.nearest} lacks {_some(part.missing)}"
        if part.misshapen:
            shapes = [
                f"{each.tensor} {list(each.shape)}, wanted {list(each.wanted)}"
                for each in part.misshapen
            ]
            yield f"{_named(part)}: of {part.nearest} has another shape: {_some(shapes)}"
        if part.over and part.nearest:
            yield f"{_named(part)}: not used: {_some(part.over)}"
    if any(part.part == "text_encoder" for part in inspected.parts):
        yield f"tokenizer: {inspected.tokenizer or 'none found'}"
    serves = [each.graph for each in inspected.graphs if not each.lacks]
    yield f"serves: {', '.join(serves) or 'no shipped graph by itself'}"
    if serves:
        yield f"next: wanflow plan {serves[0]} --weights {shlex.quote(inspected.path)}"


def _some(names: Any) -> str:
    shown = ", ".join(names[:_NAMED])
    return shown if len(names) <= _NAMED else f"{shown} and {len(names) - _NAMED} more"
