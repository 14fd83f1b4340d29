"""A footprint as rows of plain values, small enough for a trace, and read back strictly. No torch.

What is said of many calls is said once, in a table that the calls' rows point into. What only the
allocator's replay needs (`requests`) is left out: its result, the slack, is in the rows.
"""

from __future__ import annotations

import json
from collections.abc import Hashable, Iterator

import attrs

from wanflow.scheduler.footprint.costs import CallRecord, Footprint

Row = tuple[str, str]
"""The section, and the row as JSON text."""


@attrs.define
class _Interned:
    """Rows by number; one that is there already is not written again."""

    _numbers: dict[Hashable, int] = attrs.field(factory=dict, init=False)
    rows: list[object] = attrs.field(factory=list, init=False)

    def number(self, key: Hashable, row: object) -> int:
        found = self._numbers.get(key)
        if found is None:
            found = self._numbers[key] = len(self.rows)
            self.rows.append(row)
        return found


def rows_of(footprint: Footprint) -> Iterator[Row]:
    """Yield the rows, tables before the steps that point into them."""
    stages = [
        [f.stage, f.op, f.model, f.steps, f.weights_bytes, dict(f.knobs), list(f.rounding),
         footprint.dtypes.get(f.stage)]
        for f in footprint.stages
    ]  # fmt: skip
    segments = [[name, use.nbytes] for name, use in footprint.segments.items()]
    tables = _InternedRows(
        {facts.stage: number for number, facts in enumerate(footprint.stages)},
        {name: number for number, name in enumerate(footprint.segments)},
    )
    steps = [tables.step(step) for step in footprint.calls]
    end = [len(steps), footprint.staging_bytes, sorted(footprint.keeps)]
    for section, rows in (
        ("stage", stages), ("segment", segments), ("cost", tables.costs.rows),
        ("made", tables.made.rows), ("call", tables.calls.rows), ("step", steps), ("end", [end]),
    ):  # fmt: skip
        for row in rows:
            yield section, json.dumps(row, separators=(",", ":"))


@attrs.define
class _InternedRows:
    stages: dict[str, int]
    segments: dict[str, int]
    costs: _Interned = attrs.field(factory=_Interned, init=False)
    made: _Interned = attrs.field(factory=_Interned, init=False)
    calls: _Interned = attrs.field(factory=_Interned, init=False)

    def step(self, step: CallRecord) -> list[object]:
        cost = step.cost
        flops = tuple(cost.flops.items())
        work = (cost.workspace_bytes, flops, cost.memory_bytes, cost.kernels)
        row = [cost.workspace_bytes, dict(flops), cost.memory_bytes, cost.kernels]
        number = self.costs.number(work, row)
        segment = None if step.segment is None else self.segments[step.segment]
        call = (self.stages[step.stage], step.kind, segment, number)
        made = []
        for each in step.makes:
            what = (each.name, each.nbytes, each.is_state, each.shape)
            values = [each.name, each.nbytes, each.is_state, list(each.shape)]
            made += [each.value, self.made.number(what, values)]
        return [
            self.calls.number(call, list(call)), step.step, cost.slack_bytes, step.gathered_bytes,
            list(step.reads), made, [item for pair in step.renames for item in pair],
        ]  # fmt: skip
