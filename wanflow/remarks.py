"""What a command went on without, a folder it can't write or memory it can't pin: said at its end.

Each subject is said once, with the reason that came first.
"""

from __future__ import annotations

_remarks: dict[str, str] = {}


def remark(subject: str, reason: object) -> None:
    """Remember that something is missing and why."""
    _remarks.setdefault(subject, f"{subject}: {reason}")


def take_remarks() -> list[str]:
    """Give the remarks so far, and forget them."""
    texts = list(_remarks.values())
    _remarks.clear()
    return texts
