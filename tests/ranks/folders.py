"""A transformer as wide as Wan's 1.3B, of two blocks, and a graph that runs it; runs of it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import torch

from wanflow.trace import TraceReader

REPOSITORY = Path(__file__).resolve().parents[2]
_PATIENCE = 240  # seconds, on a computer that others use too

GRAPH = """
wanflow: 1
name: wide
about: The tiny model with a transformer of Wan's widths
inputs:
  prompt: {type: text, default: a red circle moves right on a blue background}
models:
  text: {part: text_encoder, config: wan-tiny, precision: fp32}
  dit: {part: transformer, path: wide, precision: fp32}
  vae: {part: vae, config: wan-tiny, precision: fp32}
stages:
  encode: {op: encode_text, model: text, in: {prompt: $prompt, negative_prompt: $negative_prompt}}
  noise: {op: noise, in: {size: 192*128, frames: 17, seed: 3}}
  denoise:
    op: denoise
    model: dit
    in: {text: encode.text, latents: noise.latents}
    params: {steps: 2, sampler: unipc, shift: 3.0, guidance: 3.0}
  decode: {op: decode_frames, model: vae, in: {latents: denoise.latents}}
  write: {op: write_video, in: {frames: decode.frames}, params: {fps: 8}}
outputs: {video: write.file}
"""


def write_wide(folder: Path) -> Path:
    """Write the graph and its weights, from a seed; return the graph's path."""
    from wanflow.graph.configs import known_config
    from wanflow.models.segments.build import allowed, transformer_class

    wan = known_config("wan2.1-t2v-1.3b", "transformer")
    tiny = known_config("wan-tiny", "transformer")
    narrow = {name: tiny[name] for name in ("in_channels", "out_channels", "text_dim")}
    fields = allowed("transformer", {**wan, **narrow, "num_layers": 2}, "wide")
    torch.manual_seed(5)
    transformer_class(fields)(**fields).save_pretrained(folder / "wide" / "transformer")
    graph = folder / "wide.yaml"
    graph.write_text(GRAPH)
    return graph


def wanflow(*words: str, popen: bool = False) -> Any:
    """Run a command line in a process of its own; *popen*: only start it."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(REPOSITORY)}
    command = [sys.executable, "-m", "wanflow", *words]
    pipes: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    if popen:
        return subprocess.Popen(command, env=environment, **pipes)
    return subprocess.run(command, env=environment, check=False, timeout=1200, **pipes)


def ran(*words: str, exact: bool = True) -> dict[str, Any]:
    """Run `wanflow run` to its end; what it prints."""
    done = wanflow("run", *words, *(("--exact",) if exact else ()), "--json")
    assert done.returncode == 0, done.stderr
    report: dict[str, Any] = json.loads(done.stdout)
    return report


def begun(folder: Path, *words: str) -> Any:
    """Start a run of the tiny graph, and wait until a step of it is saved."""
    process = wanflow("run", "t2v-tiny", *words, "--out", str(folder), popen=True)
    until = time.monotonic() + _PATIENCE
    while not (folder / "state" / "index.json").exists():
        assert process.poll() is None, process.stderr.read()
        assert time.monotonic() < until
        time.sleep(0.05)
    return process


def reached(folder: Path, process: Any, stage: str) -> bool:
    """Wait until the first rank's trace has a call of a stage; whether the run still goes on."""
    trace, until = folder / "ranks" / "0.msgpack", time.monotonic() + _PATIENCE
    while time.monotonic() < until and process.poll() is None:
        with TraceReader(trace) as reader:
            if any(getattr(event, "stage", None) == stage for event in reader):
                return process.poll() is None
        time.sleep(0.02)
    return False


def children(process: Any) -> list[int]:
    """Process ids of the ranks, in order."""
    tasks = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    return [p for p in map(int, tasks) if "session.ranks.child" in _command(p)]


def gone(pids: list[int], seconds: float) -> bool:
    """Whether none of these ranks is there, so many seconds from now at the most."""
    until = time.monotonic() + seconds
    while any("session.ranks.child" in _command(pid) for pid in pids):
        if time.monotonic() > until:
            return False
        time.sleep(0.05)
    return True


def _command(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_text()
    except OSError:
        return ""
