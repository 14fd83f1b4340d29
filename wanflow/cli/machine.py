"""`wanflow machine`: the figures that plans are made with, measured or looked up."""

from typing import Annotated

import typer
from typer import Argument, Option

from wanflow.cli.options import Json
from wanflow.cli.output import note, present
from wanflow.errors import WanflowError
from wanflow.scheduler.machine.figures import Machine

app = typer.Typer(
    name="machine", help="Measure and show machines.", no_args_is_help=True, rich_markup_mode=None
)


@app.command()
def probe(
    device: Annotated[
        str, Option(metavar="NAME", envvar="WANFLOW_DEVICE", help="auto, cuda, cuda:N or cpu.")
    ] = "auto",
    name: Annotated[
        str | None, Option(metavar="NAME", help="Keep it under this name, not the device's.")
    ] = None,
    *,
    json: Json = False,
) -> int:
    """Measure this machine and keep the figures for plans."""
    from wanflow.scheduler.machine.store import path_of
    from wanflow.session import machines
    from wanflow.session.preparing import place as places

    if name is not None:
        path_of(name)  # a name that can't be kept is refused before a second is spent
    place = places.find_device(device)
    if not json:
        most = "20 seconds" if place.type == "cuda" else "a minute"
        note(f"measuring {place}; it takes up to {most}")
    machine = machines.measure(place, name)
    return _tell(machine if place.type == "cuda" else _calibrated(machine), json=json)


@app.command()
def show(
    name: Annotated[
        str | None,
        Argument(metavar="[NAME]", help="A stored or a named machine. [default: this one]"),
    ] = None,
    *,
    json: Json = False,
) -> int:
    """Show a machine's figures, and how each is known."""
    from wanflow.scheduler.machine.store import find

    if name is not None:
        return _tell(find(name), json=json)
    from wanflow.session import machines
    from wanflow.session.preparing import place as places

    return _tell(machines.this_machine(places.find_device("auto")), json=json)


@app.command("list")
def list_(*, json: Json = False) -> int:
    """List the machines there are: stored ones, then named ones."""
    from wanflow.cli.render_machine import as_row, render_list
    from wanflow.scheduler.machine import store
    from wanflow.scheduler.machine.datasheets import NAMES, named_machine

    stored = store.stored()
    files = {store.path_of(machine.name) for machine in stored}
    named = [named_machine(name) for name in NAMES if store.path_of(name) not in files]
    rows = [as_row(m, store.path_of(m.name)) for m in stored]
    rows += [as_row(m, None) for m in named]
    data = {"folder": str(store.folder()), "machines": rows}
    present(data, lambda console: render_list(rows, console), json=json)
    return 0


def _calibrated(machine: Machine) -> Machine:
    """Put a CPU's figures right by short runs; without room for them the probe alone counts."""
    from wanflow.session.running.calibrate import calibrate

    try:
        return calibrate(machine)
    except (WanflowError, OSError) as error:
        note(f"no run could be made to put the figures right: {error}")
        return machine


def _tell(machine: Machine, *, json: bool) -> int:
    from wanflow.cli.render_machine import render
    from wanflow.scheduler.machine.machine_json import as_data
    from wanflow.scheduler.machine.store import path_of

    path = path_of(machine.name)
    file = path if path.exists() else None
    more = {"estimated": machine.estimated, "file": None if file is None else str(file)}
    data = {**as_data(machine), **more}
    present(data, lambda console: render(machine, file, console), json=json)
    return 0
