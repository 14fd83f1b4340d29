"""The steps that a stage doesn't compute: it takes what was held of one before."""

from __future__ import annotations

from collections.abc import Mapping

import attrs


@attrs.frozen
class Reuse:
    """Which steps of its schedule a stage leaves out, by guidance's pass.

    `steps` are indices into the schedule, known before the run. `may` are those that might be left
    out where that is not known yet: the weights that decide are not here, or the run's own data do.
    """

    kind: str
    threshold: float
    steps: Mapping[str, frozenset[int]] = attrs.field(factory=dict)
    may: frozenset[int] = frozenset()

    @property
    def key(self) -> list[object]:
        """All that decides a stage's calls, as plain data."""
        by_pass = [[name, sorted(steps)] for name, steps in sorted(self.steps.items())]
        return [self.kind, by_pass, sorted(self.may)]

    def in_few(self, steps: range, few: range) -> Reuse:
        """Give the same for the first few of all *steps*, about as many of them left out.

        A step that is left out follows one that is computed, so that what is held is there.
        """
        odd = list(few[1::2])
        share = {name: len(left) / len(steps) for name, left in self.steps.items()}
        count = {name: max(round(s * (len(few) - 1)), 1) if s else 0 for name, s in share.items()}
        by_pass = {name: frozenset(odd[: count[name]]) for name in self.steps}
        may = frozenset(odd[: max(round(len(self.may) / len(steps) * (len(few) - 1)), 1)])
        return attrs.evolve(self, steps=by_pass, may=may if self.may else self.may)

    def leaves_out(self, name: str, index: int) -> bool:
        """Whether a pass is not computed at a step."""
        return index in self.steps.get(name, ())

    def holds(self, name: str, index: int) -> bool:
        """Whether a later step takes what this one computes."""
        later = index + 1
        return not self.leaves_out(name, index) and (
            self.leaves_out(name, later) or later in self.may
        )
