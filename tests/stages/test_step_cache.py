"""The steps that TeaCache and MagCache leave out, by their numbers alone."""

from __future__ import annotations

import numpy as np
import pytest

from wanflow.stages.cache_tables import COEFFICIENTS, RATIOS
from wanflow.stages.step_cache import magcache, ratios_at, teacache


class TestMagCache:
    """By the ratios of a model."""

    @pytest.mark.parametrize(
        ("threshold", "k", "count"), [(0.12, 2, 25), (0.12, 4, 29), (0.24, 6, 32)]
    )
    def test_published_settings(self, threshold: float, k: int, count: int) -> None:
        """As many of Wan2.1 1.3B's 50 steps as the authors' own code leaves out."""
        for turn in (0, 1):
            ratios = ratios_at(RATIOS["wan2.1-t2v-1.3b"], turn, 50)
            assert len(magcache(ratios, turn, threshold, 0.2, k)) == count

    def test_retained_steps_are_computed(self) -> None:
        """A share of them, counted in calls of both passes; the first one always."""
        ones = [1.0] * 10
        assert min(magcache(ones, 0, 1, 0.35, 100)) == 4  # 7 calls: three steps and a half
        assert min(magcache(ones, 1, 1, 0.35, 100)) == 3
        assert min(magcache(ones, 0, 1, 0, 100)) == 1

    def test_no_more_than_k_in_a_row(self) -> None:
        """However small the error."""
        assert magcache([1.0] * 8, 0, 1, 0, 2) == {1, 2, 4, 5, 7}

    def test_errors_add_up(self) -> None:
        """Each step's is that of the product since the last computed one."""
        # 0.1, then 0.1 + 0.19, then 0.29 + 0.271
        assert magcache([1.0, *[0.9] * 4], 0, 0.3, 0, 9) == {1, 2, 4}

    @pytest.mark.parametrize("name", RATIOS)
    def test_tables_are_of_whole_schedules(self, name: str) -> None:
        """Two ratios for each of 50 or 40 steps but the first."""
        assert len(RATIOS[name]) in {98, 78}
        assert all(0.5 < ratio < 1.1 for ratio in RATIOS[name])

    @pytest.mark.parametrize("steps", [1, 2, 20, 50, 73])
    def test_resampled_by_the_nearest(self, steps: int) -> None:
        """As the authors' `nearest_interp`."""
        own = np.array([1.0, *RATIOS["wan2.1-t2v-14b"][1::2]])
        at = np.round(np.arange(steps) * 49 / max(steps - 1, 1)).astype(int)
        wanted = own[at] if steps > 1 else own[-1:]
        assert ratios_at(RATIOS["wan2.1-t2v-14b"], 1, steps) == wanted.tolist()


class TestTeaCache:
    """By the changes of the time embedding."""

    def test_first_and_last_are_computed(self) -> None:
        """Whatever the threshold."""
        assert teacache([0.0, 0.1, 0.1, 0.1], [1, 0], 100) == {1, 2}
        assert teacache([0.0], [1, 0], 100) == set()
        assert teacache([0.0, 0.1], [1, 0], 100) == set()

    def test_estimates_add_up(self) -> None:
        """And begin anew at a computed step."""
        assert teacache([0.0, *[0.1] * 6], [2, 0], 0.5) == {1, 2, 4, 5}

    def test_polynomial_has_the_highest_power_first(self) -> None:
        """As numpy's poly1d."""
        coefficients = COEFFICIENTS["wan2.1-t2v-1.3b"]
        estimate = float(np.poly1d(coefficients)(0.07))
        changes = [0.0, 0.07, 0.07, 0.0]
        assert teacache(changes, coefficients, estimate * 2.01) == {1, 2}
        assert teacache(changes, coefficients, estimate * 1.99) == {1}
