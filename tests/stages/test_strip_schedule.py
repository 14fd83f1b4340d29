"""Every row of every part is taken once, a strip's rows at a time."""

import pytest

from wanflow.stages.strip_schedule import schedule

PARTS = (("first", 2), ("second", 1), ("last", 1))


def behind(part, rows):
    """Two rows behind, then doubled; or one row behind."""
    return max(0, 2 * (rows - 2) - 1) if part == "first" else max(0, rows - 1)


class TestSchedule:
    """Strips of *rows* of a frame of *height*."""

    @pytest.mark.parametrize("rows", [1, 2, 5])
    @pytest.mark.parametrize("height", [1, 2, 9, 10])
    def test_all_rows_once(self, rows, height):
        """Each part takes its whole input and makes its whole output, and knows the end."""
        strips = schedule(PARTS, behind, rows, height)
        for (part, factor), scale in zip(PARTS, (1, 2, 2), strict=True):
            turns = [turn for turns in strips for turn in turns if turn.part == part]
            assert scale * height == sum(turn.takes for turn in turns)
            assert scale * factor * height == sum(turn.makes for turn in turns)
            assert [turns[-1]] == [turn for turn in turns if turn.bottom]
            assert max(turn.takes for turn in turns) <= scale * rows
