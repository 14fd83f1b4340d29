"""Many names in a few words: those alike but for their numbers are one, with a count."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping

from wanflow.terminal.safe import printable

_NUMBER = re.compile(r"(?<=[._])\d+(?=[._])")
_SHOWN = 6
_LONGEST = 120  # letters of a name


def folded(refused: Mapping[str, str]) -> str:
    """Say which names, by the pattern that they have, and why of each pattern."""
    counts = Counter(
        (_NUMBER.sub("N", name), _NUMBER.sub("N", why)) for name, why in refused.items()
    )
    said = [
        f"{printable(name)[:_LONGEST]} ({f'{count} times, ' if count > 1 else ''}{why})"
        for (name, why), count in counts.most_common(_SHOWN)
    ]
    rest = len(refused) - sum(count for _, count in counts.most_common(_SHOWN))
    return "; ".join(said) + (f"; and {rest} more" if rest else "")
