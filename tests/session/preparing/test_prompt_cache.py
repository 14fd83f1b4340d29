"""Encoded prompts on disk: the same picture, the work only once, and nothing breaks without."""

from __future__ import annotations

import errno
import json
import os
import shutil
from pathlib import Path

import attrs
import pytest
import torch
from safetensors.torch import load_file, save_file

from tests.jobs import TINY as WEIGHTS
from tests.resuming import Frames, cut_short, frames_of, resumed_frames
from wanflow.cli import main
from wanflow.errors import InputError, StageFailed
from wanflow.files import cache as cache_files
from wanflow.session import Request, plan, run
from wanflow.session.preparing import prompt_cache
from wanflow.session.preparing.prompt_cache import Prompts
from wanflow.stages.base import Tokens

INPUTS: dict[str, str | int | float] = {
    "steps": 2, "frames": 1, "size": "32*32", "prompt": "a red kite",
}  # fmt: skip
# What is chosen otherwise depends on what runs have taught; here bits are compared.
PLAIN = ("denoise.cfg=serial", "denoise.rows=all", "decode.strips=whole")
KITE = Request("t2v-tiny", INPUTS, device="cpu", vram="64MiB", pins=PLAIN)
WORDS = Tokens((5, 6, 7), 16)
DAMAGE = {
    "nothing": lambda content: b"" * len(content),
    "cut": lambda content: content[:-1],
    "longer": lambda content: content + b"x",
    "other bytes": lambda content: content[:-1] + bytes([content[-1] ^ 1]),
    "another magic": lambda content: b"W" + content[1:],
}


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Turn the cache on, empty; give its folder."""
    monkeypatch.delenv("WANFLOW_PROMPT_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "wanflow" / "prompts"


def opened(folder: Path, **identity: str) -> Prompts:
    """The cache of a model whose rows are four floats."""
    return Prompts(folder, identity, 16, torch.float32)


def rows(count: int = 3, start: float = 0.5) -> torch.Tensor:
    """The rows of a prompt."""
    return torch.arange(count * 4, dtype=torch.float32).reshape(count, 4) + start


def kept_in(folder: Path, tokens: Tokens = WORDS, count: int = 3, **identity: str) -> Path:
    """Keep a prompt; its file."""
    before = set(folder.glob("*.bin"))
    opened(folder, **identity).keep(tokens, rows(count))
    (file,) = set(folder.glob("*.bin")) - before
    return file


class TestPrompts:
    """The store by itself."""

    def test_gives_back_what_was_kept(self, tmp_path: Path) -> None:
        """Bit for bit, into memory of the caller's, to another process too."""
        kept_in(tmp_path)
        found, made = opened(tmp_path).find(WORDS), torch.empty(3, 4)
        assert found is not None
        found.read_into(made)
        assert torch.equal(rows(), made)

    @pytest.mark.parametrize(
        "tokens", [Tokens((5, 6), 16), Tokens((5, 7, 6), 16), Tokens((5, 6, 7), 512)]
    )
    def test_knows_nothing_else(self, tmp_path: Path, tokens: Tokens) -> None:
        """Other ids, another order, another padding, another model."""
        kept_in(tmp_path)
        assert opened(tmp_path).find(tokens) is None
        assert opened(tmp_path, model="other").find(WORDS) is None

    def test_what_is_found_stays(self, tmp_path: Path) -> None:
        """A plan that counts on a prompt can run though its file is gone; and one that doesn't."""
        file = kept_in(tmp_path)
        store, made = opened(tmp_path), torch.empty(3, 4)
        found = store.find(WORDS)
        file.unlink()
        assert found is not None
        found.read_into(made)
        assert torch.equal(rows(), made)
        assert store.find(WORDS) is found
        assert store.find(Tokens((9,), 16)) is None
        kept_in(tmp_path, Tokens((9,), 16), 1)
        assert store.find(Tokens((9,), 16)) is None

    @pytest.mark.parametrize("damage", DAMAGE)
    def test_damaged_is_not_there(self, tmp_path: Path, damage: str) -> None:
        """Whatever is not as it was written; the next one to be kept mends it."""
        file = kept_in(tmp_path)
        file.write_bytes(DAMAGE[damage](file.read_bytes()))
        assert opened(tmp_path).find(WORDS) is None
        opened(tmp_path).keep(WORDS, rows())
        assert opened(tmp_path).find(WORDS) is not None

    def test_what_is_not_finite_is_not_kept(self, tmp_path: Path) -> None:
        """Another run may be right."""
        opened(tmp_path).keep(WORDS, rows().masked_fill(rows() == 1.5, torch.nan))
        assert opened(tmp_path).find(WORDS) is None

    def test_no_file_there(self, tmp_path: Path) -> None:
        """A folder by that name is no prompt, and can't be replaced by one."""
        file = kept_in(tmp_path)
        file.unlink()
        file.mkdir()
        assert opened(tmp_path).find(WORDS) is None
        opened(tmp_path).keep(WORDS, rows())
        assert [file] == list(tmp_path.iterdir())

    def test_no_folder_there(self, tmp_path: Path) -> None:
        """Where none can be made nothing is kept."""
        (tmp_path / "file").touch()
        opened(tmp_path / "file" / "prompts").keep(WORDS, rows())
        assert opened(tmp_path / "file" / "prompts").find(WORDS) is None

    def test_damaged_between_plan_and_run(self, tmp_path: Path) -> None:
        """The one way that it shows: somebody cuts the very file; the way out is told."""
        file = kept_in(tmp_path)
        found = opened(tmp_path).find(WORDS)
        assert found is not None
        os.truncate(file, 60)
        with pytest.raises(StageFailed, match="can't be read") as caught:
            found.read_into(torch.empty(3, 4))
        assert caught.value.hint == "--no-prompt-cache"

    def test_another_dtype_is_not_kept(self, tmp_path: Path) -> None:
        """A stage whose texts are not what the model's rows are."""
        opened(tmp_path).keep(WORDS, rows().bfloat16())
        assert not list(tmp_path.iterdir())

    def test_used_longest_ago_goes(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """The folder stays below its bound; what was found lately stays."""
        files = [kept_in(tmp_path, Tokens((n,), 16), 1) for n in range(3)]
        for age, file in enumerate(files):
            os.utime(file, (age, age))
        assert opened(tmp_path).find(Tokens((0,), 16)) is not None
        size = files[0].stat().st_size
        monkeypatch.setattr(prompt_cache, "LARGEST_BYTES", 3 * size)
        new = kept_in(tmp_path, Tokens((4,), 16), 1)
        assert {files[0], files[2], new} == set(tmp_path.iterdir())
        assert cache_files.held(tmp_path).nbytes <= 3 * size

    def test_one_too_large_is_not_left(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Not even the newest may pass the bound."""
        monkeypatch.setattr(prompt_cache, "LARGEST_BYTES", 10)
        opened(tmp_path).keep(WORDS, rows())
        assert not list(tmp_path.iterdir())


def kinds(out: Path) -> set[str]:
    """The kinds of calls that encoded the prompts of a run."""
    calls = json.loads((out / "plan.json").read_text())["calls"]
    return {call["kind"].split(".")[0] for call in calls if call["stage"] == "encode"}


def test_every_row_of_a_prompt_counts(tmp_path: Path) -> None:
    """One row of a large table is no matter for a sample; the rows of the prompt's ids are read."""
    file = kept_in(tmp_path)
    mine, other = opened(tmp_path), opened(tmp_path)
    other.rows_of = lambda ids: f"of {ids}"
    other.keep(WORDS, rows())
    assert len({file, *tmp_path.iterdir()}) == 2
    assert mine.find(WORDS) is not None


class TestRun:
    """What a run sees of it."""

    def test_second_run_reads(self, cache: Path, tmp_path: Path) -> None:
        """The same frames from no weights of the encoder, as planned, to the byte."""
        first = frames_of(KITE, tmp_path / "first")
        watch = Frames()
        second = run(KITE, out=tmp_path / "second", watch=watch)

        assert torch.equal(first, watch.frames)
        assert kinds(tmp_path / "second") == {"cached"}
        assert second["predicted_peak_bytes"] == second["peak_bytes"]
        assert len(list(cache.iterdir())) == 2  # the empty negative prompt is one too

    def test_plan_knows(self, cache: Path, tmp_path: Path) -> None:
        """Before: all layers; after: none, whoever asks."""
        before = plan(KITE).report["stages"]
        frames_of(KITE, tmp_path / "run")
        after = plan(KITE).report["stages"]
        anew = plan(attrs.evolve(KITE, prompt_cache=False)).report["stages"]

        assert before[0]["weights_bytes"] > 0 == after[0]["weights_bytes"]
        assert anew[0]["seconds"] > after[0]["seconds"]

    def test_another_prompt(self, cache: Path, tmp_path: Path) -> None:
        """The negative one is read, the new one encoded: the frames of a run without a cache."""
        frames_of(KITE, tmp_path / "run")
        blue = attrs.evolve(KITE, inputs={**INPUTS, "prompt": "a blue circle"})
        made = frames_of(blue, tmp_path / "blue")

        assert kinds(tmp_path / "blue") > {"cached", "attend", "feed"}
        assert torch.equal(
            frames_of(attrs.evolve(blue, prompt_cache=False), tmp_path / "new"), made
        )

    def test_exact_takes_its_own(self, cache: Path, tmp_path: Path) -> None:
        """What was encoded without padding is no text for `--exact`; the other way it is."""
        exact = attrs.evolve(KITE, exact=True)
        run(KITE, out=tmp_path / "real")
        made = frames_of(exact, tmp_path / "exact")

        assert "cached" not in kinds(tmp_path / "exact")
        assert torch.equal(frames_of(exact, tmp_path / "again"), made)
        assert kinds(tmp_path / "again") == {"cached"}

    def test_off(self, cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """By the request or by the environment: neither read nor written."""
        off = attrs.evolve(KITE, prompt_cache=False)
        run(off, out=tmp_path / "off")
        assert not cache.exists()
        run(KITE, out=tmp_path / "on")
        assert plan(off).report["stages"][0]["weights_bytes"] > 0
        monkeypatch.setenv("WANFLOW_PROMPT_CACHE", "off")
        assert plan(KITE).report["stages"][0]["weights_bytes"] > 0

    def test_neither_on_nor_off(self, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """A word that means nothing is told."""
        monkeypatch.setenv("WANFLOW_PROMPT_CACHE", "of")
        with pytest.raises(InputError, match="WANFLOW_PROMPT_CACHE='of'"):
            plan(KITE)

    def test_other_weights(self, cache: Path, tmp_path: Path) -> None:
        """The same bytes at another time have the same texts; another table, precision: others."""
        shutil.copytree(WEIGHTS / "text_encoder", tmp_path / "w" / "text_encoder")
        shutil.copytree(WEIGHTS / "tokenizer", tmp_path / "w" / "tokenizer")
        mine = attrs.evolve(KITE, weights=(f"text={tmp_path / 'w' / 'text_encoder'}",))
        run(mine, out=tmp_path / "run")
        (file,) = (tmp_path / "w" / "text_encoder").glob("*.safetensors")
        needed = [plan(mine)]
        before = file.stat()
        shutil.copy(file, tmp_path / "copy")
        (tmp_path / "copy").replace(file)
        needed += [plan(mine), plan(attrs.evolve(mine, precision=("text=bf16",)))]
        tensors = load_file(file)
        save_file(tensors | {"shared.weight": tensors["shared.weight"].flip(0).contiguous()}, file)
        os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))
        needed.append(plan(mine))

        weights = [made.report["stages"][0]["weights_bytes"] for made in needed]
        assert [nbytes > 0 for nbytes in weights] == [False, False, True, True]

    def test_damaged(self, cache: Path, tmp_path: Path) -> None:
        """It is encoded anew, and mended."""
        first = frames_of(KITE, tmp_path / "first")
        for file in cache.iterdir():
            file.write_bytes(file.read_bytes()[:-1])

        assert torch.equal(first, frames_of(KITE, tmp_path / "second"))
        assert "attend" in kinds(tmp_path / "second")
        assert plan(KITE).report["stages"][0]["weights_bytes"] == 0

    def test_full_disk(self, cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """The run goes on; nothing half-written is left."""

        def full(*_given: object) -> None:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

        with monkeypatch.context() as patch:
            patch.setattr(cache_files, "head", full)
            assert run(KITE, out=tmp_path / "run")["status"] == "done"
        assert not list(cache.iterdir())

    def test_resume(self, cache: Path, tmp_path: Path) -> None:
        """A run that encoded goes on with a plan that reads."""
        wanted = frames_of(attrs.evolve(KITE, prompt_cache=False), tmp_path / "whole")
        out = cut_short(KITE, tmp_path / "cut")

        assert "attend" in kinds(out)
        assert torch.equal(wanted, resumed_frames(out))
        assert kinds(out) == {"cached"}


class TestCommands:
    """`--no-prompt-cache`, and what `doctor` says."""

    def test_option(self, cache: Path, capsys: pytest.CaptureFixture[str]) -> None:
        """The command line turns it off, for `plan` as for `run`."""
        given = ["t2v-tiny", "--device=cpu", "--json", *(f"-i{k}={v}" for k, v in INPUTS.items())]
        run(attrs.evolve(KITE, pins=()), out=cache.parent / "run")
        needed = []
        for more in ([], ["--no-prompt-cache"]):
            assert main.run(["plan", *given, *more]) == 0
            needed.append(json.loads(capsys.readouterr().out)["stages"][0]["weights_bytes"])

        assert needed[0] == 0 < needed[1]

    def test_doctor(self, cache: Path, capsys: pytest.CaptureFixture[str]) -> None:
        """Path, files and bytes."""
        cache.mkdir(parents=True)
        file = kept_in(cache)
        assert main.run(["doctor", "--json"]) == 0
        said = json.loads(capsys.readouterr().out)["prompts"]
        assert said == {"path": str(cache), "files": 1, "nbytes": file.stat().st_size}
