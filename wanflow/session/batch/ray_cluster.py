"""What of Ray is used: joining a cluster, seats as actors, and who of them is done or dead.

Ray is an extra. It schedules, restarts nothing by itself, and carries plain data.
"""

from __future__ import annotations

import ipaddress
import logging
import socket
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import attrs

from wanflow.environment import RAY_USAGE, set_default
from wanflow.errors import InputError
from wanflow.graph.wording import quoted
from wanflow.session.batch.remote_seat import Answer, RemoteSeat

_REACH_SECONDS = 5.0
_IPV4 = 4


def is_here(address: str) -> bool:
    """Whether the workers at an address are this computer's own: `local`, `auto`, its numbers.

    A name is looked up by nobody: what it leads to may change.
    """
    if address in {"local", "auto"}:
        return True
    host, _, _port = address.removeprefix("ray://").rpartition(":")
    try:
        number = ipaddress.ip_address(host.strip("[]"))
    except ValueError:
        return host == "localhost"
    return number.is_loopback or (not number.is_multicast and _is_own(number))


def _is_own(number: ipaddress.IPv4Address | ipaddress.IPv6Address) -> bool:
    """Whether a socket may have the number: no other computer's can be taken."""
    family = socket.AF_INET if number.version == _IPV4 else socket.AF_INET6
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as own:
            own.bind((str(number), 0))
    except OSError:  # a system without IPv6 has none of its numbers
        return False
    return True


@attrs.frozen
class Death:
    """A seat's process, or its computer, is gone."""

    reason: str


@attrs.define
class Crew:
    """Seats on a cluster. `on_cards`: each has a GPU of its own, else a CPU."""

    ray: Any
    on_cards: bool
    request: Mapping[str, Any]
    folder: str
    _work: dict[Any, tuple[int, object]] = attrs.field(factory=dict, init=False)  # by reference
    _seats: dict[int, Any] = attrs.field(factory=dict, init=False)
    _count: int = attrs.field(default=0, init=False)

    @property
    def places(self) -> int:
        """How many seats the cluster has room for now."""
        return int(self.ray.cluster_resources().get("GPU" if self.on_cards else "CPU", 0))

    def take_seat(self) -> int:
        """Start a seat; it answers once the cluster has a place for it."""
        needs = {"num_gpus": 1, "num_cpus": 0} if self.on_cards else {"num_cpus": 1}
        actor = self.ray.remote(RemoteSeat).options(max_restarts=0, **needs)
        self._count += 1
        self._seats[self._count] = actor.remote(self.request, self.folder)
        return self._count

    def ask(self, seat: int, about: object, method: str, *given: object) -> None:
        """Have a seat do something; `next_answer` tells when it has, with what it was *about*."""
        reference = getattr(self._seats[seat], method).remote(*given)
        self._work[reference] = seat, about

    @property
    def seats(self) -> Sequence[int]:
        """Those that are not known to be dead."""
        return [*self._seats]

    def next_answer(self, seconds: float) -> tuple[int, object, Answer | Death] | None:
        """Wait for an answer: whose, about what, and what; None when none came in time."""
        if not self._work:
            return None
        done, _ = self.ray.wait([*self._work], num_returns=1, timeout=seconds)
        if not done:
            return None
        seat, about = self._work.pop(done[0])
        try:
            return seat, about, self.ray.get(done[0])
        except self.ray.exceptions.RayActorError as error:
            self._seats.pop(seat, None)
            return seat, about, Death(str(error).strip().splitlines()[0])
        except self.ray.exceptions.RayTaskError as error:
            told = str(error.cause or error).strip().splitlines()
            failed = {"message": f"internal error: {told[-1] if told else error}", "hint": ""}
            return seat, about, {"error": {**failed, "code": "internal", "exit_code": 1}}

    def close(self) -> None:
        """End all seats where they are; what they saved stays."""
        for actor in self._seats.values():
            self.ray.kill(actor, no_restart=True)
        self._seats.clear()
        self._work.clear()


@contextmanager
def cluster(address: str) -> Iterator[Any]:
    """Join a Ray cluster: `local` starts one of this computer, `auto` finds one, `HOST:PORT` names.

    InputError where Ray is not installed, or nothing answers there.
    """
    set_default(RAY_USAGE)
    try:
        import ray
    except ImportError:
        raise InputError(
            "--ray needs Ray, which is not installed",
            hint="pip install 'wanflow[ray]'",
            code="no-ray",
        ) from None
    if address not in ("local", "auto"):
        _reach(address)
    options: dict[str, Any] = {"include_dashboard": False} if address == "local" else {}
    try:
        ray.init(
            address=address, log_to_driver=False, logging_level=logging.CRITICAL,
            ignore_reinit_error=False, **options,
        )  # fmt: skip
    except (ConnectionError, RuntimeError, ValueError) as error:
        raise InputError(
            f"--ray {address}: {str(error).strip().splitlines()[0]}",
            hint="--ray local uses this computer alone; ray start --head begins a cluster",
            code="no-cluster",
        ) from None
    try:
        yield ray
    finally:
        ray.shutdown()


def _reach(address: str) -> None:
    """InputError where nothing answers at once: Ray itself would try for minutes."""
    host, _, port = address.rpartition(":")
    try:
        with socket.create_connection((host.strip("[]"), int(port)), _REACH_SECONDS):
            return
    except ValueError:
        problem = "is not auto, local or HOST:PORT"
    except OSError as error:
        problem = str(error.strerror or error)
    raise InputError(
        f"--ray {quoted(address)}: {problem}",
        hint="--ray local, --ray auto, or --ray HOST:6379",
        code="no-cluster",
    )
