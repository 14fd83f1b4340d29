"""Drive headless Chromium (Debian's package) over its debugging pipe: no port, no other package."""

from __future__ import annotations

import base64
import fcntl
import json
import os
import select
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import attrs

FLAGS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
    "--disable-default-apps", "--disable-extensions", "--remote-debugging-pipe",
)  # fmt: skip
_LONGEST = 30.0  # seconds for an answer
_ABOVE = 10  # descriptors that the two which Chromium reads, 3 and 4, are not among


@attrs.define
class Tab:
    """A page that is open. `said` is what it wrote to its console, `asked` what it asked for."""

    pipe: Pipe
    session: str
    said: list[str] = attrs.field(factory=list)
    asked: list[str] = attrs.field(factory=list)

    def call(self, method: str, **params: Any) -> dict[str, Any]:
        """Call a method of the protocol; RuntimeError for what it refuses."""
        return self.pipe.call(method, params, self.session, self._hear)

    def show(self, width: int, height: int, *, dark: bool = False, lang: str = "en-US") -> None:
        """Be a screen of a width, in a scheme of colours, of a reader of a language."""
        self.call("Emulation.setDeviceMetricsOverride", width=width, height=height,
                  deviceScaleFactor=1, mobile=width < 600)  # fmt: skip
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.call("Emulation.setEmulatedMedia", features=[scheme])
        agent = self.evaluate("navigator.userAgent")
        self.call("Emulation.setUserAgentOverride", userAgent=agent, acceptLanguage=lang)

    def open(self, url: str, until: str) -> None:
        """Go to an address and wait until an expression is true there."""
        for each in ("about:blank", url):  # else another `#` of the same page would not be loaded
            self.call("Page.navigate", url=each)
        self.wait(until)

    def evaluate(self, expression: str) -> Any:
        """Give the value of an expression, awaited; RuntimeError where it throws."""
        answer = self.call("Runtime.evaluate", expression=expression, returnByValue=True,
                           awaitPromise=True)  # fmt: skip
        if "exceptionDetails" in answer:
            raise RuntimeError(json.dumps(answer["exceptionDetails"])[:500])
        return answer["result"].get("value")

    def wait(self, until: str, seconds: float = 60.0) -> None:
        """Wait until an expression is true; TimeoutError."""
        ends = time.monotonic() + seconds
        while not self.evaluate(f"Boolean({until})"):
            if time.monotonic() > ends:
                raise TimeoutError(until)
            time.sleep(0.1)

    def shot(self, path: Path, *, whole: bool = True) -> None:
        """Write a picture of the page, whole or of what is on the screen."""
        data = self.call("Page.captureScreenshot", format="png", captureBeyondViewport=whole)
        path.write_bytes(base64.b64decode(data["data"]))

    def _hear(self, event: dict[str, Any]) -> None:
        params = event.get("params", {})
        match event.get("method"):
            case "Runtime.consoleAPICalled":
                self.said.append(json.dumps(params.get("args"))[:300])
            case "Runtime.exceptionThrown":
                self.said.append(json.dumps(params.get("exceptionDetails"))[:500])
            case "Log.entryAdded":
                self.said.append(json.dumps(params.get("entry"))[:300])
            case "Network.requestWillBeSent":
                self.asked.append(params["request"]["url"])


@attrs.define
class Pipe:
    """The two pipes, and messages that end in a zero byte."""

    to: int
    back: int
    _rest: bytes = b""
    _number: int = 0

    def call(self, method: str, params: dict[str, Any], session: str, hear: Any) -> dict[str, Any]:
        """Send a call, take events until its answer is there."""
        self._number += 1
        message = {"id": self._number, "method": method, "params": params}
        if session:
            message["sessionId"] = session
        os.write(self.to, json.dumps(message).encode() + b"\0")
        while True:
            answer = self._read()
            if answer.get("id") == self._number:
                if "error" in answer:
                    raise RuntimeError(f"{method}: {answer['error']}")
                result: dict[str, Any] = answer["result"]
                return result
            if hear is not None:
                hear(answer)

    def _read(self) -> dict[str, Any]:
        ends = time.monotonic() + _LONGEST
        while b"\0" not in self._rest:
            ready, _, _ = select.select([self.back], [], [], max(0, ends - time.monotonic()))
            data = os.read(self.back, 1 << 16) if ready else b""
            if not data:
                raise TimeoutError("Chromium says nothing")
            self._rest += data
        message, _, self._rest = self._rest.partition(b"\0")
        value: dict[str, Any] = json.loads(message)
        return value


@contextmanager
def chromium(*flags: str) -> Iterator[Pipe]:
    """Start Chromium with a profile of its own; end it afterwards."""
    path = shutil.which("chromium")
    if path is None:
        raise FileNotFoundError("chromium is not on the PATH (Debian: apt install chromium)")
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        theirs_in, ours_out = os.pipe()
        ours_in, theirs_out = os.pipe()
        high = [fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, _ABOVE) for fd in (theirs_in, theirs_out)]
        nowhere = os.open(os.devnull, os.O_RDWR)
        moves = [(os.POSIX_SPAWN_DUP2, nowhere, 1), (os.POSIX_SPAWN_DUP2, nowhere, 2),
                 (os.POSIX_SPAWN_DUP2, high[0], 3), (os.POSIX_SPAWN_DUP2, high[1], 4)]  # fmt: skip
        words = [path, *FLAGS, *flags, f"--user-data-dir={profile}", "about:blank"]
        process = os.posix_spawn(path, words, os.environ, file_actions=moves)
        for fd in (theirs_in, theirs_out, nowhere, *high):
            os.close(fd)
        pipe = Pipe(ours_out, ours_in)
        try:
            yield pipe
        finally:
            pipe.call("Browser.close", {}, "", None)
            os.waitpid(process, 0)
            os.close(ours_out)
            os.close(ours_in)


def new_tab(pipe: Pipe) -> Tab:
    """Open an empty page."""
    target = pipe.call("Target.createTarget", {"url": "about:blank"}, "", None)["targetId"]
    attached = {"targetId": target, "flatten": True}
    tab = Tab(pipe, pipe.call("Target.attachToTarget", attached, "", None)["sessionId"])
    for domain in ("Page", "Runtime", "Log", "Network"):
        tab.call(f"{domain}.enable")
    return tab
