"""Listen: a socket of our own, so that what is wrong with it is told before anything is served."""

from __future__ import annotations

import errno
import ipaddress
import os
import secrets
import socket
from pathlib import Path

import attrs

from wanflow.errors import InputError
from wanflow.watch.answers import Answers
from wanflow.watch.guard import Access
from wanflow.watch.readings import Readings
from wanflow.watch.shelf import Shelf
from wanflow.watch.tree import Tree

SHORTEST_TOKEN = 16
_MOST_REQUESTS = 64  # at once; a browser has six
_LEAVES_SECONDS = 2


@attrs.frozen
class Listening:
    """A socket that listens, and who may look. `url` has the token where one is wanted."""

    socket: socket.socket
    url: str
    access: Access


def listen(host: str, port: int, token: str | None) -> Listening:
    """Take a port of this computer, 0 for a free one; beyond it a token is made if none is given.

    InputError for a host that is none of this computer's, a port that is taken, a token that could
    be guessed.
    """
    if token is not None and not _is_token(token):
        raise InputError(
            f"--token: {SHORTEST_TOKEN} characters at least, letters, digits, - and _",
            hint="leave it out: one is made where it is wanted",
            code="bad-token",
        )
    found = _listening(host, port)
    address, taken = found.getsockname()[:2]
    local = ipaddress.ip_address(address.partition("%")[0]).is_loopback
    if token is None and not local:
        token = secrets.token_urlsafe(24)
    shown = _shown_host(address)
    query = f"?token={token}" if token else ""
    access = Access(token or "", local, f"wanflow-{taken}")
    return Listening(found, f"http://{shown}:{taken}/{query}", access)


def _is_token(token: str) -> bool:
    plain = all(c.isascii() and (c.isalnum() or c in "-_") for c in token)
    return plain and SHORTEST_TOKEN <= len(token) <= 512


def _listening(host: str, port: int) -> socket.socket:
    try:
        family, kind, number, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        found = socket.socket(family, kind, number)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or "is no name of a host"
        raise InputError(f"--host {host}: {reason}", code="bad-host") from None
    try:
        found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        found.bind(address)
        found.listen(128)
    except OSError as error:
        found.close()
        raise _refused(host, port, error) from None
    return found


def _refused(host: str, port: int, error: OSError) -> InputError:
    if error.errno == errno.EADDRINUSE:
        return InputError(
            f"--port {port}: something listens there already",
            hint="another --port; --port 0 takes a free one",
            code="port-taken",
        )
    where = f"--port {port}" if error.errno == errno.EACCES else f"--host {host}"
    return InputError(f"{where}: {os.strerror(error.errno or 0).lower()}", code="cannot-listen")


def _shown_host(address: str) -> str:
    """Give a name to type: of all addresses that is this computer's own."""
    if ipaddress.ip_address(address.partition("%")[0]).is_unspecified:
        return socket.gethostname()
    return f"[{address}]" if ":" in address else address


def serve(folder: Path, listening: Listening) -> None:
    """Answer until a signal comes. InputError where *folder* is none that can be read."""
    import uvicorn

    from wanflow.watch.page_app import page_app
    from wanflow.watch.timely_protocol import TimelyProtocol

    tree = Tree(folder.resolve())
    readings = Readings(tree)
    answers = Answers(Shelf(tree), readings, folder)
    config = uvicorn.Config(
        page_app(answers, listening.access),
        access_log=False, log_level="error", lifespan="off", ws="none", http=TimelyProtocol,
        server_header=False, proxy_headers=False, limit_concurrency=_MOST_REQUESTS,
        timeout_graceful_shutdown=_LEAVES_SECONDS,
    )  # fmt: skip
    try:
        uvicorn.Server(config).run(sockets=[listening.socket])
    finally:
        readings.close()
        listening.socket.close()
