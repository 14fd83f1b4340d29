"""How much RAM there is: read from files as the kernel writes them, below a folder of ours."""

from __future__ import annotations

import resource
from pathlib import Path

import pytest

from wanflow.memory_limits import RAM, pinned_bytes, tightest_free, tightest_total
from wanflow.units import GIB

V2 = "0::/{}\n"
V1 = "9:name=systemd:/\n4:cpu,memory:/{}\n0::/\n"
MOUNT_V2 = "31 23 0:28 {} {} rw,relatime shared:9 - cgroup2 cgroup2 rw,nsdelegate\n"
MOUNT_V1 = "35 31 0:32 {} {} rw,relatime - cgroup cgroup rw,memory\n"
FREE = 48 * GIB


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A machine of 64 GiB, 48 of them free."""
    write(tmp_path / "proc/meminfo", f"MemTotal: {64 * 2**20} kB\nMemAvailable: {48 * 2**20} kB\n")
    return tmp_path


def write(path: Path, text: object) -> None:
    """Write a file of the kernel's."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"{text}")


def group(folder: Path, *, limit: object, used: int, cached: tuple[int, int] = (0, 0)) -> None:
    """A group of version 2; *cached* pages are inactive and active ones."""
    write(folder / "memory.max", f"{limit}\n")
    write(folder / "memory.current", f"{used}\n")
    inactive, active = cached
    write(folder / "memory.stat", f"anon 1\ninactive_file {inactive}\nactive_file {active}\n")


def old_group(folder: Path, *, limit: int, used: int, cached: tuple[int, int]) -> None:
    """A group of version 1, whose own pages are fewer than those with the groups below."""
    write(folder / "memory.limit_in_bytes", limit)
    write(folder / "memory.usage_in_bytes", used)
    inactive, active = cached
    write(
        folder / "memory.stat",
        f"inactive_file 1\nactive_file 1\nhierarchical_memory_limit {limit}\n"
        f"total_inactive_file {inactive}\ntotal_active_file {active}\n",
    )


def figures(root: Path) -> tuple[int, int]:
    """All that there is, and what of it is free."""
    return tightest_total(root).total_bytes, tightest_free(root).free_bytes


class TestMachine:
    """Without control groups."""

    def test_meminfo_says_it(self, root: Path) -> None:
        """The RAM and what of it can be had without swapping."""
        assert figures(root) == (64 * GIB, FREE)
        assert tightest_free(root).name == RAM

    def test_an_old_kernel_does_not_say_what_is_available(self, root: Path) -> None:
        """Then half is guessed."""
        write(root / "proc/meminfo", f"MemTotal: {64 * 2**20} kB\n")
        assert figures(root) == (64 * GIB, 32 * GIB)


class TestVersion2:
    """`/sys/fs/cgroup`, or wherever it is mounted."""

    def test_page_cache_is_not_used(self, root: Path) -> None:
        """A container at its limit, of which the kernel can give back nearly all."""
        group(root / "sys/fs/cgroup", limit=8 * GIB, used=8 * GIB, cached=(6 * GIB, GIB))
        assert figures(root) == (8 * GIB, 7 * GIB)
        assert tightest_free(root).name == "cgroup memory.max"

    def test_no_more_than_the_limit_is_free(self, root: Path) -> None:
        """Pages are counted in batches: for a moment there may be more of them than is used."""
        group(root / "sys/fs/cgroup", limit=8 * GIB, used=GIB, cached=(2 * GIB, 0))
        assert figures(root) == (8 * GIB, 8 * GIB)

    @pytest.mark.parametrize("tight", ["a", "a/b", "a/b/c"])
    def test_the_tightest_of_the_groups_above_counts(self, root: Path, tight: str) -> None:
        """Ours, or one that it is in; one beside it doesn't."""
        write(root / "proc/self/cgroup", V2.format("a/b/c"))
        for name in ("a", "a/b", "a/b/c"):
            limit = 4 * GIB if name == tight else 16 * GIB
            group(root / "sys/fs/cgroup" / name, limit=limit, used=GIB)
        group(root / "sys/fs/cgroup/a/other", limit=GIB, used=GIB)
        assert figures(root) == (4 * GIB, 3 * GIB)

    def test_what_is_free_and_what_there_is_may_be_of_two_groups(self, root: Path) -> None:
        """The group above is larger and fuller."""
        write(root / "proc/self/cgroup", V2.format("a/b"))
        group(root / "sys/fs/cgroup/a", limit=16 * GIB, used=15 * GIB)
        group(root / "sys/fs/cgroup/a/b", limit=8 * GIB, used=2 * GIB)
        assert figures(root) == (8 * GIB, GIB)

    def test_max_is_no_limit(self, root: Path) -> None:
        """Nor is a group whose files are not there: the root group has none."""
        write(root / "proc/self/cgroup", V2.format("a/b"))
        group(root / "sys/fs/cgroup/a", limit="max", used=15 * GIB)
        assert figures(root) == (64 * GIB, FREE)

    def test_high_throttles_before_max_kills(self, root: Path) -> None:
        """`MemoryHigh=` of a systemd unit."""
        write(root / "proc/self/cgroup", V2.format("user.slice"))
        group(root / "sys/fs/cgroup/user.slice", limit=8 * GIB, used=GIB)
        write(root / "sys/fs/cgroup/user.slice/memory.high", f"{6 * GIB}\n")
        assert figures(root) == (6 * GIB, 5 * GIB)

    def test_a_part_is_mounted(self, root: Path) -> None:
        """A container that sees its own group at the mount, and its path from outside."""
        write(root / "proc/self/cgroup", V2.format("docker/abc/inner"))
        write(root / "proc/self/mountinfo", MOUNT_V2.format("/docker/abc", "/run/my\\040groups"))
        group(root / "run/my groups", limit=8 * GIB, used=GIB)
        group(root / "run/my groups/inner", limit=4 * GIB, used=GIB)
        assert figures(root) == (4 * GIB, 3 * GIB)

    @pytest.mark.parametrize("path", ["../../other", "elsewhere"])
    def test_a_group_out_of_sight_counts_as_the_mount(self, root: Path, path: str) -> None:
        """As of a process that was moved in from another namespace."""
        write(root / "proc/self/cgroup", V2.format(path))
        write(root / "proc/self/mountinfo", MOUNT_V2.format("/mine", "/groups"))
        group(root / "groups", limit=8 * GIB, used=GIB)
        group(root / "other", limit=GIB, used=GIB)
        assert figures(root) == (8 * GIB, 7 * GIB)


