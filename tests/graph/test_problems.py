"""How problems are rendered."""

from __future__ import annotations

import pytest

from wanflow.graph import load_text
from wanflow.graph.problems import GraphError, ProblemList
from wanflow.graph.snippet import snippet
from wanflow.graph.source import Mark, Source


def many(count: int) -> GraphError:
    problems = ProblemList(Source("g.yaml", "a: 1\n" * count))
    for line in range(count, 0, -1):
        problems.add("some-code", f"wrong {line}", Mark(line, 1))
    with pytest.raises(GraphError) as caught:
        problems.raise_any()
    return caught.value


def test_rendering() -> None:
    """As the sketch in the design has it."""
    problems = ProblemList(Source("g.yaml", "op: denose\n"))
    problems.add("unknown-op", "no such op", Mark(1, 5, 6), word="denose", names=["denoise"])
    with pytest.raises(GraphError) as caught:
        problems.raise_any()
    assert str(caught.value) == (
        "error[unknown-op]: no such op\n"
        "  --> g.yaml:1:5\n"
        "   1 | op: denose\n"
        "     |     ^^^^^^ did you mean 'denoise'?"
    )


def test_problems_are_in_the_files_order() -> None:
    """Whatever order they were found in."""
    assert [problem.line for problem in many(5).problems] == [1, 2, 3, 4, 5]


def test_twenty_are_shown() -> None:
    """The rest is a number, and in the JSON."""
    error = many(25)
    assert str(error).count("error[") == 20
    assert str(error).endswith("and 5 more\n25 errors in g.yaml")
    assert len(error.problems) == 25


def test_detail_is_json_of_every_problem() -> None:
    """With file, line, column and hint for editors."""
    detail = many(2).detail
    assert detail["count"] == 2
    assert detail["problems"] == [
        {
            "code": "some-code", "message": f"wrong {line}", "file": "g.yaml", "line": line,
            "column": 1, "stage": "", "hint": "", "note": "",
        }
        for line in (1, 2)
    ]  # fmt: skip


def test_code_of_the_error_is_the_first_problems() -> None:
    """A script can branch on it."""
    assert many(3).code == "some-code"


def test_same_problem_is_told_once() -> None:
    """A default used at two ports is wrong once."""
    problems = ProblemList(Source("g.yaml", "a"))
    problems.add("x", "wrong", Mark(1, 1))
    problems.add("x", "wrong", Mark(1, 1))
    assert problems.count == 1


@pytest.mark.parametrize(
    ("line", "mark", "text", "pointer"),
    [
        ("a: b", Mark(1, 4), "a: b", "   ^"),
        ("a: b", Mark(1, 5), "a: b", "    ^"),
        ("a: bcd", Mark(1, 4, 3), "a: bcd", "   ^^^"),
        ("\ta: b", Mark(1, 5), " a: b", "    ^"),
        ("静: b", Mark(1, 4), "静: b", "    ^"),
        ("a: 静态", Mark(1, 4, 2), "a: 静态", "   ^^^^"),
        ("a\u202eb: c", Mark(1, 3), "a\\u202eb: c", "       ^"),
        ("a" * 300, Mark(1, 1, 300), "a" * 100 + "…", "^" * 100),
        ("a" * 300 + "b", Mark(1, 301), "…" + "a" * 60 + "b", " " * 61 + "^"),
    ],
)
def test_snippet(line: str, mark: Mark, text: str, pointer: str) -> None:
    """The caret stands under what is meant, also after tabs and wide characters."""
    shown = snippet([line], mark)
    assert (shown.text, shown.pointer) == (text, pointer)


def test_hostile_names_are_escaped() -> None:
    """Text that would turn a terminal's line around is shown, not obeyed."""
    with pytest.raises(GraphError) as caught:
        load_text("wanflow: 1\nname: \u202egnp.exe\n", "evil\x1b[31m.yaml")
    assert "\u202e" not in str(caught.value)
    assert "\x1b" not in str(caught.value)
    assert "\\u202e" in str(caught.value)


def test_misspelt_section_is_read_as_what_was_meant() -> None:
    """So a mistake inside it is told in the same go."""
    with pytest.raises(GraphError) as caught:
        load_text("wanflow: 1\nname: x\nstagse: {a: {op: nose}}\noutputs: {x: a.b}\n")
    assert [problem.code for problem in caught.value.problems] == ["unknown-key", "unknown-op"]
