"""The report as one HTML page by itself: inline style and SVG, no script, no network."""

from __future__ import annotations

from collections.abc import Mapping
from html import escape as escape_html

from wanflow.terminal.safe import printable
from wanflow.trace.exports.chart import bare_chart
from wanflow.trace.exports.follow import KINDS
from wanflow.trace.exports.scene import PALETTE
from wanflow.trace.exports.svg import inline_svg
from wanflow.trace.report.advice import Advised
from wanflow.trace.report.content import Block, Chart, Paragraph, Table, Writer
from wanflow.trace.report.facts import Facts
from wanflow.trace.report.wording import Lang

_COLOURS = " ".join(f"--{name}: {colour};" for name, colour in PALETTE.items())
_STYLE = """
@media (prefers-color-scheme: dark) { :root { --ink: #e6edf3; --paper: #0d1117; --line: #30363d;
  --soft: #161b22; --strong: #ff7b72; } }
* { box-sizing: border-box; }
body { margin: 0 auto; padding: 1rem; max-width: 62rem; background: var(--paper);
  color: var(--ink); font: 15px/1.5 system-ui, sans-serif; }
h1 { font-size: 1.5rem; overflow-wrap: anywhere; } h2 { font-size: 1.15rem; margin-top: 2rem; }
.wide { overflow-x: auto; } table { border-collapse: collapse; margin: .5rem 0; }
th, td { padding: .25rem .75rem .25rem 0; border-bottom: 1px solid var(--line); text-align: left;
  vertical-align: top; }
.n { text-align: right; white-space: nowrap; font-variant-numeric: tabular-nums; }
.strong { color: var(--strong); font-weight: 600; }
pre { background: var(--soft); padding: .5rem; overflow-x: auto; }
svg { width: 100%; min-width: 42rem; height: auto; display: block; }
svg text { paint-order: stroke; stroke: var(--paper); stroke-width: 3px; }
@media (max-width: 40rem) { body { font-size: 14px; } th, td { padding-right: .5rem; } }
.key span { display: inline-block; margin-right: 1rem; } .key i { display: inline-block;
  width: .8em; height: .8em; margin-right: .35em; }
""".strip()


def html(facts: Facts, advised: Advised | None = None, lang: Lang = "en") -> str:
    """Write *facts* and *advised* as one page."""
    writer = Writer(facts, advised, lang)
    graph = _safe(printable(facts.summary.graph or ""))
    title = f"{writer.say['title']}{': ' if graph else ''}{graph}"
    body = "\n".join(
        f'<section id="{section.name}"><h2>{_safe(section.title)}</h2>\n'
        + "\n".join(_block(block, writer) for block in section.blocks)
        + "\n</section>"
        for section in writer.sections()
    )
    policy = "default-src 'none'; style-src 'unsafe-inline'; img-src data:"
    return (
        f'<!doctype html>\n<html lang="{"en" if lang == "en" else "zh-CN"}">\n<head>\n'
        '<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">\n'
        '<link rel="icon" href="data:,">\n'
        f"<title>{title}</title>\n<style>\n:root {{ {_COLOURS} }}\n{_STYLE}\n</style>\n</head>\n"
        f"<body>\n<h1>{title}</h1>\n{body}\n</body>\n</html>\n"
    )


def _block(block: Block, writer: Writer) -> str:
    match block:
        case Paragraph(text=text, code=True):
            return f"<pre>{_safe(text)}</pre>"
        case Paragraph(text=text, strong=strong):
            return f'<p class="strong">{_safe(text)}</p>' if strong else f"<p>{_safe(text)}</p>"
        case Table():
            return _table(block)
        case Chart():
            return _chart(block, writer.say)


def _chart(chart: Chart, say: Mapping[str, str]) -> str:
    """Draw the budget's tier, with a key of the kinds under it."""
    drawing = inline_svg(bare_chart(chart.curves, chart.summary, say))
    key = "".join(
        f'<span><i style="background:var(--{kind})"></i>{_safe(say[kind])}</span>'
        for kind in KINDS
        if f"var(--{kind})" in drawing
    )
    return f'<div class="wide">{drawing}</div>\n<p class="key">{key}</p>'


def _table(table: Table) -> str:
    def cells(row: tuple[str, ...], tag: str) -> str:
        return "".join(
            f"<{tag}>{_safe(text)}</{tag}>"
            if index in table.words
            else f'<{tag} class="n">{_safe(text)}</{tag}>'
            for index, text in enumerate(row)
        )

    head = f"<thead><tr>{cells(table.heads, 'th')}</tr></thead>" if any(table.heads) else ""
    rows = "\n".join(f"<tr>{cells(row, 'td')}</tr>" for row in table.rows)
    return f'<div class="wide"><table>{head}<tbody>\n{rows}\n</tbody></table></div>'


def _safe(text: str) -> str:
    return escape_html(text, quote=True)
