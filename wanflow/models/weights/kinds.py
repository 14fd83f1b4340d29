"""Which kind of Wan a part's tensors are: VACE's blocks or none, which autoencoder, its latents.

Each kind has tensors that no other has, so that a model of another kind than the graph's is told in
a sentence, before any single tensor is.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

from wanflow.errors import WeightsError
from wanflow.graph.spec import ModelSpec
from wanflow.models.segments.build import is_vace

if TYPE_CHECKING:
    from wanflow.models.weights.checkpoint import Checkpoint

PATCHES = "patch_embedding.weight"  # of every transformer
_DOUBLES = "decoder.up_blocks.0.upsampler.resample.1.weight"  # where Wan 2.2's autoencoder does


def has_vace(names: Iterable[str]) -> bool:
    """Whether VACE's blocks are among the tensors of a transformer."""
    return any(name.startswith("vace_") for name in names)


def is_residual(names: Iterable[str]) -> bool:
    """Whether the tensors of an autoencoder are those of Wan 2.2's own."""
    return _DOUBLES in names


def check_kind(spec: ModelSpec, config: Mapping[str, object], checkpoint: Checkpoint) -> None:
    """WeightsError where weights are of another kind than the graph's model, or half of it.

    *config* is the model's configuration, whoever says it.
    """
    wanted = config if spec.fields is None else spec.fields
    if spec.part == "transformer":
        _check_vace(spec.name, checkpoint, wanted=is_vace(wanted))
        _check_latents(spec.name, checkpoint, config, wanted)
    elif spec.part == "vae":
        _check_autoencoder(spec.name, checkpoint, wanted=bool(wanted.get("is_residual")))


def _check_vace(name: str, checkpoint: Checkpoint, *, wanted: bool) -> None:
    there, folder = has_vace(checkpoint.entries), checkpoint.folder
    if wanted and not there:
        raise WeightsError(
            f"{folder}: is a transformer without VACE's blocks, which model {name!r} wants",
            hint="take a VACE model, or lay VACE's part over this one: "
            f"--weights {name}={folder} --weights {name}=PART",
            code="not-vace",
        )
    if there and not wanted:
        raise WeightsError(
            f"{folder}: is a VACE model, and model {name!r} of this graph is none",
            hint="its graphs: vace-1.3b, vace-14b",
            code="is-vace",
        )
    if there and PATCHES not in checkpoint.entries:
        raise WeightsError(
            f"{folder}: is VACE's part alone, without the transformer that it is laid over",
            hint=f"give both: --weights {name}=TRANSFORMER --weights {name}={folder}",
            code="vace-alone",
        )


def _check_latents(
    name: str,
    checkpoint: Checkpoint,
    config: Mapping[str, object],
    wanted: Mapping[str, object],
) -> None:
    """WeightsError where a transformer of other latents than the graph's would be run as it is."""
    there, needed = (fields.get("out_channels", 16) for fields in (config, wanted))
    if there != needed:
        raise WeightsError(
            f"{checkpoint.folder}: its latents have {there} channels, those of model {name!r} of "
            f"this graph {needed}",
            hint="Wan2.2 5B has 48, every other Wan 16: take a graph of that model",
            code="other-latents",
        )


def _check_autoencoder(name: str, checkpoint: Checkpoint, *, wanted: bool) -> None:
    there = is_residual(checkpoint.entries)
    plain = any(entry.startswith("decoder.up_blocks.0.upsamplers.") for entry in checkpoint.entries)
    if there != wanted and (there or plain):
        kinds = ("Wan 2.1's, of 16 channels", "Wan 2.2's, of 48 channels")
        raise WeightsError(
            f"{checkpoint.folder}: is the autoencoder {kinds[there]}; model {name!r} wants "
            f"{kinds[wanted]}",
            hint="Wan 2.2's is that of TI2V-5B alone; all other models have Wan 2.1's",
            code="other-autoencoder",
        )
