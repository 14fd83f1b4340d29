"""Find a module's segments: from its tree, and from the order in which a forward uses its weights.

What repeats (the elements of a module list) is a segment each. The rest is grouped by when it is
used: before them (`in`), after them (`head`), or in between. Each segment can be cut further, into
its *parts*. Weights that the forward never touches belong to none.

    tree     patch_embedding  condition_embedder  blocks[0] .. blocks[7]  proj_out
    segment  in               in                  block.0   .. block.7    head
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import attrs
import torch

from wanflow.scheduler.profile.fake_module import Touched, fake_copy

_SMALL_PART = 8  # what is smaller than such a share of its segment goes with what comes next

Forward = Callable[[Any], object]


@attrs.frozen
class Segmentation:
    """The names of the parameters of each segment, in execution order.

    `parts` has, for each segment that can be cut further, its parts in execution order.
    """

    segments: Mapping[str, tuple[str, ...]]
    parts: Mapping[str, Mapping[str, tuple[str, ...]]]

    @classmethod
    def joined(cls, segmentations: Sequence[Segmentation]) -> Segmentation:
        """Put segmentations that share no name beside each other."""
        segments = [item for each in segmentations for item in each.segments.items()]
        parts = [item for each in segmentations for item in each.parts.items()]
        return cls(dict(segments), dict(parts))

    def with_instead(self, names: Mapping[str, Sequence[str]]) -> Segmentation:
        """Put several parameters in the place of each one that *names* has."""

        def replaced(segment: Sequence[str]) -> tuple[str, ...]:
            return tuple(new for name in segment for new in names.get(name, (name,)))

        segments = {name: replaced(segment) for name, segment in self.segments.items()}
        parts = {
            name: {part: replaced(segment) for part, segment in parts.items()}
            for name, parts in self.parts.items()
        }
        return Segmentation(segments, parts)

    @property
    def finest(self) -> dict[str, tuple[str, ...]]:
        """The parts of every segment, and the segments that have none."""
        finest: dict[str, tuple[str, ...]] = {}
        for segment, names in self.segments.items():
            finest.update(self.parts.get(segment, {segment: names}))
        return finest


def discover(
    module: torch.nn.Module,
    forward: Forward,
    alike: Sequence[str] = (),
) -> Segmentation:
    """Find the segments of *module* as *forward* uses it.

    *forward* is called once with a copy of the module on fake `cpu` tensors, in a fake mode.
    *alike* are paths of lists whose elements it goes through one by one: the copy has only the
    first of each, and the others are taken to be used as that one is.
    """
    lists = {path: _list_at(module, path) for path in alike}
    copied = fake_copy(module, tuple(lists.values()))
    used = _used(copied, forward)
    for path, elements in lists.items():
        used = list(_repeated(used, path, len(elements)))
    sizes = {name: module.get_parameter(name).numel() for name in used}
    segments: dict[str, tuple[str, ...]] = {}
    parts: dict[str, dict[str, tuple[str, ...]]] = {}
    for name, units in _grouped(_units(module, sizes)).items():
        segments[name] = tuple(itertools.chain.from_iterable(units.values()))
        pieces = _parts(name, _children(module, units), sizes)
        if len(pieces) > 1:
            parts[name] = pieces
    return Segmentation(segments, parts)


def _used(copied: torch.nn.Module, forward: Forward) -> list[str]:
    """Names of the parameters that *forward* touches, by first touch."""
    touched: dict[str, None] = {}
    with torch.no_grad(), Touched(copied, touched.setdefault):
        forward(copied)
    return list(touched)


def _list_at(module: torch.nn.Module, path: str) -> torch.nn.ModuleList:
    """Get a list whose elements all have parameters of the same names and shapes."""
    elements = module.get_submodule(path)
    shapes = [[(n, p.shape) for n, p in each.named_parameters()] for each in elements.children()]
    if not isinstance(elements, torch.nn.ModuleList) or any(each != shapes[0] for each in shapes):
        msg = f"{path} is no list of alike modules"
        raise AssertionError(msg)
    return elements


def _repeated(order: Sequence[str], path: str, count: int) -> Iterator[str]:
    """Say the names of all elements of a list where those of the first one are."""
    first = f"{path}.0."
    own = [name.removeprefix(first) for name in order if name.startswith(first)]
    begun = False
    for name in order:
        if not name.startswith(first):
            yield name
        elif not begun:
            begun = True
            yield from (f"{path}.{number}.{leaf}" for number in range(count) for leaf in own)


@attrs.frozen
class _Unit:
    """What is not cut into segments: an element of a list, a child, or a parameter by itself."""

    path: str
    repeats: bool
    names: list[str]


def _units(module: torch.nn.Module, sizes: Mapping[str, int]) -> list[_Unit]:
    """Sort parameters into units, by first use.

    A child that holds a list is cut open where it is larger than every element of a list.
    """
    lists = {n for n, m in module.named_modules() if isinstance(m, torch.nn.ModuleList)}
    weights: dict[str, int] = {}
    holders: set[str] = set()
    largest = 0
    for name, size in sizes.items():
        above = _above(name)
        for path in above:
            weights[path] = weights.get(path, 0) + size
        first = next((path for path in above if path in lists), None)
        if first is not None:
            holders.update(path for path in above if len(path) < len(first))
    for path, weight in weights.items():
        around = [above for above in _above(f"{path}.") if above in lists]
        if len(around) == 1 and path.rpartition(".")[0] == around[0]:
            largest = max(largest, weight)
    opened = {path for path in holders if weights[path] > largest} | lists
    units: dict[str, _Unit] = {}
    for name in sizes:
        path = next((path for path in _above(name) if path not in opened), name)
        repeats = path.rpartition(".")[0] in lists
        units.setdefault(path, _Unit(path, repeats, [])).names.append(name)
    return list(units.values())


def _above(name: str) -> list[str]:
    """Paths of the modules that a parameter lies in, the outermost first."""
    pieces = name.split(".")
    return [".".join(pieces[:end]) for end in range(1, len(pieces))]


def _grouped(units: Sequence[_Unit]) -> dict[str, dict[str, list[str]]]:
    """Name the segments: what repeats by its list and number, the rest by its place."""
    runs = [(r, list(g)) for r, g in itertools.groupby(units, key=lambda unit: unit.repeats)]
    names = _short_names([unit.path for unit in units if unit.repeats])
    segments: dict[str, dict[str, list[str]]] = {}
    for number, (repeats, run) in enumerate(runs):
        if repeats:
            segments.update({names[unit.path]: {unit.path: unit.names} for unit in run})
            continue
        place = f"between.{number // 2}"
        if number in (0, len(runs) - 1):
            place = "in" if number == 0 else "head"
        segments[place] = {unit.path: unit.names for unit in run}
    return segments


def _short_names(paths: Sequence[str]) -> dict[str, str]:
    """`blocks.7` is `block.7`, `decoder.up_blocks.3` is `up.3`; the whole path where two clash."""
    lists = {path.rpartition(".")[0] for path in paths}
    short = {each: _singular(each.rpartition(".")[2]) for each in lists}
    taken = list(short.values())
    names = {each: name if taken.count(name) == 1 else each for each, name in short.items()}
    return {path: f"{names[path.rpartition('.')[0]]}.{path.rpartition('.')[2]}" for path in paths}


def _singular(name: str) -> str:
    return name.removesuffix("_blocks") if name.endswith("_blocks") else name.removesuffix("s")


def _children(module: torch.nn.Module, units: Mapping[str, Sequence[str]]) -> dict[str, list[str]]:
    """What a segment may be cut into: the children of the one unit, or its units."""
    if len(units) > 1:
        return {path: list(names) for path, names in units.items()}
    children: dict[str, list[str]] = {}
    for path, names in units.items():
        for name in names:
            child, *inside = name.removeprefix(f"{path}.").split(".")
            if inside and isinstance(module.get_submodule(f"{path}.{child}"), torch.nn.ModuleList):
                child = f"{child}.{inside[0]}"
            children.setdefault(child, []).append(name)
    return children


def _parts(
    segment: str, children: Mapping[str, Sequence[str]], sizes: Mapping[str, int]
) -> dict[str, tuple[str, ...]]:
    """Cut a segment by its large children; a small one goes with the next, in order of use."""
    weights = {child: sum(sizes[n] for n in names) for child, names in children.items()}
    least = sum(weights.values()) / _SMALL_PART
    parts: dict[str, tuple[str, ...]] = {}
    waiting: tuple[str, ...] = ()
    for child, names in children.items():
        waiting += tuple(names)
        if weights[child] >= least:
            parts[f"{segment}.{child}"] = waiting
            waiting = ()
    if waiting and parts:
        parts[next(reversed(parts))] += waiting
    return parts
