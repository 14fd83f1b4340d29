"""The limits on what untrusted bytes may become."""

import contextlib
import io

import msgpack
import pytest

from wanflow.trace.framing import (
    MAX_MAP_BYTES,
    MAX_RECORD_BYTES,
    DamagedError,
    ShortError,
    frame,
    pack,
    payloads,
    read_frame_head,
    seal,
    unpack,
    unpack_each,
    unseal,
)


class TestUnpack:
    """Payloads that would cost too much, or are none."""

    @pytest.mark.parametrize(
        "payload",
        [
            b"",
            b"\xc1",
            b"\x01\x01",
            b"\xa2\xff\xff",
            b"\xdd\x00\x00\x10\x01",
            b"\xdf\x00\x00\x00\x41",
            b"\xdb\x00\x01\x00\x01",
            b"\xc4\x01a",
            b"\xd6\xff\x00\x00\x00\x00",
            b"\x81\x01\x02",
            b"\xc0" * (MAX_RECORD_BYTES + 1),
            msgpack.packb("x" * 65_537),
        ],
        ids=lambda payload: repr(payload[:6]),
    )
    def test_refuses(self, payload: bytes) -> None:
        """Not msgpack, too long, too deep, binary, an extension: all one error."""
        with pytest.raises(DamagedError):
            unpack(payload)


class TestUnpackEach:
    """Payloads one after another, as a reader meets them."""

    def test_each_is_one_object(self) -> None:
        """The objects come in order, each with the length of its payload."""
        given = [pack(["a", 1]), pack("b"), pack([])]

        found = list(unpack_each(given))

        assert found == [(["a", 1], 4), ("b", 2), ([], 1)]

    @pytest.mark.parametrize(
        "given",
        [
            [b"\x92\x01", b"\x02"],
            [b"\x01\x02"],
            [b"\x01", b"", b"\x01"],
            [b"\x93\x01", b"\x92\x01\x02"],
        ],
    )
    def test_nothing_goes_from_one_to_the_next(self, given) -> None:
        """Half an object is not made whole by the next payload, and none holds two."""
        with pytest.raises(DamagedError):
            list(unpack_each(given))


class TestPayloads:
    """Frames in a file, which is read in blocks."""

    @pytest.mark.parametrize("nbytes", [1, 100, 4095, MAX_RECORD_BYTES])
    def test_blocks_cut_no_record(self, nbytes: int) -> None:
        """Wherever the end of a block falls, every payload comes whole and in order."""
        given = [bytes([n % 251]) * (nbytes - n % 3) for n in range(900_000 // (nbytes + 100))]

        found = list(payloads(io.BytesIO(b"".join(map(frame, given)) + b"\xde")))

        assert found == given

    def test_sound_records_come_before_the_damage(self) -> None:
        """The error is raised where the damage is, not when its block is read."""
        file = io.BytesIO(frame(b"a") + frame(b"b") + frame(b"c")[:-1] + b"d")
        found = payloads(file)

        assert [next(found), next(found)] == [b"a", b"b"]
        with pytest.raises(DamagedError, match="checksum"):
            next(found)


class TestSeal:
    """Maps with a checksum of their own."""

    def test_comes_back(self) -> None:
        """A sealed map is read to its last byte, and no further."""
        data = seal({"a": [1, 2.5, None, True], "b": {"c": "d"}})

        sealed = unseal(data + b"more")

        assert sealed.values == {"a": [1, 2.5, None, True], "b": {"c": "d"}}
        assert sealed.nbytes == len(data)
        assert sealed.intact

    def test_every_flipped_bit_is_noticed(self) -> None:
        """Damage breaks the map or its seal."""
        data = seal({"format": "wanflow-trace", "budget_bytes": 8 * 2**30})
        for bit in range(len(data) * 8):
            damaged = bytearray(data)
            damaged[bit // 8] ^= 1 << bit % 8
            with contextlib.suppress(DamagedError):
                assert not unseal(bytes(damaged)).intact

    def test_every_cut_is_short(self) -> None:
        """A map that stops is told apart from one that is wrong."""
        data = seal({"a": 1})
        for cut in range(len(data)):
            with pytest.raises(ShortError):
                unseal(data[:cut])

    @pytest.mark.parametrize(
        "items",
        [
            {"a": float("nan")},
            {"a": float("inf")},
            {"a": b"bytes"},
            {"a": [[[[[[[[[1]]]]]]]]]},
            {"a": {1: 2}},
            {"a": "x" * 65_537},
            {f"k{n}": n for n in range(64)},
            {f"k{n}": "x" * 60_000 for n in range(5)},
        ],
        ids=range(8),
    )
    def test_what_the_reader_refuses_is_not_written(self, items) -> None:
        """The fault shows where it was made, not when somebody reads the file."""
        with pytest.raises(ValueError, match="map"):
            seal(items)

    def test_endless_map_is_damage(self) -> None:
        """A map past the limit is not waited for."""
        with pytest.raises(DamagedError, match="longer"):
            unseal(b"\xde\x00\x02\xa1a\xdc\x10\x00" + pack("x" * 250) * (MAX_MAP_BYTES // 250))

    def test_other_than_a_map_is_damage(self) -> None:
        """A list can't be a header."""
        with pytest.raises(DamagedError, match="map"):
            unseal(pack([1, 2]))


class TestFrame:
    """The eleven bytes before a payload."""

    def test_plain_msgpack_reads_it(self) -> None:
        """A frame is a list of a checksum and the payload."""
        crc, payload = msgpack.unpackb(frame(b"payload"))

        assert payload == b"payload"
        assert read_frame_head(frame(b"payload")[:11]).crc == crc
        assert read_frame_head(frame(b"payload")[:11]).payload_bytes == 7

    @pytest.mark.parametrize("index", [0, 1, 6])
    def test_marks_must_be_there(self, index: int) -> None:
        """The three fixed bytes of the head are checked."""
        head = bytearray(frame(b"payload"))
        head[index] ^= 1
        with pytest.raises(DamagedError, match="head"):
            read_frame_head(bytes(head[:11]))

    def test_claims_are_bounded(self) -> None:
        """Nobody allocates because a head says so."""
        with pytest.raises(DamagedError, match="claims 262145 bytes"):
            read_frame_head(b"\x92\xce\0\0\0\0\xc6\0\x04\0\x01")
