"""What goes into files, what it takes, and what a run teaches of it."""

import attrs
import pytest

from wanflow.scheduler.footprint.costs import CallRecord, Cost, Footprint, Made, StageFacts
from wanflow.scheduler.machine.call_times import CallTimes, by_rates
from wanflow.scheduler.machine.datasheets import cpu_machine, named_machine
from wanflow.scheduler.machine.figures import FILES
from wanflow.scheduler.machine.file_work import PREVIEW, FileWork, file_work, written_at
from wanflow.scheduler.machine.learn_files import learn_files
from wanflow.trace.events import Workspace
from wanflow.units import GIB

MS = 10**6
KERNEL = Cost(0, {}, 0, 1)
NOTHING = Cost(0, {}, 0)


def made(number, nbytes):
    return Made(number, f"v{number}", nbytes, is_state=False)


def call(stage, kind, step, cost, reads=(), makes=()):
    return CallRecord(stage, kind, step, cost, None, 0, reads, makes)


def facts(stage, op):
    return StageFacts(stage, op, None, 1, 0, {}, ())


# Two steps of denoising, the second of which reads the first's; two chunks of a video; its end.
RUN = Footprint(
    (facts("denoise", "denoise"), facts("decode", "decode_frames"), facts("write", "write_video")),
    (
        call("denoise", "block", 0, KERNEL, (), (made(1, 10), made(2, 500))),
        call("denoise", "sample", 0, KERNEL, (2,), (made(3, 20),)),
        call("denoise", "sample", 1, KERNEL, (1, 3), (made(4, 40),)),
        call("decode", "decode", 0, KERNEL, (4,), (made(5, 100),)),
        call("write", "bytes", 0, KERNEL, (5,), (made(6, 100),)),
        call("write", "encode", 0, NOTHING, (6,)),
        call("decode", "decode", 1, KERNEL, (4,), (made(7, 100),)),
        call("write", "bytes", 1, KERNEL, (7,), (made(8, 100),)),
        call("write", "encode", 1, NOTHING, (8,)),
        call("write", "finish", 1, NOTHING),
    ),
    {},
    frozenset(),
    {},
)


@pytest.fixture
def cpu():
    return attrs.evolve(
        cpu_machine(GIB), call_seconds=0.0, kernel_seconds=0.0,
        save_seconds=1.0, save_rate=100.0, video_seconds=5.0, video_rate=10.0,
    )  # fmt: skip


class TestWhat:
    def test_values_alive_after_a_step_and_frames(self):
        """In one file, with an index; of a stream nothing is saved."""
        assert file_work(RUN) == {
            1: FileWork(saved_files=2, saved_bytes=30),
            2: FileWork(saved_files=2, saved_bytes=40),
            5: FileWork(videos=1, video_bytes=100),
            8: FileWork(videos=0, video_bytes=100),
        }

    def test_a_value_that_is_kept(self):
        """It is read by nobody, and saved all the same."""
        kept = attrs.evolve(RUN, keeps=frozenset({2}))
        assert file_work(kept)[1] == FileWork(saved_files=2, saved_bytes=530)

    def test_calls_that_do_nothing_else(self):
        """They say nothing of kernels."""
        assert written_at(RUN) == {5, 8, 9}


class TestTime:
    def test_is_part_of_the_calls(self, cpu):
        """Each figure's share is named."""
        seconds = by_rates(RUN, cpu)
        assert seconds == pytest.approx((0, 2.3, 2.4, 0, 0, 15, 0, 0, 10, 0))
        assert FileWork(1, 100, 2, 50).parts(cpu) == {
            "video_seconds": 5.0, "video_rate": 10.0, "save_seconds": 2.0, "save_rate": 0.5,
        }  # fmt: skip

    def test_is_lost_on_a_card(self, cpu):
        """Its figures are not among a card's."""
        card = named_machine("h100")
        assert FileWork(1, 100, 2, 50).seconds(card) == 0.0
        assert not set(FILES) & set(card.matters)


def heard(*spans_ms, run=RUN):
    """Times of a run whose calls took so long."""
    times, now = CallTimes(), 0
    for record, span in zip(run.calls, spans_ms, strict=False):
        times.hear(
            Workspace(record.kind, record.stage, record.step, "cpu", 0, 0, now, now + span * MS)
        )
        now += span * MS
    return times


ALL = (1, 1, 1, 1, 1, 9000, 1, 1, 26000, 5000)


class TestLearning:
    def test_the_larger_share_of_a_video(self, cpu):
        """20 of 25 s were its bytes', and all of it took 40."""
        learned = learn_files(cpu, RUN, heard(*ALL), ())
        assert learned.video_rate == pytest.approx(200 / 35)
        assert (learned.video_seconds, learned.was) == (5.0, {"video_rate": 10.0})
        assert sum(by_rates(RUN, learned)[i] for i in (5, 8, 9)) == pytest.approx(40)

    def test_the_median_of_what_saving_took(self, cpu):
        """Twice as long."""
        learned = learn_files(cpu, RUN, heard(*ALL), (4.6, 4.8))
        assert sum(by_rates(RUN, learned)[1:3]) == pytest.approx(9.4)
        assert learned.was["save_seconds"] == 1.0

    def test_is_bounded(self, cpu):
        """A factor of five from what was probed, however often."""
        for _ in range(3):
            cpu = learn_files(cpu, RUN, heard(*ALL), (1e4, 1e4))
        assert cpu.save_seconds == 5.0

    @pytest.mark.parametrize(("spans", "saves"), [((), ()), (ALL[:6], (6.6,)), ((), (1, 2, 3))])
    def test_part_of_a_run_teaches_nothing(self, cpu, spans, saves):
        """It was resumed, or began again."""
        assert learn_files(cpu, RUN, heard(*spans), saves) == cpu

    def test_nor_does_a_card(self):
        """Not its figures."""
        card = named_machine("h100")
        assert learn_files(card, RUN, heard(*ALL), (4.6, 4.8)) == card


class TestPreviews:
    """The files of a preview."""

    SHOWN = attrs.evolve(
        RUN,
        calls=(
            RUN.calls[0],
            call("denoise", "preview.0", 0, KERNEL, (1,), (made(9, 4_500_000),)),
            call("denoise", PREVIEW, 0, NOTHING, (9,)),
            *RUN.calls[1:],
        ),
    )

    def test_are_written_by_their_call(self):
        """The frames that it reads; what is saved after the step is as before."""
        work = file_work(self.SHOWN)
        assert work[2] == FileWork(previews=1, preview_bytes=4_500_000)
        assert work[3] == file_work(RUN)[1]
        assert written_at(self.SHOWN) == {2, 7, 10, 11}

    def test_take_their_time(self, cpu):
        """5 ms and half a second for 4.5 MB; on a card too, which waits for them."""
        card = named_machine("h100")
        assert by_rates(self.SHOWN, cpu)[2] == pytest.approx(0.505)
        assert by_rates(self.SHOWN, card)[2] - by_rates(RUN, card)[5] == pytest.approx(0.505)

    def test_teach_nothing_of_videos_and_saves(self, cpu):
        """These are learned as in a run without."""
        times = heard(ALL[0], 9, 999, *ALL[1:], run=self.SHOWN)
        learned = learn_files(cpu, self.SHOWN, times, (2.3, 2.4))
        assert learned == learn_files(cpu, RUN, heard(*ALL), (2.3, 2.4))
