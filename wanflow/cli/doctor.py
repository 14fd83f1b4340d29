"""`wanflow doctor`: what to paste into a bug report."""

import platform
from pathlib import Path
from typing import Any

import attrs

from wanflow.cli.options import Json
from wanflow.cli.output import say, say_json
from wanflow.terminal.safe import clean
from wanflow.units import format_bytes

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

    report: dict[str, Any] = {
        "python": platform.python_version(),
        "platform": platform.platform(),
        "packages": health.package_versions(),
        "devices": [attrs.asdict(device) for device in health.devices()],
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
    return {**report, "problems": problems(report)}


def problems(report: dict[str, Any]) -> list[str]:
    """Name what would stop a run, or stop it from going to the GPU."""
    wrong = [f"{name} is not installed" for name, v in report["packages"].items() if v == _ABSENT]
    if not report["encoders"]["libx264"]:
        wrong.append("no H.264 encoder: use write_frames instead of write_video")
    for name, folder in report["folders"].items():
        if not folder["writable"]:
            wrong.append(f"the {name} folder can't be written: {folder['path']}")
    return wrong


def render(report: dict[str, Any]) -> str:
    """Lay the facts out in lines of a name and a value."""
    lines = [("python", f"{report['python']} on {report['platform']}")]
    lines += list(report["packages"].items())
    for device in report["devices"]:
        total, free = format_bytes(device["total_bytes"]), format_bytes(device["free_bytes"])
        lines.append((device["name"], f"{device['about']}, {free} free of {total}"))
    have = [name for name, there in report["encoders"].items() if there]
    lines.append(("encoders", ", ".join(have) or "none"))
    for name, folder in report["folders"].items():
        can = "writable" if folder["writable"] else "not writable"
        lines.append((name, f"{folder['path']} ({can}, {format_bytes(folder['free_bytes'])} free)"))
    for name in ("footprints", "prompts"):
        cache = report[name]
        size = format_bytes(cache["nbytes"])
        lines.append((name, f"{cache['path']} ({cache['files']} files, {size})"))
    lines.append(("pinned memory", report["pinned_memory"]))
    lines += list(report["environment"].items())
    lines += [("problem", text) for text in report["problems"]] or [("problems", "none found")]
    width = max(len(name) for name, _ in lines) + 2
    return "\n".join(f"{name:<{width}}{value}" for name, value in lines)
