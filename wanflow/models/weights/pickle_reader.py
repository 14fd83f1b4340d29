"""Read what a pickle of `torch.save` says of its tensors. Nothing in it is called or imported.

The opcodes are taken apart by `pickletools`, which only reads. A machine of our own knows those
that `torch.save` writes (protocol 2), and of the names that a pickle may ask for the few that make
a dictionary of tensors, by their text alone. Everything else is refused by name. What a pickle can
make this hold is bounded by its size, which the caller bounds.
"""

from __future__ import annotations

import pickletools
from collections.abc import Callable, Mapping
from pathlib import Path

import attrs
import torch

from wanflow.errors import WeightsError

_DICTIONARY = "collections OrderedDict"
_TENSOR = "torch._utils _rebuild_tensor_v2"
_UNTYPED_TENSOR = "torch._utils _rebuild_tensor_v3"  # of dtypes younger than typed storages
_UNTYPED = "torch.storage UntypedStorage"
_PARAMETER = "torch._utils _rebuild_parameter"
_STORAGES = {
    f"torch {kind}Storage": dtype
    for kind, dtype in {
        "Double": torch.float64, "Float": torch.float32, "Half": torch.float16,
        "BFloat16": torch.bfloat16, "Long": torch.int64, "Int": torch.int32, "Short": torch.int16,
        "Char": torch.int8, "Byte": torch.uint8, "Bool": torch.bool,
        "ComplexFloat": torch.complex64, "ComplexDouble": torch.complex128,
    }.items()
}  # fmt: skip
_DTYPES = {
    f"torch {name}": getattr(torch, name)
    for name in (
        "uint16", "uint32", "uint64", "float8_e4m3fn", "float8_e5m2", "float8_e4m3fnuz",
        "float8_e5m2fnuz", "float8_e8m0fnu",
    )
}  # fmt: skip
_NAMES = frozenset(
    (_DICTIONARY, _TENSOR, _UNTYPED_TENSOR, _PARAMETER, _UNTYPED, *_STORAGES, *_DTYPES)
)


@attrs.frozen(eq=False)
class Storage:
    """The bytes that tensors are views of, by their key in the archive."""

    key: str
    dtype: torch.dtype
    count: int

    @property
    def nbytes(self) -> int:
        """Bytes in the archive."""
        return self.count * self.dtype.itemsize


@attrs.frozen(eq=False)
class Stored:
    """A view of a storage, as the pickle says it: nothing is checked but the storage."""

    storage: Storage
    offset: object
    shape: object
    stride: object


@attrs.frozen(eq=False)
class _Name:
    """A name that the pickle asks for. It stays a text."""

    text: str


@attrs.frozen(eq=False)
class Pickled:
    """The tensors of a pickle by name, in its order, and where it ended."""

    tensors: Mapping[str, Stored]
    nbytes: int


class _MalformedError(Exception):
    """The pickle is not one that `torch.save` writes."""


class _PickleRefusedError(Exception):
    """The pickle asks for what is never done."""


def read_pickle(data: bytes, path: Path) -> Pickled:
    """Read the pickle at the start of *data*; WeightsError names *path* and what is refused."""
    try:
        machine = _StackMachine()
        nbytes = machine.run(data)
        tensors = _tensors(machine.result())
    except _PickleRefusedError as error:
        raise WeightsError(
            f"{path}: its pickle asks for {error}, and no pickle is executed",
            hint="only tensors are read: a dictionary of them, as torch.save writes it",
            code="pickle-refused",
        ) from None
    except _MalformedError as error:
        raise WeightsError(f"{path}: {error}", code="bad-weights") from None
    except (ValueError, IndexError, KeyError, OverflowError):
        raise WeightsError(f"{path}: its pickle is malformed", code="bad-weights") from None
    return Pickled(tensors, nbytes)


def _tensors(result: object) -> dict[str, Stored]:
    if not isinstance(result, dict):
        raise _MalformedError(f"holds {_kind(result)}, not a dictionary of tensors")
    tensors: dict[str, Stored] = {}
    for name, value in _unwrapped(result).items():
        if not isinstance(value, Stored):
            raise _MalformedError(f"{_short(name)} is {_kind(value)}, not a tensor")
        tensors[name] = value
    return tensors


