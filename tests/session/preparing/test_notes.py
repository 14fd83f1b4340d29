"""What a person should know of the weights is said by plan, run and run.json, in a line each."""

import json

import attrs
import pytest
import torch
from safetensors.torch import load_file, save_file

from tests.jobs import TINY
from tests.resuming import SMALL
from wanflow.cli import main
from wanflow.errors import WeightsError
from wanflow.session import plan, run

WORDS = ["t2v-tiny", "-iframes=1", "-isteps=1", "-isize=32*32", "--device=cpu", "--vram=64MiB"]


@pytest.fixture
def weights(tmp_path):
    """A transformer with tensors that nothing takes."""
    (file,) = (TINY / "transformer").glob("*.safetensors")
    more = {f"ema.{n}": torch.ones(1) for n in range(4)} | {"u": torch.ones(1).to(torch.uint16)}
    save_file(load_file(file) | more, tmp_path / "dit.sft")
    return f"dit={tmp_path / 'dit.sft'}"


LEFT_OUT = "dit: 5 tensors are left out, which nothing takes: ema.0, ema.1, ema.2 and 2 more"


class TestLeftOut:
    def test_on_the_page_and_in_json(self, weights, tmp_path, capsys):
        """`plan` prints it on stdout, `run` on stderr; both have it in their JSON."""
        out = tmp_path / "run"
        assert main.run(["plan", *WORDS, "--weights", weights]) == 0
        assert f"note: {LEFT_OUT}\n" in capsys.readouterr().out
        assert main.run(["run", *WORDS, "--weights", weights, "--out", str(out)]) == 0
        assert f"note: {LEFT_OUT}\n" in capsys.readouterr().err
        assert json.loads((out / "run.json").read_text())["notes"] == [LEFT_OUT]

    def test_nothing_to_say(self):
        """Of weights as they should be."""
        assert plan(SMALL).report["notes"] == []


class TestTokenizer:
    @pytest.fixture
    def alone(self, tmp_path):
        """A text encoder by itself."""
        (tmp_path / "umt5.safetensors").symlink_to(TINY / "text_encoder" / "model.safetensors")
        return attrs.evolve(SMALL, weights=(f"text={tmp_path / 'umt5.safetensors'}",))

    def test_a_plan_says_it(self, alone, tmp_path):
        """It does without, and says what a run will want."""
        (note,) = plan(alone).report["notes"]
        assert f"a run needs a tokenizer: {tmp_path}: no tokenizer.json" in note
        assert f"put tokenizer.json into {tmp_path}" in note

    def test_a_run_says_it_first(self, alone, tmp_path):
        """Before there is a run folder."""
        with pytest.raises(WeightsError, match=r"no tokenizer\.json") as caught:
            run(alone, out=tmp_path / "run")
        assert "put tokenizer.json into" in caught.value.hint
        assert not (tmp_path / "run").exists()
