"""Is decoding in strips faster than diffusers' decode, plain and tiled, in less memory? On a CPU.

    python -m benchmarks.vae_decode [--rounds 3] [--precision bf16] [--size 480*272] [--frames 9]
                                    [--setting strips.8] [--shrink]

A full-size Wan2.1 VAE with random weights, the same for all; each decode is a process of its own
and they take turns (`--sides` leaves some out). Ours are the calls of the `decode_frames` stage,
one after the other, values dropped after their last reader. Seconds are those of the decode, from
latents to uint8 frames with the weights loaded, of the clock and of all threads (where others use
the processor too, compare with OMP_NUM_THREADS=1: threads that wait spin). The peak is the
process's resident memory at its highest while it decodes.
Prints a line a run, then one JSON object, which goes into benchmarks/results/ too.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch

from benchmarks.lib.child import status_bytes
from benchmarks.lib.environment import ROOT
from benchmarks.lib.report import keep, machine_line, spread
from scripts.make_checkpoint import make_part
from wanflow.graph import PortRef
from wanflow.graph.bound import BoundStage
from wanflow.graph.configs import known_config
from wanflow.graph.ops import OPS
from wanflow.graph.source import Mark
from wanflow.graph.spec import ModelSpec
from wanflow.models.bound import bind_model
from wanflow.models.weights.checkpoint import STAGING_BYTES
from wanflow.stages import LatentSpace, StageSetup, Surroundings, make_program
from wanflow.stages.frames import to_levels

SIDES = ("plain", "tiled", "strips")
Row = dict[str, Any]


def fields_of(*, shrink: bool) -> dict[str, Any]:
    """The VAE's configuration."""
    return dict(known_config("wan-tiny" if shrink else "wan2.1-t2v-1.3b", "vae"))


