"""The pictures and videos that the official flags name: those that a task needs and may have."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from wanflow.cli.official_tasks import TASKS, Task
from wanflow.errors import InputError
from wanflow.graph.wording import listing
from wanflow.terminal.safe import printable

_LIST = "src_ref_images"
_FLAGS = tuple(dict.fromkeys(flag for task in TASKS.values() for flag in task.files))


def files_of(task: Task, flags: Any) -> dict[str, str]:
    """The files by input; InputError names the flag that lacks or is too many."""
    for flag in _FLAGS:
        text = getattr(flags, flag)
        if text is not None and flag not in task.files:
            raise _not_taken(task, flag)
        if text is None and flag in task.needs:
            raise InputError(
                f"--{flag} is missing: {task.name} starts from it",
                hint=f"add --{flag} FILE, a picture",
                code="picture-missing",
            )
        if text is not None:
            for path in text.split(",") if flag == _LIST else (text,):
                _check_file(flag, path)
    _check_sources(flags)
    there = {name: getattr(flags, flag) for flag, name in task.files.items()}
    return {name: text for name, text in there.items() if text is not None}


def _not_taken(task: Task, flag: str) -> InputError:
    takers = [other.name for other in TASKS.values() if flag in other.files]
    wanted = listing((f"--{name}" for name in task.files), "and") or "no picture"
    return InputError(
        f"--{flag}: {task.name} takes {wanted}",
        hint=f"--{flag} is for {', '.join(takers)}",
        code="picture-not-taken",
    )


def _check_file(flag: str, path: str) -> None:
    place = Path(path).expanduser()
    if not path.strip():
        raise InputError(
            f"--{flag}: a path is empty",
            hint="paths stand between commas: a.png,b.png" if flag == _LIST else "",
            code="missing-file",
        )
    if not place.is_file():
        what = "is a folder" if place.is_dir() else "no such file"
        raise InputError(f"--{flag} {printable(path)}: {what}", code="missing-file")


def _check_sources(flags: Any) -> None:
    """What generate.py takes no notice of, without a word, is told."""
    if flags.src_mask is not None and flags.src_video is None:
        raise InputError(
            "--src_mask without --src_video: a mask says which parts of a video are made anew",
            hint="add --src_video FILE, or leave the mask out",
            code="mask-alone",
        )
    if flags.frame_num is not None and flags.src_video is not None:
        raise InputError(
            f"--frame_num {flags.frame_num} with --src_video: the frames are the video's own",
            hint="leave --frame_num out, or cut the video",
            code="frames-of-video",
        )
