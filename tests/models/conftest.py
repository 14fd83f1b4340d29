"""The bundled tiny model, and files of weights made by hand."""

import json
import zipfile
from pathlib import Path

import pytest
import torch

from wanflow.graph.configs import known_config
from wanflow.graph.source import Mark
from wanflow.graph.spec import ModelSpec
from wanflow.models.bound import bind_model
from wanflow.models.weights.checkpoint import STAGING_BYTES
from wanflow.models.weights.locate import BUNDLED

TINY = BUNDLED / "wan-tiny"
OFFICIAL = Path(__file__).parent / "official"  # by scripts/official_keys.py


@pytest.fixture(scope="session")
def tiny():
    """The folder of the bundled model."""
    return TINY


@pytest.fixture(scope="session")
def located():
    """Bind a part of the tiny model at a precision, config from the graph."""

    def locate(part, precision="fp32"):
        spec = model_spec(part, config="wan-tiny", fields=known_config("wan-tiny", part))
        return bind_model(spec, precision, TINY / part, TINY / "graph.yaml")

    return locate


@pytest.fixture(scope="session")
def loaded(located):
    """Bind every segment of a part to memory read from its file; the module, ready to run."""

    def load(part, precision="fp32"):
        return with_weights(located(part, precision))

    return load


def with_weights(located):
    """Bind every segment of a located model to memory read from its files."""
    staging = torch.empty(STAGING_BYTES, dtype=torch.uint8)
    for segment in located.model.segments.values():
        tensors = {t.name: torch.empty(t.shape, dtype=t.dtype) for t in segment.tensors}
        for name, tensor in tensors.items():
            located.checkpoint.read_into(name, tensor, staging)
        located.model.bind(segment.name, tensors)
    return located


@pytest.fixture(scope="session")
def spec():
    """Make a model's entry in a graph."""
    return model_spec


def model_spec(part="transformer", name="dit", **fields):
    return ModelSpec(name=name, part=part, mark=Mark(1, 1), **fields)


@pytest.fixture
def safetensors_file(tmp_path):
    """Write a file with a header as given, right or wrong, and so many bytes of data."""

    def write(header, nbytes=16, name="model.safetensors"):
        text = header if isinstance(header, bytes) else json.dumps(header).encode()
        path = tmp_path / name
        path.write_bytes(len(text).to_bytes(8, "little") + text + bytes(nbytes))
        return path

    return write


@pytest.fixture
def archive_file(tmp_path):
    """Write an archive as `torch.save` does, of any pickle and any storages."""

    def write(pickle, storages=None, name="weights.pth", **entries):
        path = tmp_path / name
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("weights/data.pkl", pickle)
            for entry, content in entries.items():
                archive.writestr(f"weights/{entry}", content)
            for key, content in (storages or {}).items():
                archive.writestr(f"weights/data/{key}", content)
        return path

    return write


@pytest.fixture(scope="session")
def official_keys():
    """Read a list of the official files' tensors: names and shapes."""

    def read(name):
        found = json.loads((OFFICIAL / f"{name}.json").read_text())
        shapes = {}
        for pattern, shape in found["tensors"].items():
            count = found["repeats"][pattern.partition(".*.")[0]] if "*" in pattern else 1
            for number in range(count):
                shapes[pattern.replace("*", str(number))] = tuple(shape)
        return shapes

    return read
