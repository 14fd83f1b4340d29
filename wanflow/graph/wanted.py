"""What a literal must be, and the one place that says whether a value is that."""

from __future__ import annotations

import itertools
import re
from collections.abc import Mapping
from enum import StrEnum

import attrs

from wanflow.graph.reading.scalars import resolve_plain
from wanflow.graph.rules import VideoRules
from wanflow.graph.values import LARGEST_SIDE, SMALLEST_SIDE, Size, Value, ValueType, parse_size
from wanflow.graph.wording import did_you_mean, listing, quoted, what_is
from wanflow.units import is_finite

_PLAIN_NAME = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]{0,99}")
_DEVICES = re.compile(r"(con|prn|aux|nul|com[0-9]|lpt[0-9])(\..*)?", re.IGNORECASE)
_NAMES = {ValueType.FILE_NAME: ".mp4", ValueType.PICTURE_NAME: ".png", ValueType.FOLDER_NAME: ""}
_MOST_NUMBERS = 4096  # in a list
_OURS = ("trace.msgpack", "plan.json", "run.json", "graph.yaml", "lock")  # a run folder's own


class Rule(StrEnum):
    """Rules that depend on the models of the graph."""

    NONE = ""
    SIZE = "size"  # sides are multiples of what the models need
    FRAMES = "frames"  # 4n+1
    DESCENDING = "descending"  # of a list: each number is less than the one before; of no model


@attrs.frozen(kw_only=True)
class Wanted:
    """The type and range of a value; of a list of numbers the range of each.

    `hints` have advice for words that were a value once.
    """

    type: ValueType
    minimum: float | None = None
    maximum: float | None = None
    choices: tuple[str, ...] = ()
    rule: Rule = Rule.NONE
    hints: Mapping[str, str] = attrs.field(factory=dict)


class MisfitError(Exception):
    """A value is not what is wanted. The message is a predicate: `wants an int, is text 'x'`."""

    def __init__(self, code: str, message: str, suggestion: str = "") -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.suggestion = suggestion


def fit(value: object, wanted: Wanted, rules: VideoRules | None = None) -> Value:
    """Give `value` as the wanted type, or raise `MisfitError`; never guesses and never rounds."""
    fitted = _typed(value, wanted)
    _check_range(fitted, wanted)
    if rules is not None:
        _check_rule(fitted, wanted.rule, rules)
    return fitted


def fit_text(text: str, wanted: Wanted, rules: VideoRules | None = None) -> Value:
    """Do the same with text from a command line: `50` is an int there."""
    number = wanted.type in (ValueType.INT, ValueType.FLOAT)
    return fit(resolve_plain(text.strip()) if number else text, wanted, rules)


def _typed(value: object, wanted: Wanted) -> Value:
    kind = wanted.type
    if kind is ValueType.NUMBERS:
        return _numbers(value, wanted)
    if kind is ValueType.INT and isinstance(value, int) and not isinstance(value, bool):
        return value
    if kind is ValueType.FLOAT and isinstance(value, int | float) and not isinstance(value, bool):
        return _finite(value)
    if kind is ValueType.SIZE and isinstance(value, str | Size):
        return _size(value)
    if isinstance(value, str) and kind not in (ValueType.INT, ValueType.FLOAT, ValueType.SIZE):
        return _worded(value, wanted)
    raise MisfitError(
        "wrong-type", f"wants {_name(kind)}, is {what_is(value)}", _advice(value, kind)
    )


def _finite(value: float) -> float:
    if not is_finite(value):
        raise MisfitError("out-of-range", "wants a finite number")
    return float(value)


def _numbers(value: object, wanted: Wanted) -> str:
    """Write a list of numbers, or text with commas between, as the text that is its value."""
    parts: list[object] = [value]
    if isinstance(value, str):
        words = value.split(",") if value.strip() else []
        parts = [resolve_plain(word.strip()) for word in words]
    elif isinstance(value, list | tuple):
        parts = list(value)
    if len(parts) > _MOST_NUMBERS:
        message = f"has {len(parts)} numbers, wants at most {_MOST_NUMBERS}"
        raise MisfitError("out-of-range", message)
    numbers = [_one_of(part, value, wanted) for part in parts]
    if wanted.rule is Rule.DESCENDING:
        for before, after in itertools.pairwise(numbers):
            if after >= before:
                message = f"wants each number below the one before, has {number(before)} and then "
                raise MisfitError("not-descending", message + number(after))
    return ",".join(map(number, numbers))


