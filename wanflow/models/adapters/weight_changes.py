"""Adapters that change a Linear's weight itself, opened in the call: differences, DoRA, LoKr, LoHa.

LoKr and LoHa: https://github.com/KohakuBlueleaf/LyCORIS, docs/Algo-Details.md. DoRA:
https://arxiv.org/abs/2402.09353; of whole outputs where the magnitude is `[out]` or `[out, 1]`, and
of inputs where it is `[1, in]`, as LyCORIS has both. At another strength than 1 the weight is that
share of the way to the decomposed one.
"""

from __future__ import annotations

from collections.abc import Mapping

import attrs
import torch

from wanflow.models.adapters.lora_file import LoraFile
from wanflow.models.adapters.scales import of_low_rank, of_product
from wanflow.models.packing.adapted import Adapter, Shapes
from wanflow.models.packing.form import Pieces

Source = tuple[LoraFile, str, float]  # a tensor of a file, and what it is times


@attrs.frozen
class Found:
    """A change, and where its pieces come from."""

    change: Adapter
    pieces: Mapping[str, Source]


@attrs.frozen
class Delta:
    """Add a whole difference `[out, in]` times *scale*."""

    shape: tuple[int, int]
    scale: float

    @property
    def pieces(self) -> Shapes:
        """The difference."""
        return {"diff": self.shape}

    def changed(self, weight: torch.Tensor, pieces: Pieces) -> torch.Tensor:
        """Add it in place."""
        return weight.add_(pieces["diff"], alpha=self.scale)


@attrs.frozen
class Decomposed:
    """DoRA: add `up @ down`, then let the norms be the magnitude, `rows` or columns of them."""

    shape: tuple[int, int]
    rank: int
    rows: bool
    scale: float  # of the product
    strength: float

    @property
    def pieces(self) -> Shapes:
        """`down` `[rank, in]`, `up` `[out, rank]`, the magnitude of every row or column."""
        outputs, inputs = self.shape
        magnitude = (outputs, 1) if self.rows else (1, inputs)
        return {"down": (self.rank, inputs), "up": (outputs, self.rank), "magnitude": magnitude}

    def changed(self, weight: torch.Tensor, pieces: Pieces) -> torch.Tensor:
        """Decompose it; norms are summed in fp32."""
        moved = torch.addmm(weight, pieces["up"], pieces["down"], alpha=self.scale)
        norm = torch.linalg.vector_norm(
            moved, dim=1 if self.rows else 0, keepdim=True, dtype=torch.float32
        )
        moved.mul_((pieces["magnitude"].float() / norm).to(weight.dtype))
        return moved if self.strength == 1 else torch.lerp(weight, moved, self.strength)


@attrs.frozen
class Kronecker:
    """LoKr: add the Kronecker product of two matrices, each whole or a product of two."""

    factors: Shapes

    @property
    def pieces(self) -> Shapes:
        """`w1`, or `w1_a` and `w1_b`; the same of `w2`. The scale is in the first of them."""
        return self.factors

    def changed(self, weight: torch.Tensor, pieces: Pieces) -> torch.Tensor:
        """Add it in place."""
        first, second = (_factor(pieces, name) for name in ("w1", "w2"))
        return weight.add_(torch.kron(first, second))


@attrs.frozen
class Hadamard:
    """LoHa: add the product, number by number, of two products of matrices."""

    factors: Shapes

    @property
    def pieces(self) -> Shapes:
        """`w1_a` and `w1_b`, `w2_a` and `w2_b`. The scale is in the first of them."""
        return self.factors

    def changed(self, weight: torch.Tensor, pieces: Pieces) -> torch.Tensor:
        """Add it in place."""
        first, second = (_factor(pieces, name) for name in ("w1", "w2"))
        return weight.add_(first.mul_(second))


def _factor(pieces: Pieces, name: str) -> torch.Tensor:
    if name in pieces:
        return pieces[name]
    return pieces[f"{name}_a"] @ pieces[f"{name}_b"]


def weight_change(
    lora: LoraFile, roles: Mapping[str, str], shape: tuple[int, int], weight: float
) -> Found | str:
    """Make the change of a weight `shape` out of tensors by role; or say why there is none."""
    if "diff" in roles:
        return Found(Delta(shape, weight), {"diff": (lora, roles["diff"], 1.0)})
    if "magnitude" in roles:
        return _decomposed(lora, roles, shape, weight)
    kind = "lokr" if any(role.startswith("lokr") for role in roles) else "loha"
    return _factored(kind, lora, roles, shape, weight)


def _decomposed(
    lora: LoraFile, roles: Mapping[str, str], shape: tuple[int, int], weight: float
) -> Found | str:
    if "up_bias" in roles:
        return "is DoRA with a bias"
    there = lora.entry(roles["magnitude"]).shape
    rows = there in ((shape[0],), (shape[0], 1))
    if not rows and there != (1, shape[1]):
        return f"has a magnitude {list(there)} for a weight {list(shape)}"
    rank = lora.entry(roles["down"]).shape[0]
    scales = of_low_rank(lora, roles, "", rank)
    pieces = {
        "down": (lora, roles["down"], scales.down),
        "up": (lora, roles["up"], scales.up),
        "magnitude": (lora, roles["magnitude"], 1.0),
    }
    return Found(Decomposed(shape, rank, rows, scales.product, weight), pieces)


def _factored(
    kind: str, lora: LoraFile, roles: Mapping[str, str], shape: tuple[int, int], weight: float
) -> Found | str:
    """LoKr or LoHa, of factors whose shapes make the weight's."""
    names = {r.removeprefix(f"{kind}_"): n for r, n in roles.items() if r.startswith(kind)}
    shapes = {leaf: lora.entry(names[leaf]).shape for leaf in sorted(names)}
    if any(len(each) != len(shape) for each in shapes.values()):
        return f"has factors {', '.join(str(list(each)) for each in shapes.values())}, not matrices"
    products = {name: _product(shapes, name) for name in ("w1", "w2")}
    first, second = products["w1"], products["w2"]
    if first is None or second is None:
        return f"has factors {', '.join(shapes)} that don't fit each other"
    made = (first[0] * second[0], first[1] * second[1]) if kind == "lokr" else first
    if made != shape or (kind == "loha" and second != shape):
        return f"makes {list(made)} for a weight {list(shape)}"
    inner = [shapes[f"{name}_b"][0] for name in ("w1", "w2") if f"{name}_b" in shapes]
    scale = of_product(lora, roles, inner[-1] if inner else None) * weight
    change = Kronecker(shapes) if kind == "lokr" else Hadamard(shapes)
    scaled = "w1" if "w1" in shapes else "w1_a"
    sources = {leaf: (lora, name, scale if leaf == scaled else 1.0) for leaf, name in names.items()}
    return Found(change, sources)


def _product(shapes: Shapes, name: str) -> tuple[int, int] | None:
    """The shape of a factor; None where it is not there once, or its own two don't fit."""
    whole, left, right = (shapes.get(f"{name}{end}") for end in ("", "_a", "_b"))
    if whole is not None and left is None and right is None:
        return whole[0], whole[1]
    if whole is None and left is not None and right is not None and left[1] == right[0]:
        return left[0], right[1]
    return None
