"""What came of a scenario: a plan's figures, a run's figures, or the error that ended it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import attrs

DONE, DOES_NOT_FIT = 0, 3  # exit codes


@attrs.frozen(kw_only=True)
class ScenarioOutcome:
    """A scenario that was planned (`planned`, what `plan --json` prints) and perhaps run (`ran`).

    `frames` is a digest of the frames that a run wrote, before they were encoded. `detail` is the
    error's.
    """

    exit_code: int = DONE
    error: str = ""
    message: str = ""
    detail: Mapping[str, Any] = attrs.field(factory=dict)
    planned: Mapping[str, Any] = attrs.field(factory=dict)
    ran: Mapping[str, Any] = attrs.field(factory=dict)
    frames: str = ""

    @property
    def fits(self) -> bool | None:
        """Whether the budget holds it; None where something else was wrong before."""
        if self.exit_code == DOES_NOT_FIT:
            return False
        return True if self.planned else None

    @property
    def peak_bytes(self) -> int | None:
        """The measured peak of a run, the predicted one of a plan that fits."""
        found = self.ran.get("peak_bytes", self._of_plan("predicted_peak_bytes"))
        return None if found is None else int(found)

    @property
    def seconds(self) -> float | None:
        """The seconds that a run took, those that a plan that fits says."""
        found = self.ran.get("seconds", self._of_plan("predicted_seconds"))
        return None if found is None else float(found)

    @property
    def minimum_bytes(self) -> int | None:
        """The smallest budget, where it is known: a plan and a budget's error tell it."""
        found = self.planned.get("minimum_bytes", self.detail.get("minimum_bytes"))
        return None if found is None else int(found)

    @property
    def peak_stage(self) -> str | None:
        """The stage with the highest planned peak, the first of several."""
        stages = self._of_plan("stages")
        return max(stages, key=lambda s: s["peak_bytes"])["stage"] if stages else None

    @property
    def knobs(self) -> Mapping[str, str] | None:
        """What the plan chose, by `stage.knob`."""
        stages = self._of_plan("stages")
        if not stages:
            return None
        return {f"{s['stage']}.{knob}": str(v) for s in stages for knob, v in s["knobs"].items()}

    @property
    def peak_off(self) -> float | None:
        """How far the predicted peak was off, as a share of what a run measured."""
        predicted, measured = self.ran.get("predicted_peak_bytes"), self.ran.get("peak_bytes")
        return abs(predicted / measured - 1) if predicted and measured else None

    @property
    def within_budget(self) -> bool | None:
        """Whether a run took no more than its budget."""
        return self.ran["over_budget_bytes"] == 0 if self.ran else None

    def _of_plan(self, key: str) -> Any:
        """A figure of a plan that could be run."""
        return self.planned.get(key) if self.exit_code == DONE else None
