"""A pytest plugin: what the suite costs, in processor seconds a test and in memory a process.

A test of more than `MOST_SECONDS` belongs to the second lane (`@pytest.mark.wide`), unless nothing
narrower stays in the first. It is told, not failed: machines differ.
"""

import os
import resource
from collections.abc import Generator

import pytest

MOST_SECONDS = 10
_PEAKS: dict[str, int] = {}  # kilobytes a process, of the controller's


def _seconds() -> float:
    """Processor seconds of this process and of the children that have ended."""
    return sum(os.times()[:4])


def _peak() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, object, object]:
    """Note when a test's setup begins."""
    item.stash[_BEGAN] = _seconds()
    return (yield)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, object]:
    """Say in the report of a test's teardown what all of it took, whichever process it ran in."""
    report = yield
    if report.when == "teardown":
        wide = item.get_closest_marker("wide") is not None
        report.user_properties.append(("cost", (_seconds() - item.stash[_BEGAN], wide)))
    return report


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Tell the controller how large this process became."""
    output = getattr(session.config, "workeroutput", None)
    if output is not None:
        output["peak"] = _peak()


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: object) -> None:
    """Hear it from a worker of xdist."""
    peak = getattr(node, "workeroutput", {}).get("peak")
    if peak:
        _PEAKS[node.gateway.id] = peak


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Tell the sums, and the tests that took long."""
    costs = [
        (*value, report.nodeid)
        for reports in terminalreporter.stats.values()
        for report in reports
        for name, value in getattr(report, "user_properties", ())
        if name == "cost" and report.when == "teardown"
    ]
    if not costs:
        return
    peaks = _PEAKS or {"this process": _peak()}
    sizes = ", ".join(f"{name} {peak / 2**20:.1f} GiB" for name, peak in sorted(peaks.items()))
    total = sum(seconds for seconds, *_ in costs)
    terminalreporter.section("cost")
    terminalreporter.line(f"{total:.0f} processor seconds in tests; peak memory: {sizes}")
    for seconds, wide, test in sorted(costs, reverse=True):
        if seconds > MOST_SECONDS and not wide:
            terminalreporter.line(f"{seconds:.0f} s without `wide`: {test}")


_BEGAN: pytest.StashKey[float] = pytest.StashKey()
