"""Segments of any module: from its tree and its forward, each weight in one, in order of use."""

from __future__ import annotations

import itertools
from collections import Counter

import pytest
import torch
from torch.utils._pytree import tree_map_only

from tests.tiny_transformers import TINY
from wanflow.models.segments.cut import cut
from wanflow.models.segments.discover import discover


def cpu_like(tree):
    """Copy nested arguments with empty `cpu` tensors, fake ones in a fake mode, for their own.

    A tensor that is there twice is so in the copy.
    """
    copies: dict[int, torch.Tensor] = {}

    def empty(tensor: torch.Tensor) -> torch.Tensor:
        if id(tensor) not in copies:
            size, stride = tensor.shape, tensor.stride()
            copies[id(tensor)] = torch.empty_strided(size, stride, dtype=tensor.dtype, device="cpu")
        return copies[id(tensor)]

    return tree_map_only(torch.Tensor, empty, tree)


@pytest.fixture(params=TINY, ids=lambda tiny: tiny.name)
def tiny(request):
    return request.param


@pytest.fixture
def found(tiny):
    inputs = tiny.inputs()
    return discover(tiny.build(), lambda module: module(**cpu_like(inputs)))


@pytest.fixture
def real(tiny):
    """A real forward and backward: weights that it needs, and modules that it called, in order."""
    module = tiny.build("cpu")
    called = []
    for path, inside in module.named_modules():
        if inside._parameters:
            inside.register_forward_pre_hook(lambda *_, path=path: called.append(path))
    sample = module(**tiny.inputs("cpu"), return_dict=False)[0]
    sample.float().sum().backward()
    needed = {name: p for name, p in module.named_parameters() if p.grad is not None}
    for path in called:  # some are run for nothing: no gradient comes back
        needed |= {
            f"{path}.{leaf}".removeprefix("."): parameter
            for leaf, parameter in module.get_submodule(path).named_parameters(recurse=False)
        }
    return needed, called


@pytest.mark.filterwarnings("ignore")  # diffusers' own, of autocast on a CPU
class TestDiffusers:
    """Transformers that nobody has listed names for."""

    @pytest.mark.parametrize("granularity", ["segments", "finest"])
    def test_each_weight_in_one(self, found, real, granularity):
        """The weights of a real forward are in one segment, all others in none."""
        needed, _ = real
        names = getattr(found, granularity).values()
        assert Counter(list(needed)) == Counter(itertools.chain.from_iterable(names))

    @pytest.mark.parametrize("granularity", ["segments", "finest"])
    def test_order_is_that_of_calls(self, found, real, granularity):
        """Segments are in the order in which a real forward first calls a module of each."""
        _, called = real
        segments = getattr(found, granularity)
        home = {n.rpartition(".")[0]: s for s, names in segments.items() for n in names}
        home.pop("", None)
        order = list(dict.fromkeys(home[path] for path in called if path in home))
        assert order == [segment for segment in segments if segment in order]
        assert len(order) > 1

    def test_blocks_are_segments(self, found, tiny):
        """Every element of the outermost lists, by list and number."""
        counts = Counter(name.rpartition(".")[0] for name in found.segments)
        blocks = {name: count for name, count in counts.items() if name and name != "between"}
        layers = {v for k, v in tiny.fields.items() if k in ("num_layers", "num_single_layers")}
        assert layers == set(blocks.values())

    def test_bytes_add_up(self, found, real, tiny):
        """No byte is counted twice, cut either way."""
        needed = sum(p.nbytes for p in real[0].values())
        for names in (found.segments, found.finest):
            segments = cut(tiny.build(), names, "fp32").values()
            assert needed == sum(t.nbytes for s in segments for t in s.tensors)

    def test_parts_make_up_their_segment(self, found):
        """What is cut is cut without a rest, into at least two."""
        assert found.parts
        for segment, parts in found.parts.items():
            assert len(parts) > 1
            assert set(found.segments[segment]) == set(itertools.chain(*parts.values()))

    def test_module_is_left_alone(self, tiny):
        """Its parameters are on meta as before."""
        module, inputs = tiny.build(), tiny.inputs()
        before = dict(module.named_parameters())
        discover(module, lambda copied: copied(**cpu_like(inputs)))
        assert before == dict(module.named_parameters())


def linear(size: int = 4) -> torch.nn.Linear:
    return torch.nn.Linear(size, size, bias=False, device="meta")


