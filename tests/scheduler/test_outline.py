"""A footprint from one forward: laps, what outlives them, what they need; never a weight made."""

from __future__ import annotations

import pytest
import torch
from footprints import TOY
from replay import replay

from wanflow.scheduler.laps import Setting
from wanflow.scheduler.lifetimes import lifetimes
from wanflow.scheduler.outline import Asked, outline
from wanflow.scheduler.planner import plan
from wanflow.scheduler.program import Segment, TensorSpec

WIDTH, ROWS = 16, 8
ROW = WIDTH * 4
X = ROWS * ROW  # bytes of the hidden state
W = WIDTH * WIDTH * 4  # of a Linear's weight


def linear() -> torch.nn.Linear:
    return torch.nn.Linear(WIDTH, WIDTH, bias=False)


class Block(torch.nn.Module):
    """Two Linears, with a result of the first still there in the second."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = linear(), linear()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        made = self.first(x)
        return self.second(made) + made


class Model(torch.nn.Module):
    """An embedding that makes a table for later, blocks, and a table of its own at the end."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = linear()
        self.blocks = torch.nn.ModuleList(Block() for _ in range(2))
        self.scale = torch.nn.Parameter(torch.empty(WIDTH))
        self.register_buffer("kept", torch.empty(5))

    def forward(self, x: torch.Tensor, more: tuple[torch.Tensor, ...] = ()) -> torch.Tensor:
        table = x[:2] * 2
        x = self.embed(x)
        for block in self.blocks:
            x = block(x)
        return (x + table.sum() + len(more)) * self.scale


PARTS = {
    "in": ("embed.weight",),
    "block.0.first": ("blocks.0.first.weight",), "block.0.second": ("blocks.0.second.weight",),
    "block.1.first": ("blocks.1.first.weight",), "block.1.second": ("blocks.1.second.weight",),
    "head": ("scale",),
}  # fmt: skip
WHOLE = {part: part.removesuffix(".first").removesuffix(".second") for part in PARTS}
BYTES = {"in": W, "block.0": 2 * W, "block.1": 2 * W, "head": ROW}


def segments(model: torch.nn.Module) -> dict[str, Segment]:
    found = {}
    for segment, names in PARTS.items():
        (name,) = names
        shape = tuple(model.get_parameter(name).shape)
        nbytes = torch.Size(shape).numel() * 4
        found[segment] = Segment(
            segment, (TensorSpec(name, shape, torch.float32, 0, nbytes),), nbytes
        )
    return found


def outlined(repeats: int = 1, device: str = "meta"):
    """Outline the model: with its blocks whole, and in parts."""
    with torch.device(device):
        model = Model()
        x = torch.empty(ROWS, WIDTH)
    parts = segments(model)
    fine = {name: segment.nbytes for name, segment in parts.items()}
    settings = [
        Setting({"split": "whole"}, WHOLE, BYTES),
        Setting({"split": "parts"}, {p: p for p in PARTS}, fine),
    ]
    return outline(model, parts, Asked((x,), {"more": (x,)}, repeats, "cpu"), settings)


class TestLaps:
    """A call a visit to a segment."""

    def test_calls(self):
        """The arguments, then segments in the order of the forward, again each time."""
        whole, parts = outlined(repeats=2)
        kinds = ["in", "block.0", "block.1", "head"]
        assert [s.kind for s in whole.steps] == ["inputs", *kinds, *kinds]
        assert [s.step for s in whole.steps] == [0] * 5 + [1] * 4
        assert [s.segment for s in parts.steps[1:7]] == [f"Model/{part}" for part in PARTS]

    def test_segments(self):
        """Those that are used, with their bytes."""
        whole, parts = outlined()
        assert {f"Model/{n}": b for n, b in BYTES.items()} == {
            n: s.nbytes for n, s in whole.segments.items()
        }
        total = 5 * W + ROW
        assert [f.stages[0].weights_bytes for f in (whole, parts)] == [total, total]
        assert [f.stages[0].knobs["split"] for f in (whole, parts)] == ["whole", "parts"]

    def test_inputs_are_there_to_the_end(self):
        """The tensors given, each once, and what the module keeps besides parameters."""
        whole, _ = outlined(repeats=2)
        (given,) = whole.steps[0].makes
        assert given.nbytes == X + 5 * 4
        readers = [i for i, step in enumerate(whole.steps) if given.value in step.reads]
        assert readers[-1] == len(whole.steps) - 1

    def test_values_are_what_outlives_its_lap(self):
        """The hidden state goes to the next one, the table to the last.

        What is computed after a block is the block's, until the next weight: a sum of both.
        """
        whole, _ = outlined()
        made = {step.kind: [m.nbytes for m in step.makes] for step in whole.steps[1:]}
        assert made == {"in": [2 * ROW, X], "block.0": [X], "block.1": [X, X], "head": [X]}
        table, hidden = whole.steps[1].makes
        assert hidden.value in whole.steps[2].reads
        assert table.value in whole.steps[4].reads

    def test_values_between_parts(self):
        """In parts, what the first one made is still there in the second."""
        _, parts = outlined()
        first, second = parts.steps[2:4]
        assert [m.nbytes for m in first.makes] == [X]
        assert set(second.reads) > {m.value for m in first.makes}

    def test_the_result_is_kept(self):
        """Of the last forward only."""
        whole, _ = outlined(repeats=2)
        assert whole.keeps == {whole.steps[-1].makes[0].value}

    @pytest.mark.parametrize("device", ["meta", "cpu"])
    def test_costs(self, device):
        """FLOPs by kernel class, and workspace over what was there on entry."""
        block = outlined(device=device)[0].steps[2].cost
        assert block.flops == {"gemm": 2 * 2 * ROWS * WIDTH * WIDTH}
        assert block.workspace_bytes == 3 * X
        assert block.kernels == 3
        assert block.memory_bytes == 3 * X

    def test_parts_cost_what_the_whole_does(self):
        """All but the workspace adds up."""
        whole, parts = outlined()
        for name in ("memory_bytes", "kernels"):
            assert sum(getattr(s.cost, name) for s in whole.steps) == sum(
                getattr(s.cost, name) for s in parts.steps
            )

    def test_requests_are_the_laps_own(self):
        """What is given back was asked for in the same call; the rest are its values."""
        for footprint in outlined():
            for step in footprint.steps:
                taken = [r for r in step.cost.requests if r > 0]
                given = {-r for r in step.cost.requests if r < 0}
                left = set(range(1, len(taken) + 1)) - given
                assert left == set(step.cost.origins)
                assert [taken[n - 1] for n in step.cost.origins] == [m.nbytes for m in step.makes]


class TestPlanned:
    """The planner takes it as any other."""

    @pytest.mark.parametrize("share", [0, 0.3, 0.7, 1])
    def test_replays(self, share):
        """At the minimum, between, and with all that fits: what the plan says is what happens."""
        variants = outlined(repeats=3)
        ends = plan(variants, TOY, None)
        budget = int(ends.minimum_bytes + share * (ends.resident_bytes - ends.minimum_bytes))
        made = plan(variants, TOY, budget)
        assert made.feasible
        assert replay(made).peak_bytes <= budget

    def test_parts_need_less(self):
        """Half a block's weights at a time."""
        whole, parts = (max(lifetimes(f).need_bytes) for f in outlined())
        assert parts == whole - W
