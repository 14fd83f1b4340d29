"""A file of scenarios as read: what each asks for, and what must hold of what comes of it."""

from __future__ import annotations

import attrs

from wanflow.graph.source import Mark, Source
from wanflow.session.request import Request
from wanflow.session.scenarios.expectations import Expectation


@attrs.frozen(kw_only=True)
class Scenario:
    """One of a file: `runs` says whether the request is run, or only planned."""

    name: str
    about: str
    runs: bool
    request: Request
    expects: tuple[Expectation, ...]
    mark: Mark


@attrs.frozen
class ScenarioFile:
    """The scenarios of a file, in its order."""

    source: Source
    about: str
    scenarios: tuple[Scenario, ...]
