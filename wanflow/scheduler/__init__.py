"""How a graph runs inside a budget: program -> profile -> footprint (+ machine) -> plan -> run.

`program` is the seam to stages and weights, `knobs` what a stage leaves to the planner. `profile`
takes programs and gives a `footprint`: what every call costs, as plain numbers. `allocator` adds
what a card's allocator takes beyond that, `machine` says how fast and how large. `plan` takes
footprints, a machine and budgets and gives a plan; `run` takes the plan and the programs and gives
values. What decides (`footprint`, `allocator`, `machine`, `plan`) loads no torch.
"""
