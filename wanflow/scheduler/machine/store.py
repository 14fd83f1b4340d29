"""Where machines are kept: a JSON file each, under the user's configuration. No torch."""

from __future__ import annotations

import json
import re
from pathlib import Path

from wanflow.errors import InputError
from wanflow.files.folders import config_folder
from wanflow.files.whole import writing
from wanflow.remarks import remark
from wanflow.scheduler.machine.datasheets import NAMES, named_machine, unknown
from wanflow.scheduler.machine.figures import Machine
from wanflow.scheduler.machine.machine_json import as_data, parse

_LARGEST_BYTES = 2**20


def folder() -> Path:
    """Give the folder of the stored machines."""
    return config_folder() / "machines"


def path_of(name: str) -> Path:
    """Give the file of a machine: its name in small letters, digits and hyphens."""
    word = re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")
    if not 0 < len(word) <= 100 or not name.isprintable():
        raise InputError(
            f"{name!r} is no name for a machine",
            hint="use letters, digits and hyphens",
            code="bad-machine-name",
        )
    return folder() / f"{word}.json"


def load(name: str) -> Machine | None:
    """Read the stored machine of a name, or None; InputError when its file is wrong."""
    path = path_of(name)
    try:
        return _read(path)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        remark(f"the stored machine {name!r} is not read", f"{path}: {error.strerror}")
        return None


def _read(path: Path) -> Machine:
    with path.open("rb") as file:
        content = file.read(_LARGEST_BYTES + 1)
    if len(content) > _LARGEST_BYTES:
        raise InputError(f"{path}: is too large to be a machine", code="bad-machine")
    try:
        text = content.decode("utf-8")
    except UnicodeDecodeError:
        raise InputError(f"{path}: is no UTF-8 text", code="bad-machine") from None
    return parse(text, str(path))


def save(machine: Machine) -> Path:
    """Keep a machine under its name: another process sees the old file or the new one."""
    path = path_of(machine.name)
    path.parent.mkdir(parents=True, exist_ok=True)
    text = json.dumps(as_data(machine), indent=1, allow_nan=False)
    with writing(path, shared=True, mode=0o600) as part, part.open("w", encoding="utf-8") as file:
        file.write(f"{text}\n")
    return path


def stored() -> list[Machine]:
    """Read every stored machine, by name; InputError when the file of one is wrong."""
    return sorted((_read(p) for p in folder().glob("[!.]*.json")), key=lambda m: m.name.lower())


def find(name: str) -> Machine:
    """Look a machine up: a stored one, else one with datasheet figures; InputError lists both."""
    machine = load(name)
    if machine is not None:
        return machine
    if name == "cpu" or name.lower() in NAMES:
        return named_machine(name)
    raise unknown(name, (*NAMES, *(p.stem for p in sorted(folder().glob("[!.]*.json")))))
