"""Pins: each names a stage, a knob of it and a value, or exit 2 with what is allowed."""

import attrs
import pytest

from wanflow.errors import InputError
from wanflow.session.preparing.place import find_place
from wanflow.session.preparing.prepare import prepare
from wanflow.stages import denoise

WRONG = {
    "dnoise.cfg=serial": ("unknown-stage", "its stages are encode, noise, denoise, decode, write"),
    "denoise.cgf=serial": ("unknown-knob", "its knobs: cfg, split, rows, compile, weights"),
    "denoise=serial": ("unknown-knob", "its knobs: cfg, split, rows, compile, weights"),
    "denoise.cfg.x=serial": ("unknown-knob", "its knobs: cfg, split, rows, compile, weights"),
    "decode.cfg=serial": ("unknown-knob", "its knobs: strips, weights"),
    "noise.weights=stream": ("unknown-knob", "its knobs: none"),
    "denoise.cfg=both": ("bad-pin", "allowed: serial, paired"),
    "denoise.cfg=": ("bad-pin", "allowed: serial, paired"),
    "decode.weights=disk": ("bad-pin", "allowed: resident, stream"),
    "denoise.cfg": ("bad-option", ""),
    "=serial": ("bad-option", ""),
}


@pytest.fixture
def prepared(request_for):
    """Prepare the tiny graph for planning."""

    def make(*pins, **options):
        request = request_for(pins=pins, **options)
        return prepare(request, find_place(request), to_run=False)

    return make


@pytest.fixture
def rounding(own_cache, monkeypatch):
    """Let one value of the knob `cfg` round differently."""
    knob = attrs.evolve(denoise._CFG, choices={"serial": "bitwise", "paired": "rounding"})
    monkeypatch.setattr(denoise, "_CFG", knob)


class TestPins:
    """`--pin STAGE.KNOB=VALUE`."""

    @pytest.mark.parametrize("pin", WRONG)
    def test_wrong(self, prepared, pin):
        """A pin that means nothing says what would."""
        code, hint = WRONG[pin]
        with pytest.raises(InputError, match=r"^--pin ") as caught:
            prepared(pin).knobs()
        assert (caught.value.exit_code, caught.value.code) == (2, code)
        assert caught.value.hint == hint

    def test_parsed_once(self, prepared, monkeypatch):
        """However often they are looked at, no program is made again."""
        found = prepared("denoise.cfg=serial", "decode.weights=stream")
        before = (found.knob_pins(), found.weight_pins(), found.spill_pins())
        monkeypatch.setattr("wanflow.session.preparing.prepared.make_program", None)
        assert (found.knob_pins(), found.weight_pins(), found.spill_pins()) == before
        assert before == ({("denoise", "cfg"): "serial"}, {"decode": "stream"}, {})
        assert found.knobs()

    def test_twice(self, prepared):
        """A knob can be pinned once."""
        with pytest.raises(InputError, match=r"--pin denoise\.cfg is given twice"):
            prepared("denoise.cfg=serial", "denoise.cfg=paired").knobs()

    def test_free(self, prepared):
        """Without a pin every value is tried, the plain one first, what saves memory in levels."""
        found = [k["denoise"] for k in prepared("encode.tokens=all", "decode.strips=whole").knobs()]
        levels = [("whole", "all"), ("whole", "4096"), ("parts", "grouped"), ("whole", "1024"),
                  ("parts", "1024")]  # fmt: skip
        assert found == [
            {"cfg": cfg, "split": split, "rows": rows}
            for split, rows in levels
            for cfg in ("serial", "paired")
        ]

    def test_a_level_with_a_pin(self, prepared):
        """The other knobs go through the levels that are left."""
        pins = (
            "denoise.rows=1024",
            "denoise.cfg=serial",
            "encode.tokens=all",
            "decode.strips=whole",
        )
        found = [k["denoise"] for k in prepared(*pins).knobs()]
        assert [each["split"] for each in found] == ["whole", "parts"]

    @pytest.mark.parametrize("value", ["serial", "paired"])
    def test_pinned(self, prepared, value):
        """A pinned knob has that value only."""
        pins = (f"denoise.cfg={value}", "denoise.split=whole", "denoise.rows=all")
        others = {
            "denoise": {"cfg": value, "split": "whole", "rows": "all"},
            "decode": {"strips": "strips.4"},
        }
        pinned = prepared(*pins, "decode.strips=strips.4")
        assert pinned.knobs() == [{"encode": {"tokens": "real"}, **others}]

    def test_weights(self, prepared):
        """A pin of weights is no knob of the program."""
        found = prepared("decode.weights=stream")
        assert found.weight_pins() == {"decode": "stream"}
        assert len(found.knobs()) == 20

    def test_settled(self, prepared):
        """Padding is not compared: a prompt in the cache would decide it. It can be pinned."""
        ways = {
            pin: {knobs["encode"]["tokens"] for knobs in prepared(*pin).knobs()}
            for pin in ((), ("encode.tokens=all",))
        }
        assert ways == {(): {"real"}, ("encode.tokens=all",): {"all"}}
        assert {k["encode"]["tokens"] for k in prepared(exact=True).knobs()} == {"all"}

    def test_knob_that_is_not_there(self, prepared):
        """Without guidance there are no two passes, hence no such knob."""
        found = prepared("denoise.cfg=serial", inputs={"guidance": 1.0})
        with pytest.raises(InputError, match="has no knob 'cfg'"):
            found.knobs()


class TestExact:
    """`--exact` admits only values that leave every bit alone."""

    def test_all_are_bitwise(self, prepared):
        """What is left is marked bitwise, for every stage."""
        found = prepared(exact=True)
        marks = {(p.stage, k.name): k.choices for p in found.programs(None) for k in p.knobs}
        for setting in found.knobs():
            for stage, knobs in setting.items():
                assert {marks[stage, name][value] for name, value in knobs.items()} == {"bitwise"}

    def test_rounding_is_left_out(self, prepared, rounding):
        """A value that rounds differently is not tried."""
        assert {k["denoise"]["cfg"] for k in prepared(exact=True).knobs()} == {"serial"}
        assert {k["denoise"]["cfg"] for k in prepared().knobs()} == {"serial", "paired"}

    def test_rounding_pin(self, prepared, rounding):
        """Pinning such a value contradicts `--exact`, and is said to."""
        with pytest.raises(InputError, match="which --exact rules out"):
            prepared("denoise.cfg=paired", exact=True).knobs()
        assert {k["denoise"]["cfg"] for k in prepared("denoise.cfg=paired").knobs()} == {"paired"}
