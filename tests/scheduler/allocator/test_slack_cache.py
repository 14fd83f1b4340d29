"""Slack on disk: the same as when it is played, and played anew whenever the file is not right."""

import attrs
import pytest

from tests.scheduler.toys import profiled, toy_model, toy_program
from wanflow.scheduler.allocator.slack import SlackEstimator
from wanflow.scheduler.allocator.slack_cache import SlackCache, played_key
from wanflow.scheduler.footprint.lifetimes import lifetimes


@pytest.fixture(scope="module")
def found():
    """Profile a toy."""
    return profiled(toy_program(toy_model(3)))


class Counted(SlackCache):
    """Counts what it had to be told."""

    added = 0

    def add(self, key, slack) -> None:
        """Count, and remember."""
        self.added += 1
        super().add(key, slack)


def charged(found, folder, identity="graph"):
    """Play by a cache of its own, as a new process does; say how many footprints were played."""
    cache = Counted(folder, identity)
    made = SlackEstimator(expandable=True, cache=cache).charged(found, 1)
    cache.keep()
    return made, cache.added


def key(footprint):
    """Give the key of a footprint."""
    return played_key(footprint, lifetimes(footprint))


class TestKept:
    def test_the_second_process_plays_nothing(self, found, tmp_path) -> None:
        """And charges the same, which is what no cache gives."""
        plain = SlackEstimator(expandable=True).charged(found, 1)

        assert charged(found, tmp_path) == (plain, 1)
        assert charged(found, tmp_path) == (plain, 0)
        assert any(step.cost.slack_bytes for step in plain.calls)

    def test_another_graph_has_another_file(self, found, tmp_path) -> None:
        """What is identical but for the conditions is played again."""
        charged(found, tmp_path)
        assert charged(found, tmp_path, "other")[1] == 1

    def test_beside_what_another_process_added(self, found, tmp_path) -> None:
        """Two that play different footprints at once both keep theirs."""
        other = attrs.evolve(found, calls=found.calls[:-1])
        first, second = SlackCache(tmp_path, 1), SlackCache(tmp_path, 1)
        for cache, footprint in ((first, found), (second, other)):
            SlackEstimator(expandable=True, cache=cache).charged(footprint, 1)
        first.keep()
        second.keep()
        kept = SlackCache(tmp_path, 1)

        assert kept.find(key(found), len(found.calls)) is not None
        assert kept.find(key(other), len(other.calls)) is not None

    def test_files_of_other_graphs_go_in_the_end(self, found, tmp_path, monkeypatch) -> None:
        """The folder has a bound that slack alone doesn't pass either."""
        monkeypatch.setattr("wanflow.files.cache.FOLDER_FILES", 2)
        for identity in range(4):
            charged(found, tmp_path, identity)
        assert len(list(tmp_path.iterdir())) == 2

    @pytest.mark.parametrize("content", [b"", b"rubbish" * 100, "cut"])
    def test_a_damaged_file(self, found, tmp_path, content) -> None:
        """Is as good as none."""
        charged(found, tmp_path)
        (file,) = tmp_path.iterdir()
        file.write_bytes(file.read_bytes()[:-3] if content == "cut" else content)
        assert charged(found, tmp_path)[1] == 1
        assert charged(found, tmp_path)[1] == 0

    def test_a_folder_that_cannot_be(self, found, tmp_path) -> None:
        """Nothing is kept, and nothing fails."""
        (tmp_path / "file").touch()
        assert charged(found, tmp_path / "file" / "folder")[1] == 1


class TestKey:
    def test_everything_that_is_played_counts(self, found) -> None:
        """Requests, what a call makes, when it goes, the rows it gathers."""
        first, *rest = found.calls
        cost = attrs.evolve(first.cost, requests=(*first.cost.requests, 512))
        made = tuple(attrs.evolve(each, nbytes=each.nbytes + 1) for each in first.makes)
        changed = [
            attrs.evolve(first, cost=cost),
            attrs.evolve(first, makes=made),
            attrs.evolve(first, gathered_bytes=1),
        ]
        others = [attrs.evolve(found, calls=(each, *rest)) for each in changed]
        kept = attrs.evolve(found, keeps=frozenset({first.makes[0].value}))

        assert len({key(each) for each in (found, *others, kept)}) == len(changed) + 2

    def test_equal_footprints_have_one(self, found) -> None:
        """Whatever objects they are made of."""
        costs = {id(s.cost): attrs.evolve(s.cost) for s in found.calls}
        again = tuple(attrs.evolve(s, cost=costs[id(s.cost)]) for s in found.calls)
        assert key(attrs.evolve(found, calls=again)) == key(found)
