"""What a run folder says of itself, where it can't be read now: it is not damaged, and not absent.

Nobody should run anew what is whole, and nothing should go on at other settings.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.limited import no_more_files
from wanflow.errors import InputError, StageFailed
from wanflow.session.batch.batch_folder import read_request
from wanflow.session.running.job import Job, finished_report

REQUEST = '{"request": {"graph": "t2v-tiny"}, "fingerprint": {}}'


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A run that is done."""
    (tmp_path / "request.json").write_text(REQUEST)
    (tmp_path / "batch-request.json").write_text(
        '{"request": {"graph": "t2v-tiny"}, "rows": "rows.txt", "options": {}}'
    )
    (tmp_path / "plan.json").write_text('{"stages": [{"stage": "s", "knobs": {"rows": "all"}}]}')
    (tmp_path / "run.json").write_text('{"status": "done"}')
    return tmp_path


def knobs(folder: Path) -> object:
    """Read the knobs of the last plan."""
    (folder / "request.json").write_text(REQUEST)
    job = Job.read(folder)
    with no_more_files():
        return job.knobs()


@pytest.mark.parametrize(
    ("name", "read"),
    [
        ("request.json", Job.read),
        ("batch-request.json", read_request),
        ("run.json", finished_report),
    ],
)
def test_unreadable(folder: Path, name: str, read) -> None:
    """Told with the file and the reason, exit 1; a moment later it is read."""
    with (
        no_more_files(),
        pytest.raises(StageFailed, match=rf"/{name}: can't be read: Too many open files$") as told,
    ):
        read(folder)
    assert "try again" in told.value.hint
    assert read(folder)


def test_unreadable_plan(folder: Path) -> None:
    """Its knobs decide how a run rounds: it does not go on without them."""
    with pytest.raises(StageFailed, match=r"plan\.json: can't be read"):
        knobs(folder)
    assert Job.read(folder).knobs() == {"s": {"rows": "all"}}


def test_not_there(folder: Path) -> None:
    """What is not there, or is half there, is no report and no plan."""
    (folder / "run.json").write_text('{"sta')
    assert finished_report(folder) is None
    (folder / "run.json").unlink()
    assert finished_report(folder) is None
    (folder / "plan.json").unlink()
    assert Job.read(folder).knobs() == {}
    (folder / "request.json").unlink()
    with pytest.raises(InputError, match="is no run folder"):
        Job.read(folder)