class Toy(torch.nn.Module):
    """Blocks, and whatever else a test gives it; its forward uses what it is told, in order."""

    def __init__(self, blocks: int = 2, **children: torch.nn.Module | torch.nn.Parameter) -> None:
        super().__init__()
        self.blocks = torch.nn.ModuleList(linear(8) for _ in range(blocks))
        for name, child in children.items():
            setattr(self, name, child)


def use(*paths):
    """Make a forward that uses the weights at these paths."""

    def forward(module):
        for path in paths:
            inside = module.get_submodule(path) if "." in path or hasattr(module, path) else None
            for parameter in inside.parameters():
                parameter.sum()

    return forward


def table() -> torch.nn.Parameter:
    return torch.nn.Parameter(torch.empty(4, device="meta"))


class TestRules:
    """What goes where."""

    def test_rest_goes_by_when_it_is_used(self):
        """Before the blocks, after them, and between; the order of the tree does not matter."""
        toy = Toy(tail=linear(), start=linear(), middle=linear(), begin=linear())
        forward = use("begin", "start", "blocks.0", "middle", "blocks.1", "tail")
        assert discover(toy, forward).segments == {
            "in": ("begin.weight", "start.weight"),
            "block.0": ("blocks.0.weight",),
            "between.1": ("middle.weight",),
            "block.1": ("blocks.1.weight",),
            "head": ("tail.weight",),
        }

    @pytest.mark.parametrize(("at", "segment"), [(0, "in"), (4, "head")])
    def test_own_table_goes_where_it_is_touched(self, at, segment):
        """A parameter of the module itself has no module that is called."""
        toy = Toy(table=table(), start=linear(), tail=linear())
        steps = [use(p) for p in ("start", "blocks.0", "blocks.1", "tail")]
        steps.insert(at, lambda module: module.table.unsqueeze(0) + 1)

        def forward(module):
            for step in steps:
                step(module)

        assert "table" in discover(toy, forward).segments[segment]

    def test_unused_is_in_none(self):
        """An encoder that is not run has no segment."""
        toy = Toy(start=linear(), encoder=linear())
        assert list(discover(toy, use("start", "blocks.0")).segments) == ["in", "block.0"]

    def test_used_twice_is_in_the_first(self):
        """A child that is used before and after stays one segment."""
        toy = Toy(start=linear())
        found = discover(toy, use("start", "blocks.0", "start", "blocks.1")).segments
        assert list(found) == ["in", "block.0", "block.1"]

    @pytest.mark.parametrize(("blocks", "names"), [(1, {"in"}), (3, {"layer.0", "layer.1", "in"})])
    def test_a_child_with_a_list_is_opened_when_it_is_large(self, blocks, names):
        """Where all of it is no larger than a block, it is one with its neighbours."""
        inner = torch.nn.Module()
        inner.layers = torch.nn.ModuleList(linear(5) for _ in range(2))
        inner.proj = linear(2 * blocks)
        toy = Toy(refiner=inner)
        forward = use("refiner.proj", "refiner.layers.0", "refiner.layers.1", "blocks.0")
        assert names | {"block.0"} == set(discover(toy, forward).segments)

    def test_lists_of_one_name(self):
        """Two lists that would be called alike go by their paths."""
        inner = torch.nn.Module()
        inner.blocks = torch.nn.ModuleList(linear(8) for _ in range(2))
        forward = use("blocks.0", "decoder.blocks.0", "decoder.blocks.1")
        found = discover(Toy(decoder=inner), forward).segments
        assert list(found) == ["blocks.0", "decoder.blocks.0", "decoder.blocks.1"]

    def test_alike_elements_are_run_once(self):
        """The others of the list are used as the first one is."""
        ran = []

        def forward(module):
            use("start")(module)
            for block in module.blocks:
                ran.append(block)
                block.weight.sum()

        found = discover(Toy(blocks=40, start=linear()), forward, ("blocks",))
        assert len(ran) == 1
        assert list(found.segments) == ["in", *(f"block.{i}" for i in range(40))]

    def test_alike_elements_must_be(self):
        """A list of unlike elements can't be taken for its first."""
        toy = Toy()
        toy.blocks[1] = linear(3)
        with pytest.raises(AssertionError, match="blocks is no list of alike modules"):
            discover(toy, use("blocks.0"), ("blocks",))
