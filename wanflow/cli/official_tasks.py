"""The tasks of both official command lines: which graph each is, its sizes, the files it takes.

Sizes and defaults: github.com/Wan-Video/Wan2.1 and Wan2.2, wan/configs and generate.py
(Apache-2.0). The graphs have the other defaults.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path, PurePath

import attrs

from wanflow.cli import official_prompts as prompts
from wanflow.errors import InputError
from wanflow.graph.wording import nearest, quoted

_WIDE, _TALL = ("832*480", "1280*720"), ("480*832", "720*1280")
_480P = (_WIDE[0], _TALL[0])
_720P_FIRST = (_WIDE[1], _TALL[1], *_480P)
_NO_FILES: Mapping[str, str] = {}


@attrs.frozen
class Task:
    """A task. `graphs` are by size, the first is meant without one.

    `needs` and `takes` are a graph's inputs by the flags of the files that must and may be given.
    """

    name: str
    graphs: Mapping[str, str]
    example: str
    needs: Mapping[str, str] = _NO_FILES
    takes: Mapping[str, str] = _NO_FILES
    suffix: str = ".mp4"

    @property
    def sizes(self) -> Sequence[str]:
        """The sizes it may have."""
        return tuple(self.graphs)

    @property
    def files(self) -> Mapping[str, str]:
        """Inputs of all files it can be given, by flag."""
        return {**self.needs, **self.takes}


_IMAGE = {"image": "image"}
_FRAMES = {"first_frame": "image", "last_frame": "last_image"}
_SOURCES = {"src_video": "video", "src_mask": "mask", "src_ref_images": "reference_images"}
_I2V = {s: f"i2v-14b-{'480p' if s in _480P else '720p'}" for s in _720P_FIRST}
_ALL = dict.fromkeys
WAN21 = (
    Task("t2v-1.3B", _ALL(_480P, "t2v-1.3b"), prompts.CATS),
    Task("t2v-14B", _ALL(_720P_FIRST, "t2v-14b"), prompts.CATS),
    Task(
        "t2i-14B", _ALL((*_720P_FIRST, "1024*1024"), "t2i-14b"), prompts.BEAUTY, suffix=".png"
    ),
    Task("i2v-14B", _I2V, prompts.BEACH, needs=_IMAGE),
    Task("flf2v-14B", _ALL(_720P_FIRST, "flf2v-14b"), prompts.BIRD, needs=_FRAMES),
    Task("vace-1.3B", _ALL(_480P, "vace-1.3b"), prompts.SNAKE, takes=_SOURCES),
    Task("vace-14B", _ALL(_720P_FIRST, "vace-14b"), prompts.SNAKE, takes=_SOURCES),
)  # fmt: skip
WAN22 = (
    Task("t2v-A14B", _ALL(_720P_FIRST, "t2v-a14b"), prompts.CATS),
    Task("i2v-A14B", _ALL(_720P_FIRST, "i2v-a14b"), prompts.BEACH, needs=_IMAGE),
    Task("ti2v-5B", _ALL(("1280*704", "704*1280"), "ti2v-5b"), prompts.CATS, takes=_IMAGE),
)
TASKS: Mapping[str, Task] = {task.name: task for task in (*WAN21, *WAN22)}
NOT_SERVED = {
    "s2v-14B": "its audio encoder is not read; from a picture: --task i2v-A14B",
    "animate-14B": "its pose and face encoders are not read; from a picture: --task i2v-A14B",
}
_DEFAULTS = ("t2v-14B", "t2v-A14B")  # of Wan2.1 and of Wan2.2


def find_task(name: str) -> Task:
    """Give a task by its name; InputError says what is allowed."""
    if name in TASKS:
        return TASKS[name]
    if name in NOT_SERVED:
        raise InputError(
            f"--task {name}: is not served", hint=NOT_SERVED[name], code="task-not-served"
        )
    in_case = [task for task in TASKS if task.lower() == name.lower()]
    near = in_case[0] if in_case else nearest(name, TASKS)
    allowed = f"allowed: {', '.join(TASKS)}"
    raise InputError(
        f"--task {quoted(name)}: no such task",
        hint=f"did you mean '{near}'? {allowed}" if near else allowed,
        code="unknown-task",
    )


def default_task(folder: Path) -> tuple[Task, str]:
    """Give the task that is meant without one, and a sentence on why it is.

    Each official command line has a default of its own: how many transformers *folder* has decides.
    """
    from wanflow.models.weights.hub_cache import snapshot_of
    from wanflow.models.weights.pipeline import experts

    two = experts(snapshot_of(folder)) is not None
    name = _DEFAULTS[two]
    has = "two experts" if two else "no two experts"
    default = f"the default of Wan{'2.2' if two else '2.1'}"
    return TASKS[name], f"no --task: it is {name}, {default}: --ckpt_dir has {has}"


def find_size(task: Task, size: str | None, folder: Path) -> tuple[str, str]:
    """Give the size, and a sentence on what it follows from where that picks the graph.

    Without *size* the weights' *folder* says which resolution its models are for.
    """
    if size is not None and size not in task.sizes:
        raise InputError(
            f"--size {quoted(size)}: not a size of {task.name}",
            hint=f"allowed: {', '.join(task.sizes)}",
            code="bad-size",
        )
    chosen, why = size or task.sizes[0], f"--size {size}"
    if size is None:
        name = PurePath(folder).name.lower()
        named = next(
            (wide for wide, p in zip(_WIDE, ("480p", "720p"), strict=True) if p in name), ""
        )
        chosen = named if named in task.sizes else chosen
        why = f"the name of {quoted(str(folder))}" if chosen == named else "its default size"
        why += f": {chosen}"
    if len(set(task.graphs.values())) == 1:
        return chosen, ""
    return chosen, f"{task.name} is graph {task.graphs[chosen]} by {why}"
