"""The audit: a sound trace passes, and each kind of wrong is told."""

import attrs
import pytest

from wanflow.trace.check import PROBLEMS_KEPT, check
from wanflow.trace.codec import decode, encode
from wanflow.trace.events import Memory
from wanflow.trace.framing import DamagedError, pack, unpack

GIB = 2**30


def codes(found) -> list[str]:
    """Give the kinds of problems."""
    return [problem.code for problem in found.problems]


class TestSound:
    """A run that lost nothing."""

    def test_passes(self, write, run, header) -> None:
        """Books are in balance on every tier."""
        found = check(write(run, header))
        assert (found.ok, found.state, found.status) == (True, "whole", "done")
        gpu = next(each for each in found.tiers if each.tier == "cuda:0")
        assert (gpu.came_bytes, gpu.left_bytes) == (6 * GIB, 3 * GIB)
        assert gpu.resident_bytes == gpu.came_bytes - gpu.left_bytes
        assert gpu.peak_bytes == 7 * GIB


class TestWrong:
    """Each kind of wrong has its code."""

    def test_lost_bytes(self, write, run, header) -> None:
        """A free that is not written shows at the next event, once."""
        found = check(write(run[:2] + run[3:], header))
        assert codes(found) == ["conservation"]
        assert found.problems[0].record == 3

    def test_budget(self, write, run, header) -> None:
        """More than the budget leaves when the context is set aside."""
        assert check(write(run, {**header, "overhead_bytes": GIB - GIB // 8})).ok
        over = {**header, "overhead_bytes": GIB + 1}
        assert codes(check(write(run, over))) == ["budget"] * 3

    def test_measured(self, write, run, header) -> None:
        """What others counted is held against the budget too, with what lies beside it."""
        kept = check(write([*run, Memory("context", "cuda:0", 0, 7 * GIB // 8, 0)], header))
        over = check(write([*run, Memory("context", "cuda:0", 0, GIB, 0)], header))

        assert (kept.ok, codes(over)) == (True, ["budget"])
        assert over.problems[0].text.endswith(f"{GIB // 8} over the budget")

    def test_torn_file(self, write, run, header) -> None:
        """What was read still adds up."""
        path = write(run, header, status=None)
        with path.open("ab") as file:
            file.write(b"\x92\xce\x00")
        found = check(path)
        assert codes(found) == ["file"]
        assert (found.events, found.lost_bytes) == (16, 3)

    def test_time(self, write, run, header) -> None:
        """Nothing ends before it begins."""
        run[1] = attrs.evolve(run[1], began_ns=run[1].ended_ns + 1)
        assert codes(check(write(run, header))) == ["time"]

    def test_many(self, write, run, header) -> None:
        """The first are kept, all are counted."""
        bad = attrs.evolve(run[1], began_ns=run[1].ended_ns + 1)
        found = check(write([run[0]] + [bad] * 50, header))
        assert (len(found.problems), found.problem_count) == (PROBLEMS_KEPT, 50)


def test_old_files_have_no_slack(run) -> None:
    """A row without the field is read with its default; one that lacks more is damaged."""
    row = unpack(encode(run[1]))
    assert run[1] == decode(pack(row[:-1]))
    with pytest.raises(DamagedError):
        decode(pack(row[:-2]))
