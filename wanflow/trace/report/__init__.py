"""The report of a run: its facts from the events, its advice from plans, as Markdown or HTML."""

from wanflow.trace.report.advice import Advice, Advised
from wanflow.trace.report.facts import Facts, facts
from wanflow.trace.report.html import html
from wanflow.trace.report.markdown import markdown

__all__ = ["Advice", "Advised", "Facts", "facts", "html", "markdown"]
