"""Who is answered: by method, by name, by token; and what a browser may do with an answer."""

import re

import pytest
from starlette.websockets import WebSocketDisconnect

from tests.watch.conftest import Page, write_run
from wanflow.watch.guard import Access, is_local_name

TOKEN = "0123456789abcdefghij"  # noqa: S105
PATHS = ("/", "/static/main.js", "/api/now", "/api/runs", "/api/batches", "/nothing")


@pytest.fixture
def open_page(runs, page):
    """A page that listens beyond this computer."""
    return Page(runs, token=TOKEN, local=False)


class TestMethods:
    """Read-only."""

    @pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "X"])
    @pytest.mark.parametrize("path", PATHS)
    def test_others_are_refused(self, page, method, path) -> None:
        """Wherever they are sent."""
        answer = page.client.request(method, path)
        assert (answer.status_code, answer.headers["allow"]) == (405, "GET, HEAD")

    def test_head(self, page) -> None:
        """What GET says, without a body."""
        answer = page.client.head("/api/now")
        assert (answer.status_code, answer.content) == (200, b"")


class TestHost:
    """DNS rebinding: a name of another site that leads here."""

    @pytest.mark.parametrize(
        "host",
        [
            "localhost",
            "localhost:8014",
            "127.0.0.1:1",
            "127.8.9.1",
            "[::1]:8014",
            "[::1]",
            "LOCALHOST",
        ],
    )
    def test_ours(self, page, host) -> None:
        """This computer by any of its names, at any port: a tunnel's may be another."""
        assert page.get("/api/now", headers={"host": host}).status_code == 200

    @pytest.mark.parametrize(
        "host",
        [
            "evil.test", "evil.test:8014", "localhost.evil.test", "127.0.0.1.evil.test", "10.0.0.1",
            "0.0.0.0", "localhost@evil.test", "evil.test#localhost", "localhost/", "", "[::2]",  # noqa: S104
            "localhost evil.test", "localh\xf6st", "2130706433", "[", "localhost:x",
        ],
    )  # fmt: skip
    @pytest.mark.parametrize("path", PATHS)
    def test_others(self, page, host, path) -> None:
        """Nothing is said to them, not even that something is not there."""
        answer = page.get(path, headers={"host": host.encode("latin-1")})
        assert answer.status_code == 421
        assert "wanflow" not in answer.text

    def test_none_and_two(self, page) -> None:
        """A request says once where it goes."""
        for names in ((), ("localhost", "localhost")):
            request = page.client.build_request("GET", "/api/now")
            del request.headers["host"]
            for name in names:
                request.headers = type(request.headers)(
                    [*request.headers.raw, (b"host", name.encode())]
                )
            scope_hosts = [name for name, _ in request.headers.raw if name.lower() == b"host"]
            assert len(scope_hosts) == len(names)
            answer = page.client.send(request)
            # The client of the tests adds a host where there is none.
            assert answer.status_code == (421 if names else 200)

    def test_beyond_this_computer_any_name(self, open_page) -> None:
        """There it is the token that tells."""
        headers = {"host": "gpu-box.lan:8014", "authorization": f"Bearer {TOKEN}"}
        assert open_page.get("/api/now", headers=headers).status_code == 200

    def test_names(self) -> None:
        """The port is no part of a name."""
        assert is_local_name("localhost:99999")
        assert not is_local_name("localhost:8014:evil")


