"""Sizes and times as people write and read them. Inside the program bytes are ints."""

from __future__ import annotations

import math
import re

import attrs

from wanflow.errors import InputError

KIB, MIB, GIB, TIB = 2**10, 2**20, 2**30, 2**40
_FACTORS = {
    "B": 1, "KiB": KIB, "MiB": MIB, "GiB": GIB, "TiB": TIB,
    "KB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12,
}  # fmt: skip
_SIZE = re.compile(r"\s*([0-9]+(?:\.[0-9]+)?)\s*([A-Za-z%]*)\s*")
_FORMS = "8GiB, 8GB, 123456B, 80% or auto"


@attrs.frozen
class Budget:
    """A budget as given: `nbytes`, a `share` of the device's total, or neither (auto)."""

    text: str
    nbytes: int | None = None
    share: float | None = None


def parse_budget(text: str, option: str = "--vram") -> Budget:
    """Read `8GiB`, `8GB`, `123456B`, `80%` or `auto`; a bare number has no unit and is refused."""
    if text.strip() == "auto":
        return Budget(text="auto")
    match = _SIZE.fullmatch(text)
    if match is None:
        raise InputError(
            f"{option} {text!r} is not a size", hint=f"write {_FORMS}", code="bad-size"
        )
    number, unit = match.groups()
    if unit == "":
        raise InputError(
            f"{option} {text!r} has no unit",
            hint=f"write {number}GiB or {number}MiB",
            code="bad-size",
        )
    if unit == "%":
        return _share(text, float(number), option)
    factor = _factor(unit)
    if factor is None:
        raise InputError(
            f"{option} {text!r}: unknown unit {unit!r}", hint=f"write {_FORMS}", code="bad-size"
        )
    if unit == "B" and "." in number:
        raise InputError(
            f"{option} {text!r}: bytes are whole", hint=f"write {_FORMS}", code="bad-size"
        )
    nbytes = int(number) * factor if "." not in number else int(float(number) * factor)
    if not 0 < nbytes <= 2**50:
        raise InputError(f"{option} {text!r} is out of range (1B to 1024TiB)", code="bad-size")
    return Budget(text=text.strip(), nbytes=nbytes)


def _share(text: str, percent: float, option: str) -> Budget:
    if not 0 < percent <= 100:
        raise InputError(
            f"{option} {text!r}: a share is above 0% and at most 100%", code="bad-size"
        )
    return Budget(text=text.strip(), share=percent / 100)


def _factor(unit: str) -> int | None:
    return next((f for name, f in _FACTORS.items() if name.lower() == unit.lower()), None)


def is_finite(value: float) -> bool:
    """Whether a number can be reckoned with: an int that no float holds is out of bounds too."""
    try:
        return math.isfinite(value)
    except OverflowError:
        return False


def format_bytes(nbytes: int) -> str:
    """Write bytes with one binary unit: `7.41 GiB`, `512 B`."""
    if abs(nbytes) < KIB:
        return f"{nbytes} B"
    units = ("KiB", "MiB", "GiB", "TiB")
    power = min((abs(nbytes).bit_length() - 1) // 10, len(units))
    value, unit = nbytes / 1024**power, units[power - 1]
    digits = 0 if abs(value) >= 100 else 1 if abs(value) >= 10 else 2
    return f"{value:.{digits}f} {unit}"


def format_seconds(seconds: float) -> str:
    """Write a duration: `0.42 s`, `11.8 s`, `3:38`, `1:02:03`."""
    if seconds < 10:
        return f"{seconds:.2f} s"
    if seconds < 60:
        return f"{seconds:.1f} s"
    total = round(seconds)
    hours, rest = divmod(total, 3600)
    minutes, secs = divmod(rest, 60)
    return f"{hours}:{minutes:02d}:{secs:02d}" if hours else f"{minutes}:{secs:02d}"


_SECONDS = re.compile(r"(?:(?:(\d+):)?(\d+):)?(\d+(?:\.\d+)?)\s*(s|ms)?")


def parse_seconds(text: str, option: str) -> float:
    """Read `12.3`, `12.3s`, `350ms`, `3:38` or `1:02:03`; InputError for anything else."""
    match = _SECONDS.fullmatch(text.strip())
    if match is None or (match[2] and match[4] == "ms"):
        raise InputError(
            f"{option} {text!r} is not a time", hint="write 12.3s, 350ms or 3:38", code="bad-time"
        )
    hours, minutes, seconds, unit = match.groups()
    total = int(hours or 0) * 3600 + int(minutes or 0) * 60 + float(seconds)
    return total / 1000 if unit == "ms" else total
