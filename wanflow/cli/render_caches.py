"""What a plan says of step caches, in lines and a table."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from rich.table import Table

from wanflow.terminal.layout import add_row, bare_table
from wanflow.terminal.safe import clean
from wanflow.units import format_seconds

Report = Mapping[str, Any]


def cache_lines(report: Report) -> Iterator[str]:
    """Say of each stage with a step cache which steps it leaves out; the first step is 0."""
    for stage in report["stages"]:
        cache = stage.get("cache")
        if cache:
            yield clean(f"{stage['stage']}: {_said(stage, cache)}")


def _said(stage: Report, cache: Report) -> str:
    kind, steps = cache["kind"], stage["steps"]
    if cache["may_skip"]:
        why = "its weights decide" if kind == "teacache" else "the run decides"
        least, most = format_seconds(cache["least_seconds"]), format_seconds(stage["seconds"])
        count = len(cache["may_skip"])
        return f"{kind} may skip up to {count} of {steps} steps, {why}: takes {least} to {most}"
    by_pass = cache["skipped_steps"]
    if not by_pass:
        return f"{kind} skips none of {steps} steps"
    alike = len({tuple(at) for at in by_pass.values()}) == 1
    texts = [
        f"{len(at)} of {steps} steps{'' if alike else f' ({name})'}: {_ranges(at)}"
        for name, at in by_pass.items()
    ]
    return f"{kind} skips {texts[0] if alike else '; '.join(texts)}"


def _ranges(steps: Sequence[int]) -> str:
    """Write steps in order as `3, 5-7`."""
    runs: list[list[int]] = []
    for step in steps:
        if runs and runs[-1][-1] == step - 1:
            runs[-1].append(step)
        else:
            runs.append([step])
    return ", ".join(str(r[0]) if len(r) == 1 else f"{r[0]}-{r[-1]}" for r in runs)


def step_table(stage: Report) -> Table:
    """One row a step: its time, and what of it is not computed."""
    table = bare_table("step")
    table.columns[0].justify = "right"
    table.add_column("time", no_wrap=True, justify="right")
    table.add_column("skipped")
    for row in stage["each_step"]:
        add_row(table, str(row["step"]), format_seconds(row["seconds"]), ", ".join(row["skipped"]))
    return table
