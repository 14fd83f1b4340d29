"""Make the rows of a file, one after another on one device; go on with what is missing."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import attrs

from wanflow.errors import InputError, Interrupted, WanflowError
from wanflow.files.lock import locked
from wanflow.files.run_files import BATCH_REQUEST
from wanflow.files.whole import FREE_SPACE
from wanflow.graph import load
from wanflow.graph.check import CheckedGraph
from wanflow.graph.inputs import FILE_TYPES
from wanflow.graph.values import ValueType
from wanflow.graph.wording import did_you_mean, quoted
from wanflow.session.batch import text_pass
from wanflow.session.batch.batch_folder import Book, keep_request, read_request
from wanflow.session.batch.making import Making
from wanflow.session.batch.outcomes import Outcomes, RowWatch
from wanflow.session.batch.ray_cluster import is_here
from wanflow.session.batch.row_queue import RowQueue
from wanflow.session.batch.rows_file import RowsFile
from wanflow.session.batch.seat import Seat
from wanflow.session.preparing.place import FindPlace
from wanflow.session.probing.first_probe import probed_place
from wanflow.session.request import Request
from wanflow.session.running.run import forget
from wanflow.session.running.run_folder import check_links, make_folder
from wanflow.session.running.signals import stopping


@attrs.frozen
class Options:
    """How a batch is made: whether rows after one that failed are, and on which Ray cluster."""

    keep_going: bool = True
    ray: str | None = None


_OPTIONS = Options()


def batch(
    request: Request,
    rows: Path,
    *,
    out: Path | None = None,
    options: Options = _OPTIONS,
    force: bool = False,
    watch: RowWatch | None = None,
    on: FindPlace = probed_place,
) -> dict[str, object]:
    """Make every row of the file *rows*; return what `batch.json` says of the whole.

    A row that fails does not stop the others, and is told in the result. InputError for a file that
    is none, for a column that is no input, for a folder that holds something.
    """
    if request.machine is not None:
        raise InputError(
            f"machine {request.machine!r} is for planning: rows are made where they are made",
            hint="leave the machine out",
            code="machine-in-run",
        )
    if request.devices:
        raise InputError(
            f"--devices {request.devices}: shares one video among devices, and rows are many",
            hint="--ray local has each card make rows",
            code="devices-in-batch",
        )
    checked = load(request.graph)
    found = RowsFile.open(rows)
    _check_columns(checked, found)
    folder = make_folder(out, f"{checked.spec.name}-batch", force=force)
    check_links(folder, deep=False)  # each row's own when it is its turn
    with _saying_how_to_go_on(folder, options.ray), locked(folder):
        book = _book(request, found, checked, folder)
        _forget_rows(book)
        keep_request(folder, request, rows, attrs.asdict(options))
        return _make_all(book, request, options, watch, on)


def resume_batch(
    folder: Path,
    *,
    watch: RowWatch | None = None,
    on: FindPlace = probed_place,
    ray: str | None = None,
    preview_every: int | None = None,
    until: str = "",
) -> dict[str, object]:
    """Make what is missing of a batch: rows that were not begun, were cut short, or failed.

    On the Ray cluster that it was made on, or on *ray*; `none` is this process alone. Rows go to
    their end, or *until* another step, with other previews if *preview_every* is given.
    InputError where only the folder says which other computer's cluster it is: who runs a cluster
    runs code here, so that a person names it.
    """
    request, rows, kept = read_request(folder)
    check_links(folder, deep=False)
    every = request.preview_every if preview_every is None else preview_every
    request = attrs.evolve(request, preview_every=every, until=until)
    options = _going_on(folder, kept, ray)
    found = RowsFile.open(rows)
    checked = load(request.graph)
    with _saying_how_to_go_on(folder, options.ray), locked(folder):
        book = _book(request, found, checked, folder)
        return _make_all(book, request, options, watch, on)


def _going_on(folder: Path, kept: Mapping[str, Any], ray: str | None) -> Options:
    """Take what the folder says of the batch, with the cluster that was typed now, if one was."""
    keep_going, address = kept.get("keep_going", True), kept.get("ray")
    if not isinstance(keep_going, bool) or not isinstance(address, str | None):
        raise InputError(f"{folder / BATCH_REQUEST}: damaged: options {kept}", code="bad-batch")
    if ray is not None:
        return Options(keep_going, None if ray == "none" else ray)
    if address is not None and not is_here(address):
        raise InputError(
            f"{folder}: was made on the Ray cluster {quoted(address)}, which would run code here",
            hint=f"if it is yours: --ray {shlex.quote(address)}; else --ray none or --ray local",
            code="ray-not-named",
        )
    return Options(keep_going, address)


def _book(request: Request, rows: RowsFile, checked: CheckedGraph, folder: Path) -> Book:
    return Book(folder, RowQueue(rows, request.inputs, _free_inputs(checked)), checked.spec.name)


def _make_all(
    book: Book,
    request: Request,
    options: Options,
    watch: RowWatch | None,
    on: FindPlace,
) -> dict[str, object]:
    folder = book.folder
    book.look()
    if watch is not None:
        watch.opens(len(book.queue.rows))
    with stopping() as stop:
        if any(True for _ in book.missing()):
            book.write("running")
            try:
                outcomes = Outcomes(book, watch, options.keep_going)
                if options.ray is None:
                    _make_here(outcomes, Seat.at(request, folder, on), stop)
                else:
                    _make_on_ray(outcomes, request, options.ray, stop)
            except BaseException as error:
                book.end("interrupted" if _is_stop(error) else "failed")
                raise
        text_pass.forget(folder)
        report = book.write("stopped" if book.counts()["stopped"] else "done")
        report["table"] = str(book.write_table())
    return {**report, "failures": book.failures()}


def _make_here(outcomes: Outcomes, seat: Seat, stop: Callable[[], None]) -> None:
    sink = outcomes.watch.sink if outcomes.watch is not None else None
    try:
        Making(outcomes, seat, sink, stop).make()
    finally:
        seat.close()


def _make_on_ray(
    outcomes: Outcomes, request: Request, address: str, stop: Callable[[], None]
) -> None:
    from wanflow.session.batch.ray_batch import RayMaking, crew_of

    with crew_of(request, outcomes.book.folder, address) as crew:
        RayMaking(outcomes, crew, stop).make()


def _is_stop(error: BaseException) -> bool:
    return isinstance(error, KeyboardInterrupt | Interrupted)


def _check_columns(checked: CheckedGraph, rows: RowsFile) -> None:
    for name in rows.header:
        if name not in checked.spec.inputs:
            raise InputError(
                f"{rows.path}, line 1: graph '{checked.spec.name}' has no input {quoted(name)}",
                hint=did_you_mean(name, checked.spec.inputs),
                code="unknown-input",
            )


def _free_inputs(checked: CheckedGraph) -> frozenset[str]:
    """Inputs that decide no call: texts, seeds, and which files are given."""
    free = (ValueType.TEXT, *FILE_TYPES)
    return frozenset(
        name for name, spec in checked.spec.inputs.items() if spec.type in free or name == "seed"
    )


def _forget_rows(book: Book) -> None:
    """Take away what would let rows of an earlier batch in the folder pass for these."""
    for number in book.queue.order():
        if book.row_folder(number).is_dir():
            forget(book.row_folder(number))
    text_pass.forget(book.folder)


@contextmanager
def _saying_how_to_go_on(folder: Path, ray: str | None) -> Iterator[None]:
    """Tell with whatever ends a batch the command that goes on with it."""
    named = "" if ray is None or is_here(ray) else f" --ray {shlex.quote(ray)}"
    command = f"wanflow resume {shlex.quote(str(folder))}{named}"
    try:
        yield
    except WanflowError as error:
        if not isinstance(error, InputError):
            free = error.hint.startswith(FREE_SPACE)
            error.hint = f"{FREE_SPACE}, then {command}" if free else command
            error.detail["resume"] = command
        raise
