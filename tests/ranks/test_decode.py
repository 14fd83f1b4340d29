"""Strips of a frame among ranks: the frames of one device, bit for bit, in the planned bytes."""

from __future__ import annotations

import os
import signal
import time
from itertools import product
from pathlib import Path

import pytest
import torch

from tests.models.conftest import TINY, model_spec, with_weights
from tests.ranks.folders import begun, children, gone, ran, reached, wanflow
from tests.ranks.threads import together
from wanflow.errors import InputError
from wanflow.graph.bound import BoundStage
from wanflow.graph.configs import known_config
from wanflow.graph.ops import OPS
from wanflow.graph.spec import PortRef
from wanflow.models.bound import bind_model
from wanflow.scheduler.profile.counted_exchange import CountedExchange
from wanflow.scheduler.ranks import Rank
from wanflow.session import Request, explain_ranks, plan_ranks
from wanflow.stages import LatentSpace, StageSetup, Surroundings, make_program
from wanflow.stages.decode_ranks import FrameStrip, SharedStrips
from wanflow.stages.decode_strips import Strips

SPACES = {
    "wan-tiny": LatentSpace(channels=16, spatial=8, temporal=4),
    "wan-tiny-ti2v": LatentSpace(channels=48, spatial=16, temporal=4),
}
ROOM = ("--vram", "1GiB")


@pytest.fixture(scope="module")
def models(tiny_model):
    """The VAE of a tiny configuration in fp32, all its weights bound; found once."""
    found = {}

    def find(config):
        if config not in found:
            folder = TINY if config == "wan-tiny" else tiny_model(config)
            spec = model_spec("vae", config=config, fields=known_config(config, "vae"))
            located = bind_model(spec, "fp32", folder / "vae", TINY / "graph.yaml")
            found[config] = with_weights(located).model
        return found[config]

    return find


@pytest.fixture
def setup(models):
    """Make a stage's setup for a clip's width, height and frames, for one rank or one device."""

    def make(clip, rank=None, exchange=None, config="wan-tiny"):
        space = SPACES[config]
        around = Surroundings(
            torch.device("cpu"), space, space.shape(*clip), None, {}, None, wants_negative=False,
            rank=rank, exchange=exchange,
        )  # fmt: skip
        bound = BoundStage(
            "decode", OPS["decode_frames"], None, {"latents": PortRef("denoise", "latents")}, {}
        )
        return StageSetup(bound, models(config), around)

    return make


def decoded(setup, knobs) -> list[torch.Tensor]:
    """Run a stage's calls as the executor does; the chunks that it emits."""
    latents = torch.randn(setup.around.latent_shape, generator=torch.Generator().manual_seed(0))
    values, chunks = {"denoise.latents": latents}, []
    with torch.no_grad():
        for call in make_program(setup).calls(knobs, lambda name: tuple(values[name].shape)):
            values.update(call.run({n: values[n] for n in call.reads if n in values}))
            if call.emits:
                chunks.append(values["decode.frames"])
    return chunks


class TestStrips:
    """What each rank decodes."""

    @pytest.mark.parametrize(
        ("config", "clip", "count", "setting"),
        [
            ("wan-tiny", (136, 96, 9), 2, "strips.4"),
            ("wan-tiny", (96, 152, 17), 3, "strips.1"),  # standing
            ("wan-tiny", (136, 96, 5), 4, "strips.2"),  # fewer frames than ranks
            ("wan-tiny", (64, 64, 1), 8, "strips.4"),  # fewer strips than ranks
            ("wan-tiny-ti2v", (160, 96, 9), 3, "strips.2"),
        ],
    )
    def test_same_frames_as_one_device(self, setup, config, clip, count, setting) -> None:
        """To the bit, for both autoencoders; the first rank alone emits."""
        whole = decoded(setup(clip, config=config), {"strips": setting})
        knobs = {"strips": setting, "share": "strips"}

        chunks, *others = together(
            count,
            lambda index, exchange: decoded(
                setup(clip, Rank(index, count, "cpu"), exchange, config), knobs
            ),
        )

        assert len(chunks) == len(whole)
        assert all(map(torch.equal, whole, chunks))
        assert others == [[]] * (count - 1)

    @pytest.mark.parametrize("count", [2, 3, 8])
    def test_every_turn_once_and_after_the_one_above(self, setup, count) -> None:
        """A strip of a frame is done when the one before it has been, by another rank."""
        clip = (136, 96, 17)
        strips = Strips(setup(clip), "strips.2", setup(clip).around.latent_shape)
        shared = SharedStrips(strips, Rank(0, count, "cpu"), CountedExchange(0))
        when = {
            turn: slot
            for slot in range(shared.slots)
            for rank in range(count)
            if (turn := shared.turn_of(rank, slot)) is not None
        }

        every = product(range(len(strips.turns)), range(strips.shape[2]))
        assert set(when) == {FrameStrip(*one) for one in every}
        for turn, slot in when.items():
            if turn.strip:
                assert when[FrameStrip(turn.strip - 1, turn.frame)] < slot


