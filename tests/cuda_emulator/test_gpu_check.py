"""`make gpu-check` in small, on the emulated card: each part runs, and a broken promise is told."""

import json

import pytest

from scripts.gpu_check.__main__ import check
from wanflow.scheduler.run import probe as probing
from wanflow.units import GIB, MIB

QUICK = ("machine", "uploads")


def rows(out) -> dict[str, dict]:
    """The lines of the JSON, by what they say."""
    report = json.loads((out / "gpu-check.json").read_text())
    assert not report["left_out"]
    return {row["name"]: row for row in report["promises"]}


def test_quick_parts(emulator, tmp_path, capsys):
    """The page has a line a promise."""
    code = check("cuda:0", tmp_path, shrink=True, parts=QUICK)

    lines = rows(tmp_path)
    page = (tmp_path / "gpu-check.md").read_text()
    assert all(f"| {name} |" in page for name in lines)
    assert lines["problems that doctor finds"]["kept"] is True
    assert code == (1 if "| FAIL |" in page else 0)
    assert "rate of the link" in capsys.readouterr().out
    assert emulator.counters()["allocated"] == 0


@pytest.mark.wide
def test_every_part(emulator, tmp_path, monkeypatch):
    """Every promise is kept but those that rest on a card's own kernels, pinned copies and time."""
    # A child of ours would find no card, and copies of this one have no rate.
    monkeypatch.setattr(probing, "_LINK_BYTES", MIB)
    monkeypatch.setattr(probing, "taken_by_another_process", lambda _device: (GIB // 2, 32 * MIB))

    check("cuda:0", tmp_path, shrink=True, minutes=30)

    lines = rows(tmp_path)
    parts = {row["part"] for row in lines.values()}
    assert parts == {"machine", "budgets", "uploads", "kernels", "tests"}
    broken = {name for name, row in lines.items() if row["kept"] is False}
    by_kernels = {name for name in lines if "room that kernels take for themselves" in name}
    by_time = {name for name in lines if "computed while the next arrives" in name}
    assert len(by_kernels) == 2
    assert broken - by_kernels - by_time == {"figures that the probe can't measure"}
    assert emulator.counters()["allocated"] == 0


def test_a_part_that_fails_is_told(emulator, tmp_path):
    """With what was raised, and exit 1; other parts go on."""
    emulator.fails = lambda what, _nbytes: (
        RuntimeError("CUDA error: unknown") if what == "upload" else None
    )

    code = check("cuda:0", tmp_path, shrink=True, parts=QUICK)

    assert code == 1
    assert rows(tmp_path)["uploads"]["measured"] == "RuntimeError: CUDA error: unknown"


def test_what_there_is_no_time_for(emulator, tmp_path):
    """Is named, and is not called kept."""
    code = check("cuda:0", tmp_path, minutes=0, shrink=True)

    report = json.loads((tmp_path / "gpu-check.json").read_text())
    assert len(report["left_out"]) == 6
    assert (report["promises"], code) == ([], 0)
