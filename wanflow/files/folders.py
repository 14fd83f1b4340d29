"""Where wanflow keeps files of its own: configuration, downloads, and what may be lost."""

from __future__ import annotations

from pathlib import Path

from wanflow.environment import CACHE_HOME, CONFIG_HOME, DATA_HOME, Variable

PACKAGE = Path(__file__).resolve().parents[1]  # where wanflow is installed


def config_folder() -> Path:
    """Give the folder of what the user would miss; RuntimeError without a home directory."""
    return _below(CONFIG_HOME)


def cache_folder() -> Path:
    """Give the folder of what can be made again; RuntimeError without a home directory."""
    return _below(CACHE_HOME)


def data_folder() -> Path:
    """Give the folder of what took long to fetch; RuntimeError without a home directory."""
    return _below(DATA_HOME)


def _below(home: Variable) -> Path:
    base = Path(home.value)
    return (base.expanduser() if home.value == home.default else base) / "wanflow"
