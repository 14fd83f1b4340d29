"""The lines of a campaign: kept one by one, and told in a table."""

from __future__ import annotations

from pathlib import Path

from scripts.campaign.results import Results, table


def row(key: str, *problems: str) -> dict[str, object]:
    """One trial."""
    return {
        "key": key, "kind": "kills", "case": "t2v", "codes": ["-9", "0"], "stops": 1,
        "problems": list(problems), "again": f"try {key}",
    }  # fmt: skip


def test_goes_on_after_half_a_line(tmp_path: Path, capsys) -> None:
    """What was stopped while it was told is made again; what is wrong is told with its command."""
    results = Results(tmp_path / "kills.jsonl")
    results.add(row("one"))
    with results.path.open("a") as file:
        file.write('{"key": "tw')
    assert results.done() == {"one"}
    results.add(row("two", "other frames"))
    assert results.done() == {"one", "two"}
    assert capsys.readouterr().out == "two: other frames\n  again: try two\n"
    assert table(results.rows()).splitlines()[1].split() == [
        "kills", "t2v", "2", "2", "-9:2", "0:2", "1",
    ]  # fmt: skip
