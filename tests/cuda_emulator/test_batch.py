"""Rows on a card: weights that are left there are found, the frames are those of single runs."""

import json

import attrs
import pytest

from tests.cuda_emulator.sessions import MOVING, assert_nothing_left, at, least, on_card
from tests.resuming import events
from wanflow.session import run
from wanflow.session.batch.batch import batch
from wanflow.trace.events import Move

ROWS = [{"prompt": "a red circle grows", "seed": n} for n in range(3)]


@pytest.mark.parametrize("pins", [pytest.param((), marks=pytest.mark.wide), MOVING])
@pytest.mark.parametrize("budget", [pytest.param("least", marks=pytest.mark.wide), "auto"])
def test_rows(card, tmp_path, pins, budget):
    """No race, nothing left; what a row finds it does not read."""
    request = on_card(pins=pins, precision=("fp32",))
    request = least(request) if budget == "least" else at(request, 1 << 31)
    rows = tmp_path / "rows.jsonl"
    rows.write_text("\n".join(map(json.dumps, ROWS)))
    done = batch(request, rows, out=tmp_path / "out")
    assert done["done"] == 3
    assert_nothing_left(card)
    for number, row in enumerate(ROWS, 1):
        single = attrs.evolve(request, inputs={**request.inputs, **row})
        run(single, out=tmp_path / str(number))
        made = tmp_path / "out" / f"{number:04d}"
        alone = (tmp_path / str(number) / "video.mp4").read_bytes()
        assert (made / "video.mp4").read_bytes() == alone
        report = json.loads((made / "run.json").read_text())
        assert report["over_budget_bytes"] == 0
    later = [e for e in events(tmp_path / "out" / "0002") if isinstance(e, Move)]
    assert any(e.cause == "is there from the run before" for e in later)
