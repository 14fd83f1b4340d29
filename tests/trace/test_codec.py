"""Events survive the round trip, and nothing else gets through."""

import math

import attrs
import msgpack
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from wanflow.trace.codec import FIELDS, decode, encode, tag_of
from wanflow.trace.events import Event, Memory, Move, Note, StageSpan, Step, Workspace
from wanflow.trace.framing import DamagedError

RECORDS = (Move, Workspace, Step, StageSpan, Memory, Note)
COUNTS = st.integers(0, 2**63 - 1)
WORDS = st.text(st.characters(exclude_categories=["Cs"]), max_size=40)


def events(record):
    """Make any events of one kind."""
    by_type = {int: COUNTS, str: WORDS, tuple[str, ...]: st.lists(WORDS, max_size=5).map(tuple)}
    fields = attrs.fields(attrs.resolve_types(record))
    return st.builds(
        record,
        **{
            f.name: by_type[f.type] if f.type in by_type else st.sampled_from(f.type)
            for f in fields
        },
    )


ANY_EVENT = st.one_of([events(record) for record in RECORDS])


class TestRoundTrip:
    """Events written and read."""

    @settings(max_examples=500, deadline=None)
    @given(ANY_EVENT)
    def test_event_comes_back_equal(self, event: Event) -> None:
        """What was written is what is read, types and all."""
        back = decode(encode(event))

        assert event == back
        assert type(event) is type(back)

    @settings(deadline=None)
    @given(ANY_EVENT)
    def test_plain_msgpack_reads_the_row(self, event: Event) -> None:
        """The header's field names put over a row give the event."""
        tag, *values = msgpack.unpackb(encode(event))

        assert tag_of(event) == tag
        named = dict(zip(FIELDS[tag], values, strict=True))
        fields = {name: getattr(event, name) for name in named}
        assert named == {k: list(v) if k == "knobs" else v for k, v in fields.items()}

    def test_later_fields_are_ignored(self, numbered) -> None:
        """A later version may append a field to a row."""
        row = [*msgpack.unpackb(encode(numbered(3))), "new"]

        assert numbered(3) == decode(msgpack.packb(row))

    def test_unknown_kind_is_none(self) -> None:
        """A kind of a later version is told apart from damage."""
        assert decode(msgpack.packb(["gossip", 1, {"a": 2.5}])) is None

    def test_name_that_is_not_text_is_escaped(self) -> None:
        """A file name may hold a byte that is no UTF-8."""
        assert decode(encode(Note("weights", "bad\udcff", 0))) == Note("weights", "bad\\udcff", 0)


class TestStrictness:
    """What is no event is refused."""

    @pytest.mark.parametrize("bad", [True, -1, 1.0, math.nan, None, "7", [], {}])
    def test_every_count_must_be_a_whole_number(self, numbered, bad) -> None:
        """No bool, no fraction, no NaN and nothing negative passes for bytes or ns."""
        row = msgpack.unpackb(encode(numbered(3)))
        for index, value in enumerate(row):
            if type(value) is int:
                with pytest.raises(DamagedError):
                    decode(msgpack.packb([*row[:index], bad, *row[index + 1 :]]))

    @pytest.mark.parametrize("bad", [True, 1, None, ["a"], "purloin"])
    def test_verb_must_be_known(self, numbered, bad) -> None:
        """Four verbs, and no others."""
        row = msgpack.unpackb(encode(numbered(3)))

        with pytest.raises(DamagedError):
            decode(msgpack.packb([row[0], bad, *row[2:]]))

    @pytest.mark.parametrize(
        "row", [[], [1], [["move"]], "move", {"k": "move"}, None, ["move"], ["note", "a", "b"]]
    )
    def test_row_must_have_its_shape(self, row) -> None:
        """A row is a list, starts with its kind, and has all the fields."""
        with pytest.raises(DamagedError):
            decode(msgpack.packb(row))

    def test_knobs_must_be_text(self) -> None:
        """A list of anything else is damage."""
        with pytest.raises(DamagedError, match="knobs"):
            decode(msgpack.packb(["stage", "a", "b", 0, 1, 2, ["k=1", 2]]))

    @pytest.mark.parametrize("field", ["nbytes", "began_ns", "step"])
    def test_negative_is_not_written(self, numbered, field) -> None:
        """The reader would stop there, so the writer must not start."""
        with pytest.raises(ValueError, match=f"{field} is negative"):
            encode(attrs.evolve(numbered(1), **{field: -1}))
