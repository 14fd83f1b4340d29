"""A run whose values are not finite ends at the step where it happens, unless it may go on."""

import json
import math
import shutil
from pathlib import Path

import attrs
import pytest
from safetensors.torch import load_file, save_file

from tests.jobs import TINY
from tests.resuming import SMALL
from wanflow.cli import main
from wanflow.errors import StageFailed
from wanflow.session import resume, run

STRIPS = ("denoise.cfg=serial", "denoise.rows=all", "decode.strips=strips.2")
FEED = "encoder.block.0.layer.1.DenseReluDense"


def weights_with(folder: Path, part: str, change) -> str:
    """Copy the tiny model; *change* one part's tensors in place."""
    shutil.copytree(TINY, folder)
    (path,) = (folder / part).glob("*.safetensors")
    tensors = load_file(path)
    change(tensors)
    save_file(tensors, path)
    return str(folder)


def spoilt(name: str, value: float):
    """Put a number into a tensor's first place."""

    def change(tensors) -> None:
        tensors[name].view(-1)[0] = value

    return change


def overflowing(tensors) -> None:
    """Make the same function of greater numbers, which fp16 does not have."""
    tensors[f"{FEED}.wi_1.weight"] *= 2.0**16
    tensors[f"{FEED}.wo.weight"] *= 2.0**-16


@pytest.fixture
def broken(tmp_path):
    """A job whose transformer makes NaN."""
    weights = weights_with(tmp_path / "weights", "transformer", spoilt("proj_out.bias", math.nan))
    return attrs.evolve(SMALL, weights=(weights,))


class TestWeights:
    """Each part of the model, with one number in its weights that is none."""

    @pytest.mark.parametrize(
        ("part", "name", "value", "pins", "message"),
        [
            ("text_encoder", "encoder.final_layer_norm.weight", math.nan, SMALL.pins,
             "stage 'encode', step 1 of 1: NaN in encode.text.positive"),
            ("transformer", "proj_out.bias", math.inf, SMALL.pins,
             "stage 'denoise', step 1 of 3: NaN in denoise.latents"),
            ("vae", "post_quant_conv.bias", math.nan, SMALL.pins,
             "stage 'decode', step 1 of 2: NaN in decode.latents"),
            ("vae", "decoder.conv_out.bias", math.inf, SMALL.pins,
             "stage 'decode', step 1 of 2: infinity in decode.frames"),
            ("vae", "decoder.conv_out.bias", math.nan, STRIPS,
             "stage 'decode', step 1 of 2: NaN in decode.rows@0-3"),
        ],
    )  # fmt: skip
    def test_are_told_where_they_matter(self, tmp_path, part, name, value, pins, message) -> None:
        """By the first step that leaves something of it, frames before they are bytes."""
        weights = weights_with(tmp_path / "weights", part, spoilt(name, value))
        with pytest.raises(StageFailed) as caught:
            run(attrs.evolve(SMALL, weights=(weights,), pins=pins), out=tmp_path / "run")
        assert caught.value.message == message
        assert not list((tmp_path / "run").glob("video*"))

    def test_fp16_is_named(self, tmp_path) -> None:
        """What ends at 65504 has another precision for a cure: in fp32 the weights are fine."""
        weights = weights_with(tmp_path / "weights", "text_encoder", overflowing)
        request = attrs.evolve(SMALL, weights=(weights,), precision=("text=fp16",))
        with pytest.raises(StageFailed, match=r"encode\.text\.positive") as caught:
            run(request, out=tmp_path / "run")
        assert "--precision text=bf16" in caught.value.hint
        assert run(attrs.evolve(request, precision=()), out=tmp_path / "fp32")["status"] == "done"


class TestGoingOn:
    """What a run that was ended so may do, and its folder."""

    def test_resumes_to_the_same_end(self, broken, tmp_path) -> None:
        """From the last finite step; allowed, it goes on to its video, and run.json says so."""
        for attempt in (
            lambda: run(broken, out=tmp_path / "run"),
            lambda: resume(tmp_path / "run"),
        ):
            with pytest.raises(StageFailed, match="step 1 of 3: NaN") as caught:
                attempt()
            assert caught.value.detail["resume"] == f"wanflow resume {tmp_path / 'run'}"
            report = json.loads((tmp_path / "run" / "run.json").read_text())
            assert (report["status"], report["allow_nonfinite"]) == ("failed", False)
        report = resume(tmp_path / "run", allow_nonfinite=True)
        assert (report["status"], report["resumed"], report["allow_nonfinite"]) == (
            "done",
            True,
            True,
        )

    def test_from_the_command_line(self, broken, tmp_path, capfd) -> None:
        """The words, the exit code, and the note where it is allowed."""
        words = ["run", "t2v-tiny", "-i", "frames=1", "-i", "steps=1", "--device", "cpu",
                 "--weights", broken.weights[0], "--out", str(tmp_path / "run")]  # fmt: skip
        assert main.run(words) == 1
        first, hint = capfd.readouterr().err.splitlines()[-3:-1]
        assert first == "error: stage 'denoise', step 1 of 1: NaN in denoise.latents"
        assert hint.endswith("to go on all the same: --allow-nonfinite")
        assert main.run([*words, "--force", "--allow-nonfinite"]) == 0
        said = "not finite: stage 'denoise', step 1 of 1: NaN in denoise.latents"
        assert said in capfd.readouterr().err.splitlines()
