"""What a LoRA's tensors change of a model: each is taken, or refused by name."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence

import attrs

from wanflow.models.adapters.at_reading import AddedLowRank, Difference, ReadChange
from wanflow.models.adapters.lora_file import LoraFile
from wanflow.models.adapters.names import Known
from wanflow.models.adapters.scales import of_low_rank
from wanflow.models.adapters.weight_changes import Found, weight_change
from wanflow.models.packing.adapted import Adapter, LowRank

# How the roles of a product begin, and which belong to it where they are beside it.
_PRODUCTS = (
    (("down", "up"), ("alpha", "magnitude")),
    (("lokr",), ("alpha",)),
    (("loha",), ("alpha",)),
)


@attrs.frozen
class AdapterPiece:
    """A parameter of an adapter: the tensor *name* of its LoRA's file times *factor*."""

    lora: LoraFile
    name: str
    factor: float = 1.0


@attrs.define
class Fitted:
    """What a LoRA changes: Linears by path, in the call; other parameters, when they are read.

    `refused` says why of every tensor that nothing takes.
    """

    prefix: str  # of the parameters of its adapters
    linears: dict[str, list[tuple[str, Adapter]]] = attrs.field(factory=lambda: defaultdict(list))
    pieces: dict[str, AdapterPiece] = attrs.field(factory=dict)
    read: dict[str, list[ReadChange]] = attrs.field(factory=lambda: defaultdict(list))
    refused: dict[str, str] = attrs.field(factory=dict)

    def refuse(self, names: Sequence[str], why: str) -> None:
        """Let no one take *names*."""
        self.refused.update(dict.fromkeys(names, why))

    def change(self, path: str, found: Found) -> None:
        """Change a Linear in the call."""
        count = len(self.linears[path])
        prefix = f"{self.prefix}_{count}" if count else self.prefix
        self.linears[path].append((prefix, found.change))
        for leaf, piece in found.pieces.items():
            self.pieces[f"{path}.{prefix}_{leaf}"] = AdapterPiece(*piece)


def fit(lora: LoraFile, known: Known, weight: float, number: int) -> Fitted:
    """Fit a LoRA to a transformer at *weight*; *number* tells it from the others of the model."""
    made = Fitted(f"lora_{number}")
    made.refuse(lora.unknown, "is of no kind that is known")
    targets: dict[str, dict[str, str]] = defaultdict(dict)
    for path, roles in lora.groups.items():
        for role, name in roles.items():
            found = known.module(f"{path}.modulation" if role == "diff_m" else path)
            entry = lora.entry(name)
            if role != "alpha" and not entry.is_weight:
                made.refuse([name], f"is {entry.dtype_name}, not floats")
            elif found is None:
                made.refuse([name], "names nothing of this model")
            elif role in targets[found[0]]:
                made.refuse([name], f"comes after {targets[found[0]][role]!r}, which is the same")
            else:
                targets[found[0]][role] = name
    for path, roles in targets.items():
        _Target(lora, known, weight, path, roles, made).fit()
    return made


