"""What is said of prompts that are too long."""

from collections.abc import Iterator, Mapping
from typing import Any

from wanflow.terminal.safe import clean

_SHOWN = 32  # characters


def cut_lines(report: Mapping[str, Any]) -> Iterator[str]:
    """Give a line for each prompt of a plan, or of a run, that is cut."""
    for cut in report.get("cut_prompts", ()):
        rest = cut["cut_from"]
        words = rest if len(rest) <= _SHOWN else f"{rest[:_SHOWN].rstrip()}..."
        what = (
            f"{cut['prompt']} of {cut['stage']}: {cut['tokens']} tokens, {cut['max_tokens']} count"
        )
        yield clean(f'{what}; cut from "{words}" on')
