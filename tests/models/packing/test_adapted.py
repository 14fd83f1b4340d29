"""A Linear that adapters change: some of its outputs are those of all of them."""

import pytest
import torch

from wanflow.models.adapters.weight_changes import Decomposed, Delta, Hadamard, Kronecker
from wanflow.models.packing.adapted import AdaptedLinear, LowRank
from wanflow.models.packing.linear import OpenLinear, opened, packed
from wanflow.models.packing.made import form_of, pack

OUT, IN, RANK = 12, 32, 3
CHANGES = {
    "low rank": LowRank((OUT, IN), RANK, 0.7),
    "low rank, bias": LowRank((OUT, IN), RANK, 0.7, has_bias=True),
    "difference": Delta((OUT, IN), 0.5),
    "DoRA of rows": Decomposed((OUT, IN), RANK, rows=True, scale=1.0, strength=0.5),
    "DoRA of columns": Decomposed((OUT, IN), RANK, rows=False, scale=1.0, strength=1.0),
    "LoKr": Kronecker({"w1": (3, 4), "w2_a": (4, 2), "w2_b": (2, 8)}),
    "LoHa": Hadamard({"w1_a": (OUT, 2), "w1_b": (2, IN), "w2_a": (OUT, 2), "w2_b": (2, IN)}),
}


def linear(kind, changes):
    """A Linear with random numbers, packed or not, that is changed."""
    torch.manual_seed(0)
    base = torch.nn.Linear(IN, OUT).requires_grad_(requires_grad=False)
    if kind == "packed":
        weight, bias = base.weight, base.bias
        base = OpenLinear(form_of("int8", (OUT, IN)), bias, torch.float32)
        for name, piece in pack("int8", weight).items():
            base._parameters[name] = torch.nn.Parameter(piece, requires_grad=False)
    adapted = AdaptedLinear(base, [(f"lora_{n}", change) for n, change in enumerate(changes)])
    for name, parameter in adapted.named_parameters():
        if parameter.is_meta:
            value = torch.nn.Parameter(torch.randn(parameter.shape) / 4, requires_grad=False)
            adapted._parameters[name] = value
    return adapted


@pytest.mark.parametrize("kind", ["plain", "packed"])
@pytest.mark.parametrize("name", CHANGES)
def test_some_outputs(kind, name) -> None:
    """Of head groups and of chunks: to the rounding of a product of another shape."""
    adapted = linear(kind, [CHANGES[name], CHANGES["low rank"]])
    x = torch.randn(2, 7, IN)
    whole = adapted(x)
    part = slice(4, 8)
    assert torch.allclose(opened(adapted, part)(x), whole[..., part], atol=1e-5)
    assert torch.allclose(opened(adapted)(x), whole, atol=1e-5)
    assert not torch.allclose(linear(kind, [CHANGES["low rank"]])(x), whole, atol=1e-2)
    assert (packed(adapted) is not None) == (kind == "packed")


def test_leaves_its_parts_as_they_are() -> None:
    """Neither the weight nor a piece of an adapter is changed by a call."""
    adapted = linear("plain", list(CHANGES.values()))
    before = {name: p.clone() for name, p in adapted.named_parameters()}
    adapted(torch.randn(3, IN))
    assert all(torch.equal(before[name], p) for name, p in adapted.named_parameters())
