"""Weights on disk: what they are, and those that are fetched."""