class TestPlan:
    """`plan --devices`."""

    def test_a_shorter_decode(self) -> None:
        """Each rank's part and what it is sent are planned; the time has what they wait."""
        request = Request("t2v-tiny", devices="rtx4090*2", vram="1GiB", inputs={"size": "256*256"})
        planned = plan_ranks(request)
        ways = {plan.way.decode: plan for plan in planned.considered
                if plan.share == planned.chosen.share}  # fmt: skip

        assert set(ways) == {"first", "strips"}
        for rank in ways["strips"].ranks:
            assert 0 < rank.decode_seconds < 0.7 * ways["first"].ranks[0].decode_seconds
            calls = [c for c in rank.planned.plan.footprint.calls if c.stage == "decode"]
            assert sum(call.cost.exchanged_bytes for call in calls) > 0
        first = ways["strips"].ranks[0]
        assert ways["strips"].seconds > first.planned.plan.predicted_seconds

    def test_exact_leaves_it_out(self) -> None:
        """As it leaves out strips: the frames are those of whole ones."""
        planned = plan_ranks(Request("t2v-tiny", devices="cpu*2", vram="1GiB", exact=True))

        assert {plan.way.decode for plan in planned.considered} == {"first"}

    def test_whole_frames_are_not_shared(self) -> None:
        """Who pins both is told."""
        pins = ("decode.share=strips", "decode.strips=frames.2")
        with pytest.raises(InputError, match=r"--pin decode\.strips=frames\.2"):
            plan_ranks(Request("t2v-tiny", devices="cpu*2", vram="1GiB", pins=pins))

    def test_explained(self) -> None:
        """What decoding together exchanges, beside decoding alone."""
        request = Request("t2v-tiny", devices="rtx4090*2", vram="1GiB")
        rows = explain_ranks(request, "decode").report["shares"]
        exchanged = {row["decode"]: row["exchanged_bytes"] for row in rows}

        assert exchanged["first"] == 0
        assert exchanged["strips"] > 0


@pytest.fixture(scope="module")
def alone(tmp_path_factory) -> Path:
    """The video of one device, its frames in strips."""
    out = tmp_path_factory.mktemp("alone")
    words = ("--pin", "decode.strips=strips.2", "--device", "cpu", "--out", str(out))
    return Path(str(ran("t2v-tiny", *ROOM, *words, exact=False)["video"]))


@pytest.mark.parametrize("devices", ["cpu*2", pytest.param("cpu*3", marks=pytest.mark.wide)])
def test_bits_and_bytes(alone, tmp_path, devices) -> None:
    """The same file, and each rank's peak is the planned one."""
    report = ran(
        "t2v-tiny", *ROOM, "--devices", devices, "--pin", "decode.share=strips",
        "--out", str(tmp_path / "run"), exact=False,
    )  # fmt: skip

    assert report["decode"] == "strips"
    assert Path(report["video"]).read_bytes() == alone.read_bytes()
    for rank in report["ranks"]:
        assert rank["peak_bytes"] == rank["predicted_peak_bytes"]


def test_death_of_a_rank_in_the_decode(tmp_path) -> None:
    """Others end within ten seconds; three ranks go on, with the frames of one device."""
    clip = ("-i", "steps=2", "-i", "frames=49")
    pinned = ("--pin", "decode.strips=strips.2")
    whole = ran("t2v-tiny", *ROOM, *clip, *pinned, "--device", "cpu", "--out", str(tmp_path / "a"),
                exact=False)  # fmt: skip
    folder = tmp_path / "run"
    words = (*ROOM, *clip, *pinned, "--pin", "decode.share=strips", "--devices", "cpu*2")
    process = begun(folder, *words)
    ranks = children(process)
    assert reached(folder, process, "decode")

    began = time.monotonic()
    os.kill(ranks[1], signal.SIGKILL)
    _, said = process.communicate(timeout=30)

    assert time.monotonic() - began < 10
    assert process.returncode == 1
    assert "rank 1 (cpu) ended: killed by SIGKILL" in said
    assert f"wanflow resume {folder}" in said
    assert gone(ranks, 1)

    resumed = wanflow("resume", str(folder), "--devices", "cpu*3", "--json")
    assert resumed.returncode == 0, resumed.stderr
    assert (folder / "video.mp4").read_bytes() == Path(whole["video"]).read_bytes()
