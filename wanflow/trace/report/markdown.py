"""The report as Markdown: tables and sentences, names escaped."""

from __future__ import annotations

import re

from wanflow.terminal.safe import printable
from wanflow.trace.report.advice import Advised
from wanflow.trace.report.content import Block, Chart, Paragraph, Table, Writer
from wanflow.trace.report.facts import Facts
from wanflow.trace.report.wording import Lang
from wanflow.units import format_bytes, format_seconds

_SPECIAL = re.compile(r"([\\`*_\[\]<>|~#&!$])")
_BARS = " .:-=+*#%@"
_CELLS = 60


def markdown(facts: Facts, advised: Advised | None = None, lang: Lang = "en") -> str:
    """Write *facts* and *advised* as one page."""
    writer = Writer(facts, advised, lang)
    graph = escape(printable(facts.summary.graph or ""))
    lines = [f"# {writer.say['title']}{': ' if graph else ''}{graph}", ""]
    for section in writer.sections():
        lines += [f"## {section.title}", ""]
        for block in section.blocks:
            lines += [*_block(block), ""]
    return "\n".join(lines)


def escape(text: str) -> str:
    """Make *text* plain in Markdown: no markup, no HTML, no cell ended."""
    return _SPECIAL.sub(r"\\\1", " ".join(text.split()))


def _block(block: Block) -> list[str]:
    match block:
        case Paragraph(text=text, code=True):
            return ["```", text.replace("```", "'''"), "```"]
        case Paragraph(text=text, strong=strong):
            return [f"**{escape(text)}**" if strong else escape(text)]
        case Table():
            return _table(block)
        case Chart():
            return _chart(block)


def _chart(chart: Chart) -> list[str]:
    """Draw the budget's tier, the most of several cells for one."""
    summary, curve = chart.summary, chart.curves.tiers.get(chart.summary.budget_tier or "")
    level = curve.resident_bytes if curve is not None else [0] * _CELLS
    size = len(level) // _CELLS
    top = max(*level, summary.budget_bytes or 0, 1)
    cells = (max(level[i : i + size]) for i in range(0, len(level), size))
    line = "".join(_BARS[min(9, -(-9 * nbytes // top))] for nbytes in cells)
    ended = format_seconds(chart.curves.last_ns / 1e9)
    return ["```", f"{format_seconds(0)} [{line}] {ended}", f"@ = {format_bytes(top)}", "```"]


def _table(table: Table) -> list[str]:
    rules = ["---" if i in table.words else "--:" for i in range(len(table.heads))]
    rows = [table.heads, *table.rows]
    lines = ["| " + " | ".join(map(escape, row)) + " |" for row in rows]
    return [lines[0], "|" + "|".join(rules) + "|", *lines[1:]]
