"""The format's page says what the code does."""

import re
from pathlib import Path

import attrs
import pytest

from wanflow.trace.by_kind import ByKind
from wanflow.trace.check import Checked, TierAccount
from wanflow.trace.codec import FIELDS
from wanflow.trace.diff import Change, Diff
from wanflow.trace.moment import Moment, Resident
from wanflow.trace.report import Advice, Advised
from wanflow.trace.report.facts import StepFact, WaitFact
from wanflow.trace.stage_peaks import ModelLoad
from wanflow.trace.summary import PeakMoment, StageSummary, Summary, VerbTotal
from wanflow.trace.timeline import Row, Timeline

DOCS = Path(__file__).parents[2] / "docs"
PAGE, KEYS = DOCS / "trace-format.md", DOCS / "trace-json.md"


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


RECORDS = [
    ("summary", Summary), ("summary", StageSummary), ("summary", VerbTotal),
    ("summary", PeakMoment),
    ("timeline", Timeline), ("timeline", Row), ("peak", Moment), ("peak", Resident),
    ("diff", Diff), ("diff", Change), ("check", Checked), ("check", TierAccount),
    ("report", ModelLoad), ("report", StepFact), ("report", WaitFact), ("report", Advised),
    ("report", Advice),
]  # fmt: skip


@pytest.mark.parametrize(("view", "record"), RECORDS)
def test_every_key_of_the_json_is_described(view, record) -> None:
    """A new key needs a line."""
    page = KEYS.read_text()
    start = page.index(f"## `wanflow trace {view} --json`")
    end = page.find("\n## ", start)
    part = page[start : end if end > 0 else None]

    names = [f.name for f in attrs.fields(record) if f.type != "ByKind"]
    if len(names) < len(attrs.fields(record)):
        names += [f.name for f in attrs.fields(ByKind)]
    assert not [name for name in names if f"`{name}`" not in part]
