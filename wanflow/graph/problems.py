"""What is wrong with a graph file: every problem at once, each with its place and what to write."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import NoReturn

import attrs

from wanflow.errors import InputError
from wanflow.graph.snippet import snippet
from wanflow.graph.source import Fault, Mark, Source
from wanflow.graph.wording import did_you_mean
from wanflow.terminal.safe import printable

MOST_SHOWN = 20
MOST_KEPT = 200  # a file of 20,000 mistakes is told from its first ones


@attrs.frozen
class Problem:
    """One mistake: a stable code, the message, the place, and what may have been meant."""

    code: str
    message: str
    file: str
    line: int
    column: int
    snippet: str = ""
    pointer: str = ""
    stage: str = ""
    suggestion: str = ""
    note: str = ""

    def __str__(self) -> str:
        note = f"     ({self.note})" if self.note else ""
        rows = [
            f"error[{self.code}]: {self.message}",
            f"  --> {printable(self.file)}:{self.line}:{self.column}{note}",
        ]
        if self.snippet:
            rows.append(f"{self.line:>4} | {self.snippet}")
            rows.append(f"     | {self.pointer} {self.suggestion}".rstrip())
        elif self.suggestion:
            rows.append(f"     | {self.suggestion}")
        return "\n".join(rows)

    def as_dict(self) -> dict[str, object]:
        """Give the problem as JSON data."""
        return {
            "code": self.code,
            "message": self.message,
            "file": self.file,
            "line": self.line,
            "column": self.column,
            "stage": self.stage,
            "hint": self.suggestion,
            "note": self.note,
        }


class GraphError(InputError):
    """A graph file is wrong; `problems` are all of its mistakes, in the file's order."""

    def __init__(self, problems: Sequence[Problem], count: int = 0) -> None:
        self.problems = tuple(problems)
        first = self.problems[0]
        detail = {
            **first.as_dict(),
            "count": max(count, len(problems)),
            "problems": [problem.as_dict() for problem in self.problems],
        }
        super().__init__(_render(self.problems, count), code=first.code, detail=detail)


@attrs.define
class ProblemList:
    """Collects the problems of one file."""

    source: Source
    found: list[Problem] = attrs.Factory(list)
    count: int = 0
    _seen: set[tuple[str, Mark, str]] = attrs.Factory(set)

    def add(
        self,
        code: str,
        message: str,
        mark: Mark,
        *,
        stage: str = "",
        suggestion: str = "",
        word: str = "",
        names: Collection[str] = (),
        note: str = "",
    ) -> None:
        """Add a problem; with `names` its suggestion is the one nearest to `word`."""
        if (code, mark, message) in self._seen:
            return
        self.count += 1
        if len(self.found) >= MOST_KEPT:
            return
        self._seen.add((code, mark, message))
        if names:
            suggestion = did_you_mean(word, names)
        self._keep(Problem(code, message, self.source.file, mark.line, mark.column,
                           stage=stage, suggestion=suggestion, note=note), mark)  # fmt: skip

    def refuse(self, fault: Fault) -> NoReturn:
        """Raise why the file can't be read at all."""
        self.add(
            fault.code, fault.message, fault.mark, suggestion=fault.suggestion, note=fault.note
        )
        raise GraphError(self.found)

    def raise_any(self) -> None:
        """Raise `GraphError` when there is a problem."""
        if self.found:
            ordered = sorted(self.found, key=lambda p: (p.line, p.column, p.code))
            raise GraphError(ordered, self.count)

    def place(self, mark: Mark) -> str:
        """Name a place in the file, for notes."""
        return f"{printable(self.source.file)}:{mark.line}:{mark.column}"

    def _keep(self, problem: Problem, mark: Mark) -> None:
        shown = snippet(self.source.lines, mark)
        self.found.append(attrs.evolve(problem, snippet=shown.text, pointer=shown.pointer))


def _render(problems: Sequence[Problem], count: int) -> str:
    shown = [str(problem) for problem in problems[:MOST_SHOWN]]
    count = max(count, len(problems))
    file = printable(problems[0].file)
    if count > len(shown):
        shown.append(f"and {count - len(shown)} more")
    if count > 1:
        shown.append(f"{count} errors in {file}")
    return "\n".join(shown)
