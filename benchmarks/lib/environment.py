"""What the processes that are compared are started in."""

from __future__ import annotations

import os
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def child_environment(**more: str) -> dict[str, str]:
    """This process' own, the checkout's packages first, and *more*.

    Bytecode may be written: what pip has installed has its own, and without it a checkout's modules
    are compiled in every process.
    """
    paths = [str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
    around = {**os.environ, "PYTHONPATH": os.pathsep.join(paths), **more}
    around.pop("PYTHONDONTWRITEBYTECODE", None)
    return around
