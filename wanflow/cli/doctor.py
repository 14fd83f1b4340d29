"""`wanflow doctor`: what to paste into a bug report."""

import platform
from pathlib import Path
from typing import Any

import attrs

from wanflow.cli.options import Json
from wanflow.cli.output import say, say_json
from wanflow.cli.render_doctor import render
from wanflow.terminal.safe import clean

_ABSENT = "not installed"


def doctor(*, json: Json = False) -> int:
    """Say what this machine offers; paste it into a report."""
    report = examine()
    say_json(report) if json else say(clean(render(report)))
    return 0


def examine() -> dict[str, Any]:
    """Collect the facts, and the problems they amount to."""
    from wanflow import environment, health
    from wanflow.files.cache import held
    from wanflow.files.folders import cache_folder, config_folder
    from wanflow.scheduler.profile import kind_cache
    from wanflow.session.preparing import prompt_cache

    packages, graphics = health.package_versions(), _graphics()
    report: dict[str, Any] = {
        "python": platform.python_version(),
        "platform": platform.platform(),
        "packages": packages,
        "devices": [attrs.asdict(health.host()), *graphics.pop("cards", ())],
        **graphics,
        "encoders": health.encoders(),
        "pinned_memory": health.pinned(),
        "folders": {
            "cache": attrs.asdict(health.folder(cache_folder())),
            "config": attrs.asdict(health.folder(config_folder())),
            "runs": attrs.asdict(health.folder(Path("runs"))),
        },
        "footprints": attrs.asdict(held(kind_cache.folder())),
        "prompts": attrs.asdict(held(prompt_cache.folder())),
        "environment": environment.in_force(),
    }
    return {**report, "problems": [*graphics.pop("problems", ()), *problems(report)]}


def _graphics() -> dict[str, Any]:
    """What there is of cards; nothing where PyTorch itself can't be loaded."""
    try:
        from wanflow.session import card_report  # seconds, and only asked for here
    except (ImportError, OSError):  # OSError: a library of its own is missing
        return {"notes": []}
    report = attrs.asdict(card_report.report())
    seen = report.pop("system")
    return {
        "pytorch": report.pop("build"), "driver": seen["driver"], "wsl": seen["wsl"],
        "container": seen["container"], **report,
    }  # fmt: skip


def problems(report: dict[str, Any]) -> list[str]:
    """Name what would stop a run, but for its cards."""
    wrong = [f"{name} is not installed" for name, v in report["packages"].items() if v == _ABSENT]
    if not report["encoders"]["libx264"]:
        wrong.append("no H.264 encoder: use write_frames instead of write_video")
    for name, folder in report["folders"].items():
        if not folder["writable"]:
            wrong.append(f"the {name} folder can't be written: {folder['path']}")
    return wrong
