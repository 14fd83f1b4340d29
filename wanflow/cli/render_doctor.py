"""What `doctor` found, a name and a value a line; what is wrong comes last, with the way out."""

import shutil
import textwrap
from collections.abc import Iterator, Mapping
from typing import Any

from wanflow.units import format_bytes

Report = Mapping[str, Any]
_LEAST_WIDTH = 40


def render(report: Report) -> str:
    """Lay the facts out; problems and notes are folded, what is to be typed is not."""
    lines = [("python", f"{report['python']} on {report['platform']}")]
    lines += report["packages"].items()
    lines += [line for device in report["devices"] for line in _device(device)]
    lines += _graphics(report)
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
    lines += report["environment"].items()
    if not report["problems"]:
        lines.append(("problems", "none found"))
    width = max(len(name) for name, _ in lines) + 2
    texts = [_folded(f"{name:<{width}}", value) for name, value in lines]
    texts += [_with_cure("problem: ", text) for text in report["problems"]]
    texts += [_with_cure("note: ", text) for text in report["notes"]]
    return "\n".join(texts)


def _device(device: Report) -> Iterator[tuple[str, str]]:
    """A device and its memory; of a card what its driver allows, too."""
    total, free = format_bytes(device["total_bytes"]), format_bytes(device["free_bytes"])
    capability, held = device.get("capability"), device.get("held_bytes")
    compute = f", compute {capability}" if capability else ""
    others = f", {format_bytes(held)} held by others" if held else ""
    memory = f", {free} free of {total}{others}" if device["total_bytes"] else ""
    yield device["name"], f"{device['about']}{compute}{memory}"
    if device.get("expandable_segments"):
        yield "  segments", f"expandable: {device['expandable_segments']}"
    for size, outcome in device.get("pinned", {}).items():
        yield "  pinning", f"{size}: {outcome}"


def _graphics(report: Report) -> Iterator[tuple[str, str]]:
    """NVIDIA's driver and what PyTorch was built for."""
    if "driver" not in report:
        return
    driver, build = report["driver"], report["pytorch"]
    runs = f", runs CUDA {_dotted(driver['cuda'])}" if driver["cuda"] else ""
    where = ", in WSL" if report["wsl"] else ""
    text = f"{driver['version']}{runs}" if driver["version"] else "none found"
    yield "NVIDIA driver", f"{text}{where}"
    shown = any("capability" in device for device in report["devices"])
    for card in () if shown else driver["cards"]:
        size = format_bytes(card["total_bytes"])
        yield "  has", f"{card['name']}, compute {_dotted(card['capability'])}, {size}"
    kind = f"CUDA {build['cuda']}" if build["cuda"] else "without CUDA"
    kind = f"ROCm {build['hip']}" if build["hip"] else kind
    cudnn = f", cuDNN {build['cudnn']}" if build["cudnn"] else ""
    code = f", code for {' '.join(build['arches'])}" if build["arches"] else ""
    yield "PyTorch is", f"{kind}{cudnn}{code}"


def _dotted(version: Any) -> str:
    return ".".join(map(str, version))


def _with_cure(head: str, text: str) -> str:
    """What follows a text's semicolon is to be typed: it stays whole, on a line of its own."""
    message, _, cure = text.partition("; ")
    return _folded(head, message) + (f"\n{' ' * len(head)}{cure}" if cure else "")


def _folded(head: str, text: str) -> str:
    width = max(shutil.get_terminal_size().columns, _LEAST_WIDTH)
    lines = textwrap.wrap(
        text, width, initial_indent=head, subsequent_indent=" " * len(head),
        break_long_words=False, break_on_hyphens=False,
    )  # fmt: skip
    return "\n".join(lines or [head.rstrip()])
