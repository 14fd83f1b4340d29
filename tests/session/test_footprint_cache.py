"""Planning with a footprint cache: nothing but the time is different."""

import pwd

import attrs
import pytest

from wanflow.scheduler.profile.profiler import Profiler
from wanflow.session import Request
from wanflow.session.planning import footprints as variants
from wanflow.session.planning.footprints import KnobSearch
from wanflow.session.preparing.place import find_place
from wanflow.session.preparing.prepare import prepare


@pytest.fixture
def cache(own_cache):
    """Start with an empty cache; give its folder."""
    return own_cache / "wanflow" / "footprints"


@pytest.fixture
def measured(monkeypatch):
    """Write down what is measured."""
    found = []
    measure = Profiler._measure

    def counted(self, placed, inputs):
        found.append(placed.call)
        return measure(self, placed, inputs)

    monkeypatch.setattr(Profiler, "_measure", counted)
    return found


def footprints(request):
    """Profile a request."""
    prepared = prepare(request, find_place(request), to_run=False)
    return KnobSearch(prepared).at(prepared.place.usable_bytes)


TINY = Request("t2v-tiny", device="cpu")
LARGE = Request("t2v-14b", machine="rtx4090", vram="24GiB", inputs={"steps": 3})


def charged(footprint):
    """A footprint without what only the allocator's replay needs: its result is the slack."""
    calls = (
        attrs.evolve(call, cost=attrs.evolve(call.cost, requests=(), origins=()))
        for call in footprint.calls
    )
    return attrs.evolve(footprint, calls=tuple(calls))


class TestWarm:
    @pytest.mark.parametrize("request_", [TINY, LARGE], ids=["t2v-tiny", "t2v-14b"])
    def test_equals_cold(self, cache, measured, request_) -> None:
        """Field for field, and nothing is driven again."""
        cold = footprints(request_)
        was = len(measured)
        warm = footprints(request_)

        assert [charged(footprint) for footprint in cold] == [charged(f) for f in warm]
        assert len(measured) == was

    def test_kinds_alone_equal_cold(self, cache, measured) -> None:
        """What makes real values or reaches outside is done again, where no whole profile is."""
        cold = footprints(TINY)
        was = len(measured)
        for path in cache.glob("*.profile"):
            path.unlink()
        warm = footprints(TINY)

        assert [charged(footprint) for footprint in cold] == [charged(f) for f in warm]
        assert was > len(measured) - was > 0
        assert all(call.numeric or call.stand_in is not None for call in measured[was:])

    def test_another_prompt_is_the_same_work(self, cache, measured) -> None:
        """Text decides nothing but the shape of its ids; the seed decides nothing."""
        footprints(TINY)
        was = len(measured)
        footprints(attrs.evolve(TINY, inputs={"prompt": "a blue kite", "seed": 3}))

        assert all(call.numeric or call.stand_in is not None for call in measured[was:])

    def test_damaged_files_are_measured_again(self, cache) -> None:
        """And mended."""
        cold = footprints(TINY)
        for path in cache.iterdir():
            path.write_bytes(path.read_bytes()[:-1])

        for _ in range(2):
            assert [*map(charged, cold)] == [*map(charged, footprints(TINY))]

    def test_works_without_a_cache(self, monkeypatch, tmp_path) -> None:
        """Where no folder can be made, and where there is no home."""
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
        (tmp_path / "file").touch()
        found = footprints(TINY)

        monkeypatch.delenv("XDG_CACHE_HOME")
        monkeypatch.delenv("HOME")
        monkeypatch.setattr(pwd, "getpwuid", {}.__getitem__)
        monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
        assert found == footprints(TINY)

    def test_files_are_few(self, cache) -> None:
        """One for a stage that has kinds worth keeping, and one for the whole graph."""
        footprints(TINY)

        assert (len([*cache.glob("*.bin")]), len([*cache.glob("*.profile")])) == (4, 1)


class TestIdentity:
    """Whatever decides a cost gives a stage another file."""

    def names(self, stage, **changes):
        request = attrs.evolve(TINY, **changes)
        prepared = prepare(request, find_place(request), to_run=False)
        device = "cuda" if request.machine else "cpu"
        return variants._Tools.opened(prepared, device).kinds._stores[stage].path

    @pytest.mark.parametrize(
        ("stage", "changes"),
        [
            ("denoise", {"inputs": {"size": "80*48"}}),
            ("denoise", {"inputs": {"frames": 5}}),
            ("denoise", {"inputs": {"guidance": 1.0}}),
            ("encode", {"inputs": {"guidance": 1.0}}),
            ("denoise", {"settings": ("denoise.sampler=euler",)}),
            ("denoise", {"precision": ("dit=bf16",)}),
            ("encode", {"precision": ("text=bf16",)}),
            ("denoise", {"machine": "rtx4090"}),
            ("denoise", {"graph": "t2v-1.3b"}),
        ],
    )
    def test_changes_with(self, cache, stage, changes) -> None:
        """Shapes, params, precision, the device's table, the model's configuration."""
        assert self.names(stage) != self.names(stage, **changes)

    def test_stays_with_the_rest(self, cache) -> None:
        """The budget, another model's precision and the number of steps decide nothing."""
        other = self.names("denoise", vram="1GiB", precision=("vae=bf16",), inputs={"steps": 5})

        assert self.names("denoise") == other

    def test_changes_with_how_many_pictures(self, cache, tmp_path) -> None:
        """A port that takes several has calls for each: one more is another program."""
        pictures = [str(tmp_path / f"{n}.png") for n in range(2)]
        told = [
            {"graph": "vace-tiny", "inputs": {"reference_images": p}}
            for p in (pictures[0], ",".join(pictures))
        ]
        assert self.names("control", **told[0]) != self.names("control", **told[1])
        one, two = (
            [call.kind for call in footprints(attrs.evolve(TINY, **each))[0].calls] for each in told
        )
        assert len(two) > len(one)
