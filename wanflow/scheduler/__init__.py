"""Decides where every byte lies (machine, footprint, planner, plan: no torch) and does it."""
