"""A footprint as rows of plain values, small enough for a trace, and read back strictly. No torch.

What is said of many calls is said once, in a table that the calls' rows point into. What only the
allocator's replay needs (`requests`) is left out: its result, the slack, is in the rows.
"""

from __future__ import annotations

import json
from collections.abc import Hashable, Iterator

import attrs

from wanflow.scheduler.footprint.costs import CallRecord, Footprint, SegmentUse

Row = tuple[str, str]
"""The section, and the row as JSON text."""


@attrs.define
class _Interned:
    """Rows by number; one that is there already is not written again."""

    _numbers: dict[Hashable, int] = attrs.field(factory=dict, init=False)
    rows: list[object] = attrs.field(factory=list, init=False)

    def number(self, key: Hashable, row: object) -> int:
        if key not in self._numbers:
            self._numbers[key] = len(self.rows)
            self.rows.append(row)
        return self._numbers[key]


_JSON = json.JSONEncoder(separators=(",", ":"))  # `json.dumps` would make one for every row


def rows_of(footprint: Footprint) -> Iterator[Row]:
    """Yield the rows, tables before the calls that point into them."""
    stages = [
        [f.stage, f.op, f.model, f.steps, f.weights_bytes, dict(f.knobs), list(f.rounding),
         footprint.dtypes.get(f.stage)]
        for f in footprint.stages
    ]  # fmt: skip
    segments = [_segment(use) for use in footprint.segments.values()]
    tables = _InternedRows(
        {facts.stage: number for number, facts in enumerate(footprint.stages)},
        {name: number for number, name in enumerate(footprint.segments)},
    )
    calls = [tables.call(call) for call in footprint.calls]
    end = [len(calls), footprint.staging_bytes, sorted(footprint.keeps)]
    for section, rows in (
        ("stage", stages), ("segment", segments), ("cost", tables.costs.rows),
        ("made", tables.made.rows), ("call", tables.kinds.rows), ("step", calls), ("end", [end]),
    ):  # fmt: skip
        for row in rows:
            yield section, _JSON.encode(row)


def _segment(use: SegmentUse) -> list[object]:
    """A row; what is read for it is left out where that is what it has on the device."""
    row: list[object] = [use.name, use.nbytes]
    return row if use.file_bytes == use.nbytes else [*row, use.file_bytes]


@attrs.define
class _InternedRows:
    stages: dict[str, int]
    segments: dict[str, int]
    costs: _Interned = attrs.field(factory=_Interned, init=False)
    made: _Interned = attrs.field(factory=_Interned, init=False)
    kinds: _Interned = attrs.field(factory=_Interned, init=False)

    def call(self, call: CallRecord) -> list[object]:
        cost = call.cost
        flops = tuple(cost.flops.items())
        exchanged = (cost.exchanged_bytes, cost.exchanges) if cost.exchanges else ()
        work = (cost.workspace_bytes, flops, cost.memory_bytes, cost.kernels, *exchanged)
        row = [cost.workspace_bytes, dict(flops), cost.memory_bytes, cost.kernels, *exchanged]
        number = self.costs.number(work, row)
        segment = None if call.segment is None else self.segments[call.segment]
        kind = (self.stages[call.stage], call.kind, segment, number)
        makes = []
        for value in call.makes:
            key = (value.name, value.nbytes, value.is_state, value.shape)
            row = [value.name, value.nbytes, value.is_state, list(value.shape)]
            makes += [value.value, self.made.number(key, row)]
        return [
            self.kinds.number(kind, list(kind)), call.step, cost.slack_bytes, call.gathered_bytes,
            list(call.reads), makes, [item for pair in call.renames for item in pair],
        ]  # fmt: skip
