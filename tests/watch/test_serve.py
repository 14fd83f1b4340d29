"""The command as a process: what it says, what it refuses, how it ends; and a real run watched."""

import http.client
import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from tests.watch.conftest import Page, settle, write_run
from wanflow.cli import main
from wanflow.errors import InputError
from wanflow.watch import timely_protocol
from wanflow.watch.serve import listen, serve

ROOT = Path(__file__).parents[2]


@contextmanager
def serving(runs, *words):
    """Run the command; give its process and what it said at first."""
    command = [sys.executable, ROOT / "cli.py", "watch", runs, "--port", "0", "--json", *words]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    text = ""
    while not text.endswith("}\n"):
        line = process.stdout.readline()
        assert line, process.stderr.read()
        text += line
    try:
        yield process, json.loads(text)
    finally:
        process.kill()
        process.communicate()


@contextmanager
def patient(runs, monkeypatch, **seconds):
    """Serve from a child whose connections have other times; give the port."""
    for name, value in seconds.items():
        monkeypatch.setattr(timely_protocol, name, value)
    listening = listen("127.0.0.1", 0, None)
    pid = os.fork()
    if not pid:
        try:
            serve(runs, listening)
        finally:
            os._exit(0)
    port = listening.socket.getsockname()[1]
    listening.socket.close()
    try:
        yield port
    finally:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)


def ends(connection, seconds):
    """Read a connection to its end; whether that came in time."""
    connection.settimeout(seconds)
    try:
        while connection.recv(2**20):
            pass
    except TimeoutError:
        return False
    except ConnectionResetError:
        pass
    return True


def ask(url, path, headers=None):
    """Ask with a path as it is."""
    host, port = re.match(r"http://([^/]+):(\d+)/", url).groups()
    connection = http.client.HTTPConnection(host, int(port), timeout=10)
    connection.putrequest("GET", path, skip_host="host" in (headers or {}))
    for name, value in (headers or {}).items():
        connection.putheader(name, value)
    connection.endheaders()
    answer = connection.getresponse()
    body = answer.read()
    connection.close()
    return answer.status, body


class TestProcess:
    """`wanflow watch`."""

    def test_serves_and_ends(self, runs) -> None:
        """Files in parts, paths as they are; Ctrl-C is how it is ended."""
        folder = write_run(runs / "a")
        (folder / "video.mp4").write_bytes(bytes(300_000))
        with serving(runs) as (process, said):
            assert said["token"] == ""
            status, body = ask(said["url"], "/api/runs")
            key = json.loads(body)["runs"][0]["key"]
            file = f"/runs/{key}/files/"
            assert status == 200
            assert ask(said["url"], f"{file}video.mp4", {"range": "bytes=5-9"}) == (206, bytes(5))
            for path in (
                "../../../etc/passwd",
                "%2e%2e%2f%2e%2e%2fsecret",
                "..%5c..",
                "%00",
                "%ff",
            ):
                assert ask(said["url"], f"{file}{path}")[0] in (400, 404)
            assert ask(said["url"], "/api/runs", {"host": "evil.test"})[0] == 421
            assert ask(said["url"], "http://evil.test/api/runs", {"host": "evil.test"})[0] in (
                400,
                421,
            )
            process.send_signal(signal.SIGINT)
            assert process.wait(10) == 0
            assert "Traceback" not in process.stderr.read()

    def test_sigterm(self, runs) -> None:
        """As any other command."""
        with serving(runs) as (process, said):
            assert ask(said["url"], "/")[0] == 200
            process.send_signal(signal.SIGTERM)
            assert process.wait(10) == 143

    def test_loads_no_torch(self, runs) -> None:
        """A page is small: what reads traces, and no more."""
        write_run(runs / "a")
        with serving(runs) as (process, said):
            key = json.loads(ask(said["url"], "/api/runs")[1])["runs"][0]["key"]
            assert ask(said["url"], f"/runs/{key}/report")[0] == 200
            maps = Path(f"/proc/{process.pid}/maps").read_text()
            assert "torch" not in maps
            status = Path(f"/proc/{process.pid}/status").read_text()
            assert int(re.search(r"VmRSS:\s+(\d+)", status)[1]) < 150_000  # KiB; 60,000 as a rule

    def test_beyond_this_computer(self, runs) -> None:
        """A token is made, and wanted."""
        with serving(runs, "--host", "0.0.0.0") as (_, said):  # noqa: S104
            token = said["token"]
            assert len(token) == 32
            assert said["url"].endswith(f"/?token={token}")
            port = re.search(r":(\d+)/", said["url"])[1]
            here = f"http://127.0.0.1:{port}/"
            assert ask(here, "/api/now")[0] == 401
            assert ask(here, "/api/now", {"authorization": f"Bearer {token}"})[0] == 200
            assert ask(here, f"/?token={token}")[0] == 303


