"""Wan2.1's command line: its flags as argparse reads them, and those that are not served.

Flags and their readings are upstream's (github.com/Wan-Video/Wan2.1, generate.py) and those of its
fork for memory analysis. What upstream takes and wanflow doesn't is refused by name, with why.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NoReturn

from wanflow.cli.official_tasks import DEFAULT, TASKS
from wanflow.environment import DEVICE, VRAM
from wanflow.errors import InputError
from wanflow.graph.ops import LARGEST_SEED, MOST_FRAMES, SAMPLER_GRIDS
from wanflow.graph.rules import VideoRules
from wanflow.graph.wording import nearest, quoted

_TRUE, _FALSE = ("true", "yes", "t", "y", "1"), ("false", "no", "f", "n", "0")
_CARDS = "wanflow runs on one device"
_EXTENDING = "wanflow extends no prompt: no second language model is run"
_VACE = "only VACE models take it, and these are not read"
# What takes a value upstream swallows it here too.
_REFUSED: Mapping[str, str] = {
    "ulysses_size": _CARDS,
    "ring_size": _CARDS,
    "t5_fsdp": f"{_CARDS}; for less memory: --t5_cpu, or --vram SIZE",
    "dit_fsdp": f"{_CARDS}; for less memory: --offload_model true, or --vram SIZE",
    "use_prompt_extend": _EXTENDING,
    "prompt_extend_method": _EXTENDING,
    "prompt_extend_model": _EXTENDING,
    "prompt_extend_target_lang": _EXTENDING,
    "src_video": _VACE,
    "src_mask": _VACE,
    "src_ref_images": _VACE,
    "gradient_checkpointing": "it saves memory in training; there are no gradients here",
}
_ONE_IS_FINE = ("ulysses_size", "ring_size")
_EPILOG = (
    "A BOOL is true, false, yes, no, 1 or 0; without a value the flag means true. With no flag for "
    "memory the planner decides. Not served, each refused with the reason: "
    + ", ".join(f"--{flag}" for flag in _REFUSED)
    + ". All else that a graph can be given: wanflow run."
)


class _Parser(argparse.ArgumentParser):
    """Argparse that raises what is wrong instead of leaving."""

    def error(self, message: str) -> NoReturn:
        raise InputError(message, hint="wanflow generate --help", code="usage")


class _Refuse(argparse.Action):
    """Refuse a flag by name."""

    def __call__(self, _parser: Any, _found: Any, value: Any, _flag: str | None = None) -> None:
        if self.dest in _ONE_IS_FINE and value == "1":
            return
        raise InputError(
            f"--{self.dest}: is not served", hint=_REFUSED[self.dest], code="flag-not-served"
        )


def parse(words: Sequence[str]) -> argparse.Namespace:
    """Read the flags; InputError for any that can't be meant. Nothing heavy is loaded."""
    namespace, over = _parser().parse_known_args(list(words))
    if over:
        word = over[0].partition("=")[0]
        flags = [f"--{name}" for name in (*vars(namespace), *_REFUSED)]
        meant = nearest(word, flags) if word.startswith("-") else ""
        raise InputError(
            f"{quoted(over[0])} is no flag of wanflow generate",
            hint=f"did you mean '{meant}'?" if meant else "wanflow generate --help",
            code="unknown-flag",
        )
    return namespace


def help_text() -> str:
    """Say all flags."""
    return _parser().format_help()


def _parser() -> _Parser:
    parser = _Parser(
        prog="wanflow generate",
        description="The Wan2.1 command line: its flags, planned and run inside a memory budget.",
        epilog=_EPILOG,
        add_help=False,
    )
    parser.add_argument("--help", "-h", action="store_true", help="Show this.")
    _add_picture(parser.add_argument_group("what to make"))
    _add_memory(parser.add_argument_group("memory"))
    own = parser.add_argument_group("wanflow's own")
    own.add_argument("--vram", metavar="SIZE", default=VRAM.value,
                     help="The budget: 8GiB, 8GB, 123456B, 80%% or auto.")  # fmt: skip
    own.add_argument("--ram", metavar="SIZE", help="Bound on pinned and staged host memory.")
    own.add_argument("--device", metavar="NAME", help="auto, cuda, cuda:N or cpu.",
                     default=DEVICE.value)  # fmt: skip
    own.add_argument("--sampler-grid", "--sampler_grid", metavar="NAME", default="official",
                     type=_choice("sampler-grid", *SAMPLER_GRIDS),
                     help="official or diffusers: the steps' noise levels. [official]")  # fmt: skip
    own.add_argument("--exact", action="store_true",
                     help="Only choices that leave every bit of the result alone.")  # fmt: skip
    own.add_argument("--no-metadata", "--no_metadata", action="store_true",
                     help="Put nothing into the video of what it was made from.")  # fmt: skip
    own.add_argument("--allow-nonfinite", "--allow_nonfinite", action="store_true",
                     help="Go on with NaN or infinity in what a step leaves.")  # fmt: skip
    own.add_argument("--json", action="store_true", help="Print one JSON value.")
    for flag in _REFUSED:
        parser.add_argument(f"--{flag}", action=_Refuse, nargs="?", help=argparse.SUPPRESS)
    return parser


