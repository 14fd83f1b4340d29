"""Previews change no bit and no byte of a run; a run that is stopped goes on to the same end."""

from __future__ import annotations

import errno
import json
import math
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import attrs
import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image
from safetensors.torch import load_file, save_file

from tests.jobs import TINY, MeasuredRuns, budgets
from tests.resuming import SMALL, Frames, cut_short, events, frames_of, resumed_frames
from wanflow.errors import InputError, StageFailed
from wanflow.files.preview_files import CLIP, STRIP, read_strip
from wanflow.session import Request, explain, plan, predict, resume, run
from wanflow.session.batch.batch import batch, resume_batch
from wanflow.session.weights.fit_preview import fit_preview
from wanflow.stages import preview
from wanflow.stages.preview_map import kept_at
from wanflow.trace import TraceReader
from wanflow.trace.events import Preview

KILLER = Path(__file__).with_name("kill_at.py")
SHOWN = attrs.evolve(SMALL, preview_every=1)
FREE = Request("t2v-tiny", {"steps": 2, "frames": 9}, device="cpu")  # the planner chooses


def shown(folder: Path) -> NDArray[np.float64]:
    """The frames of a run's preview in the latents' size, `[n, h, w, 3]` in [0, 1]."""
    last = [event for event in events(folder) if isinstance(event, Preview)][-1]
    frames = read_strip(folder / STRIP, last.frames)
    (wide, high), *others = {frame.size for frame in frames}
    assert (wide // last.width * last.height, others) == (high, [])  # shown larger, evenly
    small = [frame.resize((last.width, last.height), Image.Resampling.NEAREST) for frame in frames]
    return np.stack([np.asarray(frame) / 255.0 for frame in small])


def shrunk(frames: torch.Tensor) -> NDArray[np.float64]:
    """Decoded frames as a preview has them: the mean of what a latent stands for."""
    levels = frames.double() / (255 if frames.dtype == torch.uint8 else 1)
    chunks = [levels[:1], *levels[1:].split(4)]
    means = [torch.nn.functional.avg_pool2d(chunk.mean(0), 8) for chunk in chunks]
    return np.asarray(torch.stack(means).permute(0, 2, 3, 1))


def psnr(first: NDArray[np.float64], second: NDArray[np.float64]) -> float:
    """In dB."""
    return -10 * math.log10(float(((first - second) ** 2).mean()))


@pytest.fixture(scope="module")
def both() -> tuple[int, int]:
    """Where everything stays, and the smallest budget."""
    most, _, least = budgets(FREE)
    return most, least


class TestChangesNothing:
    """With or without: the same bits, in the same bytes."""

    def test_the_smallest_budget(self) -> None:
        """A preview needs less than the step that it is of."""
        with_previews = attrs.evolve(FREE, preview_every=1)
        assert budgets(with_previews)[::2] == budgets(FREE)[::2]  # by one machine's figures

    @pytest.mark.parametrize("which", [0, 1], ids=["resident", "minimum"])
    def test_same_bits_inside_the_plan(
        self, both: tuple[int, int], which: int, measured_runs: MeasuredRuns
    ) -> None:
        """At what the planner chooses; torch.profiler counts the bytes."""
        request = attrs.evolve(FREE, vram=f"{both[which]}B")
        plain = measured_runs(request)
        previewed = measured_runs(attrs.evolve(request, preview_every=1))
        assert torch.equal(plain.frames, previewed.frames)
        previewed.assert_within(both[which])

    @pytest.mark.parametrize("sampler", ["euler", "dpm++"])
    def test_other_samplers(self, sampler: str, tmp_path: Path) -> None:
        """Each predicts the same clean latents."""
        pins = attrs.evolve(SMALL, settings=(f"denoise.sampler={sampler}",))
        plain = frames_of(pins, tmp_path / "plain")
        previewed = frames_of(attrs.evolve(pins, preview_every=1), tmp_path / "shown")
        assert torch.equal(plain, previewed)
        assert shown(tmp_path / "shown").shape == (2, 4, 4, 3)


class TestPicture:
    """What is shown."""

    def test_is_near_the_decoded_frames(self, tmp_path: Path) -> None:
        """After the last step: 17.5 dB; the map comes to 16.7 dB on the clips it was fitted on."""
        watch = Frames()
        request = Request("t2v-tiny", {"steps": 8}, device="cpu", vram="64MiB", preview_every=3)
        report = run(request, out=tmp_path / "run", watch=watch)
        assert report["preview"] == str(tmp_path / "run" / STRIP)
        near, decoded = shown(tmp_path / "run"), shrunk(watch.frames)
        assert psnr(near, decoded) > 16.5
        flat = np.broadcast_to(decoded.mean((0, 1, 2)), decoded.shape)
        assert psnr(near, decoded) > psnr(flat, decoded)
        # It shows where the red circle is: how red a pixel is goes together in both.
        redness = [(p[..., 0] - p[..., 2]).ravel() for p in (near, decoded)]
        assert np.corrcoef(redness)[0, 1] > 0.8

    def test_files(self, tmp_path: Path) -> None:
        """A strip and an animation of the same frames; every so many steps, and the last."""
        request = attrs.evolve(SMALL, inputs={**SMALL.inputs, "steps": 5}, preview_every=2)
        run(request, out=tmp_path / "run")
        found = [event for event in events(tmp_path / "run") if isinstance(event, Preview)]
        assert [(e.step, e.frames, e.width, e.height) for e in found] == [
            (1, 2, 4, 4), (3, 2, 4, 4), (4, 2, 4, 4),
        ]  # fmt: skip
        with Image.open(tmp_path / "run" / CLIP) as clip:
            assert (clip.n_frames, clip.size, clip.format) == (2, (64, 64), "WEBP")  # type: ignore[attr-defined]
        assert not [*(tmp_path / "run").glob("*.part")]

    def test_none_where_none_is_asked_for(self, tmp_path: Path) -> None:
        """Nor one of a run before in the folder."""
        run(SHOWN, out=tmp_path / "run")
        assert (tmp_path / "run" / STRIP).exists()
        report = run(SMALL, out=tmp_path / "run", force=True)
        assert "preview" not in report
        assert not (tmp_path / "run" / STRIP).exists()


class TestPlan:
    """What a plan says of them."""

    def test_bytes_and_seconds(self) -> None:
        """In the plan, the explanation, and the trace that is predicted."""
        plain, previewed = plan(SMALL).report, plan(SHOWN).report
        rows: Any = previewed["stages"]
        said = next(row["previews"] for row in rows if row["stage"] == "denoise")
        assert said["steps"] == [0, 1, 2]
        assert (said["frames"], said["width"], said["height"]) == (2, 4, 4)
        assert said["workspace_bytes"] >= 2 * 4 * 4 * 3
        added: Any = previewed["predicted_seconds"]
        assert added == pytest.approx(plain["predicted_seconds"] + said["seconds"])
        stage: Any = explain(SHOWN, "denoise").report["stage"]
        assert stage["previews"] == said

    def test_predicted_trace(self, tmp_path: Path) -> None:
        """The same events as a run's."""
        predict(plan(SHOWN), tmp_path / "trace.msgpack")
        with TraceReader(tmp_path / "trace.msgpack") as reader:
            steps = [event.step for event in reader if isinstance(event, Preview)]
        assert steps == [0, 1, 2]

    def test_without_weights(self) -> None:
        """A card's plan counts them too, with any map."""
        request = Request("t2v-1.3b", machine="rtx4090", preview_every=10)
        stages: Any = plan(request).report["stages"]
        previews = next(row["previews"] for row in stages if row["stage"] == "denoise")
        assert previews["steps"] == [9, 19, 29, 39, 49]
        assert 0 < previews["seconds"] < 5


class TestUntil:
    """A run that is to stop."""

    def test_goes_on_to_the_same_file(self, tmp_path: Path) -> None:
        """With the state saved and a preview, though none was asked for."""
        whole = frames_of(SMALL, tmp_path / "whole")
        folder = tmp_path / "run"
        report = run(attrs.evolve(SMALL, until="denoise:2"), out=folder)
        assert (report["status"], report["until"]) == ("stopped", "denoise:2")
        assert report["resume"] == f"wanflow resume {folder}"
        assert "video" not in report
        assert report["peak_bytes"] == pytest.approx(report["predicted_peak_bytes"], rel=0.03)
        assert (folder / "state" / "index.json").exists()
        assert [e.step for e in events(folder) if isinstance(e, Preview)] == [1]
        with TraceReader(folder / "trace.msgpack") as reader:
            list(reader)
            assert (reader.info().trailer or {})["status"] == "stopped"

        assert torch.equal(resumed_frames(folder), whole)
        assert (folder / "video.mp4").read_bytes() == (tmp_path / "whole/video.mp4").read_bytes()
        assert json.loads((folder / "run.json").read_text())["status"] == "done"

    def test_stops_again_further_on(self, tmp_path: Path) -> None:
        """Resume may stop too, with previews of its own; not where it is already."""
        folder = tmp_path / "run"
        run(attrs.evolve(SMALL, until="encode:1"), out=folder)
        assert not (folder / STRIP).exists()
        report = resume(folder, until="denoise:2", preview_every=1)
        assert (report["status"], report["resumed"]) == ("stopped", True)
        assert [e.step for e in events(folder) if isinstance(e, Preview)] == [0, 1]
        with pytest.raises(InputError, match=r"--until denoise:2: denoise has done step 2 already"):
            resume(folder, until="denoise:2")
        assert resume(folder)["status"] == "done"

    @pytest.mark.parametrize(
        ("text", "said"),
        [
            ("denoise:4", "--until denoise:4: denoise has 3 steps"),
            ("denoise:0", "is no STAGE:STEP, steps counted from 1"),
            ("denoise:-1", "is no STAGE:STEP"),
            ("denoise:two", "is no STAGE:STEP"),
            ("denoise", "is no STAGE:STEP"),
            ("noise:2", "noise has 1 step"),
            ("paint:1", "graph 't2v-tiny' has no stage 'paint'"),
            ("decode:1", "between two steps of decode its frames are on their way into a file"),
            ("write:1", "between two steps of write"),
        ],
    )
    def test_no_such_step(self, text: str, said: str, tmp_path: Path) -> None:
        """Said with what there is, before a folder is made."""
        with pytest.raises(InputError, match=said) as caught:
            run(attrs.evolve(SMALL, until=text), out=tmp_path / "run")
        assert caught.value.hint == "at the latest encode:1, noise:1, denoise:3"
        assert not (tmp_path / "run").exists()


class TestCutShort:
    """Runs with previews that end early."""

    def test_failed_between(self, tmp_path: Path) -> None:
        """The rest is shown when it goes on."""
        whole = frames_of(SMALL, tmp_path / "whole")
        cut_short(SHOWN, tmp_path / "run")
        assert torch.equal(resumed_frames(tmp_path / "run"), whole)
        assert [e.step for e in events(tmp_path / "run") if isinstance(e, Preview)] == [1, 2]

    def test_full_disk(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """Exit 1 with the reason; what was shown before is whole, and the run goes on."""
        whole = frames_of(SMALL, tmp_path / "whole")
        write, left = preview.write_preview, [1]

        def until_full(folder: Path, *given: Any) -> None:
            if not left:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(folder / STRIP))
            left.pop()
            write(folder, *given)

        with monkeypatch.context() as patch:
            patch.setattr(preview, "write_preview", until_full)
            with pytest.raises(StageFailed, match="No space left") as caught:
                run(SHOWN, out=tmp_path / "run")
        assert caught.value.detail["resume"] == f"wanflow resume {tmp_path / 'run'}"
        assert len(read_strip(tmp_path / "run" / STRIP, 2)) == 2
        assert torch.equal(resumed_frames(tmp_path / "run"), whole)

    def test_killed_at_a_preview(self, tmp_path: Path) -> None:
        """SIGKILL with the second one made and not written: the first one is there, whole."""
        inputs = json.dumps(SMALL.inputs)
        done = subprocess.run(
            [sys.executable, KILLER, "t2v-tiny", inputs, f"denoise.preview:2:{tmp_path / 'run'}"],
            env={**os.environ, "PYTHONPATH": str(KILLER.parent.parent)}, check=True, timeout=300,
        )  # fmt: skip
        assert done.returncode == 0
        assert len(read_strip(tmp_path / "run" / STRIP, 2)) == 2
        whole = frames_of(attrs.evolve(SMALL, vram="auto", pins=(), exact=True), tmp_path / "whole")
        assert torch.equal(resumed_frames(tmp_path / "run"), whole)


class TestBatch:
    """Rows."""

    def test_each_row_stops_and_goes_on(self, tmp_path: Path) -> None:
        """To what a run of its own makes; the first seed's is compared."""
        rows = tmp_path / "rows.txt"
        rows.write_text("a red circle grows\na blue square moves left\n")
        out = tmp_path / "out"
        done = batch(attrs.evolve(SMALL, until="denoise:1"), rows, out=out)
        assert (done["status"], done["stopped"], done["done"]) == ("stopped", 2, 0)
        assert all((out / row / STRIP).exists() for row in ("0001", "0002"))

        assert resume(out / "0001")["status"] == "done"  # the one that is liked
        done = resume_batch(out, preview_every=2)
        assert (done["status"], done["stopped"], done["done"]) == ("done", 0, 2)
        inputs = {**SMALL.inputs, "prompt": "a red circle grows"}
        run(attrs.evolve(SMALL, inputs=inputs), out=tmp_path / "alone")
        alone = (tmp_path / "alone" / "video.mp4").read_bytes()
        assert (out / "0001" / "video.mp4").read_bytes() == alone
        assert [e.step for e in events(out / "0002") if isinstance(e, Preview)] == [1, 2]

    def test_a_wrong_step_ends_it(self, tmp_path: Path) -> None:
        """Every row would meet the same."""
        rows = tmp_path / "rows.txt"
        rows.write_text("a red circle grows\n")
        with pytest.raises(InputError, match="denoise has 3 steps"):
            batch(attrs.evolve(SMALL, until="denoise:9"), rows, out=tmp_path / "out")


class TestUnknownVae:
    """Another VAE has other colours."""

    def test_said_then_fitted(self, tmp_path: Path) -> None:
        """The run goes on without previews; the command that it names fits the map."""
        weights = Path(shutil.copytree(TINY, tmp_path / "weights"))
        file = weights / "vae" / "diffusion_pytorch_model.safetensors"
        tensors = load_file(file)
        tensors["decoder.conv_out.bias"] += 0.01
        save_file(tensors, file)
        request = attrs.evolve(SHOWN, weights=(str(weights),))

        report = plan(request).report
        command = f"wanflow models fit-preview {weights / 'vae'}"
        note = f"no previews: no map is known of this VAE's colours: {command}"
        assert note in report["notes"]  # type: ignore[operator]
        assert all("previews" not in row for row in report["stages"])  # type: ignore[attr-defined]

        fitted = fit_preview(weights / "vae", vram="256MiB", device="cpu")
        assert fitted.path == kept_at(fitted.map.vae)
        assert fitted.map.channels == 16
        assert fitted.map.psnr > 14
        run(request, out=tmp_path / "run")
        assert (tmp_path / "run" / STRIP).exists()

    @pytest.mark.parametrize(
        ("old", "new"),
        [
            (b"bias", b"bais"),
            (b"bias", b"\xff\xfe"),
            (b'"about": ', b'"about": ' + b"[" * 100_000),
            (b'"pixels": ', b'"pixels": 1e999, "was": '),
        ],
    )
    def test_damaged(self, tmp_path: Path, old: bytes, new: bytes) -> None:
        """A map that can't be read is named."""
        (bundled,) = (TINY.parent.parent / "stages" / "previews").glob("*.json")
        own = kept_at(bundled.stem)
        own.parent.mkdir(parents=True)
        assert old in bundled.read_bytes()
        own.write_bytes(bundled.read_bytes().replace(old, new))
        with pytest.raises(InputError, match=f"{own.name}: is no preview map"):
            plan(SHOWN)
