"""The process of one rank: `python -m wanflow.session.ranks.child FD`, its task on stdin.

stdin stays open for as long as the parent is there: at its end this process ends, whatever it is
in. The answer goes to the file descriptor FD.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys
import threading
from collections.abc import Callable

import attrs

from wanflow.errors import WanflowError
from wanflow.session.ranks.task import RankAnswer, RankFailure, RankTask

_PR_SET_PDEATHSIG = 1


def main() -> int:
    """Run the task; 0 where there is a report."""
    parent = os.getppid()
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        return 1
    out = int(sys.argv[1])
    task = RankTask.from_json(sys.stdin.readline())
    threading.Thread(target=_end_with_parent, daemon=True).start()
    answer = _answer(task)
    with os.fdopen(out, "w", encoding="utf-8") as pipe:
        pipe.write(answer.to_json())
    return 0 if answer.report is not None else 1


def _end_with_parent() -> None:
    while sys.stdin.read(1):
        pass
    os._exit(1)


def _answer(task: RankTask) -> RankAnswer:
    from wanflow.session.running.signals import stopping

    try:
        with stopping() as stop:
            return RankAnswer(report=_run(task, stop))
    except WanflowError as error:
        return RankAnswer(failure=RankFailure.of(error))


def _run(task: RankTask, stop: Callable[[], None]) -> dict[str, object]:
    """Plan this rank's part as it was planned for it, meet the others, and run it."""
    import torch

    from wanflow.scheduler.ranks import Rank
    from wanflow.scheduler.run.group_exchange import joined
    from wanflow.session.planning.planned import plan_prepared
    from wanflow.session.preparing.place import find_place
    from wanflow.session.preparing.prepare import prepare
    from wanflow.session.ranks.seat import as_rank, own_part, ranked_place
    from wanflow.session.running.run import Part, run_traced

    seats, index = task.seats, task.index
    torch.set_num_threads(task.threads)
    rank = Rank(index, len(seats.requests), seats.kind)
    place = ranked_place(find_place(seats.requests[index]), rank.count, task.exchange_rate)
    place = attrs.evolve(place, ram_is_stated=task.ram_is_stated)
    prepared = own_part(as_rank(prepare(seats.requests[index], place, to_run=True), rank))
    planned = plan_prepared(prepared)
    if planned.problem is not None:
        raise planned.problem
    part = Part(trace=task.trace, tries=1, saves=index == 0, tells=False, teaches=False)
    if place.kind == "cuda":
        torch.cuda.set_device(place.device)
    with joined(rank, place.device, task.meeting) as exchange:
        prepared = attrs.evolve(planned.prepared, rank=attrs.evolve(rank, exchange=exchange))
        planned = attrs.evolve(planned, prepared=prepared)
        exchange.meet()
        if place.kind == "cpu":
            part = attrs.evolve(part, exchanging=lambda: exchange.stood.nanoseconds)
        return run_traced(planned, task.folder, None, None, stop, overwrite=True, part=part)


if __name__ == "__main__":
    sys.exit(main())