@attrs.frozen
class _Target:
    """What a LoRA has for one module, or for one table, of a transformer."""

    lora: LoraFile
    known: Known
    weight: float
    path: str
    roles: Mapping[str, str]
    made: Fitted

    def fit(self) -> None:
        """Take every role, or refuse it."""
        left = dict(self.roles)
        for group, beside in _PRODUCTS:
            own = {role: name for role, name in left.items() if role.partition("_")[0] in group}
            if not own:
                continue
            own |= {role: left[role] for role in beside if role in left}
            for role in own:
                del left[role]
            self._product(own, left)
        for role, name in left.items():
            if role.startswith("diff"):
                self._difference(role, name)
            else:
                self.made.refuse([name], "stands alone: there is nothing that it belongs to")

    def _shape(self) -> tuple[int, ...] | None:
        return self.known.parameters.get(f"{self.path}.weight")

    def _product(self, roles: dict[str, str], left: dict[str, str]) -> None:
        """A change that is a product of matrices; a bias beside a low rank is scaled with it."""
        shape, names = self._shape(), list(roles.values())
        if shape is None:
            self.made.refuse(names, f"{self.path} has no weight")
        elif "down" in roles or "up" in roles:
            self._low_rank(roles, shape, left)
        elif self.path not in self.known.linears:
            self.made.refuse(names, f"{self.path} is no Linear")
        else:
            found = weight_change(self.lora, roles, (shape[0], shape[1]), self.weight)
            if isinstance(found, str):
                self.made.refuse(names, found)
            else:
                self.made.change(self.path, found)

    def _low_rank(
        self, roles: dict[str, str], shape: tuple[int, ...], left: dict[str, str]
    ) -> None:
        names = list(roles.values())
        if missing := {"down", "up"} - roles.keys():
            self.made.refuse(names, f"has no {missing.pop()} matrix beside it")
            return
        down, up = (self.lora.entry(roles[role]).shape for role in ("down", "up"))
        rank = down[0] if down else 0
        linear = self.path in self.known.linears
        if not rank or down != (rank, *shape[1:]) or _squeezed(up) != (shape[0], rank):
            why = f"is {list(down)} and {list(up)}, of {self.path} with {list(shape)}"
            self.made.refuse(names, why)
        elif linear and "magnitude" in roles:
            found = weight_change(self.lora, roles, (shape[0], shape[1]), self.weight)
            if isinstance(found, str):
                self.made.refuse(names, found)
            else:
                self.made.change(self.path, found)
        elif linear:
            self._adapter(roles, (shape[0], shape[1]), rank, left)
        elif {"magnitude", "up_bias"} & roles.keys():
            self.made.refuse(names, f"{self.path} is no Linear")
        else:
            scales = of_low_rank(self.lora, roles, self.path, rank)
            scale = scales.down * scales.up * scales.product * self.weight
            self.made.read[f"{self.path}.weight"].append(
                AddedLowRank(self.lora.checkpoint, roles["down"], roles["up"], scale)
            )

    def _adapter(
        self, roles: dict[str, str], shape: tuple[int, int], rank: int, left: dict[str, str]
    ) -> None:
        bias = roles.get("up_bias") or left.get("diff_b")
        if bias is not None and self.lora.entry(bias).shape != (shape[0],):
            bias = None  # `left` or the line below tells it
        if "up_bias" in roles and bias is None:
            self.made.refuse([roles["up_bias"]], f"is not [{shape[0]}], as {self.path}'s bias")
        if bias is not None and bias == left.get("diff_b"):
            del left["diff_b"]
        scales = of_low_rank(self.lora, roles, self.path, rank)
        pieces = {
            "down": (self.lora, roles["down"], scales.down),
            "up": (self.lora, roles["up"], scales.up),
        }
        if bias is not None:
            pieces["up_bias"] = (self.lora, bias, 1.0)
        change = LowRank(shape, rank, scales.product * self.weight, bias is not None)
        self.made.change(self.path, Found(change, pieces))

    def _difference(self, role: str, name: str) -> None:
        """A change that is to be added to a weight, a bias or a table."""
        target = {"diff": f"{self.path}.weight", "diff_b": f"{self.path}.bias"}.get(role, self.path)
        if self.path in self.known.parameters and role != "diff_b":
            target = self.path
        shape, there = self.known.parameters.get(target), self.lora.entry(name)
        if shape is None:
            self.made.refuse([name], f"{target} is nothing of this model")
        elif there.shape != shape:
            why = f"is {list(there.shape)}, {target} is {list(shape)}"
            self.made.refuse([name], why)
        elif role == "diff" and self.path in self.known.linears:
            found = weight_change(self.lora, {role: name}, (shape[0], shape[1]), self.weight)
            if isinstance(found, Found):
                self.made.change(self.path, found)
        else:
            self.made.read[target].append(Difference(self.lora.checkpoint, name, self.weight))


def _squeezed(shape: tuple[int, ...]) -> tuple[int, ...]:
    """The shape of an `up` matrix; a convolution's has sides of one behind it."""
    return shape[:2] if set(shape[2:]) <= {1} else shape
