"""Open the page of `wanflow watch` in headless Chromium, over real runs, and look at what it does.

`python -m scripts.watch_check [--shots FOLDER] [RUNS]`: at the width of a desk and of a phone, dark
and light, in English and Chinese, over the runs of a folder, without one over some that are made
here: one that is finished, one that was killed, one with names that attack, a batch, and one that
goes on; on two devices a finished one, a killed one and one that goes on. Nothing may be written to
the console or asked of another host, nothing may stick out of the screen, a chart (a rank) and a
video must be there, no name may become markup. Exit 1 if anything is wrong. Needs `chromium`
(Debian's package) on the PATH.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import attrs

from scripts.chromium import Tab, chromium, new_tab

SCREENS = (
    (1280, False, "en-US"), (390, True, "zh-CN"), (390, False, "en-US"), (1280, True, "zh-CN"),
)  # fmt: skip
HOSTILE = "<img src=x onerror=document.title='hacked'><script>document.title='hacked'</script>"
ROWS = "prompt,seed\na red circle,1\na blue square moves left,2\n"
READY = "document.querySelector('#link')?.dataset.state === 'live'"
TOKEN = "watch-check-0123456789"  # noqa: S105
COMMAND = (sys.executable, "-m", "wanflow")
TINY = ("--vram", "6MiB", "--no-probe")
ONE, TWO = ("--device", "cpu"), ("--devices", "cpu*2")


def make_runs(folder: Path) -> list[subprocess.Popen[bytes]]:
    """Make runs of every kind; give those that go on."""
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}

    def run(
        name: str, prompt: str, steps: int, where: tuple[str, ...] = ONE
    ) -> subprocess.Popen[bytes]:
        words = (*where, "-i", f"steps={steps}", "--prompt", prompt, "--out", str(folder / name))
        return subprocess.Popen([*COMMAND, "run", "t2v-tiny", *TINY, *words], **quiet)  # type: ignore[call-overload,no-any-return]

    for name, prompt in (("finished", "a red circle moves right"), ("we<b>ird & name", HOSTILE)):
        run(name, prompt, 8).wait()
    run("two done", "a red circle moves right", 8, TWO).wait()
    rows = folder.parent / "rows.csv"
    rows.write_text(ROWS)
    batch = [*COMMAND, "batch", "t2v-tiny", str(rows), *TINY, *ONE, "--out", str(folder / "batch")]
    subprocess.run(batch, check=True, capture_output=True)
    for name, where in (("killed", ONE), ("two killed", TWO)):
        killed = run(name, "一个红色的圆向右移动", 300, where)
        _begun(killed, folder / name)
        time.sleep(4)
        killed.kill()
        killed.wait()
    goes_on = []
    for name, where in (("goes-on", ONE), ("two go on", TWO)):
        goes_on.append(run(name, "a green square moves up", 1000, where))
        _begun(goes_on[-1], folder / name)
    return goes_on


def _begun(process: subprocess.Popen[bytes], folder: Path) -> None:
    """Wait until a run has a trace."""
    ends = time.monotonic() + 300
    while not (folder / "trace.msgpack").exists():
        if time.monotonic() > ends or process.poll() is not None:
            process.kill()
            raise TimeoutError(folder)
        time.sleep(0.1)


@contextmanager
def served_as(runs: Path, *words: str) -> Iterator[tuple[str, int]]:
    """Serve a folder; give the address, and the process."""
    command = [*COMMAND, "watch", str(runs), "--port", "0", "--json", *words]
    quiet = subprocess.DEVNULL
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=quiet, text=True) as process:
        text = ""
        while process.stdout is not None and not text.endswith("}\n"):
            text += process.stdout.readline()
        try:
            yield json.loads(text)["url"], process.pid
        finally:
            process.terminate()


def answer(url: str, path: str) -> Any:
    """Ask what the page's script asks."""
    with urllib.request.urlopen(f"{url.rstrip('/')}{path}", timeout=30) as said:  # noqa: S310
        return json.load(said)