class TestOtherSites:
    """Pages of other sites that ask through the visitor's browser."""

    @pytest.mark.parametrize("site", ["cross-site", "same-site"])
    @pytest.mark.parametrize("mode", ["no-cors", "cors", ""])
    def test_are_refused(self, page, site, mode) -> None:
        """A picture or a script in them, a fetch."""
        headers = {"sec-fetch-site": site, "sec-fetch-mode": mode}
        assert page.get("/api/now", headers=headers).status_code == 403

    def test_links_are_followed(self, page) -> None:
        """A person clicks: no site sees what is shown."""
        headers = {"sec-fetch-site": "cross-site", "sec-fetch-mode": "navigate"}
        assert page.get("/", headers=headers).status_code == 200

    def test_headers(self, runs, page) -> None:
        """Every answer: nothing from elsewhere, no frame, nothing inline, no type guessed."""
        write_run(runs / "a")
        key = page.key("a")
        for path in (*PATHS, f"/runs/{key}/files/trace.msgpack", f"/runs/{key}/views/check"):
            headers = page.get(path).headers
            policy = headers["content-security-policy"]
            assert policy.startswith("default-src 'none'; script-src 'self'; style-src 'self'")
            assert "unsafe" not in policy
            assert "frame-ancestors 'none'" in policy
            assert headers["x-content-type-options"] == "nosniff"
            assert headers["cross-origin-resource-policy"] == "same-origin"
            assert headers["referrer-policy"] == "no-referrer"
            assert "access-control-allow-origin" not in headers
        report = page.get(f"/runs/{key}/report").headers["content-security-policy"]
        assert "script" not in report
        assert "sandbox" in report


class TestToken:
    """Beyond this computer."""

    @pytest.mark.parametrize("path", PATHS)
    def test_missing(self, open_page, path) -> None:
        """Nothing is answered, static files neither."""
        answer = open_page.get(path)
        assert answer.status_code == 401
        assert TOKEN not in answer.text

    @pytest.mark.parametrize(
        "token", ["", "x", TOKEN[:-1], TOKEN + "0", TOKEN.upper(), "é" * 20, "x" * 5000, "\x00"]
    )
    def test_wrong(self, open_page, token) -> None:
        """By address, by header, by cookie."""
        assert open_page.get("/", params={"token": token}).status_code == 401
        given = token.encode("utf-8")
        if b"\x00" not in given:
            assert (
                open_page.get("/", headers={"authorization": b"Bearer " + given}).status_code == 401
            )
            cookie = {"cookie": b"wanflow-test=" + given}
            assert open_page.get("/", headers=cookie).status_code == 401

    def test_a_welcome(self, open_page) -> None:
        """Once in the address, then in a cookie that no script reads, and out of the history."""
        answer = open_page.get("/", params={"token": TOKEN})
        assert (answer.status_code, answer.headers["location"]) == (303, "/")
        cookie = answer.headers["set-cookie"]
        assert "HttpOnly" in cookie
        assert re.search("SameSite=lax", cookie, re.IGNORECASE)
        assert open_page.get("/api/now").status_code == 200  # the client keeps cookies
        assert open_page.client.get("/").status_code == 200

    @pytest.mark.parametrize("path", ["//evil.test/", "//evil.test/%2f..", "/\\evil.test"])
    def test_leads_nowhere_else(self, open_page, path) -> None:
        """The way on is on this page."""
        answer = open_page.client.get(f"http://localhost{path}", params={"token": TOKEN})
        assert not answer.headers.get("location", "").startswith("//")
        assert re.match(r"/[^/\\]", answer.headers.get("location", "/x"))

    def test_a_wrong_cookie(self, open_page) -> None:
        """Of a name that is ours or not."""
        for cookie in (f"wanflow-test={TOKEN}x", f"other={TOKEN}", "wanflow-test", ";;=;\x7f"):
            assert open_page.get("/", headers={"cookie": cookie}).status_code == 401

    def test_asked_for_on_this_computer(self, runs, page) -> None:
        """A token that is given is wanted there too."""
        guarded = Page(runs, token=TOKEN)
        assert guarded.get("/api/now").status_code == 401
        headers = {"authorization": f"Bearer {TOKEN}"}
        assert guarded.get("/api/now", headers=headers).status_code == 200
        assert guarded.get("/", headers={**headers, "host": "evil.test"}).status_code == 421

    def test_takes_the_same_time(self) -> None:
        """What is compared are digests, of one length whatever was given."""
        access = Access(TOKEN, local=False, cookie="c")
        assert access.allows_token(TOKEN)
        assert not access.allows_token("")


def test_no_websockets(page) -> None:
    """Such a connection is refused."""
    with pytest.raises(WebSocketDisconnect) as refused, page.client.websocket_connect("/"):
        pass
    assert refused.value.code == 1008
