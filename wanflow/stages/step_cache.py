"""Which steps a step cache leaves out, worked out before the run. No torch.

A step that is left out takes the block stack's residual (what the blocks added to the hidden state)
of the last step that was computed, for each of guidance's two passes by itself. TeaCache and
MagCache decide by numbers that are known before: timesteps, coefficients, ratios. A stage counts by
itself, so that the second of two experts begins anew.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Self

import attrs

from wanflow.graph.values import parse_numbers

PASSES = ("positive", "negative")  # with the prompt, without it


@attrs.frozen
class StepCache:
    """What a stage of denoise was asked for: `kind` is `none` where nothing may be left out."""

    kind: str
    threshold: float
    retention: float
    k: int
    coefficients: tuple[float, ...]
    ratios: tuple[float, ...]

    @classmethod
    def of(cls, params: Mapping[str, object]) -> Self:
        """Read the params of a stage; a threshold of 0 leaves nothing out, so it is no cache."""
        threshold = float(str(params["cache_threshold"]))
        return cls(
            str(params["cache"]) if threshold > 0 else "none",
            threshold,
            float(str(params["cache_retention"])),
            int(str(params["cache_k"])),
            parse_numbers(str(params["cache_coefficients"])),
            parse_numbers(str(params["cache_ratios"])),
        )


def teacache(changes: Sequence[float], coefficients: Sequence[float], threshold: float) -> set[int]:
    """Name the steps that TeaCache leaves out.

    *changes* has for each step the relative L1 change of the time embedding from the step before (0
    for the first); a polynomial of *coefficients*, highest power first, makes an estimate of the
    output's change of it. They add up until they reach *threshold*. The first and the last step are
    always computed.

    Source: ali-vilab/TeaCache@7c10efc TeaCache4Wan2.1/teacache_generate.py, `teacache_forward`
    without `use_ret_steps`.
    """
    skipped, error = set(), 0.0
    for step in range(1, len(changes) - 1):
        estimate = 0.0
        for coefficient in coefficients:
            estimate = estimate * changes[step] + coefficient
        error += estimate
        if error < threshold:
            skipped.add(step)
        else:
            error = 0.0
    return skipped


def magcache(
    ratios: Sequence[float], turn: int, threshold: float, retention: float, k: int
) -> set[int]:
    """Name the steps of one pass that MagCache leaves out.

    *ratios* has for each step of the stage the norm of its residual to that of the step before;
    *turn* is 0 for the pass with the prompt and 1 for the other. After the share *retention* of the
    steps, a step is left out while the errors |1 - product of the ratios since the last computed
    step| add up to less than *threshold*, and no more than *k* in a row.

    Source: Zehong-Ma/MagCache@df81cb1 MagCache4Wan2.1/magcache_generate.py, `magcache_forward`.
    """
    calls = int(2 * len(ratios) * retention)  # retained ones, of both passes by turns
    skipped, error, product, row = set(), 0.0, 1.0, 0
    for step, ratio in enumerate(ratios):
        if step == 0 or 2 * step + turn < calls:
            continue  # nothing is held before the first
        product *= ratio
        row += 1
        error += abs(1 - product)
        if error < threshold and row <= k:
            skipped.add(step)
        else:
            error, product, row = 0.0, 1.0, 0
    return skipped


def ratios_at(ratios: Sequence[float], turn: int, steps: int) -> list[float]:
    """Give one pass's ratios for a schedule of *steps*, the nearest where it is another length.

    *ratios* are from the second step on, both passes by turns; the first step's is 1.
    """
    own = [1.0, *ratios[turn::2]]
    if steps == 1:
        return own[-1:]
    scale = (len(own) - 1) / (steps - 1)
    return [own[round(step * scale)] for step in range(steps)]
