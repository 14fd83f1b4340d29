"""What is said of step caches to a person."""

from __future__ import annotations

from typing import Any

import pytest

from wanflow.cli.render_caches import cache_lines

BOTH = {"positive": [2, 3, 4, 7], "negative": [2, 3, 4, 7]}


@pytest.mark.parametrize(
    ("said", "line"),
    [
        ({"skipped_steps": BOTH}, "denoise: teacache skips 4 of 10 steps: 2-4, 7"),
        ({"skipped_steps": {}}, "denoise: teacache skips none of 10 steps"),
        (
            {"skipped_steps": {"positive": [2], "negative": [2, 4]}},
            "denoise: teacache skips 1 of 10 steps (positive): 2; 2 of 10 steps (negative): 2, 4",
        ),
        (
            {"may_skip": [1, 2], "least_seconds": 60.0},
            (
                "denoise: teacache may skip up to 2 of 10 steps, its weights decide: "
                "takes 1:00 to 2:00"
            ),
        ),
        (
            {"kind": "easycache", "may_skip": [1, 2], "least_seconds": 60.0},
            "denoise: easycache may skip up to 2 of 10 steps, the run decides: takes 1:00 to 2:00",
        ),
    ],
)
def test_lines(said: dict[str, Any], line: str) -> None:
    """The steps, or the range."""
    cache = {"kind": "teacache", "skipped_steps": {}, "may_skip": [], "least_seconds": None}
    stage = {"stage": "denoise", "steps": 10, "seconds": 120.0, "cache": {**cache, **said}}
    assert [*cache_lines({"stages": [{"stage": "noise"}, stage]})] == [line]
