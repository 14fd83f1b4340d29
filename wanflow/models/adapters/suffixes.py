"""What a tensor of a LoRA's file is, by the end of its name."""

from __future__ import annotations

import re

_WORDS = {
    "down": r"\.(?:lora_A|lora_down|lora\.down|lora_linear_layer\.down)(?:\.weight)?",
    "up": r"\.(?:lora_B|lora_up|lora\.up|lora_linear_layer\.up)(?:\.weight)?",
    "up_bias": r"\.(?:lora_B|lora_up)\.bias",
    "alpha": r"\.alpha",
    "magnitude": r"\.(?:dora_scale|lora_magnitude_vector)(?:\.weight)?",
    "diff": r"\.(?:diff|w_norm)",
    "diff_b": r"\.(?:diff_b|b_norm)",
    "diff_m": r"(?:\.modulation)?\.diff_m",
    "lokr": r"\.lokr_(w1|w2|w1_a|w1_b|w2_a|w2_b)",
    "loha": r"\.hada_(w1_a|w1_b|w2_a|w2_b)",
}  # fmt: skip
_ENDS = {role: re.compile(rf"(.+?)(?:{words})") for role, words in _WORDS.items()}
# peft's name of an adapter stands behind its tensor's
_NAMED = re.compile(r"(\.(?:lora_[AB]|lora_magnitude_vector))\.(?!weight$|bias$)[^.]+(?=\.|$)")
KINDS = {
    "down": "low rank", "up": "low rank", "up_bias": "low rank", "magnitude": "DoRA",
    "diff": "difference", "diff_b": "difference of a bias",
    "diff_m": "difference of a modulation", "lokr": "LoKr", "loha": "LoHa",
}  # fmt: skip


def told(name: str) -> tuple[str, str] | None:
    """What *name* is of: the path of a module, and the role: `down`, `diff`, `lokr_w1`, or None."""
    plain = _NAMED.sub(r"\1", name)
    for role, end in _ENDS.items():
        if found := end.fullmatch(plain):
            path, *more = found.groups()
            return path, "_".join([role, *more])
    return None
