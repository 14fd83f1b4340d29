"""The page's requests, all of them GET: what runs, the lists, one run, one batch, files by name."""

from __future__ import annotations

import functools
import hashlib
import json
from collections.abc import Awaitable, Callable
from importlib.resources import files
from typing import Any

import attrs
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from wanflow.errors import WanflowError
from wanflow.files.run_files import TRACE
from wanflow.trace.report.wording import Lang
from wanflow.watch.answers import Answers
from wanflow.watch.guard import Access, Guard
from wanflow.watch.open_file_response import OpenFileResponse
from wanflow.watch.readings import split
from wanflow.watch.run_card import RunCard
from wanflow.watch.trace_pages import VIEWS, TracePages

_STATIC = {
    "page.css": "text/css; charset=utf-8",
    "icon.svg": "image/svg+xml",
    **dict.fromkeys(
        ("main.js", "words.js", "make.js", "units.js", "chart.js", "lists.js", "run_view.js",
         "batch_view.js", "now_view.js", "ranks_view.js"),
        "text/javascript; charset=utf-8",
    ),
}  # fmt: skip
_REPORT_POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:; sandbox"
_MOST_ROWS = 200

Handler = Callable[[Request], Awaitable[Response]]


def page_app(answers: Answers, access: Access) -> Guard:
    """Make the application: guarded, and nothing in it writes."""
    page = _Page(answers, TracePages(answers.readings))
    routes = [
        Route("/", page.page),
        Route("/static/{name}", page.static),
        Route("/api/now", page.now),
        Route("/api/runs", page.runs),
        Route("/api/runs/{key}", page.run),
        Route("/api/batches", page.batches),
        Route("/api/batches/{key}", page.batch),
        Route("/runs/{key}/report", page.report),
        Route("/runs/{key}/views/{view}", page.view),
        Route("/runs/{key}/files/{name:path}", page.file),
        Route("/runs/{key}/trace", page.rank_trace),
    ]
    app = Starlette(
        routes=routes,
        exception_handlers={HTTPException: _http, WanflowError: _wanflow, OSError: _system},
    )
    app.router.redirect_slashes = False  # else a path of two slashes is answered with an address
    return Guard(app, access)


@attrs.frozen
class _Page:
    """The handlers. What reads files does so in a thread."""

    answers: Answers
    pages: TracePages

    async def page(self, _: Request) -> Response:
        return _static("index.html", "text/html; charset=utf-8")

    async def static(self, request: Request) -> Response:
        name = request.path_params["name"]
        if name not in _STATIC:
            raise HTTPException(404)
        response = _static(name, _STATIC[name])
        if request.headers.get("if-none-match") == response.headers["etag"]:
            return Response(status_code=304, headers={"etag": response.headers["etag"]})
        return response

    async def now(self, _: Request) -> Response:
        return _json(await run_in_threadpool(self.answers.now))

    async def runs(self, request: Request) -> Response:
        first, most = _number(request, "first", 0), _number(request, "most", 50)
        state = request.query_params.get("state", "")
        return _json(
            await run_in_threadpool(self.answers.runs, first, min(most, _MOST_ROWS), state)
        )

    async def run(self, request: Request) -> Response:
        run, trace, rank = self._run(request), self._trace(request), _number(request, "rank", 0)
        return _json(await run_in_threadpool(self.answers.run, run, trace, rank))

    async def batches(self, _: Request) -> Response:
        return _json(await run_in_threadpool(self.answers.batches))

    async def batch(self, request: Request) -> Response:
        batch = self.answers.shelf.batch(request.path_params["key"])
        if batch is None:
            raise HTTPException(404)
        first, most = _number(request, "first", 0), _number(request, "most", 50)
        status = request.query_params.get("status", "")
        rows = functools.partial(self.answers.batch, batch, first, min(most, _MOST_ROWS), status)
        return _json(await run_in_threadpool(rows))

    async def report(self, request: Request) -> Response:
        run, trace, rank = self._run(request), self._trace(request), _number(request, "rank", 0)
        lang: Lang = "zh" if request.query_params.get("lang") == "zh" else "en"
        text = await run_in_threadpool(self.pages.report, run, trace, rank, lang)
        headers = {"content-security-policy": _REPORT_POLICY}
        return Response(text, media_type="text/html; charset=utf-8", headers=headers)

    async def view(self, request: Request) -> Response:
        run, trace, rank = self._run(request), self._trace(request), _number(request, "rank", 0)
        view = request.path_params["view"]
        if view not in VIEWS:
            raise HTTPException(404)
        return PlainTextResponse(await run_in_threadpool(self.pages.view, run, trace, rank, view))

    async def file(self, request: Request) -> Response:
        run, name = self._run(request), request.path_params["name"]
        if name not in run.files:
            raise HTTPException(404)
        folders, own = split(name)
        tree, parts = self.answers.shelf.tree, (*run.parts, *folders)
        return OpenFileResponse(await run_in_threadpool(tree.open_file, parts, own), own)

    async def rank_trace(self, request: Request) -> Response:
        """Give the file that has a rank's events: its own, or the one that has all of them."""
        run, trace, rank = self._run(request), self._trace(request), _number(request, "rank", 0)
        handle, name = await run_in_threadpool(self.answers.readings.open_file, run, trace, rank)
        return OpenFileResponse(handle, name)

    def _run(self, request: Request) -> RunCard:
        run = self.answers.shelf.run(request.path_params["key"])
        if run is None:
            raise HTTPException(404)
        return run

    def _trace(self, request: Request) -> str:
        """Name the trace that is asked for: one of the run's, by default the last."""
        name = request.query_params.get("trace", TRACE)
        if name != TRACE and name not in self._run(request).traces():
            raise HTTPException(404)
        return name


def _json(value: Any) -> Response:
    text = json.dumps(value, allow_nan=False, separators=(",", ":"))
    return Response(text, media_type="application/json")


@functools.cache
def _bytes(name: str) -> bytes:
    return files("wanflow.watch").joinpath("page", name).read_bytes()


def _static(name: str, kind: str) -> Response:
    data = _bytes(name)
    etag = f'"{hashlib.sha256(data).hexdigest()[:16]}"'
    return Response(data, media_type=kind, headers={"etag": etag, "cache-control": "no-cache"})


def _number(request: Request, name: str, default: int) -> int:
    text = request.query_params.get(name, "")
    if not text:
        return default
    if not (text.isascii() and text.isdigit() and len(text) < 10):
        raise HTTPException(400)
    return int(text)


async def _http(_: Request, error: Exception) -> Response:
    status = error.status_code if isinstance(error, HTTPException) else 500
    texts = {400: "that is not a number", 404: "there is nothing here", 405: "only read"}
    return _said(status, texts.get(status, "refused"))


async def _wanflow(_: Request, error: Exception) -> Response:
    message = error.message if isinstance(error, WanflowError) else ""
    return _said(422, message)


async def _system(_: Request, error: Exception) -> Response:
    """A file went away, or is not for us to read."""
    return _said(404, (error.strerror or "it can't be read") if isinstance(error, OSError) else "")


def _said(status: int, text: str) -> Response:
    response = _json({"error": text})
    response.status_code = status
    return response