@attrs.define
class Check:
    """One browser over one page; *shots* is where pictures go, if anywhere."""

    tab: Tab
    url: str
    shots: Path | None
    wrong: list[str] = attrs.field(factory=list)

    def look(self, hash_: str, name: str, width: int, until: str) -> None:
        """Open a place of the page and hold it to what all of them have to be."""
        self.tab.open(f"{self.url}{hash_}", f"{READY} && ({until})")
        time.sleep(0.6)
        ask = self.tab.evaluate
        if (wide := ask("document.documentElement.scrollWidth")) > width:
            self.wrong.append(f"{name}: {wide} wide on a screen of {width}")
        if (
            ask("document.title") != "wanflow"
            or ask("document.querySelectorAll('script').length") != 1
        ):
            self.wrong.append(f"{name}: a name became markup")
        if self.shots is not None:
            self.tab.shot(self.shots / f"{name}.png")

    def hold(self, name: str, expression: str, what: str) -> None:
        """Take note of what is not so."""
        if not self.tab.evaluate(f"Boolean({expression})"):
            self.wrong.append(f"{name}: {what}")

    def finish(self) -> list[str]:
        """Give what was wrong, the console's words and addresses of others among it."""
        self.wrong += [f"console: {said}" for said in self.tab.said]
        ours = (self.url, "data:", "about:")
        self.wrong += [f"a request: {url}" for url in self.tab.asked if not url.startswith(ours)]
        return self.wrong


def check_screen(check: Check, screen: tuple[int, bool, str]) -> None:
    """Look at every place on one screen."""
    width, dark, lang = screen
    check.tab.show(width, 900, dark=dark, lang=lang)
    end = f"{width}-{'dark' if dark else 'light'}"
    check.look("#/", f"all-{end}", width, "document.querySelector('main section')")
    wanted = "zh-CN" if lang.startswith("zh") else "en"
    check.hold(end, f"document.documentElement.lang === {wanted!r}", "not in its reader's language")
    for run in answer(check.url, "/api/runs?most=200")["runs"]:
        name = f"{''.join(c for c in run['name'] if c.isalnum())}-{end}"
        check.look(f"#/run/{run['key']}", name, width, "document.querySelector('dl')")
        if any(file["kind"] == "trace" for file in run["files"].values()):
            check.hold(name, "document.querySelectorAll('svg polygon').length > 1", "no chart")
        if (count := answer(check.url, f"/api/runs/{run['key']}")["rank_count"]) > 1:
            check.hold(name, f"document.querySelectorAll('.rank figure').length === {count}",
                       "a rank has no chart")  # fmt: skip
        if any(file["kind"] == "video" for file in run["files"].values()):
            check.tab.wait("document.querySelector('video').readyState >= 2")
            check.hold(name, "document.querySelector('video').videoWidth > 0", "no video")
    for batch in answer(check.url, "/api/batches")["batches"]:
        check.look(
            f"#/batch/{batch['key']}", f"batch-{end}", width, "document.querySelector('table')"
        )


