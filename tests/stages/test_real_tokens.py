"""A prompt's own tokens, without padding, come out as transformers and the Wan pipelines make them.

The peer is `UMT5EncoderModel` on 512 padded tokens, its output cut at the prompt's length and
filled with zeros (`pipeline_wan._get_t5_prompt_embeds`).
"""

import functools

import attrs
import pytest
import torch
from transformers import UMT5EncoderModel

from tests.models.conftest import with_weights
from wanflow.graph.bound import BoundStage
from wanflow.graph.configs import known_config
from wanflow.graph.ops import OPS
from wanflow.graph.source import Mark
from wanflow.graph.spec import ModelSpec
from wanflow.models.bound import bind_model
from wanflow.models.weights.checkpoint import STAGING_BYTES
from wanflow.models.weights.locate import BUNDLED
from wanflow.scheduler.program import GATHERED
from wanflow.session import Request, plan
from wanflow.stages import LatentSpace, StageSetup, Surroundings, make_program

COUNTS = (1, 2, 15, 16, 17, 31, 64, 100, 128, 129, 200, 255, 300, 497, 511, 512)
BOUNDS = {"fp32": 1e-5, "bf16": 2e-2}  # relative to the largest value
TEXT = BUNDLED / "wan-tiny" / "text_encoder"


def ids_of(count):
    generator = torch.Generator().manual_seed(count)
    return torch.randint(1, 256, (count,), generator=generator).tolist()


@functools.cache
def peer(precision):
    dtype = {"fp32": torch.float32, "bf16": torch.bfloat16}[precision]
    return UMT5EncoderModel.from_pretrained(TEXT, dtype=dtype).eval()


def expected(precision, count):
    """Encode as the pipelines do."""
    ids = torch.tensor([ids_of(count) + [0] * (512 - count)])
    mask = (torch.arange(512) < count).long()[None]
    with torch.no_grad():
        out = peer(precision)(ids, mask).last_hidden_state
    return torch.cat([out[:, :count], out.new_zeros(1, 512 - count, out.shape[2])], dim=1)


@functools.cache
def bound(precision):
    """Bind the bundled encoder with every segment in memory."""
    fields = known_config("wan-tiny", "text_encoder")
    spec = ModelSpec(
        name="text", part="text_encoder", mark=Mark(1, 1), config="wan-tiny", fields=fields
    )
    found = bind_model(spec, precision, TEXT, TEXT / "graph.yaml")
    return with_weights(found)


def encoded(precision, count, way):
    """Drive the stage's calls; give the text and how many rows the layers saw."""
    found = bound(precision)
    spec = OPS["encode_text"]
    params = {name: p.default for name, p in spec.params.items()}
    around = Surroundings(
        device=torch.device("cpu"), latent_space=LatentSpace(16, 8, 4), latent_shape=(1,),
        out=None, recipe={}, wants_negative=False,
        tokenize=lambda _text, most: (
            ids_of(count) + [0] * (most - count), [1] * count + [0] * (most - count)
        ),
    )  # fmt: skip
    program = make_program(
        StageSetup(BoundStage("e", spec, None, {"prompt": "a"}, params), found.model, around)
    )
    values, rows = {}, 0
    staging = torch.empty(STAGING_BYTES, dtype=torch.uint8)
    with torch.no_grad():
        for call in program.calls({"tokens": way}, lambda name: tuple(values[name].shape)):
            given = {n: values[n] for n in call.reads if n in values}
            if call.gather is not None:
                ids = values[call.gather.ids].reshape(-1).tolist()
                row = found.model.rows(call.gather.tensor)
                given[GATHERED] = torch.empty((len(ids), *row.shape), dtype=row.dtype)
                found.checkpoint.read_rows_into(call.gather.tensor, ids, given[GATHERED], staging)
                rows = len(ids)
            values.update(call.run(given))
    return values["e.text.positive"], rows


class TestEquality:
    @pytest.mark.parametrize("precision", BOUNDS)
    @pytest.mark.parametrize("count", COUNTS)
    def test_real_tokens_alone(self, precision, count):
        """From 1 to 512 tokens, within the bound, and zeros behind them."""
        text, rows = encoded(precision, count, "real")
        wanted = expected(precision, count)

        assert min(512, -(-count // 16) * 16) == rows
        assert wanted.shape == text.shape
        assert not text[:, count:].any()
        error = (text.float() - wanted.float()).abs().max() / wanted.float().abs().max()
        assert BOUNDS[precision] >= error

    @pytest.mark.parametrize("precision", BOUNDS)
    def test_all_tokens_is_bitwise(self, precision):
        """The plain way is upstream's, bit for bit."""
        text, rows = encoded(precision, 20, "all")

        assert rows == 512
        assert torch.equal(expected(precision, 20), text)


class TestPlan:
    PROMPT = Request("t2v-tiny", {"prompt": "a red kite"}, device="cpu")

    def test_counts_the_prompt(self):
        """With the tokenizer there, the plan encodes no padding."""
        assert self.knob(self.PROMPT) == "real"

    def test_exact_keeps_padding(self):
        """It rounds differently, which `--exact` rules out."""
        assert self.knob(attrs.evolve(self.PROMPT, exact=True)) == "all"

    def test_no_prompt_is_any_prompt(self):
        """A plan that nobody gave a prompt holds for the longest one."""
        unknown, longest = (
            attrs.evolve(self.PROMPT, inputs={"prompt": prompt}) for prompt in ("", "kite " * 512)
        )

        for fact in ("seconds", "peak_bytes"):
            assert self.encode(unknown)[fact] == self.encode(longest)[fact]
            assert self.encode(unknown)[fact] > self.encode(self.PROMPT)[fact]

    def test_no_tokenizer_no_choice(self):
        """A plan without weights takes each prompt for a full one, and looks for nothing else."""
        elsewhere = attrs.evolve(self.PROMPT, graph="t2v-1.3b", machine="rtx4090", device="auto")

        assert self.encode(elsewhere)["knobs"] == {}

    @staticmethod
    def encode(request):
        (stage,) = [s for s in plan(request).report["stages"] if s["stage"] == "encode"]
        return stage

    def knob(self, request):
        return self.encode(request)["knobs"]["tokens"]