class TestSlow:
    """Clients that keep a connection and do nothing with it."""

    @pytest.mark.parametrize(
        "half",
        [
            b"",
            b"GET /api/now HTTP/1.1\r\nhost: localhost\r\n",
            b"GET / HTTP/1.1\r\nhost: localhost\r\n\r\nGET / HT",
            b"GET / HTTP/1.1\r\nhost: localhost\r\ncontent-length: 9\r\n\r\nx",
        ],
    )
    def test_half_requests(self, runs, monkeypatch, half) -> None:
        """More of them than there is room for keep nobody out for long, nor does a byte each."""
        with patient(runs, monkeypatch, REQUEST_SECONDS=1.0) as port:
            url = f"http://127.0.0.1:{port}/"
            assert ask(url, "/api/now")[0] == 200
            slow = [socket.create_connection(("127.0.0.1", port)) for _ in range(70)]
            for connection in slow:
                connection.sendall(half)
            assert ask(url, "/api/now")[0] == 503
            for _ in range(6):
                time.sleep(0.2)
                with suppress(OSError):
                    slow[0].sendall(b"x")
            assert all(ends(connection, 5.0) for connection in slow)
            assert ask(url, "/api/now")[0] == 200
            for connection in slow:
                connection.close()

    def test_an_answer_that_nobody_takes(self, runs, monkeypatch) -> None:
        """A paused player keeps its connection, longer than a request takes, and not for ever."""
        folder = write_run(runs / "a")
        (folder / "video.mp4").write_bytes(bytes(32 * 2**20))
        with patient(runs, monkeypatch, REQUEST_SECONDS=0.5, ANSWER_SECONDS=3.0) as port:
            key = json.loads(ask(f"http://127.0.0.1:{port}/", "/api/runs")[1])["runs"][0]["key"]
            asked = f"GET /runs/{key}/files/video.mp4 HTTP/1.1\r\nhost: localhost\r\n\r\n"
            players = [socket.create_connection(("127.0.0.1", port)) for _ in range(2)]
            for player in players:
                player.sendall(asked.encode())
            time.sleep(1.5)
            players[0].settimeout(5.0)
            taken = 0
            while taken < 32 * 2**20:
                chunk = players[0].recv(2**20)
                assert chunk
                taken += len(chunk)
            time.sleep(3.0)
            assert ends(players[1], 5.0)
            for player in players:
                player.close()

    def test_an_upgrade(self, runs) -> None:
        """No websocket is opened, and nothing that stays open."""
        with serving(runs) as (_, said):
            headers = {
                "connection": "Upgrade", "upgrade": "websocket", "sec-websocket-version": "13",
                "sec-websocket-key": "AAAAAAAAAAAAAAAAAAAAAA==", "accept": "text/event-stream",
            }  # fmt: skip
            for path in ("/", "/api/now"):
                status, body = ask(said["url"], path, headers)
                assert status in (200, 400, 426)
                assert body

    def test_long_requests(self, runs) -> None:
        """Long queries and headers, and many of them: refused or read, and the page stays small."""
        with serving(runs) as (process, said):
            for path, headers in (
                ("/api/runs?" + "x" * 200_000, {}),
                ("/api/runs?" + "state=a&" * 7000, {}),
                ("/api/runs?first=" + "9" * 60_000, {}),
                ("/api/runs", {"cookie": "a=b; " * 20_000}),
                ("/api/runs", {f"x-{number}": "x" for number in range(5000)}),
                ("/" + "../" * 15_000, {}),
            ):
                try:
                    status, _ = ask(said["url"], path, headers)
                except (ConnectionError, http.client.HTTPException):
                    continue  # it hung up before all was sent
                assert status in (200, 400, 404, 431), path[:20]
            assert ask(said["url"], "/api/runs")[0] == 200
            status = Path(f"/proc/{process.pid}/status").read_text()
            assert int(re.search(r"VmRSS:\s+(\d+)", status)[1]) < 150_000