def _unwrapped(result: dict[str, object]) -> dict[str, object]:
    """Take the one dictionary of tensors that a training framework put beside steps and rates."""
    inner = {
        name: value
        for name, value in result.items()
        if isinstance(value, dict) and any(isinstance(tensor, Stored) for tensor in value.values())
    }
    if len(inner) != 1 or any(isinstance(value, Stored) for value in result.values()):
        return result
    ((outer, tensors),) = inner.items()
    return {f"{outer}.{name}": tensor for name, tensor in tensors.items()}


def _short(text: str) -> str:
    return repr(text if len(text) <= 80 else f"{text[:77]}...")


def _kind(value: object) -> str:
    kinds = ((dict, "a dictionary"), (list, "a list"), (tuple, "a tuple"), (str, "a text"))
    return next((words for kind, words in kinds if isinstance(value, kind)), "a value")


class _StackMachine:
    """The stack, the memo, and the opcodes that are known."""

    def __init__(self) -> None:
        self.stack: list[object] = []
        self.below: list[list[object]] = []  # the stacks under each mark
        self.memo: dict[int, object] = {}

    def run(self, data: bytes) -> int:
        """Run to STOP and return the bytes that were read."""
        for opcode, arg, position in pickletools.genops(data):
            if opcode.name == "STOP":
                return (position or 0) + 1
            step = _STEPS.get(opcode.name)
            if step is None:
                raise _PickleRefusedError(f"the opcode {opcode.name}")
            step(self, arg)
        raise _MalformedError("its pickle does not end")

    def result(self) -> object:
        """What is left at the end."""
        if len(self.stack) != 1 or self.below:
            raise _MalformedError("its pickle is malformed")
        return self.stack[0]

    def push(self, value: object) -> None:
        self.stack.append(value)

    def mark(self) -> None:
        self.below.append(self.stack)
        self.stack = []

    def above_mark(self) -> list[object]:
        values, self.stack = self.stack, self.below.pop()
        return values

    def make_tuple(self, count: int) -> None:
        if len(self.stack) < count:
            raise IndexError
        at = len(self.stack) - count
        self.stack[at:] = [tuple(self.stack[at:])]

    def remember(self, place: object) -> None:
        self.memo[_number(place)] = self.stack[-1]

    def recall(self, place: object) -> None:
        self.push(self.memo[_number(place)])

    def set_items(self, pairs: list[object]) -> None:
        into = self.stack[-1]
        if not isinstance(into, dict) or len(pairs) % 2:
            raise _MalformedError("its pickle is malformed")
        for name, value in zip(pairs[::2], pairs[1::2], strict=True):
            if not isinstance(name, str):
                raise _MalformedError(f"a dictionary has {_kind(name)} for a name")
            if name in into:
                raise _MalformedError(f"{_short(name)} is there twice")
            into[name] = value

    def set_one(self) -> None:
        value, name = self.stack.pop(), self.stack.pop()
        self.set_items([name, value])

    def extend(self, values: list[object]) -> None:
        into = self.stack[-1]
        if not isinstance(into, list):
            raise _MalformedError("its pickle is malformed")
        into.extend(values)

    def ask(self, text: object) -> None:
        if text not in _NAMES:
            raise _PickleRefusedError(_short(str(text).replace(" ", ".", 1)))
        self.push(_Name(str(text)))

    def call(self) -> None:
        """REDUCE, of the three functions that are known: what they would make is made here."""
        args, function = self.stack.pop(), self.stack.pop()
        if not isinstance(function, _Name) or not isinstance(args, tuple):
            raise _PickleRefusedError("a call of what is no name")
        result = _CALLS.get(function.text, _not_called)(args)
        if result is None:
            raise _PickleRefusedError(f"{function.text.replace(' ', '.')!r} in an unknown way")
        self.push(result)

    def build(self) -> None:
        """BUILD: an OrderedDict of `state_dict()` has attributes, which say nothing of tensors."""
        state = self.stack.pop()
        if not isinstance(self.stack[-1], dict) or not isinstance(state, dict):
            raise _PickleRefusedError("the opcode BUILD")

    def storage(self) -> None:
        """BINPERSID: `("storage", type, key, device, count)`."""
        match self.stack.pop():
            case ("storage", _Name(text=text), str(key), str(), int(count)) if text in _STORAGES:
                if not 0 <= count < 2**63:
                    raise _MalformedError(f"storage {_short(key)} has a wrong size")
                self.push(Storage(key, _STORAGES[text], count))
            case ("storage", _Name(text=text), str(key), str(), int(count)) if text == _UNTYPED:
                if not 0 <= count < 2**63:
                    raise _MalformedError(f"storage {_short(key)} has a wrong size")
                self.push(Storage(key, torch.uint8, count))
            case _:
                raise _PickleRefusedError("a persistent id that is no storage")


