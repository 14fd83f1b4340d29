"""Footprints, a machine and budgets to a plan: what lies where at every call. No torch."""
