"""A footprint as rows and back: the same plan comes of it, and nothing worse of hostile rows."""

import json
import random
import sys

import attrs
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.scheduler.footprints import FOOTPRINTS, TOY
from wanflow.scheduler.footprint.costs import (
    CallRecord,
    Cost,
    Footprint,
    Made,
    SegmentUse,
    StageFacts,
)
from wanflow.scheduler.footprint.rows import rows_of
from wanflow.scheduler.footprint.rows_reader import FootprintReader, RowError
from wanflow.scheduler.plan.planner import plan

SMALL = Footprint(
    stages=(
        StageFacts("denoise", "denoise", "dit", 2, 70, {"cfg": "serial"}, ("rows",)),
        StageFacts("write", "write_video", None, 1, 0, {}, ()),
    ),
    calls=(
        CallRecord("denoise", "block", 0, Cost(9, {"gemm": 1.5, "conv": 2.0}, 7, 3), "dit/0", 4, (),
             (Made(1, "x", 5, False, (1, 5)), Made(2, "cache", 6, True, ()))),
        CallRecord("denoise", "block", 1, Cost(9, {"gemm": 1.5, "conv": 2.0}, 7, 3, slack_bytes=64),
             "dit/0", 0, (1, 2), (Made(7, "x", 5, False, (1, 5)),), (("old", 1),)),
        CallRecord("write", "frame", 0, Cost(1, {}, 0), None, 0, (7,), ()),
    ),
    segments={"dit/0": SegmentUse("dit/0", 70)},
    keeps=frozenset({7}),
    dtypes={"denoise": "bfloat16"},
    staging_bytes=16,
)  # fmt: skip


def read(rows) -> Footprint | None:
    """Read rows back."""
    reader = FootprintReader()
    for section, text in rows:
        reader.take(section, text)
    return reader.footprint


def changed(section: str, **by_place: object) -> list[tuple[str, str]]:
    """The rows of `SMALL`, with other values in the first row of a section."""
    rows = list(rows_of(SMALL))
    at = next(n for n, row in enumerate(rows) if row[0] == section)
    fields = json.loads(rows[at][1])
    for place, value in by_place.items():
        fields[int(place[1:])] = value
    rows[at] = (section, json.dumps(fields))
    return rows


class TestRoundTrip:
    """What was written is what is read."""

    def test_every_field_comes_back(self) -> None:
        """Of a footprint that uses all of them."""
        assert read(rows_of(SMALL)) == SMALL

    @settings(max_examples=100, deadline=None)
    @given(FOOTPRINTS, st.integers(0, 600))
    def test_the_same_plan_comes_of_it(self, footprint, budget) -> None:
        """To the byte and the nanosecond."""
        again = read(rows_of(footprint))
        assert again == footprint
        assert plan([again], TOY, budget) == plan([footprint], TOY, budget)

    def test_what_the_allocator_asked_for_is_left_out(self) -> None:
        """The slack that came of it is there."""
        cost = attrs.evolve(SMALL.calls[0].cost, requests=(4, -1), origins=(1, 0))
        step = attrs.evolve(SMALL.calls[0], cost=cost)
        assert read(rows_of(attrs.evolve(SMALL, calls=(step, *SMALL.calls[1:])))) == SMALL

    def test_calls_of_one_cost_share_it(self) -> None:
        """So that a long run takes little room."""
        steps = tuple(attrs.evolve(SMALL.calls[2], step=n, reads=()) for n in range(3))
        again = read(rows_of(attrs.evolve(SMALL, calls=steps, keeps=frozenset())))
        assert again is not None
        assert len({id(step.cost) for step in again.calls}) == 1

    def test_is_whole_only_after_its_last_row(self) -> None:
        """Rows cut anywhere give nothing."""
        rows = list(rows_of(SMALL))
        assert {read(rows[:count]) for count in range(len(rows))} == {None}
        sections = ("stage", "segment", "cost", "made", "call", "step", "end")
        assert [s for s in sections if s in dict(rows)] == list(dict.fromkeys(s for s, _ in rows))


class TestHostile:
    """Rows are anybody's."""

    @pytest.mark.parametrize(
        ("rows", "problem"),
        [
            (changed("step", _4=[99]), "reads a value that no call has made"),
            (changed("step", _0=9), "points to none"),
            (changed("step", _0=-1), "points to none"),
            (changed("step", _5=[1, 0, 1, 0]), "makes a value that is there"),
            (changed("step", _5=[1]), "half a pair"),
            (changed("step", _2=-1), "out of bounds"),
            (changed("step", _2=True), "out of bounds"),
            (changed("step", _2=2**60), "out of bounds"),
            (changed("cost", _1={"magic": 1.0}), "unknown kernels"),
            (changed("cost", _1={"gemm": 1e300}), "FLOPs out of bounds"),
            (changed("stage", _0=None), "name is missing"),
            (changed("stage", _5=[]), "knobs are wrong"),
            (changed("end", _0=2), "3 steps, not 2"),
            (changed("end", _2=[3]), "no call has made"),
            ([("stage", "[1,")], "no JSON"),
            ([("stage", "[" * sys.getrecursionlimit())], "no JSON"),
            ([("stage", "9" * (sys.get_int_max_str_digits() + 1))], "no JSON"),
            ([("stage", "{}")], "not a list"),
            ([("cost", '[1,{"gemm":NaN},1,1]')], "no number|no JSON"),
            ([("magic", "[]")], "unknown section"),
            ([("end", "[0,0,[]]")], "0 steps"),
            ([("segment", '["a",1]')] * 30_000, "more rows in a table"),
        ],
    )  # fmt: skip
    def test_is_refused(self, rows, problem) -> None:
        """The message says what is wrong."""
        with pytest.raises(RowError, match=problem):
            read(rows)

    def test_nothing_comes_after_the_last_row(self) -> None:
        """Not even a good one."""
        with pytest.raises(RowError, match="after the last"):
            read([*rows_of(SMALL), ("segment", '["a",1]')])

    @settings(max_examples=300, deadline=None)
    @given(FOOTPRINTS, st.integers(0, 2**32))
    def test_rows_with_other_numbers_are_refused_or_planned(self, footprint, seed) -> None:
        """Nothing else happens."""
        rng = random.Random(seed)  # noqa: S311
        rows = list(rows_of(footprint))
        for _ in range(3):
            at = rng.randrange(len(rows))
            section, text = rows[at]
            digits = [n for n, sign in enumerate(text) if sign.isdigit()]
            if digits:
                n = rng.choice(digits)
                rows[at] = (section, text[:n] + rng.choice(["0", "7", "99", "-1"]) + text[n + 1 :])
        try:
            again = read(rows)
        except RowError:
            return
        assert again is not None
        assert plan([again], TOY, 300).minimum_bytes >= 0
