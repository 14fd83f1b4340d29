"""The report as Markdown: tables and sentences, names escaped."""

from __future__ import annotations

import re

from wanflow.trace.listing import printable
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
        case Chart(timeline=timeline):
            cells = _narrow(timeline.level)
            top = max(timeline.peak_bytes, timeline.budget_bytes or 0, 1)
            line = "".join(_BARS[min(9, -(-9 * nbytes // top))] for nbytes in cells)
            began, ended = map(format_seconds, (timeline.began_seconds, timeline.ended_seconds))
            return ["```", f"{began} [{line}] {ended}", f"@ = {format_bytes(top)}", "```"]


def _narrow(level: tuple[int, ...]) -> list[int]:
    """Take the most of several cells for one."""
    size = max(1, -(-len(level) // _CELLS))
    return [max(level[i : i + size]) for i in range(0, len(level), size)]


def _table(table: Table) -> list[str]:
    rules = ["---" if i in table.words else "--:" for i in range(len(table.heads))]
    rows = [table.heads, *table.rows]
    lines = ["| " + " | ".join(map(escape, row)) + " |" for row in rows]
    return [lines[0], "|" + "|".join(rules) + "|", *lines[1:]]
