"""The tasks of Wan2.1's command line: which graph each is, its sizes, and the pictures it takes.

Sizes, defaults and the prompts that stand in for a missing one: github.com/Wan-Video/Wan2.1,
wan/configs/__init__.py and generate.py (Apache-2.0). The graphs have the other defaults.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import PurePath

import attrs

from wanflow.errors import InputError
from wanflow.graph.wording import did_you_mean, quoted

_WIDE, _TALL = ("832*480", "1280*720"), ("480*832", "720*1280")
_480P = (_WIDE[0], _TALL[0])
_BOTH = (*_480P, _WIDE[1], _TALL[1])
_CATS = (
    "Two anthropomorphic cats in comfy boxing gear and bright gloves fight intensely on a "
    "spotlighted stage."
)
_BEACH = (
    "Summer beach vacation style, a white cat wearing sunglasses sits on a surfboard. The "
    "fluffy-furred feline gazes directly at the camera with a relaxed expression. Blurred beach "
    "scenery forms the background featuring crystal-clear waters, distant green hills, and a blue "
    "sky dotted with white clouds. The cat assumes a naturally relaxed posture, as if savoring the "
    "sea breeze and warm sunlight. A close-up shot highlights the feline's intricate details and "
    "the refreshing atmosphere of the seaside."
)
_BIRD = (
    "CG动画风格，一只蓝色的小鸟从地面起飞，煽动翅膀。小鸟羽毛细腻，胸前有独特的花纹，背景是"  # noqa: RUF001
    "蓝天白云，阳光明媚。镜跟随小鸟向上移动，展现出小鸟飞翔的姿态和天空的广阔。近景，仰视视角。"  # noqa: RUF001
)


@attrs.frozen
class Task:
    """A task. `graphs` are by size, the first is meant without one; `pictures` a flag's input."""

    name: str
    graphs: Mapping[str, str]
    example: str
    pictures: Mapping[str, str] = attrs.field(factory=dict)

    @property
    def sizes(self) -> Sequence[str]:
        """The sizes it may have."""
        return tuple(self.graphs)


def _task(
    name: str, graph: str, sizes: Sequence[str], example: str, pictures: Sequence[str] = ()
) -> Task:
    inputs = dict(zip(pictures, ("image", "last_image"), strict=False))
    return Task(name, dict.fromkeys(sizes, graph), example, inputs)


_720P_FIRST = (_WIDE[1], _TALL[1], *_480P)
_I2V = {s: f"i2v-14b-{'480p' if s in _480P else '720p'}" for s in _720P_FIRST}
TASKS: Mapping[str, Task] = {
    task.name: task
    for task in (
        _task("t2v-1.3B", "t2v-1.3b", _480P, _CATS),
        _task("t2v-14B", "t2v-14b", _720P_FIRST, _CATS),
        Task("i2v-14B", _I2V, _BEACH, {"image": "image"}),
        _task("flf2v-14B", "flf2v-14b", _720P_FIRST, _BIRD, ("first_frame", "last_frame")),
    )
}
_NOT_SERVED = {
    "t2i-14B": "wanflow writes videos; for one picture: --task t2v-14B --frame_num 1",
    "vace-1.3B": "VACE models are not read; from pictures: --task i2v-14B or flf2v-14B",
    "vace-14B": "VACE models are not read; from pictures: --task i2v-14B or flf2v-14B",
}
DEFAULT = "t2v-14B"


def find_task(name: str) -> Task:
    """Give a task by its name; InputError says what is allowed."""
    if name in TASKS:
        return TASKS[name]
    if name in _NOT_SERVED:
        raise InputError(
            f"--task {name}: is not served", hint=_NOT_SERVED[name], code="task-not-served"
        )
    meant = did_you_mean(name, TASKS)
    allowed = f"allowed: {', '.join(TASKS)}"
    raise InputError(
        f"--task {quoted(name)}: no such task",
        hint=allowed if meant.startswith("allowed") else f"{meant} {allowed}",
        code="unknown-task",
    )


def find_size(task: Task, size: str | None, folder: str) -> tuple[str, str]:
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
        why = f"the name of {quoted(folder)}" if chosen == named else "its default size"
        why += f": {chosen}"
    if len(set(task.graphs.values())) == 1:
        return chosen, ""
    return chosen, f"{task.name} is graph {task.graphs[chosen]} by {why}"
