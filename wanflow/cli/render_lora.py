"""A LoRA as a few lines: what it is, and what it is for."""

import shlex
from collections.abc import Iterator, Mapping
from typing import Any

import attrs
from rich.console import Console

from wanflow.session.weights.inspect_lora import InspectedLora
from wanflow.terminal.layout import line
from wanflow.units import format_bytes

_SHOWN = 4


def as_data(lora: InspectedLora) -> dict[str, Any]:
    """Give it as JSON data."""
    data = {("bytes" if k == "nbytes" else k): v for k, v in attrs.asdict(lora).items()}
    counts = {k: {str(n): c for n, c in data[k].items()} for k in ("kinds", "ranks", "alphas")}
    return data | counts | {"lora": True, "fits": list(lora.fits), "refused": dict(lora.refused)}


def render(lora: InspectedLora, console: Console) -> None:
    """Print it."""
    for text in _lines(lora):
        line(console, text, soft_wrap=True)


def _lines(lora: InspectedLora) -> Iterator[str]:
    dtypes = ", ".join(sorted(lora.dtypes, key=lambda name: -lora.dtypes[name]))
    yield f"LoRA of {lora.tensors} tensors, {format_bytes(lora.nbytes)}, {dtypes}"
    yield f"naming: {lora.naming}"
    yield f"changes: {_counted(lora.kinds)}"
    if lora.ranks:
        yield f"rank: {_counted(lora.ranks)}"
        yield f"alpha: {_counted(lora.alphas) or 'none, so that the scale is 1'}"
    yield f"fits: {', '.join(lora.fits) or 'no known model'}"
    if lora.nearest:
        yield f"of {lora.nearest} it leaves {len(lora.refused)}: {lora.refused_in_words}"
    if lora.fits:
        yield f"next: wanflow plan GRAPH --lora {shlex.quote(lora.path)}"


def _counted(counts: Mapping[Any, int]) -> str:
    """`32 (400), 64 (2)`: the value alone where there is one."""
    items = sorted(counts.items(), key=lambda item: -item[1])
    if len(items) == 1 and not isinstance(items[0][0], str):
        return f"{items[0][0]:g}"
    said = [f"{k if isinstance(k, str) else format(k, 'g')} ({n})" for k, n in items[:_SHOWN]]
    return ", ".join(said) + (f" and {len(items) - _SHOWN} more" if len(items) > _SHOWN else "")
