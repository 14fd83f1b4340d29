"""What a LoRA's low rank is scaled by, and into which tensor that goes.

With `.alpha` it is alpha over the rank, and without one, 1. diffusers multiplies it into the two
matrices as they are in the file (loaders/lora_conversion_utils.py, `get_alpha_scales`); what peft
says in diffusers' metadata stays beside them. So do we, so that the bits are the same.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import attrs

from wanflow.models.adapters.lora_file import LoraFile
from wanflow.units import is_finite


@attrs.frozen
class LowRankScales:
    """Factors of the matrices, and of what they make."""

    down: float = 1.0
    up: float = 1.0
    product: float = 1.0


def of_low_rank(lora: LoraFile, roles: Mapping[str, str], path: str, rank: int) -> LowRankScales:
    """The scales of the low rank at *path*, diffusers' one."""
    if "alpha" in roles:
        return _halved(lora.number(roles["alpha"]) / rank)
    alpha = _configured(lora.config, path)
    if alpha is None:
        return LowRankScales()
    return LowRankScales(
        product=alpha / (math.sqrt(rank) if lora.config.get("use_rslora") else rank)
    )


def of_product(lora: LoraFile, roles: Mapping[str, str], rank: int | None) -> float:
    """The scale of LoKr or LoHa: without a rank, of two whole factors, 1 whatever alpha is."""
    if rank is None or "alpha" not in roles:
        return 1.0
    return lora.number(roles["alpha"]) / rank


def _halved(scale: float) -> LowRankScales:
    """Spread a small scale over both: powers of two go to `up`, which lose nothing."""
    down, up = scale, 1.0
    while 0 < down * 2 < up:
        down, up = down * 2, up / 2
    return LowRankScales(down, up)


def _configured(config: Mapping[str, object], path: str) -> float | None:
    patterns = config.get("alpha_pattern")
    if isinstance(patterns, dict):
        for name, value in patterns.items():
            wanted = str(name).removeprefix("^")
            if path == wanted or path.endswith(f".{wanted}"):
                return _number(value)
    return _number(config.get("lora_alpha"))


def _number(value: object) -> float | None:
    return float(value) if isinstance(value, int | float) and is_finite(value) else None
