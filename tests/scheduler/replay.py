"""Replay a plan turn by turn with nothing but a set and a sum; shares no code with the planner."""

from __future__ import annotations

import attrs

from wanflow.scheduler.plan.schedule import Plan
from wanflow.trace.events import Verb


@attrs.frozen
class Replayed:
    """What a plan does when it is done: its peak, the peak of every call, what it reads."""

    peaks: tuple[int, ...]
    read_bytes: int

    @property
    def peak_bytes(self) -> int:
        return max(self.peaks, default=0)


class Replay:
    """Weights, values and states that are there, and the bytes of all of them."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.weights: dict[str, int] = {}
        self.values: dict[int, int] = {}
        self.made: set[int] = set()
        self.freed: set[int] = set()
        self.away: dict[int, int] = {}
        self.coming: dict[int, int] = {}
        self.arenas: dict[str, int] = {}
        self.inside: dict[str, tuple[str, int, int]] = {}
        self.read_bytes = 0

    @property
    def now_bytes(self) -> int:
        staging = self.plan.footprint.staging_bytes - self.plan.host.staging_bytes
        there = (self.weights, self.values, self.coming, self.arenas)
        taken = sum(end - begin for _, begin, end in self.inside.values())
        return staging + sum(sum(each.values()) for each in there) - taken

    @property
    def host_bytes(self) -> int:
        """Spilled values; one that is on its way back is still there."""
        return sum(self.away.values())

    def run(self) -> Replayed:
        """Replay every turn; AssertionError says what a plan must never do."""
        footprint = self.plan.footprint
        assert len(self.plan.turns) == len(footprint.calls)
        peaks = [self.turn(*pair) for pair in zip(footprint.calls, self.plan.turns, strict=True)]
        assert not self.away
        assert not self.arenas
        assert not self.coming
        assert not self.weights, f"left on the device: {sorted(self.weights)}"
        kept = self.made - self.freed
        assert kept == self.made & footprint.keeps, f"kept {kept}, not {footprint.keeps}"
        return Replayed(tuple(peaks), self.read_bytes)

    def turn(self, step, turn) -> int:
        """Replay one turn; return the most bytes that were there."""
        for arena in turn.opens:
            assert arena.model not in self.arenas
            self.arenas[arena.model] = arena.nbytes
        peak = max([self.now_bytes, *(self.bring(step, move) for move in turn.brings)])
        assert step.segment is None or step.segment in self.weights, f"{step.segment} is missing"
        for number in step.reads:
            if number in self.coming:
                self.values[number] = self.coming.pop(number)
                del self.away[number]
            assert number in self.values, f"value {number} is read while it is not there"
        running = step.gathered_bytes + step.cost.room_bytes
        peak = max(peak, self.now_bytes + running)
        for made in step.makes:
            assert made.value not in self.made, f"value {made.value} is made twice"
            self.made.add(made.value)
            self.values[made.value] = made.nbytes
        peak = max(peak, self.now_bytes)
        for move in turn.drops:
            assert move.verb is Verb.FREE
            assert self.weights.pop(move.segment) == move.nbytes
            self.inside.pop(move.segment, None)
        for number in turn.frees:
            assert number in self.values, f"value {number} is freed while it is not there"
            self.freed.add(number)
            del self.values[number]
        for move in turn.spills:
            assert move.verb is Verb.OFFLOAD
            (number,) = move.values
            self.away[number] = self.values.pop(number)
            assert self.away[number] == move.nbytes
        assert self.host_bytes <= sum(n * count for n, count in self.plan.host.spills.items())
        for arena in turn.closes:
            assert arena.model not in {model for model, _, _ in self.inside.values()}
            del self.arenas[arena.model]
        return peak

    def bring(self, step, move) -> int:
        """Bring a segment, for this call or ahead of a later one; return the bytes there then."""
        if move.values:
            assert move.verb is Verb.PLACE
            self.coming |= {number: self.away[number] for number in move.values}
            assert move.nbytes == sum(self.coming[number] for number in move.values)
            return self.now_bytes
        segment = self.plan.footprint.segments[move.segment]
        assert move.verb in (Verb.PLACE, Verb.STREAM)
        assert move.segment not in self.weights, f"{move.segment} is brought twice"
        assert move.nbytes == segment.nbytes
        self.weights[move.segment] = move.nbytes
        if move.offset_bytes is not None:
            self.lie(move)
        self.read_bytes += move.nbytes
        return self.now_bytes

    def lie(self, move) -> None:
        """Put a segment into its arena: inside it, and over no other one."""
        model = move.segment.partition("/")[0]
        begin, end = move.offset_bytes, move.offset_bytes + move.nbytes
        assert 0 <= begin <= end <= self.arenas[model]
        for name, (other, first, last) in self.inside.items():
            over = model == other and begin < last and first < end
            assert not over, f"{move.segment} lies over {name}"
        self.inside[move.segment] = (model, begin, end)


def replay(plan: Plan) -> Replayed:
    """Replay *plan* and hold it to its own predictions."""
    done = Replay(plan).run()
    assert done.peak_bytes == plan.predicted_peak_bytes
    if plan.feasible:
        assert done.peak_bytes <= plan.budget_bytes
    return done
