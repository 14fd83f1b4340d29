"""`wanflow resume`, and the line that names it when a run was cut short."""

import json
from pathlib import Path

import pytest

from wanflow.errors import Interrupted, OutOfMemory, StageFailed

RESUME = {"resume": "wanflow resume runs/x"}
DONE = {
    "video": "x/video.mp4", "trace": "x/trace.msgpack", "frames": 9, "seconds": 1.0,
    "device": "cpu", "seed": 0,
}  # fmt: skip


class TestCommand:
    def test_goes_on_and_says_what_run_says(self, session, wanflow_here):
        """The same lines, for the folder that was given."""
        asked = []
        session.resume = lambda folder, **_: asked.append(folder) or DONE
        code, out, err = wanflow_here("resume", "runs/x")
        assert (code, err, asked) == (0, "", [Path("runs/x")])
        assert out.splitlines()[0] == "wrote x/video.mp4"

    @pytest.mark.parametrize(
        ("words", "every"),
        [("", None), ("--preview", 1), ("--no-preview", 0), ("--preview-every 3", 3),
         ("--preview --preview-every 3", 3)],
    )  # fmt: skip
    def test_previews_and_until(self, session, wanflow_here, words, every):
        """As it was begun, unless it is said."""
        asked = {}
        session.resume = lambda _, **options: asked.update(options) or DONE
        wanflow_here("resume", "runs/x", "--until", "denoise:3", *words.split())
        assert (asked["preview_every"], asked["until"]) == (every, "denoise:3")

    def test_json(self, session, wanflow_here):
        """One value, and nobody watches."""
        session.resume = lambda _, *, sink, **_options: DONE if sink is None else None
        code, out, err = wanflow_here("resume", "runs/x", "--json")
        assert (code, err) == (0, "")
        assert json.loads(out) == DONE

    def test_a_folder_that_is_none(self, wanflow_here, tmp_path):
        """Exit 2, with the real session."""
        code, out, err = wanflow_here("resume", tmp_path)
        assert (code, out) == (2, "")
        assert err.splitlines()[0] == f"error: {tmp_path}: is no run folder"


class TestLastLine:
    @pytest.mark.parametrize(
        ("error", "code", "lines"),
        [
            (Interrupted("stopped by SIGINT", hint=RESUME["resume"]), 130,
             ["error: stopped by SIGINT"]),
            (Interrupted("stopped by SIGTERM", exit_code=143, hint=RESUME["resume"]), 143,
             ["error: stopped by SIGTERM"]),
            (StageFailed("x: No space left on device", hint="free some space"), 1,
             ["error: x: No space left on device", "hint: free some space"]),
            (OutOfMemory("oom", hint="free memory"), 6, ["error: oom", "hint: free memory"]),
        ],
    )  # fmt: skip
    def test_names_the_command(self, session, wanflow_here, error, code, lines):
        """Whatever ended it, if a step was saved."""
        error.detail.update(RESUME)

        def fail(*_, **__):
            raise error

        session.run = fail
        found, out, err = wanflow_here("run", "t2v-tiny")
        assert (found, out) == (code, "")
        assert err.splitlines() == [*lines, "resume: wanflow resume runs/x"]

    def test_json_has_it(self, session, wanflow_here):
        """As a key of its own."""

        def fail(*_, **__):
            raise StageFailed("no", detail=dict(RESUME))

        session.resume = fail
        code, _, err = wanflow_here("resume", "x", "--json")
        assert code == 1
        assert json.loads(err)["error"]["resume"] == RESUME["resume"]
