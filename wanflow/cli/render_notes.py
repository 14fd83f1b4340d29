"""What a plan, or a run, has to say of its weights, its pictures and its prompts."""

from collections.abc import Iterator, Mapping
from typing import Any

from wanflow.terminal.safe import clean

_SHOWN = 32  # characters


def note_lines(report: Mapping[str, Any]) -> Iterator[str]:
    """Give a line for each note of a report, and for each prompt that is cut."""
    for text in (*report.get("notes", ()), *_cuts(report)):
        yield clean(f"note: {text}")


def _cuts(report: Mapping[str, Any]) -> Iterator[str]:
    for cut in report.get("cut_prompts", ()):
        rest = cut["cut_from"]
        words = rest if len(rest) <= _SHOWN else f"{rest[:_SHOWN].rstrip()}..."
        what = (
            f"{cut['prompt']} of {cut['stage']}: {cut['tokens']} tokens, {cut['max_tokens']} count"
        )
        yield f'{what}; cut from "{words}" on'
