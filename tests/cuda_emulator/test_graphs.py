"""Real sessions on a card, the emulated one where there is none.

Whatever the budget and the knobs, the same frames, and no race. On the emulated card copies are as
late as their order allows, freed memory is poison and given again at once, mixed devices are
refused: a wait, a copy or a move that is missing shows as NaN, as other frames, or as a race.
"""

import attrs
import numpy as np
import pytest
import torch
from PIL import Image

from tests.cuda_emulator.card import Card
from tests.cuda_emulator.sessions import (
    INPUTS,
    MOVING,
    assert_nothing_left,
    at,
    frames_on_cpu,
    least,
    on_card,
    run_clean,
    settings,
)
from tests.jobs import Frames, budgets
from tests.resuming import cut_short
from wanflow.files.preview_files import STRIP, read_strip
from wanflow.session import resume, run

WIDE = pytest.mark.wide


@pytest.fixture(scope="module")
def picture(tmp_path_factory):
    """A first frame."""
    path = tmp_path_factory.mktemp("picture") / "first.png"
    Image.fromarray(np.arange(32 * 32 * 3, dtype=np.uint8).reshape(32, 32, 3)).save(path)
    return path


def ask(graph, picture, **changes):
    """Ask for a run of any of the graphs."""
    return on_card(graph, picture if graph.startswith("i2v") else None, **changes)


@pytest.mark.parametrize("number", [pytest.param(0, marks=WIDE), pytest.param(1, marks=WIDE),
                                    pytest.param(2, marks=WIDE), 3])  # fmt: skip
@pytest.mark.parametrize("graph", [pytest.param("t2v-tiny", marks=WIDE), "i2v-tiny",
                                   pytest.param("t2v-a14b-tiny", marks=WIDE)])  # fmt: skip
def test_three_budgets_and_every_knob(card, graph, picture, tmp_path, number):
    """Each value of each knob is in one of the settings; in fp32 the frames are the CPU's."""
    request = ask(graph, picture, precision=("fp32",))
    pins = settings(request)
    assert len(pins) == 4
    request = ask(graph, picture, precision=("fp32",), pins=pins[number])
    frames = [
        run_clean(card, at(request, nbytes), tmp_path / str(nbytes)).frames
        for nbytes in budgets(request)
    ]
    if card is not None:  # a real one sums in another order
        frames.append(frames_on_cpu(request, tmp_path / "cpu"))
    assert all(torch.equal(frames[0], others) for others in frames[1:])


@pytest.mark.parametrize("precision", ["bf16", pytest.param("fp16", marks=WIDE)])
@pytest.mark.parametrize("sampler", ["unipc", pytest.param("dpm++", marks=WIDE),
                                     pytest.param("euler", marks=WIDE)])  # fmt: skip
def test_samplers_and_precisions(card, tmp_path, precision, sampler):
    """Where everything moves, the frames are those where everything stays."""
    changes = {"precision": (precision,), "settings": (f"denoise.sampler={sampler}",)}
    tight = run_clean(card, least(on_card(pins=MOVING, **changes)), tmp_path / "least")
    if card is not None:
        assert min(card.calls[what] for what in ("upload", "download")) > 20
    staying = on_card(pins=MOVING[:1], **changes)
    assert torch.equal(run_clean(card, staying, tmp_path / "most").frames, tight.frames)


@WIDE
@pytest.mark.parametrize("cache", ["magcache", "easycache"])
def test_step_caches(card, tmp_path, cache):
    """What is held of a step waits on the host and comes back for those that are left out."""
    numbers = {"magcache": f"ratios={','.join(['1'] * 8)}", "easycache": "retention=0.3"}
    said = (
        f"denoise.cache={cache}",
        "denoise.cache_threshold=9",
        f"denoise.cache_{numbers[cache]}",
    )
    asked = {"precision": ("bf16",), "settings": said, "inputs": {**INPUTS, "steps": 5}}
    tight = run_clean(card, least(on_card(pins=MOVING, **asked)), tmp_path / "least")
    staying = on_card(pins=MOVING[:1], **asked)
    assert torch.equal(run_clean(card, staying, tmp_path / "most").frames, tight.frames)
    assert len(tight.report["skipped_steps"]["denoise"]["positive"]) >= 2


def test_resumed(card, tmp_path):
    """A run that stops goes on to the same frames, from values on the host and on the card."""
    request = least(on_card(pins=MOVING))
    wanted = run_clean(card, request, tmp_path / "whole").frames
    folder = cut_short(request, tmp_path / "cut")
    assert_nothing_left(card)
    frames = Frames()
    resume(folder, watch=frames)
    assert torch.equal(frames.all(), wanted)
    assert_nothing_left(card)


def test_previews(card, tmp_path):
    """Made of latents that come and go, without a race, in the smallest budget of a run without."""
    request = least(on_card(pins=MOVING))
    wanted = run_clean(card, request, tmp_path / "plain").frames
    shown = attrs.evolve(request, preview_every=1)
    assert torch.equal(run_clean(card, shown, tmp_path / "shown").frames, wanted)
    assert len(read_strip(tmp_path / "shown" / STRIP, 2)) == 2
    stopped = attrs.evolve(request, until="denoise:1")
    assert run(stopped, out=tmp_path / "stopped")["status"] == "stopped"
    assert_nothing_left(card)
    frames = Frames()
    resume(tmp_path / "stopped", watch=frames)
    assert torch.equal(frames.all(), wanted)
    assert_nothing_left(card)


def test_without_pinned_memory(emulator, tmp_path):
    """Where the driver refuses to pin, plain memory does, and no error of it stays."""
    request = least(on_card(pins=MOVING))
    wanted = run_clean(emulator, request, tmp_path / "pinned").frames
    emulator.faults.refuses_registering = emulator.faults.refuses_pinned = True
    emulator.calls.clear()
    assert torch.equal(run_clean(emulator, request, tmp_path / "plain").frames, wanted)
    assert emulator.calls["pageable"] > 20


def test_a_second_card(emulate, tmp_path):
    """Nothing of a run on cuda:1 touches cuda:0, not even a context."""
    with emulate(Card(count=2)) as emulator:
        request = least(on_card(pins=MOVING, device="cuda:1"))
        run_clean(emulator, request, tmp_path / "run")
        assert emulator.contexts == {1}
        assert emulator.counters(1)["allocated"] == 0
