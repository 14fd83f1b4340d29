"""Runs with packed weights: the same bits streamed as resident, fewer bytes, the planned peak."""

import errno
import json
import os
import shutil

import attrs
import pytest

from tests.jobs import TINY, MeasuredRuns
from tests.official import DIT, write_official
from wanflow.errors import InputError, StageFailed, WeightsError
from wanflow.session import Request, plan, run
from wanflow.session.weights.shrink import shrink

SMALL = {"prompt": "a red circle grows", "size": "32*32", "frames": 5, "steps": 2}


class Unheard:
    """Hears how packing goes on, and says nothing."""

    def start(self, words: str, nbytes: int) -> None: ...

    def begin(self, name: str) -> None: ...

    def advance(self, nbytes: int) -> None: ...


def request(*precision, **options) -> Request:
    """A small job."""
    return Request(
        "t2v-tiny", SMALL, device="cpu", precision=precision, prompt_cache=False, **options
    )


@pytest.mark.parametrize("precision", ["dit=fp8", "int8"])
def test_streamed_is_resident(precision, tmp_path) -> None:
    """At the smallest budget as with all of it, bit for bit; the measured peak is the planned."""
    roomy = request(precision)
    minimum_bytes = plan(roomy).plan.minimum_bytes
    runs = MeasuredRuns(tmp_path)
    whole, tight = (runs(job) for job in (roomy, attrs.evolve(roomy, vram=f"{minimum_bytes}B")))
    tight.assert_within(minimum_bytes)
    assert whole.frames.equal(tight.frames)


def test_rows_and_head_groups(tmp_path) -> None:
    """A weight that is opened once for many chunks, or for some heads, gives about the same."""
    frames = []
    for pins in ((), ("denoise.rows=4096",)):
        frames.append(MeasuredRuns(tmp_path / str(len(frames)))(request("dit=int8", pins=pins)))
    assert (frames[0].frames - frames[1].frames).abs().max() < 1e-4


def test_fewer_bytes() -> None:
    """On the device and on the way; what is read are still floats, and the plan counts them."""
    plain, packed = (plan(request(*words)).plan.footprint.segments for words in ((), ("dit=int8",)))
    block = "dit/block.0"
    assert packed[block].nbytes < 0.35 * plain[block].nbytes
    assert packed[block].file_bytes == pytest.approx(plain[block].file_bytes, rel=0.02)
    assert packed["vae/up.3"] == plain["vae/up.3"]


def test_shrunk_is_packed_when_read(tmp_path) -> None:
    """`models shrink` writes what `--precision` packs: the same bits, and half as much is read."""
    shrunk = tmp_path / "shrunk"
    done = shrink(TINY, "int8", shrunk, Unheard())
    assert done.packed == 101
    assert done.inspected.is_whole
    runs = MeasuredRuns(tmp_path)
    packed = runs(request("int8"))
    assert runs(attrs.evolve(request(), weights=(str(shrunk),))).frames.equal(packed.frames)
    with pytest.raises(WeightsError, match="is packed already"):
        shrink(shrunk, "fp8", tmp_path / "again", Unheard())
    again = shrink(TINY, "int8", shrunk, Unheard())  # what is there stays
    assert again.inspected.is_whole


def test_what_was_brought_in_half_is_brought_again(tmp_path) -> None:
    """A file beside the weights that an earlier try found damaged, and that is mended since."""
    shutil.copytree(TINY, tmp_path / "model")
    index = tmp_path / "model" / "model_index.json"
    whole = index.read_bytes()
    index.write_bytes(whole[:40])
    shrink(tmp_path / "model", "int8", tmp_path / "small", Unheard())
    index.unlink()  # another file takes its place
    index.write_bytes(whole)
    shrink(tmp_path / "model", "int8", tmp_path / "small", Unheard())
    assert (tmp_path / "small" / "model_index.json").read_bytes() == whole


def test_a_write_that_fails_names_its_file(tmp_path, monkeypatch) -> None:
    """A handle's error names no file, and a model has several."""

    def broken(*_: object) -> int:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(os, "pwrite", broken)
    with pytest.raises(StageFailed, match=r"diffusion_pytorch_model\.safetensors\.part: Input/out"):
        shrink(TINY, "int8", tmp_path / "small", Unheard())


def test_shrunk_official_folder_is_found_by_a_graph(tmp_path) -> None:
    """Its index is the transformer's alone, though the text encoder's file lies beside it."""
    official = write_official(tmp_path / "official")
    done = shrink(official, "int8", tmp_path / "int8", Unheard())
    assert done.inspected.is_whole
    (index,) = (tmp_path / "int8").glob("*.index.json")
    assert set(json.loads(index.read_text())["weight_map"].values()) == set(DIT)
    assert plan(attrs.evolve(request(), weights=(done.output,))).report["feasible"]


@pytest.mark.parametrize(
    ("output", "kind", "told"),
    [("inside", "int8", "lies in"), ("beside", "int2", "no such kind")],
)
def test_what_shrink_refuses(output, kind, told, tmp_path) -> None:
    (tmp_path / "model").mkdir()
    place = tmp_path / "model" / "x" if output == "inside" else tmp_path / "out"
    (tmp_path / "model" / "transformer").symlink_to(TINY / "transformer")
    with pytest.raises(InputError, match=told):
        shrink(tmp_path / "model", kind, place, Unheard())
    assert not place.exists()


def test_is_not_taken_for_another(tmp_path) -> None:
    """A folder whose run had other weights can't be gone on with: the plan differs by its name."""
    ids = {plan(request(*words)).plan.plan_id for words in ((), ("dit=int8",))}
    assert len(ids) == 2
    report = run(request("dit=int8"), out=tmp_path / "run")
    assert report["status"] == "done"
    assert '"precision of dit": "fp32 int8"' in (tmp_path / "run" / "request.json").read_text()


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ("vae=int8", "'vae' is a vae, whose weights are not packed"),
        ("dit=int4", "'int4' is no precision"),
        ("nobody=int8", "no model 'nobody'"),
    ],
)
def test_what_can_not_be(words, told) -> None:
    with pytest.raises(InputError, match=told):
        plan(request(words))


def test_ram_that_is_stated_spares_the_disk() -> None:
    """A card's host keeps all that comes again if it fits, and says so; else what is faster."""
    job = Request("t2v-tiny", SMALL, machine="rtx4060", vram="900MiB", prompt_cache=False)
    pinned = attrs.evolve(job, pins=("denoise.weights=stream",))
    whys = [
        next(s.why for s in plan(attrs.evolve(pinned, ram=ram)).plan.stages if s.stage == "denoise")
        for ram in ("1GiB", "4MiB")
    ]
    assert "from RAM, none from the disk" in whys[0]
    assert "from the disk" in whys[1]
    assert "none from the disk" not in whys[1]


@pytest.mark.parametrize("rows", ["all", "1024", "grouped"])
def test_opened_once_for_several_chunks_of_rows(rows: str) -> None:
    """2,048 tokens: two chunks of 1,024 go through a feed-forward that is open."""
    inputs = {"prompt": "x", "size": "512*512", "frames": 5, "steps": 1}
    asked = Request(
        "t2v-tiny", inputs, device="cpu", precision=("dit=int8",), pins=(f"denoise.rows={rows}",)
    )
    denoise = next(s for s in plan(asked).report["stages"] if s["stage"] == "denoise")
    assert denoise["knobs"]["rows"] == rows
