"""The format's page says what the code does."""

import re
from pathlib import Path

import attrs
import pytest

from wanflow.trace.codec import FIELDS
from wanflow.trace.framing import FORMAT
from wanflow.trace.summary import PeakMoment, StageSummary, Summary, VerbTotal

PAGE = Path(__file__).parents[2] / "docs" / "trace-format.md"


@pytest.fixture
def page() -> str:
    """Read the page."""
    return PAGE.read_text()


def test_snippet_reads_a_trace(page, write, run, monkeypatch, capsys) -> None:
    """Ten lines and plain msgpack show every event."""
    monkeypatch.chdir(write(run).parent)
    found = re.search(r"```python\n(.*?)```", page, re.DOTALL)
    assert found is not None

    exec(found[1], {})  # noqa: S102

    shown = capsys.readouterr().out.splitlines()
    assert len(shown) == len(run)
    assert "'resident_bytes': 2147483648" in shown[0]


@pytest.mark.parametrize("tag", FIELDS)
def test_every_field_is_described(page, tag) -> None:
    """In the paragraph of its kind, in order."""
    part = page[page.index(f"**`{tag}`**") :]
    places = [part.index(f"`{name}`") for name in FIELDS[tag]]

    assert sorted(places) == places


@pytest.mark.parametrize("record", [Summary, StageSummary, VerbTotal, PeakMoment])
def test_every_key_of_the_summary_is_described(page, record) -> None:
    """A new key needs a line."""
    part = page[page.index("summary --json") :]

    assert not [f.name for f in attrs.fields(record) if f"`{f.name}`" not in part]
    assert FORMAT in page
