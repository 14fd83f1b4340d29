"""What a campaign keeps: a line for each batch of attempts, a line for each failure."""

from __future__ import annotations

import json
import subprocess
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import attrs

from benchmarks.lib.environment import ROOT
from scripts.fuzz.warm import Tried

_COUNTS, _FAILURES = "counts.jsonl", "failures.jsonl"


@attrs.frozen
class Book:
    """The folder of a campaign. Of inputs only the numbers are kept that make them again."""

    folder: Path

    def next_number(self, kind: str, seed: str) -> int:
        """Where a kind goes on."""
        done = [row for row in self._rows(_COUNTS) if (row["kind"], row["seed"]) == (kind, seed)]
        return max((row["first"] + row["count"] for row in done), default=0)

    def keep(self, kind: str, seed: str, code: str, tried: Sequence[Tried]) -> None:
        """Write a batch down; one line, so that a kill leaves it out or in."""
        if not tried:
            return
        failures = [result for result in tried if result.why]
        for result in failures:
            row = {"kind": kind, "seed": seed, "code": code, **attrs.asdict(result)}
            self._append(_FAILURES, row)
        self._append(
            _COUNTS,
            {
                "kind": kind, "seed": seed, "code": code, "first": tried[0].number,
                "count": len(tried), "failures": len(failures),
                "labels": dict(Counter(result.label for result in tried)),
                "seconds": round(sum(result.seconds for result in tried), 3),
                "slowest_seconds": max(result.seconds for result in tried),
                "most_bytes": max(result.grown_bytes for result in tried),
            },
        )  # fmt: skip

    def report(self) -> list[dict[str, Any]]:
        """Sum up each kind."""
        by_kind: dict[str, list[dict[str, Any]]] = defaultdict(list)
        for row in self._rows(_COUNTS):
            by_kind[row["kind"]].append(row)
        return [_summed(kind, rows) for kind, rows in sorted(by_kind.items())]

    def failures(self) -> list[dict[str, Any]]:
        """Give one failure of each kind and cause, with how many there are."""
        causes: dict[tuple[str, str, str], list[dict[str, Any]]] = defaultdict(list)
        for row in self._rows(_FAILURES):
            causes[row["kind"], row["code"], row["why"][:80]].append(row)
        return [{**rows[0], "times": len(rows)} for rows in causes.values()]

    def _append(self, name: str, row: dict[str, object]) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        with (self.folder / name).open("a", encoding="utf-8") as file:
            file.write(json.dumps(row) + "\n")

    def _rows(self, name: str) -> Iterator[dict[str, Any]]:
        path = self.folder / name
        if not path.is_file():
            return
        for line in path.read_text(encoding="utf-8").splitlines():
            try:
                yield json.loads(line)
            except ValueError:
                continue  # cut by a kill


def _summed(kind: str, rows: Iterable[dict[str, Any]]) -> dict[str, Any]:
    rows = list(rows)
    labels: Counter[str] = Counter()
    for row in rows:
        labels.update(row["labels"])
    return {
        "kind": kind, "count": sum(row["count"] for row in rows),
        "failures": sum(row["failures"] for row in rows),
        "seconds": round(sum(row["seconds"] for row in rows), 1),
        "slowest_seconds": max(row["slowest_seconds"] for row in rows),
        "most_bytes": max(row["most_bytes"] for row in rows), "labels": dict(labels.most_common()),
    }  # fmt: skip


def table(rows: Sequence[dict[str, Any]]) -> str:
    """Draw the sums."""
    lines = [f"{'kind':<12} {'inputs':>8} {'failures':>8} {'slowest':>8} {'memory':>9}  ends"]
    for row in rows:
        ends: Counter[str] = Counter()
        for label, count in row["labels"].items():
            ends[label.split()[0]] += count
        told = ", ".join(f"{count} x {label}" for label, count in ends.most_common())
        codes = len([label for label in row["labels"] if " " in label])
        lines.append(
            f"{row['kind']:<12} {row['count']:>8} {row['failures']:>8} "
            f"{row['slowest_seconds']:>6.2f} s "
            f"{row['most_bytes'] / 2**20:>5.0f} MiB  {told}; {codes} error codes"
        )
    return "\n".join(lines)


def commit() -> str:
    """Name the code that is tried, where it lies in a checkout."""
    words = ["git", "-C", str(ROOT), "describe", "--always", "--dirty"]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    return done.stdout.strip() or "unknown"