def _number(value: object) -> int:
    if not isinstance(value, int):
        raise _MalformedError("its pickle is malformed")
    return value


def _dictionary(args: tuple[object, ...]) -> object:
    return {} if not args else None


def _tensor(args: tuple[object, ...]) -> object:
    if len(args) in (6, 7) and isinstance(args[0], Storage):
        return Stored(args[0], args[1], args[2], args[3])
    return None


def _untyped_tensor(args: tuple[object, ...]) -> object:
    """A tensor of a storage of bytes: its dtype stands beside it."""
    if len(args) not in (7, 8) or not isinstance(args[0], Storage):
        return None
    storage, dtype = args[0], args[6]
    if not isinstance(dtype, _Name) or dtype.text not in _DTYPES or storage.dtype != torch.uint8:
        return None
    element = _DTYPES[dtype.text]
    count, rest = divmod(storage.count, element.itemsize)
    return None if rest else Stored(Storage(storage.key, element, count), *args[1:4])


def _parameter(args: tuple[object, ...]) -> object:
    return args[0] if len(args) == 3 and isinstance(args[0], Stored) else None


def _not_called(_: tuple[object, ...]) -> object:
    return None


_CALLS = {
    _DICTIONARY: _dictionary, _TENSOR: _tensor, _UNTYPED_TENSOR: _untyped_tensor,
    _PARAMETER: _parameter,
}  # fmt: skip

_STEPS: Mapping[str, Callable[[_StackMachine, object], None]] = {
    "PROTO": lambda _m, _: None,
    "MARK": lambda m, _: m.mark(),
    **dict.fromkeys(("NONE", "NEWTRUE", "NEWFALSE"), lambda m, _: m.push(None)),  # says nothing
    **dict.fromkeys(
        ("BININT", "BININT1", "BININT2", "LONG1", "BINFLOAT", "BINUNICODE"), _StackMachine.push
    ),
    "EMPTY_DICT": lambda m, _: m.push({}),
    "EMPTY_LIST": lambda m, _: m.push([]),
    "EMPTY_TUPLE": lambda m, _: m.push(()),
    "TUPLE": lambda m, _: m.push(tuple(m.above_mark())),
    "TUPLE1": lambda m, _: m.make_tuple(1),
    "TUPLE2": lambda m, _: m.make_tuple(2),
    "TUPLE3": lambda m, _: m.make_tuple(3),
    **dict.fromkeys(("BINPUT", "LONG_BINPUT"), _StackMachine.remember),
    **dict.fromkeys(("BINGET", "LONG_BINGET"), _StackMachine.recall),
    "SETITEM": lambda m, _: m.set_one(),
    "SETITEMS": lambda m, _: m.set_items(m.above_mark()),
    "APPEND": lambda m, _: m.extend([m.stack.pop()]),
    "APPENDS": lambda m, _: m.extend(m.above_mark()),
    "GLOBAL": _StackMachine.ask,
    "REDUCE": lambda m, _: m.call(),
    "BUILD": lambda m, _: m.build(),
    "BINPERSID": lambda m, _: m.storage(),
}
