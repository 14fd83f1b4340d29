"""Every number in the text of a report is derived again from the events, in both languages."""

import re

import pytest

from tests.trace.report.derive import Derived
from wanflow.trace import TraceReader, read
from wanflow.trace.report import facts, html, markdown

# Numbers with their units; in tables also whole ones.
NUMBER = re.compile(
    r"(?<![\w.:])[-+]?\d[\d,]*(?:\.\d+)?(?::\d\d)*(?: (?:[KMGT]iB|B|s)\b|%)?(?![\w.]*\d)"
)
MEASURE = re.compile(r"\d ?(?:[KMGT]iB|B|s)\b")
NAMED = re.compile(r"\S*[A-Za-z_]\S*\d\S*|\S*\d\S*[A-Za-z_/]\S*")
NAMES = re.compile(r"plan|versions|graph|计划|版本|流程图")


def numbers(text) -> list[str]:
    """Give the numbers of a report; rows of names and versions, and objects' names, are words."""
    found = []
    for line in text.splitlines():
        if not line.startswith(("#", "```")) and not NAMES.match(line.strip("| ")):
            for cell in line.split("|"):
                found += NUMBER.findall(cell if MEASURE.search(cell) else NAMED.sub("", cell))
    return found


@pytest.mark.parametrize("lang", ["en", "zh"])
@pytest.mark.parametrize("which", ["simulated", "ran"])
def test_every_number_is_in_the_events(request, which, lang) -> None:
    """None is invented, none is off."""
    path = request.getfixturevalue(which)
    with TraceReader(path) as reader:
        header = reader.header
    known = set(Derived(list(read(path)), header).everything(header))
    found = numbers(markdown(facts(path), None, lang))

    assert len(found) > 100
    assert not [number for number in found if number not in known]


@pytest.mark.parametrize("which", ["simulated", "ran"])
def test_the_page_has_the_same_numbers(request, which) -> None:
    """HTML and Markdown are two looks of one report."""
    found = facts(request.getfixturevalue(which))
    text = re.sub(r"\\(.)", r"\1", markdown(found))
    cells = re.findall(r"<td[^>]*>([^<]*)</td>", html(found))

    assert len(cells) > 50
    assert not [cell for cell in cells if f"| {cell} |" not in text.replace("|  |", "| |")]
