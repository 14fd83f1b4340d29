"""All modules that commands come to, imported ahead: for a process whose children begin at once."""

from __future__ import annotations

import importlib
import pkgutil

import wanflow

_SERVED = ("__main__", "watch")  # what no command comes to that ends by itself


def import_all() -> None:
    """Import them."""
    for found in pkgutil.walk_packages(wanflow.__path__, "wanflow."):
        if found.name.split(".")[1] not in _SERVED:
            importlib.import_module(found.name)
