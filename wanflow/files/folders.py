"""Where wanflow keeps files of its own: configuration, downloads, and what may be lost."""

from __future__ import annotations

from pathlib import Path

from wanflow.environment import CACHE_HOME, CONFIG_HOME, DATA_HOME, Variable

PACKAGE = Path(__file__).resolve().parents[1]  # where wanflow is installed
HOMELESS = Path("/dev/null/no-home-directory")  # nothing can be read or written below a device


def config_folder() -> Path:
    """Give the folder of what the user would miss."""
    return _below(CONFIG_HOME)


def cache_folder() -> Path:
    """Give the folder of what can be made again."""
    return _below(CACHE_HOME)


def data_folder() -> Path:
    """Give the folder of what took long to fetch."""
    return _below(DATA_HOME)


def _below(home: Variable) -> Path:
    """Read a variable of the XDG base directories, where a relative path counts as none."""
    base = Path(home.value)
    try:
        return (base if base.is_absolute() else Path(home.default).expanduser()) / "wanflow"
    except RuntimeError:
        return HOMELESS / "wanflow"
