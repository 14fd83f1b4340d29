"""`wanflow run`: what it says when done, and what it shows on the way."""

import io
import json

import pytest

from wanflow.cli import progress
from wanflow.cli.live import LiveRun
from wanflow.errors import StageFailed
from wanflow.trace.events import Kind, Move, Note, StageSpan, Step, Verb
from wanflow.trace.stage_progress import StageProgress

MIB = 2**20
SECOND = 10**9


@pytest.fixture
def done():
    """Make what a run returns."""
    return {
        "video": "runs/a b/video.mp4", "trace": "runs/a b/trace.msgpack", "frames": 9,
        "seconds": 12.5, "budget_bytes": 12 * MIB, "predicted_peak_bytes": 11 * MIB,
        "predicted_seconds": 10.0, "peak_bytes": 10 * MIB, "peak_source": "tracked",
        "device": "cpu", "seed": 42, "out": "runs/a b", "graph": "t2v-tiny", "status": "ok",
    }  # fmt: skip


def step(index, total=4):
    began = index * 2 * SECOND
    return Step("denoise", index, total, began, began + 2 * SECOND, 6 * MIB, 0)


def place(nbytes):
    return Move(Verb.PLACE, Kind.VALUE, "x", "denoise", 0, "", "cpu", nbytes, nbytes, 0, 1, 0, "")


class TestCommand:
    def test_says_result_peak_and_what_to_type(self, session, done, wanflow_here):
        """Four lines a person can act on."""
        session.run = lambda *_, **__: done
        code, out, err = wanflow_here("run", "t2v-tiny")
        assert (code, err) == (0, "")
        assert out.splitlines() == [
            "wrote runs/a b/video.mp4",
            "9 frames in 12.5 s (planned 10.0 s) on cpu, seed 42",
            "peak 10.0 MiB, planned 11.0 MiB, 83% of the 12.0 MiB budget (tracked)",
            "next: wanflow trace summary 'runs/a b/trace.msgpack'",
        ]

    def test_json_is_what_the_session_returns_and_silent(self, session, done, wanflow_here):
        """Under `--json` there is no progress and one value."""

        def run(_, *, out, force, sink):
            assert (out, force, sink) == (None, False, None)
            return done

        session.run = run
        code, out, err = wanflow_here("run", "t2v-tiny", "--json")
        assert (code, err) == (0, "")
        assert json.loads(out) == done

    @pytest.mark.parametrize(
        ("words", "every"), [("", 0), ("--preview", 1), ("--preview-every 5", 5)]
    )
    def test_previews(self, session, done, wanflow_here, words, every):
        """How often, in the request."""
        asked = []
        session.run = lambda request, **_: asked.append(request) or done
        wanflow_here("run", "t2v-tiny", *words.split())
        assert [request.preview_every for request in asked] == [every]

    def test_a_wrong_count(self, session, wanflow_here):
        """Exit 2."""
        code, _, err = wanflow_here("run", "t2v-tiny", "--preview-every", "0")
        assert code == 2
        assert "--preview-every" in err

    def test_stopped_where_it_should(self, session, done, wanflow_here):
        """Exit 0, with the command that goes on."""
        told = {"status": "stopped", "until": "denoise:10", "preview": "runs/a b/preview.png",
                "resume": "wanflow resume 'runs/a b'"}  # fmt: skip
        del done["video"]
        session.run = lambda *_, **__: done | told
        code, out, err = wanflow_here("run", "t2v-tiny", "--until", "denoise:10")
        assert (code, err) == (0, "")
        assert out.splitlines() == [
            "stopped after step 10 of denoise, as asked: nothing is lost",
            "12.5 s on cpu, seed 42",
            "preview: runs/a b/preview.png",
            "peak 10.0 MiB, planned 11.0 MiB, 83% of the 12.0 MiB budget (tracked)",
            "next: wanflow resume 'runs/a b'",
        ]

    def test_until_a_wrong_step(self, wanflow_here, tmp_path):
        """Exit 2 with what there is, by the real session."""
        code, out, err = wanflow_here(
            "run", "t2v-tiny", "--until", "denoise:9", "--out", tmp_path / "run"
        )
        assert (code, out) == (2, "")
        assert err.splitlines() == [
            "error: --until denoise:9: denoise has 8 steps",
            "hint: at the latest encode:1, noise:1, denoise:8",
        ]

    def test_passes_folder_and_force(self, session, done, wanflow_here, tmp_path):
        """`--out` and `--force` reach the session."""
        asked = {}

        def run(_, **options):
            asked.update(options)
            return done

        session.run = run
        wanflow_here("run", "t2v-tiny", "--out", tmp_path, "--force")
        assert (asked["out"], asked["force"]) == (tmp_path, True)

    def test_a_failed_run_leaves_by_its_code(self, session, wanflow_here, report):
        """Progress so far stays on stderr; the error is the last thing said."""

        def run(_, *, sink, **__):
            sink.start(report)
            sink.emit(StageSpan("encode", "encode_text", 0, SECOND, 3 * MIB, ()))
            raise StageFailed("denoise failed at step 3", hint="wanflow trace summary x")

        session.run = run
        code, out, err = wanflow_here("run", "t2v-tiny")
        assert (code, out) == (1, "")
        assert err.splitlines() == [
            "encode done in 1.00 s, peak 3.00 MiB",
            "error: denoise failed at step 3",
            "hint: wanflow trace summary x",
        ]