def _one_of(part: object, whole: object, wanted: Wanted) -> float:
    if isinstance(part, bool) or not isinstance(part, int | float):
        advice = wanted.hints.get(str(whole), "write them as 3,2.5,1")
        what = what_is(whole if isinstance(whole, str) else part)
        raise MisfitError("wrong-type", f"wants numbers, is {what}", advice)
    fitted = _finite(part)
    _check_range(fitted, wanted)
    return fitted


def _size(value: str | Size) -> Size:
    size = parse_size(value) if isinstance(value, str) else value
    if size is None:
        raise MisfitError("bad-size", f"wants a size, is {what_is(value)}", "write it as 832*480")
    if not all(SMALLEST_SIDE <= side <= LARGEST_SIDE for side in (size.width, size.height)):
        message = f"is {size}: a side has {SMALLEST_SIDE} to {LARGEST_SIDE} pixels"
        raise MisfitError("out-of-range", message)
    return size


def _worded(value: str, wanted: Wanted) -> str:
    if wanted.choices and value not in wanted.choices:
        message = f"wants {listing(map(quoted, wanted.choices))}, is {quoted(value)}"
        raise MisfitError("bad-choice", message, did_you_mean(value, wanted.choices))
    if wanted.type in _NAMES:
        _check_name(value, _NAMES[wanted.type])
    try:
        value.encode()
    except UnicodeEncodeError:
        raise MisfitError("wrong-type", "wants text, has characters that are not Unicode") from None
    return value


def _check_name(name: str, ending: str) -> None:
    """Check a name that becomes a path: it must not leave the run folder, nor clash in it."""
    if name.lower() in _OURS or _DEVICES.fullmatch(name):
        raise MisfitError("bad-file-name", f"wants another name: {quoted(name)} is taken")
    if not _PLAIN_NAME.fullmatch(name):
        message = f"wants a plain name of letters, digits, '.', '_' and '-', is {quoted(name)}"
        raise MisfitError("bad-file-name", message, "no folders in it, no leading dot")
    if not name.endswith(ending):
        raise MisfitError("bad-file-name", f"wants a name that ends in {ending}, is {quoted(name)}")


def _check_range(value: Value, wanted: Wanted) -> None:
    if isinstance(value, str | Size):
        return
    low, high = wanted.minimum, wanted.maximum
    if (low is not None and value < low) or (high is not None and value > high):
        message = f"is {number(value)}, wants {_range(wanted)}"
        raise MisfitError("out-of-range", message)


def _range(wanted: Wanted) -> str:
    low, high = wanted.minimum, wanted.maximum
    if low is None:
        return f"at most {number(high)}"
    return f"at least {number(low)}" if high is None else f"{number(low)} to {number(high)}"


def number(value: float | None) -> str:
    """Write a bound: floats that are whole as ints, and no exponent for a large seed."""
    return str(int(value)) if value is not None and value == int(value) else str(value)


def _check_rule(value: Value, rule: Rule, rules: VideoRules) -> None:
    if rule is Rule.FRAMES and isinstance(value, int) and not rules.allows_frames(value):
        message = f"is {value}, wants {rules.frame_multiple}n+1 frames"
        raise MisfitError("frames-rule", message, f"nearest: {_or(rules.nearest_frames(value))}")
    if rule is Rule.SIZE and isinstance(value, Size) and not rules.allows_size(value):
        message = f"is {value}, wants sides that are multiples of {rules.size_multiple}"
        raise MisfitError("size-rule", message, f"nearest: {_or(rules.nearest_sizes(value))}")


def _or(items: list[int] | list[Size]) -> str:
    return listing(map(str, items))


def _name(kind: ValueType) -> str:
    names = {
        ValueType.INT: "an int",
        ValueType.FLOAT: "a number",
        ValueType.SIZE: "a size",
        ValueType.FILE_NAME: "a file name",
        ValueType.PICTURE_NAME: "a file name",
        ValueType.FOLDER_NAME: "a folder name",
    }
    return names.get(kind, "text")


def _advice(value: object, kind: ValueType) -> str:
    if isinstance(value, str):
        return "write it without quotes" if not isinstance(resolve_plain(value), str) else ""
    if kind is ValueType.SIZE:
        return "write it as 832*480"
    return "quote it" if isinstance(value, int | float) and kind is not ValueType.INT else ""
