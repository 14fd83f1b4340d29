"""Where wanflow keeps files of its own: configuration, downloads, and what may be lost."""

from __future__ import annotations

import os
from pathlib import Path

PACKAGE = Path(__file__).resolve().parents[1]  # where wanflow is installed


def config_folder() -> Path:
    """Give the folder of what the user would miss; RuntimeError without a home directory."""
    base = os.environ.get("XDG_CONFIG_HOME")
    return (Path(base) if base else Path.home() / ".config") / "wanflow"


def cache_folder() -> Path:
    """Give the folder of what can be made again; RuntimeError without a home directory."""
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "wanflow"


def data_folder() -> Path:
    """Give the folder of what took long to fetch; RuntimeError without a home directory."""
    base = os.environ.get("XDG_DATA_HOME")
    return (Path(base) if base else Path.home() / ".local" / "share") / "wanflow"
