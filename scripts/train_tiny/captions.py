"""Say what a scene shows, in English or Chinese, in one of many ways."""

from __future__ import annotations

import numpy as np

from scripts.train_tiny.world import Scene, Thing

_ENGLISH: dict[str, tuple[str, ...]] = {
    "circle": ("circle", "circle", "disc", "ball"),
    "square": ("square", "square", "box"),
    "triangle": ("triangle",),
    "small": ("small", "small", "little", "tiny"),
    "large": ("large", "big", "big", "huge"),
    "gray": ("gray", "grey"),
    "left": ("moves left", "moves to the left", "is moving left", "goes left", "slides left"),
    "right": ("moves right", "moves to the right", "is moving right", "goes right", "slides right"),
    "up": ("moves up", "moves upward", "is moving up", "goes up", "rises"),
    "down": ("moves down", "moves downward", "is moving down", "goes down", "falls"),
    "diagonal": (
        "moves diagonally", "moves diagonally down to the right", "is moving diagonally",
        "goes diagonally to the lower right", "slides along the diagonal",
    ),
    "still": ("stays still", "does not move", "is standing still", "rests", "is not moving"),
    "grow": ("grows", "gets bigger", "is growing", "becomes larger", "expands"),
    "shrink": ("shrinks", "gets smaller", "is shrinking", "becomes smaller", "contracts"),
}  # fmt: skip
_PLURAL = {
    "moves": "move", "is": "are", "goes": "go", "slides": "slide", "rises": "rise",
    "falls": "fall", "stays": "stay", "does": "do", "rests": "rest", "grows": "grow",
    "gets": "get", "becomes": "become", "expands": "expand", "shrinks": "shrink",
    "contracts": "contract",
}  # fmt: skip

_CHINESE: dict[str, tuple[str, ...]] = {
    "circle": ("圆形", "圆形", "圆"),
    "square": ("正方形", "正方形", "方块"),
    "triangle": ("三角形",),
    "small": ("小", "小小"),
    "large": ("大", "大大"),
    "red": ("红色", "红"),
    "green": ("绿色", "绿"),
    "blue": ("蓝色", "蓝"),
    "yellow": ("黄色", "黄"),
    "purple": ("紫色", "紫"),
    "orange": ("橙色", "橙"),
    "white": ("白色", "白"),
    "black": ("黑色", "黑"),
    "gray": ("灰色", "灰"),
    "left": ("向左移动", "往左移动", "向左走", "在向左移动"),
    "right": ("向右移动", "往右移动", "向右走", "在向右移动"),
    "up": ("向上移动", "往上移动", "上升", "在向上移动"),
    "down": ("向下移动", "往下移动", "下降", "在向下移动"),
    "diagonal": ("沿对角线移动", "斜着移动", "沿对角线向右下移动", "向右下方移动"),
    "still": ("静止不动", "不动", "保持静止", "停在原地"),
    "grow": ("变大", "逐渐变大", "在变大", "越来越大"),
    "shrink": ("变小", "逐渐变小", "缩小", "越来越小"),
}

_ONE = (
    "a {size} {colour} {shape} {motion} on a {back} background",
    "a {size} {colour} {shape} {motion} on a {back} background",
    "a {colour} {shape} {motion} on a {back} background",
    "a {colour} {shape} {motion} in front of a {back} background",
    "on a {back} background, a {size} {colour} {shape} {motion}",
    "a {shape} that is {colour} and {size} {motion}. the background is {back}.",
    "{back} background: a {size} {colour} {shape} {motion}.",
    "a video of a {size} {colour} {shape} which {motion}, {back} background",
    "the {colour} {shape} {motion} over a plain {back} background",
)
_TWO = (
    "a {a} and a {b} {motion} on a {back} background",
    "on a {back} background, a {a} and a {b} {motion}",
    "a {a} on the left and a {b} on the right {motion}, {back} background",
    "two shapes, a {a} and a {b}, {motion} on a {back} background",
)
_EIN = (
    "一个{size}的{colour}{shape}在{back}背景上{motion}",
    "一个{colour}的{size}{shape}在{back}的背景上{motion}。",
    "{back}背景上,一个{size}{colour}{shape}{motion}",
    "一个{colour}{shape}{motion},背景是{back}。",
    "{colour}的{shape}{motion},{back}背景",
    "视频里,{back}背景前有一个{size}的{colour}{shape},它{motion}",
)
_ZWEI = (
    "一个{a}和一个{b}在{back}背景上{motion}",
    "{back}背景上,左边的{a}和右边的{b}{motion}",
    "两个图形:{a}和{b}{motion},背景是{back}。",
)


def _english(random: np.random.Generator, scene: Scene) -> str:
    def say(word: str) -> str:
        return str(random.choice(_ENGLISH.get(word, (word,))))

    def two(thing: Thing) -> str:
        return f"{say(thing.colour)} {say(thing.shape)}"

    motion, back = say(scene.motion), say(scene.background)
    first = scene.things[0]
    if len(scene.things) == 2:
        verb, _, rest = motion.partition(" ")
        motion = f"{_PLURAL[verb]} {rest}".strip()
        text = str(random.choice(_TWO)).format(
            a=two(first), b=two(scene.things[1]), back=back, motion=motion
        )
    else:
        text = str(random.choice(_ONE)).format(
            size=say(first.size), colour=say(first.colour), shape=say(first.shape),
            motion=motion, back=back,
        )  # fmt: skip
    text = text.replace("a orange", "an orange")
    return text[0].upper() + text[1:] if random.random() < 0.5 else text


def _chinese(random: np.random.Generator, scene: Scene) -> str:
    def say(word: str) -> str:
        return str(random.choice(_CHINESE[word]))

    def two(thing: Thing) -> str:
        return f"{say(thing.colour)}{say(thing.shape)}"

    motion, back = say(scene.motion), say(scene.background)
    first = scene.things[0]
    if len(scene.things) == 2:
        return str(random.choice(_ZWEI)).format(
            a=two(first), b=two(scene.things[1]), back=back, motion=motion
        )
    return str(random.choice(_EIN)).format(
        size=say(first.size), colour=say(first.colour), shape=say(first.shape),
        motion=motion, back=back,
    )  # fmt: skip


def caption(random: np.random.Generator, scene: Scene, language: str) -> str:
    """A caption in `en` or `zh`."""
    return _english(random, scene) if language == "en" else _chinese(random, scene)


def words() -> list[str]:
    """Every piece of text that a caption is made of: what the vocabulary must cover."""
    english = [text for said in _ENGLISH.values() for text in said]
    chinese = [text for said in _CHINESE.values() for text in said]
    colours = ["red", "green", "blue", "yellow", "purple", "orange", "white", "black", "an"]
    return [*_ONE, *_TWO, *_EIN, *_ZWEI, *english, *chinese, *_PLURAL.values(), *colours]
