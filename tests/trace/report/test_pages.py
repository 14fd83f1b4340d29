"""The report's two looks: escaped whatever names hold, in two languages, and without a network."""

import re
from itertools import pairwise

import attrs
import pytest

from wanflow.trace.report import Advice, Advised, html, markdown
from wanflow.trace.report.facts import facts_of
from wanflow.trace.report.wording import phrases

HOSTILE = "\x1b[31m|<script>alert(1)</script>](http://x.test)\n# *`${a}`\u202e"
ADVICE = Advised(
    "wanflow plan t2v-tiny", "rtx4090", 100, 10.0,
    (Advice(("--vram", "50B"), "same", 50, 11.0, 50, 1.0, "high"),),
)  # fmt: skip


@pytest.fixture
def found(run, header):
    """Give the facts of the small run."""
    return facts_of(lambda: run, header)


@pytest.fixture
def hostile(run, header):
    """Give the facts of a run whose every name attacks."""
    words = ("stage", "name", "tier", "source", "topic", "text", "op")
    bad = [attrs.evolve(e, **{k: HOSTILE for k in words if hasattr(e, k)}) for e in run]
    named = {**header, "graph": HOSTILE, "device": HOSTILE, "budget_tier": HOSTILE}
    return facts_of(lambda: bad, {**named, "stages": [HOSTILE], "versions": {HOSTILE: HOSTILE}})


class TestMarkdown:
    """Tables and sentences."""

    def test_sections(self, found) -> None:
        """What the original's report had, and where the time went."""
        heads = re.findall(r"^## (.*)$", markdown(found, ADVICE), re.MULTILINE)
        assert heads == [
            "The run", "Loading the models", "The peak", "Memory over time", "Stage by stage",
            "Step by step, frame by frame", "Time lost waiting", "What to do", "Notes",
        ]  # fmt: skip

    def test_tables_are_tables(self, found) -> None:
        """Every row has as many cells as its head."""
        rows = [line for line in markdown(found, ADVICE).splitlines() if line.startswith("|")]
        assert len(rows) > 20
        for before, row in pairwise(rows):
            if set(row) <= set("|-:"):
                assert before.count("|") == row.count("|")

    def test_hostile_names(self, hostile) -> None:
        """No tag, no link, no cell that ends early, no control character."""
        text = markdown(hostile, ADVICE)
        plain = re.sub(r"\\[\\`*_\[\]<>|~#&!$]", "", text)
        assert all(line.isprintable() for line in text.splitlines())
        assert "<" not in plain.replace("```", "")
        assert "](" not in plain
        assert not [line for line in plain.splitlines() if line.startswith("# *")]

    def test_a_reason_is_told(self, found) -> None:
        """Why nothing was planned."""
        text = markdown(found, Advised("", "", 0, 0.0, (), "no graph"))
        assert "Nothing could be planned again: no graph." in text


class TestHtml:
    """One page by itself."""

    @pytest.mark.parametrize("lang", ["en", "zh"])
    def test_names_no_address(self, found, lang) -> None:
        """Nothing to load, no script."""
        page = html(found, ADVICE, lang)
        assert not re.search(r"https?:|<script|@import|url\(", page)
        assert page.count('Z" fill="var(--') >= 3

    def test_hostile_names(self, hostile) -> None:
        """They are text."""
        page = html(hostile, ADVICE)
        assert "<script" not in page
        assert "&lt;script&gt;" in page
        assert "\x1b" not in page
        assert "\u202e" not in page

    def test_empty(self, header) -> None:
        """A trace without events has a page too."""
        assert "Nothing lay on the device." in html(facts_of(list, header))


class TestLanguages:
    """English and Chinese."""

    def test_same_sentences(self) -> None:
        """Each has the same places for numbers, and is translated."""
        english, chinese = phrases("en"), phrases("zh")
        for key, text in english.items():
            places = re.findall(r"\{\w+\}", text)
            assert sorted(places) == sorted(re.findall(r"\{\w+\}", chinese[key]))
            assert re.search("[\u4e00-\u9fff]", chinese[key])

    def test_same_numbers(self, found) -> None:
        """The words differ, the numbers do not."""
        both = [markdown(found, ADVICE, lang) for lang in ("en", "zh")]
        figures = [sorted(re.findall(r"\d+\.\d+ (?:GiB|s)|\d+\.\d%", text)) for text in both]
        assert figures[0] == figures[1]
        assert both[0] != both[1]