def check_use(check: Check) -> None:
    """Use the page: another language, a filter, the views of a trace, a run as it goes on."""
    tab = check.tab
    tab.show(1280, 900)
    check.look("#/", "use", 1280, "document.querySelector('ul.runs')")
    tab.evaluate("document.querySelector('#lang').click()")
    check.hold("language", "document.body.innerText.includes('运行记录')", "does not change")
    tab.evaluate("document.querySelector('#lang').click()")
    tab.evaluate("[...document.querySelectorAll('.filter')].at(-1).click()")
    tab.wait("document.querySelector('.filter:last-child').getAttribute('aria-pressed') === 'true'")
    states = (
        "[...document.querySelectorAll('ul.runs .badge')].every(b => b.dataset.state === 'killed')"
    )
    check.hold("filter", states, "other runs are listed")
    runs = answer(check.url, "/api/runs?most=200")["runs"]
    finished = next(run for run in runs if run["state"] == "done")
    check.look(f"#/run/{finished['key']}", "views", 1280, "document.querySelector('.links')")
    for view in ("summary", "stages", "timeline", "peak", "check"):
        number = ("summary", "stages", "timeline", "peak", "check").index(view) + 2
        tab.evaluate(f"document.querySelector('.links a:nth-child({number})').click()")
        tab.wait("(document.querySelector('pre')?.innerText.length ?? 0) > 40", 120)
        check.hold(view, "document.querySelector('.links a[aria-current]')", "is not marked")
    if check.shots is not None:
        tab.shot(check.shots / "views.png")
    check_ranks(check, runs)
    for run in (run for run in runs if run["state"] == "running"):
        check.look(f"#/run/{run['key']}", "live", 1280, "document.querySelector('progress')")
        before = tab.evaluate("document.querySelector('progress').value")
        tab.wait(f"document.querySelector('progress').value > {before}", 120)


def check_ranks(check: Check, runs: list[dict[str, Any]]) -> None:
    """Choose the second rank of a run on two devices: its stages, its views."""
    for run in runs:
        if answer(check.url, f"/api/runs/{run['key']}")["rank_count"] < 2:
            continue
        tab, name = check.tab, f"rank 1 of {run['name']}"
        check.look(
            f"#/run/{run['key']}", name, 1280, "document.querySelector('.rank-choice select')"
        )
        tab.evaluate("""(() => { const choice = document.querySelector('.rank-choice select');
            choice.value = '1'; choice.dispatchEvent(new Event('change')); })()""")
        tab.wait("[...document.querySelectorAll('.links a')].at(-1).href.endsWith('rank=1')")
        tab.evaluate("document.querySelector('.links a:nth-child(3)').click()")
        tab.wait("(document.querySelector('pre')?.innerText.length ?? 0) > 40", 120)
        text = tab.evaluate("document.querySelector('pre').innerText")
        for stage in ("write", "decode"):  # the first rank decodes and writes alone
            check.hold(name, json.dumps(stage not in text), f"{stage} is among its stages")


def check_report(check: Check) -> None:
    """Open a report from its run's page, as a page of its own."""
    runs = answer(check.url, "/api/runs?most=200")["runs"]
    run = next(run for run in runs if run["state"] != "running" and "trace.msgpack" in run["files"])
    address = f"{check.url}runs/{run['key']}/report?lang=zh"
    check.tab.open(address, "document.querySelector('svg path')")
    check.hold("report", "document.querySelector('h1').innerText.includes('报告')", "is not there")
    style = "getComputedStyle(document.body).maxWidth !== 'none'"
    check.hold("report", style, "its style is refused")


def check_token(check: Check, url: str) -> None:
    """Come with a token in the address, and be let in without one from then on."""
    check.tab.open(url, READY)
    check.hold("token", "!location.search && document.cookie === ''", "stays to be seen")
    check.tab.open(url.partition("?")[0], READY)


def main(words: list[str]) -> int:
    """Check, and say what is wrong."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("runs", nargs="?", type=Path)
    parser.add_argument("--shots", type=Path, help="where pictures go")
    given = parser.parse_args(words)
    if given.shots is not None:
        given.shots.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as name:
        runs: Path = given.runs or Path(name) / "runs"
        goes_on = make_runs(runs) if given.runs is None else []
        try:
            with served_as(runs) as (url, _), chromium() as pipe:
                check = Check(new_tab(pipe), url, given.shots)
                for screen in SCREENS:
                    check_screen(check, screen)
                check_use(check)
                check_report(check)
                with served_as(runs, "--token", TOKEN) as (guarded, _):
                    check_token(check, guarded)
                check.url = "http://127.0.0.1:"  # what was asked of either is ours
                wrong = check.finish()
        finally:
            for process in goes_on:
                process.terminate()
                process.wait()
    print("\n".join(wrong) or f"ok: {len(check.tab.asked)} requests, nothing on the console")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
