"""Who may ask, and what a browser may do with the answer: before any of our code sees a request."""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
import re
from http.cookies import CookieError, SimpleCookie

import attrs
from starlette.datastructures import Headers, MutableHeaders, QueryParams
from starlette.responses import PlainTextResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

METHODS = ("GET", "HEAD")
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; media-src 'self'; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
_HEADERS = {
    "content-security-policy": POLICY,
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "no-referrer",
    "cross-origin-resource-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin",
    "cache-control": "no-store",
}
_HOST = re.compile(r"(?P<name>[A-Za-z0-9.-]+|\[[0-9A-Fa-f:.]+\])(:[0-9]{1,5})?")
_YEAR = 365 * 24 * 3600
_LONGEST_TOKEN = 512


@attrs.frozen
class Access:
    """Who may look. Without a *token* it is whoever sits at this computer.

    *token* is what a visitor must bring, "" for none. With *local* only the names of this computer
    are answered to: another site's name that leads here (DNS rebinding) is not.
    """

    token: str
    local: bool
    cookie: str

    def allows_host(self, host: str) -> bool:
        """Whether a request may have been meant for us, by the name that it was sent to."""
        return not self.local or is_local_name(host)

    def allows_token(self, token: str) -> bool:
        """Compare in a time that tells nothing of the token."""
        return hmac.compare_digest(_digest(token[: _LONGEST_TOKEN + 1]), _digest(self.token))


def is_local_name(host: str) -> bool:
    """Whether the `Host` of a request, with or without a port, is a name of this computer."""
    match = _HOST.fullmatch(host)
    if match is None:
        return False
    name = match["name"].lower()
    try:
        return name == "localhost" or ipaddress.ip_address(name.strip("[]")).is_loopback
    except ValueError:
        return False


@attrs.frozen
class Guard:
    """Stands before the page: methods, names, other sites, the token; and headers of answers."""

    app: ASGIApp
    access: Access

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer what is refused, pass on the rest."""
        if scope["type"] != "http":
            await send({"type": "websocket.close", "code": 1008})
            return

        async def send_guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in _HEADERS.items():
                    headers.setdefault(name, value)
            await send(message)

        refusal = self._refusal(scope)
        await (refusal or self.app)(scope, receive, send_guarded)

    def _refusal(self, scope: Scope) -> Response | None:
        headers = Headers(scope=scope)
        if scope["method"] not in METHODS:
            return _refused(405, "this page is only read", {"allow": ", ".join(METHODS)})
        hosts = headers.getlist("host")
        if len(hosts) != 1 or not self.access.allows_host(hosts[0]):
            return _refused(421, "open it as http://localhost or http://127.0.0.1, with the port")
        if _is_from_elsewhere(headers):
            return _refused(403, "another site asked for this")
        return self._untrusted(scope, headers) if self.access.token else None

    def _untrusted(self, scope: Scope, headers: Headers) -> Response | None:
        """Ask for the token: once in the address, from then on it is in a cookie."""
        given = QueryParams(scope["query_string"]).get("token")
        if given is not None:
            if not self.access.allows_token(given):
                return _refused(401, "that is not the token")
            return self._welcome(scope)
        if self.access.allows_token(_brought(headers, self.access.cookie)):
            return None
        text = "open the address that `wanflow watch` printed: the token is in it"
        return _refused(401, text, {"www-authenticate": "Bearer"})

    def _welcome(self, scope: Scope) -> Response:
        """Take the token out of the address, so that it is in no history."""
        # A path that starts with two slashes would lead to another site.
        response = RedirectResponse(f"/{scope['path'].lstrip('/')}", status_code=303)
        response.set_cookie(
            self.access.cookie, self.access.token, max_age=_YEAR, httponly=True, samesite="lax"
        )
        return response


def _is_from_elsewhere(headers: Headers) -> bool:
    """Whether a page of another site asks; a person who follows a link or types comes from none."""
    site, mode = headers.get("sec-fetch-site", "none"), headers.get("sec-fetch-mode", "")
    return site not in ("none", "same-origin") and mode != "navigate"


def _brought(headers: Headers, cookie: str) -> str:
    scheme, _, token = headers.get("authorization", "").partition(" ")
    if scheme.lower() == "bearer":
        return token.strip()
    try:
        found = SimpleCookie(headers.get("cookie", "")).get(cookie)
    except CookieError:
        return ""
    return found.value if found is not None else ""


def _refused(status: int, text: str, headers: dict[str, str] | None = None) -> Response:
    return PlainTextResponse(f"{text}\n", status_code=status, headers=headers)


def _digest(token: str) -> bytes:
    return hashlib.sha256(token.encode("utf-8", "surrogatepass")).digest()
