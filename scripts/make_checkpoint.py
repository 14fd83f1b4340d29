"""Make random weights of a known configuration, in the layout that diffusers writes.

    python scripts/make_checkpoint.py wan2.1-t2v-1.3b transformer --out /tmp/wf-scratch/1.3b

`transformer_2` is the second one of two experts, with noise of its own. Written tensor by tensor,
so that a model of any size needs no memory. The noise is cut out of one pool, which is as fast as
the disk. A text encoder gets the bundled model's tokenizer.
`--field text_encoder.num_layers=1` changes a field of the configuration.
"""

from __future__ import annotations

import argparse
import json
import math
import shutil
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO

import attrs
import torch

import wanflow
from wanflow.graph.configs import KNOWN, PARTS, known_config
from wanflow.models.segments.build import allowed, build, is_vace, transformer_class
from wanflow.models.segments.cut import DTYPES, dtype_of

_STD = 0.02
_POOL = 8_388_617  # a prime: rows of a matrix never meet the same stretch of noise
_SHARD_BYTES = 4 << 30
_SPARE_BYTES = 1 << 30  # of the disk, left free
_NAMES = {torch.float32: "F32", torch.bfloat16: "BF16", torch.float16: "F16"}
_STEMS = {"text_encoder": "model"}
_SECOND = "transformer_2"
_BOUNDARIES = {True: 0.9, False: 0.875}  # of models that start from a picture, and of others


@attrs.frozen
class Tensor:
    """One tensor to write."""

    name: str
    shape: tuple[int, ...]
    dtype: torch.dtype

    @property
    def nbytes(self) -> int:
        """Bytes in the file."""
        return math.prod(self.shape) * self.dtype.itemsize

    @property
    def std(self) -> float:
        """Small enough that deep sums stay finite; 0 for what begins as ones."""
        if self.name.endswith("gamma"):
            return 0.0
        if len(self.shape) == 1 and "norm" in self.name and self.name.endswith("weight"):
            return 0.0
        return min(_STD, 1 / math.sqrt(max(math.prod(self.shape[1:]), 1)))


def tensors_of(part: str, fields: Mapping[str, object], precision: str) -> list[Tensor]:
    """Every parameter of a part, in the dtype that upstream saves it in."""
    module = build(_kind(part), fields)
    return [
        Tensor(name, tuple(parameter.shape), dtype_of(module, name, precision))
        for name, parameter in module.named_parameters()
    ]


def shards_of(tensors: Sequence[Tensor]) -> list[list[Tensor]]:
    """Cut into files of a few gigabytes."""
    shards: list[list[Tensor]] = [[]]
    for tensor in tensors:
        if shards[-1] and sum(t.nbytes for t in shards[-1]) + tensor.nbytes > _SHARD_BYTES:
            shards.append([])
        shards[-1].append(tensor)
    return shards


def noise_pool(seed: int) -> torch.Tensor:
    """Draw the noise that all tensors are cut out of, twice, so that a cut may begin anywhere."""
    noise = torch.randn(_POOL, generator=_generator(seed))
    return torch.cat((noise, noise))


def pieces(tensor: Tensor, pool: torch.Tensor, seed: int) -> Iterator[memoryview]:
    """Bytes of a tensor: the pool from a place of its own, round and round."""
    count = math.prod(tensor.shape)
    if tensor.std:
        start = int(torch.randint(_POOL, (1,), generator=_generator(seed)).item())
        part = (pool[start : start + min(count, _POOL)] * tensor.std).to(tensor.dtype)
    else:
        part = torch.ones(min(count, _POOL), dtype=tensor.dtype)
    view = part.view(torch.uint8).numpy().data
    for done in range(0, tensor.nbytes, len(view)):
        yield view[: min(len(view), tensor.nbytes - done)]


