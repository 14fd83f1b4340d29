"""Go on at other settings than a step was saved at: tables that it lacks are made again.

What is saved after a step is the same however a stage was computed (latents, history, prompts), but
for what its forwards look tokens up in: one device may have whole rotary tables, ranks and chunks
of rows have small ones.
"""

from __future__ import annotations

import attrs

from wanflow.scheduler.run.resume_point import resume_point
from wanflow.session.planning.planned import Planned
from wanflow.session.running.saved_state import Saved


def with_tables(saved: Saved, planned: Planned) -> Saved:
    """Add the tables that the plan has at this point and the saved values have not.

    On the host, as what was loaded is. Values that are not what the plan has stay as they are: who
    restores them refuses them.
    """
    boundary = saved.boundary
    needed = resume_point(planned.plan, boundary.stage, boundary.step).values
    latents = needed.get(f"{boundary.stage}.latents")
    if latents is None or needed.keys() <= saved.values.keys():
        return saved
    from wanflow.stages.denoise import Denoise

    programs = {program.stage: program for program in planned.prepared.programs(None)}
    program = programs.get(boundary.stage)
    if not isinstance(program, Denoise):
        return saved
    call = program.tables(planned.plan.knobs.get(boundary.stage, {}), latents.shape)
    reads = {name: saved.values[name] for name in call.reads if name in saved.values}
    if any(name in needed and tuple(t.shape) != needed[name].shape for name, t in reads.items()):
        return saved
    if reads.keys() != set(call.reads) & needed.keys():
        return saved
    return attrs.evolve(saved, values={**call.run(reads), **saved.values})
