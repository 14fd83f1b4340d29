"""Both official command lines, Wan2.1's and Wan2.2's: their flags as argparse reads them.

Flags and their readings are upstream's (github.com/Wan-Video/Wan2.1 and Wan2.2, generate.py) and
those of a fork of the first for memory analysis.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import Any, NoReturn

from wanflow.cli.official_refused import BY_VERSION, REFUSED, Refuse
from wanflow.cli.official_tasks import NOT_SERVED, WAN21, WAN22, find_task
from wanflow.cli.official_values import boolean, choice, frames, number
from wanflow.environment import DEVICE, VRAM
from wanflow.errors import InputError
from wanflow.graph.ops import LARGEST_SEED, SAMPLER_GRIDS
from wanflow.graph.wording import nearest, quoted

_EPILOG = (
    "A BOOL is true, false, yes, no, 1 or 0; without a value the flag means true. With no flag for "
    "memory the planner decides. Not served, each refused with the reason: the tasks "
    f"{' and '.join(NOT_SERVED)}; {BY_VERSION}. All else that a graph can be given: wanflow run."
)


class _Parser(argparse.ArgumentParser):
    """Argparse that raises what is wrong instead of leaving."""

    def error(self, message: str) -> NoReturn:
        raise InputError(message, hint="wanflow generate --help", code="usage")


def parse(words: Sequence[str]) -> argparse.Namespace:
    """Read the flags; InputError for any that can't be meant. Nothing heavy is loaded."""
    namespace, over = _parser().parse_known_args(list(words))
    if over:
        word = over[0].partition("=")[0]
        flags = [f"--{name}" for name in (*vars(namespace), *REFUSED)]
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
        description="The command lines of Wan2.1 and Wan2.2: their flags, planned and run inside a "
        "memory budget.",
        epilog=_EPILOG,
        add_help=False,
    )
    parser.add_argument("--help", "-h", action="store_true", help="Show this.")
    making = parser.add_argument_group("what to make")
    _add_picture(making)
    _add_sampling(making)
    _add_memory(parser.add_argument_group("memory"))
    own = parser.add_argument_group("wanflow's own")
    own.add_argument("--vram", metavar="SIZE", default=VRAM.value,
                     help="The budget: 8GiB, 8GB, 123456B, 80%% or auto.")  # fmt: skip
    own.add_argument("--ram", metavar="SIZE", help="Bound on pinned and staged host memory.")
    own.add_argument("--device", metavar="NAME", help="auto, cuda, cuda:N or cpu.",
                     default=DEVICE.value)  # fmt: skip
    own.add_argument("--sampler-grid", "--sampler_grid", metavar="NAME", default="official",
                     type=choice("sampler-grid", *SAMPLER_GRIDS),
                     help="official or diffusers: the steps' noise levels. [official]")  # fmt: skip
    own.add_argument("--exact", action="store_true",
                     help="Only choices that leave every bit of the result alone.")  # fmt: skip
    own.add_argument("--no-probe", "--no_probe", action="store_true",
                     help="Don't measure a CPU that nothing is known of.")  # fmt: skip
    own.add_argument("--no-metadata", "--no_metadata", action="store_true",
                     help="Put nothing into the video of what it was made from.")  # fmt: skip
    own.add_argument("--allow-nonfinite", "--allow_nonfinite", action="store_true",
                     help="Go on with NaN or infinity in what a step leaves.")  # fmt: skip
    own.add_argument("--json", action="store_true", help="Print one JSON value.")
    for flag in REFUSED:
        parser.add_argument(f"--{flag}", action=Refuse, nargs="?", help=argparse.SUPPRESS)
    return parser


def _add_picture(group: Any) -> None:
    add = group.add_argument
    tasks = "; ".join(
        f"{version}: {', '.join(task.name for task in tasks)}"
        for version, tasks in (("Wan2.1", WAN21), ("Wan2.2", WAN22))
    )
    add("--task", metavar="NAME", type=lambda name: find_task(name).name,
        help=f"{tasks}. [t2v-A14B where the weights have two experts, else t2v-14B]")  # fmt: skip
    add("--size", metavar="W*H", help="832*480, 480*832, 1280*720, 720*1280; ti2v: 1280*704, "
        "704*1280; t2i: 1024*1024 too. An area where a picture or a video is given. "
        "[the task's]")  # fmt: skip
    add("--frame_num", metavar="N", type=frames,
        help="Frames, 4n+1; of --src_video its own. [81; ti2v: 121; t2i: 1]")  # fmt: skip
    add("--ckpt_dir", metavar="DIR",
        help="The weights: a folder of Wan2.1, Wan2.2 or of diffusers.")  # fmt: skip
    add("--prompt", metavar="TEXT", help="What the video shows. [the task's example]")
    add("--image", metavar="FILE", help="i2v: the first frame; ti2v: it too, or text alone.")
    add("--first_frame", metavar="FILE", help="flf2v: the first frame.")
    add("--last_frame", metavar="FILE", help="flf2v: the last frame.")
    add("--src_video", metavar="FILE", help="vace (Wan2.1): the video that is made anew.")
    add("--src_mask", metavar="FILE", help="vace: a video, white where that is made anew.")
    add("--src_ref_images", metavar="FILES", help="vace: pictures of what to show, a.png,b.png.")


def _add_sampling(group: Any) -> None:
    add = group.add_argument
    add("--sample_solver", metavar="NAME", type=choice("sample_solver", "unipc", "dpm++"),
        help="unipc or dpm++. [unipc]")  # fmt: skip
    add("--sample_steps", metavar="N", type=number("sample_steps", int, 1, 1000),
        help="[50; i2v, t2v-A14B: 40]")  # fmt: skip
    add("--sample_shift", metavar="X", type=number("sample_shift", float, 0.01, 100),
        help="[5; i2v-14B at 480p: 3; t2v-A14B: 12; flf2v, vace: 16]")  # fmt: skip
    add("--sample_guide_scale", metavar="X", type=number("sample_guide_scale", float, 0, 100),
        help="Of two experts both. [5; i2v-A14B: 3.5; t2v-A14B: 4, then 3]")  # fmt: skip
    add("--base_seed", metavar="N", default=-1, help="-1 draws one and says it. [-1]",
        type=number("base_seed", int, -(2**63), LARGEST_SEED))  # fmt: skip
    add("--save_file", metavar="FILE",
        help="Where the video or picture goes. [output.mp4; t2i: output.png]")  # fmt: skip
    add("--precision", metavar="TYPE", type=choice("precision", "fp16", "bf16", "fp32"),
        help="fp16, bf16 or fp32, of text encoder and transformer.")  # fmt: skip
    add("--convert_model_dtype", action="store_true",
        help="Wan2.2's: changes nothing here, weights have each model's precision.")  # fmt: skip


def _add_memory(group: Any) -> None:
    add = group.add_argument

    def switch(name: str, text: str) -> None:
        add(f"--{name}", metavar="BOOL", nargs="?", const=True, type=boolean(name), help=text)

    switch("offload_model", "true: weights are streamed; false: they stay. [the planner decides]")
    switch("t5_cpu", "The text encoder stays on the device, half a layer's weights at a time.")
    switch("attention_slicing", "true: 1,024 rows of a block at a time; false: all of them.")
    switch("profile_memory", "Write memory_events.json, from the trace.")
    add("--log_path", metavar="DIR", help="Where memory_events.json goes. [the run folder]")
