"""Flags of the official command lines that are not served, and why."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from typing import Any

from wanflow.errors import InputError

_CARDS = "wanflow runs on one device"
_EXTENDING = "wanflow extends no prompt: no second language model is run"
_SPEAKING = "only s2v-14B takes it, whose audio encoder is not read"
_POSING = "only animate-14B takes it, whose pose and face encoders are not read"
_BOTH: Mapping[str, str] = {
    "ulysses_size": _CARDS,
    "t5_fsdp": f"{_CARDS}; for less memory: --t5_cpu, or --vram SIZE",
    "dit_fsdp": f"{_CARDS}; for less memory: --offload_model true, or --vram SIZE",
    "use_prompt_extend": _EXTENDING,
    "prompt_extend_method": _EXTENDING,
    "prompt_extend_model": _EXTENDING,
    "prompt_extend_target_lang": _EXTENDING,
}
_WAN21 = {
    "ring_size": _CARDS,
    "gradient_checkpointing": "it saves memory in training; there are no gradients here",
}
_WAN22 = {
    **dict.fromkeys(
        ("src_root_path", "refert_num", "replace_flag", "use_relighting_lora"), _POSING
    ),
    **dict.fromkeys(("num_clip", "audio", "enable_tts", "tts_prompt_audio"), _SPEAKING),
    **dict.fromkeys(("tts_prompt_text", "tts_text", "pose_video"), _SPEAKING),
    **dict.fromkeys(("start_from_ref", "infer_frames"), _SPEAKING),
}
# What takes a value upstream swallows it here too.
REFUSED: Mapping[str, str] = {**_BOTH, **_WAN21, **_WAN22}
BY_VERSION = "; ".join(
    whose + ", ".join(f"--{flag}" for flag in flags)
    for whose, flags in (("", _BOTH), ("of Wan2.1 ", _WAN21), ("of Wan2.2 ", _WAN22))
)
_ONE_IS_FINE = ("ulysses_size", "ring_size")


class Refuse(argparse.Action):
    """Refuse a flag by name."""

    def __call__(self, _parser: Any, _found: Any, value: Any, _flag: str | None = None) -> None:
        """Raise, unless the flag asks for nothing."""
        if self.dest in _ONE_IS_FINE and value == "1":
            return
        raise InputError(
            f"--{self.dest}: is not served", hint=REFUSED[self.dest], code="flag-not-served"
        )
