"""Values of a graph: the literal kinds, and references to an input or to a stage's output."""

from __future__ import annotations

import re
from enum import StrEnum

import attrs

STAGE_ID = re.compile(r"[a-z][a-z0-9_]{0,63}")
SMALLEST_SIDE, LARGEST_SIDE = 16, 8192

_SIZE = re.compile(r"([0-9]{1,6})[*x]([0-9]{1,6})")
_INPUT = re.compile(r"\$([A-Za-z_][A-Za-z0-9_-]{0,63})")
_PORT = re.compile(r"([A-Za-z_][A-Za-z0-9_-]{0,63})\.([A-Za-z_][A-Za-z0-9_-]{0,63})")


class ValueType(StrEnum):
    """The kinds of literal that inputs and params take."""

    TEXT = "text"
    SIZE = "size"
    INT = "int"
    FLOAT = "float"
    CHOICE = "choice"
    FILE_NAME = "file_name"
    FOLDER_NAME = "folder_name"
    PICTURE_NAME = "picture_name"
    IMAGE = "image"  # the path of a picture file; "" for none, where it may be left out
    VIDEO = "video"
    IMAGES = "images"  # paths of picture files, with commas between
    NUMBERS = "numbers"  # a list of them; its value is text, with commas between; "" for none


@attrs.frozen
class Size:
    """Width and height of a frame in pixels, written `832*480`."""

    width: int
    height: int

    def __str__(self) -> str:
        return f"{self.width}*{self.height}"


@attrs.frozen
class PortRef:
    """An output port of a stage, written `encode.text`."""

    stage: str
    port: str

    def __str__(self) -> str:
        return f"{self.stage}.{self.port}"


@attrs.frozen
class InputRef:
    """An input of the graph, written `$prompt`."""

    name: str

    def __str__(self) -> str:
        return f"${self.name}"


Value = str | int | float | Size


def parse_size(text: str) -> Size | None:
    """Read `832*480` or `832x480`; None when it is neither."""
    match = _SIZE.fullmatch(text.strip())
    return Size(int(match[1]), int(match[2])) if match else None


def parse_paths(text: str) -> tuple[str, ...]:
    """Read paths with commas between, in their order; none of an empty text."""
    return tuple(path.strip() for path in text.split(",") if path.strip())


def parse_numbers(text: str) -> tuple[float, ...]:
    """Read the value of a list of numbers: with commas between, none of an empty text."""
    return tuple(float(part) for part in text.split(",") if part.strip())


def parse_input_ref(text: str) -> InputRef | None:
    """Read `$name`; None when the text is no reference."""
    match = _INPUT.fullmatch(text)
    return InputRef(match[1]) if match else None


def parse_port_ref(text: str) -> PortRef | None:
    """Read `stage.port`; None when the text is no reference."""
    match = _PORT.fullmatch(text)
    return PortRef(match[1], match[2]) if match else None
