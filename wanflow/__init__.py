"""Run Wan-class video generation inside a memory budget."""

__version__ = "0.1.0"
