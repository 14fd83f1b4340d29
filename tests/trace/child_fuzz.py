"""Give the reader 20,000 hostile files; print how much memory that took, in KiB, as JSON."""

import json
import os
import random
import resource
import sys
from collections.abc import Callable

import attrs

from wanflow.errors import InputError
from wanflow.trace import summarise
from wanflow.trace.events import Kind, Move, Verb
from wanflow.trace.framing import FORMAT, frame, pack, seal

rng = random.Random(int(sys.argv[1]))  # noqa: S311
fd = os.memfd_create("fuzz")  # 20,000 files on a disk would cost more than reading them
START = seal({"format": FORMAT, "version": 1, "budget_bytes": 1})
MAGIC = START[:24]
HEADERS = [b"\xdc", b"\xdd", b"\xde", b"\xdf", b"\xd9", b"\xda", b"\xdb", b"\xc4", b"\xc6", b"\xc9"]
BOMBS = [
    b"\xdc\x10\x00" * 87_000,
    (b"\xdc\x10\x00" + b"\x90" * 4096) * 60,
    b"\xdc\x00\x3c" + (b"\xdc\x10\x00" + b"\x90" * 4096) * 60,
    b"\x9d\xa4move" + (b"\xdc\x10\x00" + b"\x80" * 4096) * 12,
    b"\x91" * 250_000,
    b"\x81\xa1a" * 80_000,
]


def value(depth: int = 0) -> object:
    """Make something that an event's field might, or might not, be."""
    pick = rng.randrange(12 if depth < 4 else 9)
    if pick >= 9:
        items = [value(depth + 1) for _ in range(rng.randrange(5))]
        return items if pick > 9 else {str(n): item for n, item in enumerate(items)}
    return (0, 1, -1, 2**63, 1.5, float("nan"), True, None, "stream")[pick]


def row() -> bytes:
    """Make a row that is nearly an event, with a field or two gone wrong."""
    event = Move(Verb.FREE, Kind.STATE, "a", "b", 1, "", "cpu", 1, 1, 1, 1, 1, "")
    fields: list[object] = ["move", *attrs.astuple(event)]
    for _ in range(rng.randrange(3)):
        fields[rng.randrange(len(fields))] = value()
    return pack(fields[: rng.randrange(len(fields) + 1)] if rng.random() < 0.2 else fields)


def hostile() -> bytes:
    """Make one file of any of the kinds that an attacker, or a bad disk, would."""
    noise = rng.randbytes(rng.randrange(200))
    size = rng.choice([0, 1, 255, 65_536, 2**24, 2**32 - 1]).to_bytes(4, "big")
    pick = rng.choice(HEADERS)
    makers: list[Callable[[], bytes]] = [
        lambda: noise,
        lambda: START + noise,
        lambda: START + b"".join(frame(rng.randbytes(20)) for _ in range(3)),
        lambda: START + b"".join(frame(row()) for _ in range(5)),
        lambda: START + frame(pick + size + noise),
        lambda: START + b"\x92\xce" + noise[:4].ljust(4) + b"\xc6" + size + noise,
        lambda: MAGIC + pick + size + noise,
        lambda: START + frame(row()) + rng.choice([b"\xde", b""]) + size[2:] + noise,
    ]
    return rng.choice(makers)()


def bombs() -> list[bytes]:
    """Make files that cost most for their size, in a record, a header and a trailer."""
    head, tail = b"\xde\x00\x03" + MAGIC[3:] + b"\xa1a", START + b"\xde\x00\x02\xa1a"
    return [file for bomb in BOMBS for file in (START + frame(bomb), head + bomb, tail + bomb)]


def try_file(data: bytes) -> str:
    """Sum *data* up; anything but InputError escapes and fails the test."""
    os.ftruncate(fd, 0)
    os.pwrite(fd, data, 0)
    try:
        summary = summarise(f"/proc/self/fd/{fd}")
    except InputError:
        return "refused"
    json.dumps(summary.to_dict(), allow_nan=False)
    return summary.state


def peak_kib() -> int:
    """Give the most memory that this process ever had."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


try_file(START + frame(row()))
before = peak_kib()
results: dict[str, int] = {}
for data in bombs():
    try_file(data)
for _ in range(20_000):
    result = try_file(hostile())
    results[result] = results.get(result, 0) + 1
print(json.dumps({"grown_kib": peak_kib() - before, "results": results}))  # noqa: T201