class TestRefused:
    """What is wrong is said before anything is served."""

    def test_no_folder(self, tmp_path, capsys) -> None:
        """A folder that is not there, or is a file."""
        assert main.run(["watch", str(tmp_path / "none")]) == 2
        assert "none: there is no such folder\nhint: " in capsys.readouterr().err
        (tmp_path / "file").touch()
        assert main.run(["watch", str(tmp_path / "file")]) == 2
        assert "file: is a file" in capsys.readouterr().err

    @pytest.mark.parametrize("missing", [("starlette",), ("uvicorn",), ("starlette", "uvicorn")])
    def test_no_extra(self, runs, capsys, monkeypatch, missing) -> None:
        """What is missing, and the way to it."""
        from wanflow.cli import watch

        find = watch.find_spec
        monkeypatch.setattr(watch, "find_spec", lambda n: None if n in missing else find(n))
        assert main.run(["watch", str(runs)]) == 2
        said = capsys.readouterr().err
        assert f"wanflow watch needs {' and '.join(missing)}" in said
        assert "hint: pip install 'wanflow[watch]'" in said

    def test_port_taken(self, runs, capsys) -> None:
        """By whatever listens there."""
        with socket.create_server(("127.0.0.1", 0)) as server:
            port = server.getsockname()[1]
            assert main.run(["watch", str(runs), "--port", str(port)]) == 2
        assert f"--port {port}: something listens there already" in capsys.readouterr().err

    @pytest.mark.parametrize("host", ["no.such.host.invalid", "192.0.2.1", "\x00", "a" * 300])
    def test_hosts_that_are_none(self, host) -> None:
        """Of no address, or of another computer's."""
        with pytest.raises(InputError, match=r"^--host "):
            listen(host, 0, None)

    @pytest.mark.parametrize(
        "token", ["", "short", "x" * 15, "x" * 600, "with a space 0123", "é" * 20]
    )
    def test_tokens(self, token) -> None:
        """One that could be guessed, or that no address holds."""
        with pytest.raises(InputError, match=r"^--token: 16 characters"):
            listen("127.0.0.1", 0, token)


class TestListen:
    """Where it listens, and who may look."""

    @pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "127.0.0.2"])
    def test_here(self, host) -> None:
        """No token, names of this computer alone."""
        listening = listen(host, 0, None)
        listening.socket.close()
        assert (listening.access.local, listening.access.token) == (True, "")

    def test_everywhere(self) -> None:
        """Another token each time; the address names this computer."""
        made = [listen("0.0.0.0", 0, None) for _ in range(2)]  # noqa: S104
        for listening in made:
            listening.socket.close()
        assert made[0].access.token != made[1].access.token
        assert socket.gethostname() in made[0].url
        assert not made[0].access.local


def test_a_real_run_while_it_goes_on(runs) -> None:
    """Its steps, its memory within the budget, its video: as they come."""
    from wanflow.session import Request, run

    page, seen, finished = Page(runs), [], threading.Event()

    def work():
        request = Request("t2v-tiny", inputs={"prompt": "a red circle"}, vram="6MiB", device="cpu")
        try:
            run(request, out=runs / "a")
        finally:
            finished.set()

    worker = threading.Thread(target=work)
    worker.start()
    while not finished.wait(0.1):
        settle(page.shelf)
        seen += [each["head"] for each in page.json("/api/now")["running"] if each["head"]]
    worker.join()

    stages = list(dict.fromkeys(head["stage"] for head in seen))
    assert {"denoise", "decode"} <= set(stages)
    steps = [head["step"] for head in seen if head["stage"] == "denoise"]
    assert steps == sorted(steps)
    assert all(head["budget_bytes"] == 6 * 2**20 for head in seen)
    assert 0 < max(head["peak_bytes"] for head in seen) <= 6 * 2**20
    done = page.whole(page.key("a"))
    told = json.loads((runs / "a" / "run.json").read_text())
    assert (done["state"], done["seconds"]) == ("done", told["seconds"])
    assert done["summary"]["whole_peak_bytes"] == told["peak_bytes"]
    assert done["head"]["peak_bytes"] == told["peak_bytes"]
    assert (
        page.get(f"/runs/{done['key']}/files/video.mp4").content
        == (runs / "a" / "video.mp4").read_bytes()
    )
    page.readings.close()
    assert os.path.getsize(runs / "a" / "trace.msgpack") == done["summary"]["file_bytes"]  # noqa: PTH202
