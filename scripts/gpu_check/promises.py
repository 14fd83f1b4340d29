"""A promise, what was measured of it, and the page that says both."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import attrs


@attrs.frozen
class Promise:
    """One line: *kept* is None where nothing is promised and the figure is worth knowing."""

    part: str
    name: str
    promised: str
    measured: str
    kept: bool | None
    facts: dict[str, Any] = attrs.field(factory=dict)

    @property
    def verdict(self) -> str:
        """One word for the page."""
        return {True: "pass", False: "FAIL", None: "-"}[self.kept]


def page(report: dict[str, Any], promises: Sequence[Promise]) -> str:
    """Lay the promises out as Markdown, the failures first."""
    machine = report["machine"]
    broken = sum(p.kept is False for p in promises)
    kept = sum(p.kept is True for p in promises)
    about = ", ".join(f"{name} {value}" for name, value in machine.items())
    lines = [
        f"# gpu-check: {kept} kept, {broken} broken, {len(report['left_out'])} left out",
        "",
        f"{about}; {report['seconds']:.0f} s",
        "",
        "| part | what | promised | measured | |",
        "|---|---|---|---|---|",
    ]
    for promise in sorted(promises, key=lambda p: p.kept is not False):
        cells = (promise.part, promise.name, promise.promised, promise.measured, promise.verdict)
        lines.append("| " + " | ".join(cell.replace("|", "/") for cell in cells) + " |")
    if report["left_out"]:
        lines += ["", "Left out:", "", *(f"- {text}" for text in report["left_out"])]
    return "\n".join([*lines, ""])