def _generator(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def write_shard(file: BinaryIO, tensors: Sequence[Tensor], pool: torch.Tensor, seed: int) -> None:
    """Write one safetensors file: the header's length, the header, the bytes."""
    header: dict[str, object] = {"__metadata__": {"format": "pt"}}
    offset = 0
    for tensor in tensors:
        ends = [offset, offset + tensor.nbytes]
        shape, dtype = list(tensor.shape), _NAMES[tensor.dtype]
        header[tensor.name] = {"dtype": dtype, "shape": shape, "data_offsets": ends}
        offset = ends[1]
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    file.write(len(text).to_bytes(8, "little") + text)
    for number, tensor in enumerate(tensors):
        file.writelines(pieces(tensor, pool, seed * 1_000_003 + number))


def make_part(
    out: Path, part: str, fields: Mapping[str, object], precision: str, seed: int = 0
) -> Path:
    """Write a part's folder and return it; one that is there with the same fields is kept."""
    folder, tensors = out / part, tensors_of(part, fields, precision)
    seed += part == _SECOND
    stamp = {"fields": allowed(_kind(part), fields, part), "precision": precision, "seed": seed}
    stamp_text = json.dumps(stamp, sort_keys=True)
    if _is_made(folder, stamp_text):
        return folder
    _check_room(out, sum(tensor.nbytes for tensor in tensors))
    partial = out / f"{part}.part"
    for old in (partial, folder):
        shutil.rmtree(old, ignore_errors=True)
    partial.mkdir(parents=True)
    _write_files(partial, _STEMS.get(part, "diffusion_pytorch_model"), tensors, seed)
    (partial / "config.json").write_text(json.dumps(stamp["fields"], indent=2) + "\n")
    (partial / "random.json").write_text(stamp_text + "\n")
    partial.rename(folder)
    if part == "text_encoder":
        bundled = Path(wanflow.__file__).parent / "bundled" / "wan-tiny" / "tokenizer"
        shutil.copytree(bundled, out / "tokenizer", dirs_exist_ok=True)
    return folder


def model_index(config: str, parts: Sequence[str]) -> dict[str, object]:
    """What diffusers' `model_index.json` says of a model of these parts."""
    fields = known_config(config, "transformer")
    transformer = transformer_class(fields).__name__
    from_picture = fields["in_channels"] != fields["out_channels"]
    pipeline = "WanImageToVideoPipeline" if from_picture else "WanPipeline"
    index: dict[str, object] = {
        "_class_name": "WanVACEPipeline" if is_vace(fields) else pipeline,
        "scheduler": ["diffusers", "UniPCMultistepScheduler"],
        "text_encoder": ["transformers", "UMT5EncoderModel"],
        "tokenizer": ["transformers", "PreTrainedTokenizerFast"],
        "transformer": ["diffusers", transformer],
        "vae": ["diffusers", "AutoencoderKLWan"],
        "expand_timesteps": known_config(config, "vae")["is_residual"],
    }
    if _SECOND in parts:
        index[_SECOND] = index["transformer"]
        index["boundary_ratio"] = _BOUNDARIES[from_picture]
    return index


def _kind(part: str) -> str:
    return part.removesuffix("_2")


def _is_made(folder: Path, stamp: str) -> bool:
    try:
        return (folder / "random.json").read_text().strip() == stamp
    except OSError:
        return False


def _check_room(out: Path, nbytes: int) -> None:
    out.mkdir(parents=True, exist_ok=True)
    free = shutil.disk_usage(out).free
    if nbytes + _SPARE_BYTES > free:
        sys.exit(f"{out}: {nbytes} bytes are to be written there, {free} are free")


def _write_files(folder: Path, stem: str, tensors: Sequence[Tensor], seed: int) -> None:
    pool = noise_pool(seed)
    shards = shards_of(tensors)
    places = {}
    for number, shard in enumerate(shards):
        tail = f"-{number + 1:05}-of-{len(shards):05}" if len(shards) > 1 else ""
        path = folder / f"{stem}{tail}.safetensors"
        with path.open("wb") as file:
            write_shard(file, shard, pool, seed + number)
        places.update({tensor.name: path.name for tensor in shard})
    if len(shards) > 1:
        size = {"total_size": sum(tensor.nbytes for tensor in tensors)}
        index = {"metadata": size, "weight_map": places}
        (folder / f"{stem}.safetensors.index.json").write_text(json.dumps(index) + "\n")


def _overrides(texts: Sequence[str]) -> dict[str, dict[str, object]]:
    found: dict[str, dict[str, object]] = {}
    for text in texts:
        key, _, value = text.partition("=")
        part, _, name = key.partition(".")
        found.setdefault(part, {})[name] = json.loads(value)
    return found


def main(arguments: Sequence[str] | None = None) -> None:
    """Write the parts that were asked for."""
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    add: Any = parser.add_argument
    add("config", choices=tuple(KNOWN))
    add("parts", nargs="+", choices=(*PARTS, _SECOND), metavar="part")
    add("--out", type=Path, required=True)
    add("--dtype", default="bf16", choices=tuple(DTYPES))
    add("--seed", type=int, default=0)
    add("--field", action="append", default=[], metavar="PART.NAME=VALUE")
    given = parser.parse_args(arguments)
    changes = _overrides(given.field)
    for part in given.parts:
        fields = {**known_config(given.config, _kind(part)), **changes.get(_kind(part), {})}
        print(f"Wrote {make_part(given.out, part, fields, given.dtype, given.seed)}")
    there = [folder.name for folder in given.out.iterdir()]
    index = json.dumps(model_index(given.config, there), indent=2)
    (given.out / "model_index.json").write_text(index + "\n")


if __name__ == "__main__":
    main()
