"""Requests that are planned, each once for the whole session."""

import functools

import pytest

from wanflow.session import Request, plan, sweep


@pytest.fixture(scope="session", autouse=True)
def no_stored_machine(tmp_path_factory):
    """Plan with estimates, whatever has been measured on this computer."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CONFIG_HOME", str(tmp_path_factory.mktemp("config")))
        yield


def _request(graph="t2v-tiny", **options):
    options.setdefault("device", "cpu")
    return Request(graph, **options)


@pytest.fixture(scope="session")
def request_for():
    """Make a request for the CPU, of the tiny graph if nothing else is said."""
    return _request


@pytest.fixture(scope="session")
def planned():
    """Plan a request; the same one is planned once."""
    return functools.cache(lambda *graph, **options: plan(_request(*graph, **options)))


@pytest.fixture(scope="session")
def swept():
    """Plan the tiny graph at every budget of the sweep."""
    return sweep(_request()).report
