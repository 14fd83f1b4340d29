"""Where wanflow keeps files of its own: the user's configuration, and what may be lost."""

from __future__ import annotations

import os
from pathlib import Path


def config_folder() -> Path:
    """Give the folder of what the user would miss; RuntimeError without a home directory."""
    base = os.environ.get("XDG_CONFIG_HOME")
    return (Path(base) if base else Path.home() / ".config") / "wanflow"


def cache_folder() -> Path:
    """Give the folder of what can be made again; RuntimeError without a home directory."""
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "wanflow"
