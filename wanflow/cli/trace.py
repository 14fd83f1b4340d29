"""`wanflow trace`: what a run wrote down."""

import typer

from wanflow.cli import trace_reports as reports
from wanflow.cli import trace_views as views

app = typer.Typer(
    name="trace", help="Read what a run wrote down.", no_args_is_help=True, rich_markup_mode=None
)
for command in (
    views.summary, views.events, views.stages, views.timeline, views.peak, reports.diff,
    reports.check, reports.export, views.live, reports.report, reports.replay,
):  # fmt: skip
    app.command()(command)
