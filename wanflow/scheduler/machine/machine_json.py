"""A machine as JSON, written as plain data and read strictly. No torch."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any, Never, get_args

from wanflow.errors import InputError
from wanflow.scheduler.machine.figures import (
    FIGURES,
    FILES,
    FLOPS,
    OVERHEADS,
    PEERS,
    RATES,
    SMALL,
    TAKEN,
    Machine,
    Source,
)

_VERSION = 1
_MOST_BYTES = 2**60
_RANGES: Mapping[str, tuple[float, float]] = {
    **dict.fromkeys((*FLOPS, *RATES, *SMALL, "save_rate", "video_rate", PEERS[0]), (1.0, 1e21)),
    **dict.fromkeys((*OVERHEADS, "save_seconds", "video_seconds", PEERS[1]), (0.0, 10.0)),
    **dict.fromkeys(TAKEN, (0, _MOST_BYTES)),
}
_SIZES = ("capacity_bytes", "ram_bytes", "granularity_bytes")
_TEXTS = ("name", "device", "guessed_from", "about")
_LONGEST = 500
_SOURCES = get_args(Source)
_LATER = {*SMALL, *FILES, *PEERS}  # figures that files from before them lack
_AGAIN = "measure again: wanflow machine probe, or delete the file"


def as_data(machine: Machine) -> dict[str, object]:
    """Give a machine as plain data, each figure with how it is known."""
    figures: dict[str, dict[str, object]] = {}
    for name, value in machine.figures.items():
        if name in SMALL and name not in machine.small:
            continue
        row: dict[str, object] = {"value": value, "source": machine.source(name)}
        row |= {"spread": machine.spreads[name]} if name in machine.spreads else {}
        row |= {"was": machine.was[name]} if name in machine.was else {}
        figures[name] = row
    plain = {name: getattr(machine, name) for name in (*_TEXTS[:2], *_SIZES, *_TEXTS[2:])}
    return {"wanflow_machine": _VERSION, **plain, "figures": figures}


def parse(text: str, file: str) -> Machine:
    """Read a machine; InputError names *file* and the field that is wrong."""
    return _FieldReader(file).machine(text)


class _FieldReader:
    def __init__(self, file: str) -> None:
        self._file = file

    def machine(self, text: str) -> Machine:
        data = self._object(self._json(text), "", {"wanflow_machine", *_TEXTS, *_SIZES, "figures"})
        version = data["wanflow_machine"]
        if type(version) is not int or version != _VERSION:
            self._wrong("wanflow_machine", f"is {version!r}, this wanflow reads {_VERSION}")
        fields: dict[str, Any] = {name: self._text(data[name], name) for name in _TEXTS}
        if fields["device"] not in ("cpu", "cuda"):
            self._wrong("device", f"is {_short(fields['device'])}, not cpu or cuda")
        for name in _SIZES:
            fields[name] = int(self._number(data[name], name, (1, _MOST_BYTES)))
        rows = self._object(data["figures"], "figures", set(FIGURES) - _LATER, _LATER)
        figures = {name: self._figure(name, rows[name]) for name in FIGURES if name in rows}
        fields |= {n: row["value"] for n, row in figures.items() if n not in (*FLOPS, *SMALL)}
        fields |= {name: int(fields[name]) for name in TAKEN}
        return Machine(
            **fields,
            flops={name: figures[name]["value"] for name in FLOPS},
            small={name: figures[name]["value"] for name in SMALL if name in figures},
            sources={n: row["source"] for n, row in figures.items() if row["source"] != "estimate"},
            spreads={name: row["spread"] for name, row in figures.items() if "spread" in row},
            was={name: row["was"] for name, row in figures.items() if "was" in row},
        )

    def _figure(self, name: str, value: object) -> dict[str, Any]:
        where = f"figures.{name}"
        row = self._object(value, where, {"value", "source"}, {"spread", "was"})
        if row["source"] not in get_args(Source):
            self._wrong(
                f"{where}.source", f"is {row['source']!r}, not one of {', '.join(get_args(Source))}"
            )
        ranges = {"value": _RANGES[name], "was": _RANGES[name], "spread": (0.0, math.inf)}
        numbers = {
            k: self._number(v, f"{where}.{k}", ranges[k]) for k, v in row.items() if k in ranges
        }
        return {"source": row["source"], **numbers}

    def _json(self, text: str) -> object:
        def refuse(word: str) -> Never:
            raise InputError(f"{self._file}: {word} is no figure", code="bad-machine")

        try:
            return json.loads(text, parse_constant=refuse, object_pairs_hook=self._no_twins)
        except (ValueError, RecursionError) as error:
            reason = "nested too deep" if isinstance(error, RecursionError) else error
            raise InputError(
                f"{self._file}: no JSON: {reason}", hint=_AGAIN, code="bad-machine"
            ) from None

    def _no_twins(self, pairs: list[tuple[str, object]]) -> dict[str, object]:
        data = dict(pairs)
        if len(data) < len(pairs):
            names = [name for name, _ in pairs]
            self._wrong(next(n for n in names if names.count(n) > 1), "is given twice")
        return data

    def _object(
        self, value: object, where: str, needed: set[str], allowed: set[str] | None = None
    ) -> dict[str, Any]:
        if not isinstance(value, dict):
            self._wrong(where, "is not an object")
        dot = f"{where}." if where else ""
        for name in sorted(value.keys() - needed - (allowed or set())):
            self._wrong(f"{dot}{name}"[:_LONGEST], "is not a field")
        for name in sorted(needed - value.keys()):
            self._wrong(f"{dot}{name}", "is missing")
        return value

    def _text(self, value: object, where: str) -> str:
        if not isinstance(value, str) or len(value) > _LONGEST:
            self._wrong(where, "is not a short text")
        return value

    def _number(self, value: Any, where: str, span: tuple[float, float]) -> float:
        kinds = (int,) if where in _SIZES else (int, float)
        if type(value) not in kinds:  # a bool is an int to isinstance
            self._wrong(where, f"is {_short(value)}, not a {'whole ' * (len(kinds) == 1)}number")
        least, most = span
        if not least <= value <= most:
            self._wrong(where, f"is {_short(value)}, not from {least:g} to {most:g}")
        return float(value)

    def _wrong(self, where: str, problem: str) -> Never:
        raise InputError(
            f"{self._file}: {where or 'the file'} {problem}",
            hint=_AGAIN,
            code="bad-machine",
        )


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 40 else f"{text[:40]}..."
