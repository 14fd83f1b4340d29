"""Put a CPU's measured figures right by short runs: Wan's own calls, on few layers and few pixels.

A kernel by itself, repeated, says little of the same kernel in a run, whose tensors are new memory
each time, lie channels last in strips, and are of many sizes. So the calls themselves run, at the
widths of Wan2.1 1.3B with random weights, and the figures are learned from them as from any run;
before them those of the tiny model, for what starting takes.
"""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path

import attrs
import torch

from wanflow.files.folders import PACKAGE, cache_folder
from wanflow.graph.configs import known_config
from wanflow.models.segments.build import build
from wanflow.models.segments.cut import dtype_of
from wanflow.scheduler.machine.figures import Machine, Source
from wanflow.scheduler.machine.store import load, save
from wanflow.scheduler.run.probe import with_samples
from wanflow.session.preparing.place import Place, place_on
from wanflow.session.probing.tiny_run import prepare_tiny, tiny_run
from wanflow.session.probing.video_times import video_times
from wanflow.session.request import Request
from wanflow.session.running.run import run

_MODEL = "wan2.1-t2v-1.3b"
_LAYERS = {"text_encoder": {"num_layers": 1, "vocab_size": 1024}, "transformer": {"num_layers": 2}}
_PARTS = {"text": ("text_encoder", "bf16"), "dit": ("transformer", "bf16"), "vae": ("vae", "fp32")}
_FILES = {"text_encoder": "model"}
_WAYS = ("whole", "strips.4")  # of decoding: large budgets, and small ones
_INPUTS: Mapping[str, str | int] = {"prompt": "x", "size": "416*240", "frames": 5, "steps": 1}
_GRAPH = """\
wanflow: 1
name: calibration
inputs:
  prompt: {{type: text}}
  size: {{type: size}}
  frames: {{type: int}}
  steps: {{type: int}}
models:
{models}
stages:
  encode: {{op: encode_text, model: text, in: {{prompt: $prompt}}}}
  noise: {{op: noise, in: {{size: $size, frames: $frames, seed: 0}}}}
  denoise:
    op: denoise
    model: dit
    in: {{text: encode.text, latents: noise.latents}}
    params: {{steps: $steps}}
  decode: {{op: decode_frames, model: vae, in: {{latents: denoise.latents}}}}
  write: {{op: write_video, in: {{frames: decode.frames}}}}
outputs:
  video: write.file
"""


def calibrate(machine: Machine) -> Machine:
    """Return the stored *machine*, a probed CPU, with what short runs taught, and store it.

    OSError where the cache folder has no room for the weights, about a gigabyte.
    """
    cache_folder().mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="probe-", dir=cache_folder()) as scratch:
        folder = Path(scratch)
        machine = with_samples(machine, video_times(folder), "measured", machine.about)
        machine = tiny_run(machine, prepare_tiny(machine), folder, "measured")
        save(machine)
        graph = _write(folder)
        for number, way in enumerate(_WAYS):
            request = Request(
                str(graph), dict(_INPUTS), weights=(str(folder),), device="cpu",
                pins=(f"decode.strips={way}",), prompt_cache=False,
            )  # fmt: skip

            def on(request: Request, machine: Machine = machine) -> Place:
                return place_on(machine, torch.device("cpu"), request)

            run(request, out=folder / f"run-{number}", on=on)
            machine = load(machine.name) or machine
    sources: dict[str, Source] = dict.fromkeys(machine.sources, "measured")
    machine = attrs.evolve(machine, sources=sources, was={})
    save(machine)
    return machine


def _write(folder: Path) -> Path:
    """Write the graph and the weights; return the graph's path."""
    lines = []
    for name, (part, precision) in _PARTS.items():
        fields = {**known_config(_MODEL, part), **_LAYERS.get(part, {})}
        _write_part(folder / part, part, fields, precision)
        lines.append(
            f"  {name}: {{part: {part}, precision: {precision}, config: {json.dumps(fields)}}}"
        )
    shutil.copytree(PACKAGE / "bundled" / "wan-tiny" / "tokenizer", folder / "tokenizer")
    graph = folder / "calibration.yaml"
    graph.write_text(_GRAPH.format(models="\n".join(lines)), encoding="utf-8")
    return graph


def _write_part(folder: Path, part: str, fields: Mapping[str, object], precision: str) -> None:
    from safetensors.torch import save_file

    folder.mkdir()
    module = build(part, fields)
    tensors = {
        name: torch.empty(parameter.shape, dtype=dtype_of(module, name, precision)).uniform_(
            -0.02, 0.02
        )
        for name, parameter in module.named_parameters()
    }
    stem = _FILES.get(part, "diffusion_pytorch_model")
    save_file(tensors, folder / f"{stem}.safetensors", metadata={"format": "pt"})
    (folder / "config.json").write_text(json.dumps(fields), encoding="utf-8")
