"""Wan's models as the scheduler runs them: built on meta, cut into segments, driven by part."""
