"""The views on a terminal. Rich lives here, so that reading a trace does not load it."""

from wanflow.trace.views.check import render_check
from wanflow.trace.views.diff import render_diff
from wanflow.trace.views.moment import render_moment
from wanflow.trace.views.ranks import render_ranks
from wanflow.trace.views.stages import render_stages
from wanflow.trace.views.summary import render_summary
from wanflow.trace.views.timeline import render_timeline

__all__ = [
    "render_check",
    "render_diff",
    "render_moment",
    "render_ranks",
    "render_stages",
    "render_summary",
    "render_timeline",
]
