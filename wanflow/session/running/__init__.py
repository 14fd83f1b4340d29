"""A plan to a run folder: run, more tries, saved steps, resume, what was learned."""
