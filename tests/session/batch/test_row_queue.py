"""The order of rows."""

import json

from wanflow.session.batch.row_queue import RowQueue
from wanflow.session.batch.rows_file import RowsFile


def queue_of(tmp_path, *rows, given=None):
    """Rows of texts and seeds, and of sizes, which decide a plan."""
    path = tmp_path / "rows.jsonl"
    path.write_text("\n".join(map(json.dumps, rows)))
    return RowQueue(RowsFile.open(path), given or {}, frozenset({"prompt", "seed"}))


def test_group_by_group(tmp_path) -> None:
    """Rows of one plan follow one another, groups in the order of their first rows."""
    small, large = {"size": "32*32"}, {"size": "64*64"}
    rows = [{**size, "prompt": str(n)} for n, size in enumerate([small, large, small, {}, large])]
    assert [*queue_of(tmp_path, *rows).order()] == [0, 2, 1, 4, 3]


def test_same_rows(tmp_path) -> None:
    """Made once: what is given for all rows counts, whether a row says it or not."""
    rows = [{"prompt": "a"}, {"prompt": "a", "seed": 7}, {"prompt": "a", "seed": 8}]
    queue = queue_of(tmp_path, *rows, given={"seed": "7"})
    assert [*queue.order()] == [0, 2]
    assert [queue.same_as(n) for n in range(3)] == [None, 0, None]