class TestCutPrompt:
    @pytest.mark.parametrize("kind", [progress.ProgressLines, progress.ProgressBars, LiveRun])
    def test_is_said_before_the_run(self, report, capsys, kind):
        """On stderr, whatever shows the run."""
        cut = {"stage": "encode", "prompt": "prompt", "tokens": 601, "max_tokens": 512}
        shown = kind()
        shown.start({**report, "cut_prompts": [{**cut, "cut_at": 9, "cut_from": "circle"}]})
        shown.finish()
        line = 'note: prompt of encode: 601 tokens, 512 count; cut from "circle" on'
        assert capsys.readouterr().err.splitlines()[0] == line


class TestMetadata:
    @pytest.mark.parametrize(("words", "wanted"), [([], True), (["--no-metadata"], False)])
    def test_reaches_the_session(self, session, done, wanflow_here, words, wanted):
        """It is on unless it is said otherwise."""
        requests = []
        session.run = lambda request, **_: requests.append(request) or done
        assert wanflow_here("run", "t2v-tiny", *words)[0] == 0
        assert [request.metadata for request in requests] == [wanted]


class TestLines:
    def test_speaks_every_ten_seconds_and_at_the_end_of_a_stage(self, report, capsys, monkeypatch):
        """A log file grows by a line now and then."""
        now = [0.0]
        monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
        lines = progress.ProgressLines()
        lines.start(report)
        for index in range(4):
            now[0] += 6
            lines.emit(step(index))
        lines.emit(Note("memory", "tight\x1b", 0))
        lines.emit(StageSpan("denoise", "denoise", 0, 8 * SECOND, 6 * MIB, ()))
        lines.finish()
        assert capsys.readouterr().err.splitlines() == [
            "denoise 2/4, 6.00 MiB of 12.0 MiB, 4.60 s left",
            "denoise 4/4, 6.00 MiB of 12.0 MiB, 0.60 s left",
            "memory: tight\\x1b",
            "denoise done in 8.00 s, peak 6.00 MiB",
        ]


