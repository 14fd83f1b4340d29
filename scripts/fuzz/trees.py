"""JSON and YAML changed where they mean something: keys, values, what is nested in what."""

from __future__ import annotations

import copy
import json
import random
from typing import Any

import yaml

WRONG: tuple[Any, ...] = (
    None, True, False, 0, -1, 1, 3, 2**31, 2**63, -(2**63), 2**64, 10**30, 10**400, 0.0, -0.5,
    1e-320, 1e308, float("inf"), float("nan"), "", "0", "x", "../x", "/", "~", "$seed", "$nothing",
    "decode.frames", "a.b.c", "832*480", "0*0", "99999999*99999999", "8GiB", "-1GiB", "1e999",
    "\u200b", "\ud83d\ude00", "\x1b[31m", "x" * 5000, [], {}, [[]], [None], {"": None},
    {"op": "noise"}, [1, 2, 2], [0, 0], ["a", {"b": 1}],
)  # fmt: skip
_DEEP = 60
_MOST_REAL = 1e300  # what an int may be to be tried as a float


def changed(rng: random.Random, tree: Any) -> Any:
    """Change *tree*, made of dicts, lists and scalars, in one to three places."""
    tree = copy.deepcopy(tree)
    for _ in range(rng.randint(1, 3)):
        holders = list(_holders(tree))
        if not holders:
            return tree
        # A tokenizer's merges are most of its holders, and what decides how it reads are few.
        holder = rng.choice(holders) if rng.random() < 0.5 else _walked_to(rng, tree)
        key = rng.choice(list(holder) if isinstance(holder, dict) else range(len(holder)))
        rng.choice(_WAYS)(rng, holder, key, holders)
    return tree


def _holders(tree: Any) -> Any:
    """Every dict and list that holds something."""
    todo = [tree]
    while todo:
        at = todo.pop()
        if _is_holder(at):
            yield at
            todo += at.values() if isinstance(at, dict) else at


def _walked_to(rng: random.Random, tree: Any) -> Any:
    """Go from the root into one child after another; stop anywhere."""
    while True:
        within = [v for v in (tree.values() if isinstance(tree, dict) else tree) if _is_holder(v)]
        if not within or rng.random() < 0.3:
            return tree
        tree = rng.choice(within)


def _is_holder(value: Any) -> bool:
    return isinstance(value, dict | list) and bool(value)


def _replace(rng: random.Random, holder: Any, key: Any, _all: list[Any]) -> None:
    holder[key] = copy.deepcopy(rng.choice(WRONG))


def _nudge(rng: random.Random, holder: Any, key: Any, _all: list[Any]) -> None:
    """Take a number for one that is near it, or far."""
    value = holder[key]
    if isinstance(value, int | float) and not isinstance(value, bool):
        real = float(value) if abs(value) < _MOST_REAL else value
        holder[key] = rng.choice([value + 1, value - 1, -value, value * 2, value * 10**9, real])
    else:
        _replace(rng, holder, key, _all)


def _delete(_rng: random.Random, holder: Any, key: Any, _all: list[Any]) -> None:
    del holder[key]


def _rename(rng: random.Random, holder: Any, key: Any, _all: list[Any]) -> None:
    if isinstance(holder, dict):
        new = rng.choice(
            ["", "x", "in", "op", "<<", "a.b", "$x", f"{key}x", "__class__", "x" * 300]
        )
        holder[new] = holder.pop(key)
    else:
        holder.insert(key, holder[key])


def _transplant(rng: random.Random, holder: Any, key: Any, every: list[Any]) -> None:
    """Put what is somewhere else here."""
    other = rng.choice(every)
    value = (
        rng.choice(list(other.values()) if isinstance(other, dict) else other) if other else None
    )
    holder[key] = copy.deepcopy(value)


def _nest(rng: random.Random, holder: Any, key: Any, _all: list[Any]) -> None:
    value = holder[key]
    for _ in range(rng.choice((1, 2, _DEEP))):
        value = [value] if rng.random() < 0.5 else {"x": value}
    holder[key] = value


_WAYS = (_replace, _replace, _nudge, _delete, _rename, _transplant, _nest)


def as_json(tree: Any) -> bytes:
    """Write it as JSON, odd numbers and all."""
    return json.dumps(tree).encode("utf-8", "surrogatepass")


class _Plain(yaml.SafeDumper):
    """Writes no aliases: most of what is tried is to come past the ban on them."""

    def ignore_aliases(self, data: Any) -> bool:  # noqa: ARG002 - of everything
        return True


def as_yaml(tree: Any) -> bytes:
    """Write it as YAML."""
    text = yaml.dump(tree, sort_keys=False, allow_unicode=True, Dumper=_Plain)
    return text.encode("utf-8", "surrogatepass")
