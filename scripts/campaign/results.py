"""What came of each trial, a JSON line each: a campaign that was stopped goes on after its last."""

from __future__ import annotations

import json
import os
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import attrs

Row = Mapping[str, Any]


@attrs.frozen
class Results:
    """The lines of one kind of trial."""

    path: Path

    def rows(self) -> list[Row]:
        """All that is there; half a line at the end is a trial that was stopped."""
        found: list[Row] = []
        if self.path.exists():
            for line in self.path.read_text().splitlines():
                try:
                    found.append(json.loads(line))
                except ValueError:
                    continue
        return found

    def done(self) -> set[str]:
        """The keys of trials that need not be made again."""
        return {row["key"] for row in self.rows()}

    def add(self, row: Row) -> None:
        """Keep a trial, and tell at once what is wrong with it and how to try it again."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self.path.open("a+b") as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(max(0, size - 1))
            ends = "" if file.read(1) in (b"", b"\n") else "\n"  # half a line stays one
            file.write((ends + json.dumps(row, ensure_ascii=False) + "\n").encode())
        for problem in row["problems"]:
            print(f"{row['key']}: {problem}\n  again: {row['again']}", flush=True)


def table(rows: Iterable[Row]) -> str:
    """A line a kind and case: trials, how they went on, what is wrong."""
    groups: dict[tuple[str, str], list[Row]] = defaultdict(list)
    for row in rows:
        groups[row["kind"], row["case"]].append(row)
    lines = [f"{'kind':8}{'case':24}{'trials':>8}{'stops':>8}{'codes':>28}{'wrong':>8}"]
    for (kind, case), found in sorted(groups.items()):
        codes = Counter(code for row in found for code in row["codes"])
        said = " ".join(f"{code}:{count}" for code, count in sorted(codes.items()))
        wrong = sum(bool(row["problems"]) for row in found)
        stops = sum(row["stops"] for row in found)
        lines.append(f"{kind:8}{case:24}{len(found):8}{stops:8}{said:>28}{wrong:8}")
    return "\n".join(lines)