def latents_of(given: argparse.Namespace, channels: int) -> torch.Tensor:
    """Normal noise, the same for all."""
    width, height = map(int, given.size.split("*"))
    shape = (1, channels, (given.frames - 1) // 4 + 1, height // 8, width // 8)
    return torch.randn(shape, generator=torch.Generator().manual_seed(0))


def theirs(given: argparse.Namespace, folder: Path) -> tuple[Any, torch.Tensor]:
    """Load diffusers' module; a function that decodes, and its latents."""
    from diffusers import AutoencoderKLWan

    dtype = torch.bfloat16 if given.precision == "bf16" else torch.float32
    module = AutoencoderKLWan.from_pretrained(folder, torch_dtype=dtype).eval()
    if given.side == "tiled":
        module.enable_tiling()
    latents = latents_of(given, module.config.z_dim).to(dtype)
    mean, std = (
        torch.tensor(values).view(1, -1, 1, 1, 1).to(dtype)
        for values in (module.config.latents_mean, module.config.latents_std)
    )

    def decode() -> torch.Tensor:
        decoded = module.decode(latents * std + mean, return_dict=False)[0]
        return to_levels((decoded[0].transpose(0, 1) * 0.5 + 0.5).clamp(0, 1))

    return decode, latents


def ours(given: argparse.Namespace, folder: Path) -> tuple[Any, torch.Tensor]:
    """Bind the stage with all its weights; a function that runs its calls, and its latents."""
    fields = fields_of(shrink=given.shrink)
    spec = ModelSpec(name="vae", part="vae", fields=fields, mark=Mark(1, 1))
    found = bind_model(spec, given.precision, folder, folder / "graph.yaml")
    source: Any = found.checkpoint
    staging = torch.empty(STAGING_BYTES, dtype=torch.uint8)
    for name, segment in found.model.segments.items():
        tensors = {t.name: torch.empty(t.shape, dtype=t.dtype) for t in segment.tensors}
        for each, tensor in tensors.items():
            source.read_into(each, tensor, staging)
        found.model.bind(name, tensors)
    latents = latents_of(given, fields["z_dim"])
    around = Surroundings(
        torch.device("cpu"), LatentSpace(channels=fields["z_dim"], spatial=8, temporal=4),
        tuple(latents.shape), None, {}, None, wants_negative=False,
    )  # fmt: skip
    ports = {"latents": PortRef("denoise", "latents")}
    stage = BoundStage("decode", OPS["decode_frames"], None, ports, {})
    program = make_program(StageSetup(stage, found.model, around))

    def decode() -> torch.Tensor:
        calls = list(program.calls({"strips": given.setting}, lambda _name: tuple(latents.shape)))
        last = {name: index for index, call in enumerate(calls) for name in call.reads}
        values, frames = {"denoise.latents": latents}, []
        for index, call in enumerate(calls):
            values.update(call.run({n: values[n] for n in call.reads if n in values}))
            if call.emits:
                frames.append(to_levels(values.pop("decode.frames")))
            for name in [n for n in values if last.get(n, -1) <= index]:
                del values[name]
        return torch.cat(frames)

    return decode, latents


def child(given: argparse.Namespace) -> None:
    """Decode once and tell."""
    decode, _ = (ours if given.side == "strips" else theirs)(given, given.folder)
    before = status_bytes("VmRSS")
    with suppress(OSError):  # where that is allowed, VmHWM starts again at VmRSS
        Path("/proc/self/clear_refs").write_text("5")
    began, worked = time.perf_counter(), time.process_time()
    with torch.no_grad():
        frames = decode()
    seconds, cpu_seconds = time.perf_counter() - began, time.process_time() - worked
    peak = status_bytes("VmHWM")
    torch.save(frames, given.frames_to)
    told = {
        "seconds": seconds, "cpu_seconds": cpu_seconds, "peak_rss_bytes": peak,
        "rss_growth_bytes": peak - before, "shape": list(frames.shape),
        "sha256": hashlib.sha256(frames.numpy().tobytes()).hexdigest(),
    }  # fmt: skip
    print(json.dumps(told))


def ask(given: argparse.Namespace, side: str, folder: Path, out: Path) -> Row:
    """Run one side in a process of its own."""
    command = [
        sys.executable, "-m", "benchmarks.vae_decode", "--side", side, "--folder", str(folder),
        "--frames-to", str(out), "--precision", given.precision, "--size", given.size, "--frames",
        str(given.frames), "--setting", given.setting, *(["--shrink"] if given.shrink else []),
    ]  # fmt: skip
    done = subprocess.run(command, check=True, capture_output=True, text=True, cwd=ROOT)
    row: Row = json.loads(done.stdout.splitlines()[-1])
    print(
        f"{side:>6}  {row['seconds']:.2f} s  cpu {row['cpu_seconds']:.2f} s  "
        f"peak {row['peak_rss_bytes'] / 1e9:.3f} GB",
        flush=True,
    )
    return row


def compare(given: argparse.Namespace, folder: Path, scratch: Path) -> Row:
    """Let the sides take turns; each other round backwards."""
    found: dict[str, list[Row]] = {side: [] for side in given.sides}
    for number in range(given.rounds):
        for side in given.sides[:: -1 if number % 2 else 1]:
            found[side].append(ask(given, side, folder, scratch / f"{side}.pt"))
    frames = {s: torch.load(scratch / f"{s}.pt", weights_only=True).int() for s in given.sides}
    rows = [
        {
            "case": side,
            **{key: spread([row[key] for row in runs]) for key in ("seconds", "cpu_seconds")},
            **{
                key: max(row[key] for row in runs) for key in ("peak_rss_bytes", "rss_growth_bytes")
            },
            "levels_off_strips": int((frames[side] - frames["strips"]).abs().max()),
        }
        for side, runs in found.items()
    ]
    others = [side for side in given.sides if side != "strips"]
    shares = {
        f"{key}_over_{side}": spread(
            [a[key] / b[key] for a, b in zip(found["strips"], found[side], strict=True)]
        )
        for side in others
        for key in ("seconds", "cpu_seconds")
    }
    peaks = {row["case"]: row["peak_rss_bytes"] for row in rows}
    return {"rows": rows, **shares, "lower_peak": peaks["strips"] < min(peaks[s] for s in others)}


def main(given: argparse.Namespace) -> None:
    """Measure, print and keep."""
    if given.side:
        child(given)
        return
    fields = fields_of(shrink=given.shrink)
    with tempfile.TemporaryDirectory(dir=given.scratch) as scratch:
        folder = make_part(Path(scratch), "vae", fields, given.precision)
        found = compare(given, folder, Path(scratch))
    report = {
        "benchmark": "vae_decode", "machine": machine_line("cpu"), "size": given.size,
        "frames": given.frames, "precision": given.precision, "setting": given.setting,
        "rounds": given.rounds, **found,
    }  # fmt: skip
    keep(report, given.out)
    print(json.dumps(report))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--precision", choices=("bf16", "fp32"), default="bf16")
    parser.add_argument("--size", default="480*272")
    parser.add_argument("--frames", type=int, default=9)
    parser.add_argument("--setting", default="strips.8")
    parser.add_argument("--sides", nargs="+", choices=SIDES, default=SIDES)
    parser.add_argument("--scratch", type=Path, help="where the weights are made [temporary]")
    parser.add_argument("--out", type=Path, help="the JSON file [benchmarks/results/...]")
    parser.add_argument("--shrink", action="store_true", help="the tiny VAE, once")
    parser.add_argument("--side", help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--frames-to", type=Path, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.shrink:
        asked.rounds, asked.size, asked.setting = 1, "96*64", "strips.4"
    main(asked)
