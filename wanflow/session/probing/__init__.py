"""Measuring a CPU before its first plan: quick kernels, and a run of the tiny model's calls."""