def _add_picture(group: Any) -> None:
    add = group.add_argument
    add("--task", metavar="NAME", default=DEFAULT, help=f"{', '.join(TASKS)}. [{DEFAULT}]")
    add("--size", metavar="W*H", help="832*480, 480*832, 1280*720, 720*1280. [the task's]")
    add("--frame_num", metavar="N", type=_frames, help="Frames, 4n+1. [81]")
    add("--ckpt_dir", metavar="DIR", help="The weights: a folder of Wan2.1 or of diffusers.")
    add("--prompt", metavar="TEXT", help="What the video shows. [the task's example]")
    add("--image", metavar="FILE", help="i2v: the first frame.")
    add("--first_frame", metavar="FILE", help="flf2v: the first frame.")
    add("--last_frame", metavar="FILE", help="flf2v: the last frame.")
    add("--sample_solver", metavar="NAME", type=_choice("sample_solver", "unipc", "dpm++"),
        help="unipc or dpm++. [unipc]")  # fmt: skip
    add("--sample_steps", metavar="N", type=_number("sample_steps", int, 1, 1000),
        help="[50; i2v: 40]")  # fmt: skip
    add("--sample_shift", metavar="X", type=_number("sample_shift", float, 0.01, 100),
        help="[5; i2v at 480p: 3; flf2v: 16]")  # fmt: skip
    add("--sample_guide_scale", metavar="X", type=_number("sample_guide_scale", float, 0, 100),
        help="[5]")  # fmt: skip
    add("--base_seed", metavar="N", default=-1, help="-1 draws one and says it. [-1]",
        type=_number("base_seed", int, -(2**63), LARGEST_SEED))  # fmt: skip
    add("--save_file", metavar="FILE", default="output.mp4",
        help="Where the video goes. [output.mp4]")  # fmt: skip
    add("--precision", metavar="TYPE", type=_choice("precision", "fp16", "bf16", "fp32"),
        help="fp16, bf16 or fp32, of text encoder and transformer.")  # fmt: skip


def _add_memory(group: Any) -> None:
    add = group.add_argument

    def switch(name: str, text: str) -> None:
        add(f"--{name}", metavar="BOOL", nargs="?", const=True, type=_bool(name), help=text)

    switch("offload_model", "true: weights are streamed; false: they stay. [the planner decides]")
    switch("t5_cpu", "The text encoder stays on the device, half a layer's weights at a time.")
    switch("attention_slicing", "true: 1,024 rows of a block at a time; false: all of them.")
    switch("profile_memory", "Write memory_events.json, from the trace.")
    add("--log_path", metavar="DIR", help="Where memory_events.json goes. [the run folder]")


def _bool(name: str) -> Callable[[str], bool]:
    def read(text: str) -> bool:
        if text.lower() in (*_TRUE, *_FALSE):
            return text.lower() in _TRUE
        raise InputError(
            f"--{name} {quoted(text)}: neither true nor false",
            hint="allowed: true, false, yes, no, 1, 0",
            code="bad-flag",
        )

    return read


def _choice(name: str, *allowed: str) -> Callable[[str], str]:
    def read(text: str) -> str:
        if text in allowed:
            return text
        raise InputError(
            f"--{name} {quoted(text)}: not a value of it",
            hint=f"allowed: {', '.join(allowed)}",
            code="bad-flag",
        )

    return read


def _number(
    name: str, kind: type[int | float], least: float, most: float
) -> Callable[[str], int | float]:
    def read(text: str) -> int | float:
        try:
            value = kind(text)
        except ValueError:
            value = None
        if value is not None and least <= value <= most:
            return value
        what = "a whole number" if kind is int else "a number"
        raise InputError(
            f"--{name} {quoted(text)}: must be {what} of {least} to {most}", code="bad-flag"
        )

    return read


def _frames(text: str) -> int:
    rules = VideoRules()
    count = int(_number("frame_num", int, 1, MOST_FRAMES)(text))
    if not rules.allows_frames(count):
        near = " or ".join(map(str, rules.nearest_frames(count)))
        raise InputError(
            f"--frame_num {count}: must be 4n+1", hint=f"nearest: {near}", code="frame-count"
        )
    return count
