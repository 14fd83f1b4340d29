"""The `loras` of a model: files with their weights, one after another."""

from __future__ import annotations

import math

from wanflow.graph.reading.nodes import Listing, Node, Scalar
from wanflow.graph.reading.scalars import resolve
from wanflow.graph.reading.tables import Fields, is_empty, what_node
from wanflow.graph.wording import quoted
from wanflow.terminal.safe import printable

MOST_LORAS = 32


def read_loras(fields: Fields, part: str) -> tuple[tuple[str, float], ...]:
    """Read the list; what is wrong in it is told."""
    entry = fields.entries.get("loras")
    if entry is None or is_empty(entry.value):
        return ()
    if part not in ("", "transformer"):
        message = f"{fields.what}: a {part} has no 'loras', only a transformer has"
        fields.tell("lora-part", message, entry.value.mark)
        return ()
    if not isinstance(entry.value, Listing) or len(entry.value.items) > MOST_LORAS:
        message = (
            f"{fields.what}: 'loras' wants a list of up to {MOST_LORAS} FILE[@WEIGHT], "
            f"is {what_node(entry.value)}"
        )
        fields.tell("wrong-type", message, entry.value.mark, "loras: [style.safetensors@0.8]")
        return ()
    found = [_lora(fields, item) for item in entry.value.items]
    return tuple(lora for lora in found if lora is not None)


def _lora(fields: Fields, item: Node) -> tuple[str, float] | None:
    text = resolve(item) if isinstance(item, Scalar) else None
    if not isinstance(text, str) or text != printable(text):
        message = f"{fields.what}: 'loras' has {what_node(item)}, not FILE[@WEIGHT]"
        fields.tell("bad-lora", message, item.mark)
        return None
    path, at, word = text.rpartition("@")
    if not at:
        return text, 1.0
    try:
        weight = float(word)
    except ValueError:
        weight = math.nan
    if not path or not math.isfinite(weight):
        message = f"{fields.what}: {quoted(text)} is not FILE[@WEIGHT]: {quoted(word)} is no weight"
        fields.tell("bad-lora", message, item.mark)
        return None
    return path, weight