class TestState:
    def test_streaming_stages_take_turns(self, report):
        """The writer's events between two decoded frames don't lose the decoder's place."""
        state = StageProgress()
        state.plan(report)
        state.see(Step("decode", 2, 9, 0, SECOND, 0, 0))
        state.see(Step("write", 2, 9, 0, SECOND // 2, 0, 0))
        state.see(Move(Verb.FREE, Kind.VALUE, "x", "decode", 3, "cpu", "", 1, 0, 0, 1, 0, ""))
        assert progress.head_line(state) == "decode  step 3/9  1.00 s a step  3:44 left"

    def test_predictions_are_scaled_by_how_wrong_they_were(self, report):
        """A machine half as fast as estimated is seen to be."""
        state = StageProgress()
        state.plan(report)
        assert state.left_seconds() == pytest.approx(214.6)
        state.see(StageSpan("encode", "encode_text", 0, SECOND, 0, ()))
        assert state.left_seconds() == pytest.approx(2 * 214.1)

    def test_the_step_at_work_is_partly_over(self, report):
        """What is left goes down between two steps, and stands where one takes longer."""
        state = StageProgress()
        state.plan(report)
        state.see(Step("denoise", 0, 3, 0, 10 * SECOND, 0, 0))
        left = [state.left_seconds(now * SECOND) for now in (10, 14, 20, 90)]
        assert left == pytest.approx([20.6, 16.6, 10.6, 10.6])

    def test_one_slow_step_does_not_decide(self, report):
        """What is left is reckoned with the last few steps."""
        state = StageProgress()
        state.plan(report)
        for step in range(9):
            state.see(Step("denoise", step, 19, step * SECOND, (step + 1) * SECOND, 0, 0))
        state.see(Step("denoise", 9, 19, 9 * SECOND, 19 * SECOND, 0, 0))
        assert state.left_seconds() == pytest.approx(9 * (1 + 9 / 5) + 0.6)

    def test_a_first_step_is_partly_over(self, report):
        """By the prediction, before any step was measured."""
        state = StageProgress()
        state.plan(report)
        state.see(Move(Verb.PLACE, Kind.WEIGHTS, "x", "denoise", 0, "", "cpu", 1, 1, SECOND, SECOND,
                       0, ""))  # fmt: skip
        assert state.left_seconds(101 * SECOND) == pytest.approx(114.6)


class TestBars:
    def test_marks_now_peak_and_plan_on_one_scale(self, report):
        """`#` is now, `.` the peak so far, `|` what the plan predicts."""
        state = StageProgress()
        state.plan(report)
        state.see(place(9 * MIB))
        state.see(place(6 * MIB))
        assert progress.memory_lines(state) == (
            "memory [################........     |  ] 6.00 MiB of 12.0 MiB\n"
            "peak 9.00 MiB, planned 11.0 MiB (|)"
        )

    def test_what_is_set_aside_is_taken(self, report):
        """Now, peak and plan are all that the process takes of the budget."""
        state = StageProgress()
        state.plan({**report, "overhead_bytes": 2 * MIB})
        state.see(place(9 * MIB))
        state.see(place(4 * MIB))
        state.see(StageSpan("encode", "encode_text", 0, SECOND, 10 * MIB, ()))
        assert progress.memory_lines(state) == (
            "memory [################.............|..] 6.00 MiB of 12.0 MiB\n"
            "peak 12.0 MiB, planned 11.0 MiB (|)"
        )

    @pytest.mark.parametrize("budget", [0, 1, 10 * MIB])
    def test_stays_in_its_frame_whatever_the_numbers(self, budget):
        """Memory above the budget is a bug elsewhere, not a broken line here."""
        state = StageProgress(budget_bytes=budget, planned_bytes=20 * MIB)
        state.see(place(40 * MIB))
        assert all(len(line) <= 80 for line in progress.memory_lines(state).splitlines())

    def test_draws_on_a_terminal_and_cleans_up(self, report, monkeypatch, capsys):
        """On a terminal the bars are live; what stays is a line a stage."""
        terminal = io.StringIO()
        terminal.isatty = lambda: True
        monkeypatch.setattr(progress.sys, "stderr", terminal)
        monkeypatch.setenv("TERM", "xterm")
        with progress.watch() as bars:
            bars.start(report)
            bars.emit(step(1))
            bars.emit(StageSpan("denoise", "denoise", 0, 8 * SECOND, 6 * MIB, ()))
        assert isinstance(bars, progress.ProgressBars)
        assert "denoise done in 8.00 s, peak 6.00 MiB" in terminal.getvalue()
        assert "step 2/4" in terminal.getvalue()
        assert terminal.getvalue().endswith("\x1b[2K")

    def test_a_finished_run_that_never_started_is_fine(self):
        """The plan may fail before the bars begin."""
        bars = progress.ProgressBars()
        bars.emit(step(0))
        bars.finish()
