"""What ranks stand still for is counted, however an exchange ends."""

import time

import pytest

from wanflow.scheduler.run.group_exchange import StoodStill


def test_adds_up() -> None:
    """All exchanges, one that fails among them; nothing between them."""
    stood = StoodStill()
    with stood:
        time.sleep(0.02)
    first = stood.nanoseconds
    assert 20e6 <= first < 10e9
    time.sleep(0.02)
    assert stood.nanoseconds == first
    with pytest.raises(RuntimeError, match="gone"), stood:
        _lose_a_rank()
    assert stood.nanoseconds >= first + 10e6


def _lose_a_rank():
    time.sleep(0.01)
    raise RuntimeError("a rank is gone")
