"""Events of several ranks in one file: each rank's can be read, and the first one's by anybody."""

import attrs
import msgpack
import pytest

from wanflow.errors import InputError
from wanflow.session import advise
from wanflow.trace import TraceReader, TraceWriter, summarise
from wanflow.trace.codec import decode
from wanflow.trace.events import Note, Step
from wanflow.trace.reader import MAX_RANKS
from wanflow.trace.summary import summarise_ranks

HEADER = {
    "graph": "toy", "device": "cpu", "budget_bytes": 100,
    "ranks": [{"device": "cpu", "budget_bytes": 100}, {"device": "cpu", "budget_bytes": 60}],
}  # fmt: skip
STEP = Step("denoise", 0, 1, 0, 10, 7, 9)


@pytest.fixture
def path(tmp_path):
    """A trace of two ranks."""
    path = tmp_path / "trace.msgpack"
    with TraceWriter(path, HEADER) as writer:
        writer.emit(Note("hello", "of the first", 0))
        writer.emit(STEP, 1)
        writer.emit(attrs.evolve(STEP, index=2), 0)
        writer.close("done", {})
    return path


@pytest.mark.parametrize(("rank", "kinds"), [(0, [Note, Step]), (1, [Step])])
def test_events_of_a_rank(path, rank, kinds) -> None:
    """What it wrote, whatever lies between; all records are counted."""
    with TraceReader(path, rank) as reader:
        assert kinds == [type(event) for event in reader]
        assert reader.info().state == "whole"
        assert reader.info().records == 3


def test_header_is_the_rank_s(path) -> None:
    """Its own budget, and what all have in common."""
    with TraceReader(path, 1) as reader:
        assert (reader.header["budget_bytes"], reader.header["graph"]) == (60, "toy")


def test_a_rank_that_was_not(path) -> None:
    """Is told with those that were."""
    with pytest.raises(InputError, match="no rank 2: its run had 2"):
        TraceReader(path, 2)


def test_summaries(path) -> None:
    """One a rank."""
    assert [summary.budget_bytes for summary in summarise_ranks(path)] == [100, 60]


def test_summaries_are_those_of_each_alone(path) -> None:
    """Read in one pass, as if each had been read by itself."""
    assert summarise_ranks(path) == [summarise(path, rank) for rank in (0, 1)]


def test_ranks_that_a_header_claims(tmp_path) -> None:
    """A number that no run had is not believed, nor read for once a rank."""
    path = tmp_path / "trace.msgpack"
    with TraceWriter(path, {**HEADER, "ranks": [{}] * (MAX_RANKS + 1)}) as writer:
        writer.emit(STEP, MAX_RANKS - 1)
        writer.emit(STEP, MAX_RANKS)
    with TraceReader(path) as reader:
        assert [rank for rank, _ in reader.ranked_rows()] == [MAX_RANKS - 1]
        assert reader.info().records == 2
    assert len(summarise_ranks(path)) == MAX_RANKS


def test_a_rank_that_calls_itself_others(tmp_path) -> None:
    """Its own header has no ranks that the run hadn't."""
    path = tmp_path / "trace.msgpack"
    ranks = [{"ranks": 7, "budget_bytes": 1}, {"budget_bytes": 2}]
    with TraceWriter(path, {**HEADER, "ranks": ranks}) as writer:
        writer.emit(STEP, 1)
    assert [summary.budget_bytes for summary in summarise_ranks(path)] == [1, 2]


def test_no_advice_for_one_of_several(path) -> None:
    """A rank's settings were chosen for all of them: the way to plan them is named."""
    with TraceReader(path) as reader:
        advised = advise(reader.header)
    assert not advised.advice
    assert "--devices" in advised.reason


def test_older_readers_skip_other_ranks(path) -> None:
    """Their kind is one that they don't know."""
    with path.open("rb") as file:
        _, *records = msgpack.Unpacker(file)
    tags = [msgpack.unpackb(record[1])[0] for record in records if isinstance(record, list)]

    assert tags == ["note", "rank", "step"]


@pytest.mark.parametrize("row", [["rank"], ["rank", 0, []], ["rank", "1", []], ["rank", True, []]])
def test_a_damaged_rank(tmp_path, row) -> None:
    """Ends the reading there, as any damage does."""
    import zlib

    path = tmp_path / "trace.msgpack"
    with TraceWriter(path, HEADER) as writer:
        writer.emit(STEP)
    data = path.read_bytes()
    payload = msgpack.packb(row)
    record = b"\x92\xce" + zlib.crc32(payload).to_bytes(4) + b"\xc6" + len(payload).to_bytes(4)
    with TraceReader(path) as reader:
        list(reader)
    whole = data[: -_trailer(path)]
    path.write_bytes(whole + record + payload)

    with TraceReader(path) as reader:
        assert list(reader) == [STEP]
        assert reader.info().state == "damaged"


def _trailer(path) -> int:
    """How long the trailer is."""
    with path.open("rb") as file:
        unpacker = msgpack.Unpacker(file)
        ends = [unpacker.tell() for _ in unpacker]
    return ends[-1] - ends[-2]


def test_who_stood_still(tmp_path) -> None:
    """What each rank's calls waited for others, by stage and in all; older files say nothing."""
    path = tmp_path / "trace.msgpack"
    with TraceWriter(path, HEADER) as writer:
        for rank, stood_ns in ((0, 10**8), (1, 3 * 10**8), (1, 2 * 10**8)):
            writer.emit(attrs.evolve(STEP, exchanging_ns=stood_ns), rank)
        writer.close("done", {})
    first, second = summarise_ranks(path)
    assert (first.exchanging_seconds, second.exchanging_seconds) == (0.1, 0.5)
    assert second.stages[0].exchanging_seconds == 0.5
    assert decode(msgpack.packb(["step", "denoise", 0, 1, 0, 10, 7, 9])).exchanging_ns == 0