class TestVersion1:
    """`/sys/fs/cgroup/memory`, alone or with version 2 beside it."""

    def test_pages_of_the_groups_below_are_not_used_either(self, root: Path) -> None:
        """What the group is charged for is said with them as well."""
        write(root / "proc/self/cgroup", V1.format("docker/abc"))
        folder = root / "sys/fs/cgroup/memory/docker/abc"
        old_group(folder, limit=8 * GIB, used=8 * GIB, cached=(5 * GIB, GIB))
        assert figures(root) == (8 * GIB, 6 * GIB)

    def test_nothing_is_set(self, root: Path) -> None:
        """Then it says a page less than 2**63."""
        old_group(root / "sys/fs/cgroup/memory", limit=2**63 - 4096, used=GIB, cached=(0, 0))
        assert figures(root) == (64 * GIB, FREE)

    def test_a_group_above_that_is_not_mounted(self, root: Path) -> None:
        """Its limit is in `memory.stat`."""
        write(root / "proc/self/cgroup", V1.format("a/b"))
        write(root / "proc/self/mountinfo", MOUNT_V1.format("/a/b", "/sys/fs/cgroup/memory"))
        old_group(root / "sys/fs/cgroup/memory", limit=16 * GIB, used=GIB, cached=(0, 0))
        stat = f"hierarchical_memory_limit {8 * GIB}\ntotal_active_file 0\n"
        write(root / "sys/fs/cgroup/memory/memory.stat", stat)
        assert figures(root) == (8 * GIB, 7 * GIB)

    def test_both_versions_at_once(self, root: Path) -> None:
        """Memory may be limited in one while processes are grouped in the other."""
        write(root / "proc/self/cgroup", V1.format("a") + V2.format("b"))
        mounts = MOUNT_V1.format("/", "/cg/memory") + MOUNT_V2.format("/", "/cg/unified")
        write(root / "proc/self/mountinfo", mounts)
        old_group(root / "cg/memory/a", limit=8 * GIB, used=GIB, cached=(0, 0))
        group(root / "cg/unified/b", limit=16 * GIB, used=14 * GIB)
        assert figures(root) == (8 * GIB, 2 * GIB)


@pytest.fixture
def ulimit() -> object:
    """Set soft limits of this process, and put them back."""
    before: dict[int, tuple[int, int]] = {}

    def lower(number: int, soft: int) -> None:
        before[number] = resource.getrlimit(number)
        resource.setrlimit(number, (soft, before[number][1]))

    yield lower
    for number, limits in before.items():
        resource.setrlimit(number, limits)


class TestUlimit:
    """What a shell has set for its children."""

    @pytest.mark.parametrize(
        ("name", "number"),
        [("ulimit -v", resource.RLIMIT_AS), ("ulimit -d", resource.RLIMIT_DATA)],
    )
    def test_address_space_bounds_it(self, root: Path, ulimit, name: str, number: int) -> None:
        """Less what the process has already: here 3 pages in the column that counts."""
        write(root / "proc/self/statm", "3 0 0 0 0 3 0\n")
        ulimit(number, 40 * GIB)
        limit = tightest_free(root)
        assert limit.name == name
        assert limit.free_bytes == 40 * GIB - 3 * resource.getpagesize()
        assert tightest_total(root).total_bytes == 40 * GIB

    def test_locked_memory(self, ulimit) -> None:
        """What `doctor` says of pinned memory."""
        ulimit(resource.RLIMIT_MEMLOCK, 65536)
        assert pinned_bytes() == 65536
