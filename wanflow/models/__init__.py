"""Wan's models as the scheduler runs them: built on the meta device, cut into segments, driven by part."""
