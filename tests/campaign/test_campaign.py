"""A little of `make campaign`: nothing that is stopped or broken stays wrong.

Each lane is one process, so that what is imported is imported once.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from scripts.campaign.fault_jobs import JOBS

ROOT = Path(__file__).resolve().parent.parent.parent


@pytest.fixture
def campaign(tmp_path: Path):
    """Run it with options; its rows. Skips where the shim can't be built."""
    if shutil.which("gcc") is None:
        pytest.skip("needs gcc")
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}

    def run(*options: str) -> list[dict[str, Any]]:
        out = tmp_path / "campaign"
        done = subprocess.run(
            [sys.executable, "-m", "scripts.campaign", *options, "--out", out],
            check=False,
            cwd=ROOT,
            env=environment,
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        lines = [path.read_text().splitlines() for path in sorted(out.glob("*.jsonl"))]
        return [json.loads(line) for part in lines for line in part]

    return run


def test_few_of_each(campaign) -> None:
    """A kill, a power cut, the first write and the first rename of a command."""
    rows = campaign(
        "--only", "t2v,export", "--fault", "write-full,rename-broken", "--count", "1",
    )  # fmt: skip
    assert {row["kind"] for row in rows} == {"kills", "cuts", "faults"}
    assert sum(row["stops"] for row in rows) >= 2
    failed = [row for row in rows if row["kind"] == "faults" and row["codes"] != ["0"]]
    assert failed
    assert all(row["said"] for row in failed)


@pytest.mark.wide
def test_more_of_each(campaign) -> None:
    """Runs and batches killed, and their power cut; two faults in every command."""
    rows = campaign(
        "--only", f"t2v-until,batch-preview,{','.join(JOBS)}", "--count", "3",
        "--fault", "fsync-broken,read-broken", "--first", "3", "--spread", "1",
    )  # fmt: skip
    cut = {row["case"] for row in rows if row["kind"] == "cuts"}
    assert cut == {"t2v-until", "batch", "batch-preview"}
    failed = {row["case"].split()[0] for row in rows if row["kind"] == "faults" and row["stops"]}
    assert failed == {*JOBS}


def test_is_wrong_where_something_is(tmp_path: Path) -> None:
    """What was found wrong is told with the command that tries it again, exit 1."""
    row = {
        "key": "kills t2v 3", "kind": "kills", "case": "t2v", "codes": ["70"], "stops": 0,
        "problems": ["exit 70"], "again": "python -m scripts.campaign kills --seed 3",
    }  # fmt: skip
    (tmp_path / "kills.jsonl").write_text(json.dumps(row) + "\n")
    done = subprocess.run(
        [sys.executable, "-m", "scripts.campaign", "--report", "--out", tmp_path],
        check=False,
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 1
    assert "kills t2v 3: exit 70\n  again: python -m scripts.campaign kills --seed 3" in done.stdout
