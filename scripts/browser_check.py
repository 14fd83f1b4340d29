"""Open a report in headless Chromium: no console message, no request, and the chart is drawn.

`python scripts/browser_check.py [REPORT.html]` checks a report, without one that of a planned tiny
run, with hostile names and as it is, at the width of a desk and of a phone. Exit 1 if anything is
wrong. Needs `chromium` (Debian's package) on the PATH.
"""

from __future__ import annotations

import re
import shutil
import socketserver
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

import attrs
from PIL import Image

from wanflow.session import Request, plan, predict
from wanflow.trace import read
from wanflow.trace.events import Event
from wanflow.trace.report import facts, html
from wanflow.trace.report.facts import facts_of

WIDTHS = (1200, 390)
HOSTILE = "<script src=//x.test/a.js></script><img src=http://x.test/b onerror=console.error(1)>"
WEIGHTS, NEAR, LEAST_PIXELS = (0x44, 0x77, 0xAA), 12, 300
# What Chromium itself asks for, whatever it shows; our page may name no address at all.
OWN = re.compile(rb"[/ .](google|googleapis|gvt1|gstatic)\.com[/: ]")
ADDRESS = re.compile(r"""(src|href|action)=(?!["']?data:)|url\(|@import""")
FLAGS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
    "--disable-default-apps", "--disable-extensions", "--enable-logging=stderr", "--v=0",
)  # fmt: skip


@contextmanager
def listening() -> Iterator[tuple[int, list[bytes]]]:
    """Stand in for every host: whatever the browser asks for anywhere is written down."""
    requests: list[bytes] = []

    class Handler(socketserver.StreamRequestHandler):
        def handle(self) -> None:
            requests.append(self.rfile.readline())

    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server.server_address[1], requests
        server.shutdown()


def problems(page: Path, width: int, folder: Path) -> Iterator[str]:
    """Open *page* and say what is wrong with it."""
    picture = folder / f"{page.stem}-{width}.png"
    chromium = shutil.which("chromium") or "chromium"
    with listening() as (port, requests):
        opened = [*FLAGS, f"--user-data-dir={folder / 'profile'}",
                  f"--proxy-server=127.0.0.1:{port}", f"--window-size={width},8000"]  # fmt: skip
        done = subprocess.run(
            [chromium, *opened, f"--screenshot={picture}", page.as_uri()],
            capture_output=True, text=True, timeout=120, check=False,
        )  # fmt: skip
        dom = subprocess.run(
            [chromium, *opened, "--dump-dom", page.as_uri()],
            capture_output=True, text=True, timeout=120, check=False,
        )  # fmt: skip
    for said in re.findall(r".*CONSOLE.*", done.stderr + dom.stderr):
        yield f"console: {said}"
    for line in (line for line in requests if not OWN.search(line)):
        yield f"a request: {line!r}"
    if (
        len(re.findall(r'<path [^>]*fill="var', dom.stdout)) < 2
        or "stroke-dasharray" not in dom.stdout
    ):
        yield "the chart has no areas, or no line of the budget"
    if re.search(r"<(script|img|iframe|object)\b", dom.stdout):
        yield "markup from a name became an element"
    if found := ADDRESS.search(
        re.sub(r"&[a-z]+;|<title>.*?</title>|>[^<]*<", "><", page.read_text())
    ):
        yield f"an address: {found[0]}"
    if not picture.exists() or blue(picture) < LEAST_PIXELS:
        yield "the chart's colour is not to be seen"


def blue(picture: Path) -> int:
    """Count the pixels of the weights' colour."""
    with Image.open(picture) as image:
        data = image.convert("RGB").tobytes()
    pixels = zip(data[::3], data[1::3], data[2::3], strict=True)
    return sum(all(abs(a - b) < NEAR for a, b in zip(p, WEIGHTS, strict=True)) for p in pixels)


def reports(folder: Path) -> Iterator[Path]:
    """Write the report of a planned tiny run, as it is and with a name that attacks."""
    trace = folder / "plan.msgpack"
    predict(plan(Request("t2v-tiny", vram="22MiB", device="cpu")), trace)
    plain, hostile = folder / "plain.html", folder / "hostile.html"
    plain.write_text(html(facts(trace)), encoding="utf-8")
    words = ("stage", "name")
    bad: list[Event] = [
        attrs.evolve(
            cast("Any", e), **{w: f"{getattr(e, w)}{HOSTILE}" for w in words if hasattr(e, w)}
        )
        for e in read(trace)
    ]
    header = {"graph": HOSTILE, "budget_tier": "cpu", "budget_bytes": 22 * 2**20}
    hostile.write_text(html(facts_of(lambda: bad, header), None, "zh"), encoding="utf-8")
    yield from (plain, hostile)


def main(given: list[str]) -> int:
    """Check every page at every width."""
    wrong = 0
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        pages = [Path(each).resolve() for each in given] or list(reports(folder))
        for page in pages:
            for width in WIDTHS:
                found = list(problems(page, width, folder))
                wrong += len(found)
                print(f"{page.name} at {width}: {'; '.join(found) or 'ok'}")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
