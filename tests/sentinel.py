"""A class outside the list of what a pickle may name, and pickles that name it."""

import collections
import pickle


class Sentinel:
    """Unpickled, it counts that it was; nothing else happens."""

    unpickled = 0

    def __reduce__(self):
        return count, ()


def count():
    """Make a sentinel, and count it."""
    Sentinel.unpickled += 1
    return Sentinel()


class Stateful:
    """Another, which counts when its state is set."""

    def __getstate__(self):
        return {"steps": 1}

    def __setstate__(self, state):
        Sentinel.unpickled += state["steps"]


def text(value):
    """A BINUNICODE."""
    raw = value.encode()
    return b"X" + len(raw).to_bytes(4, "little") + raw


def _with_attribute():
    state = collections.OrderedDict()
    state.sentinel = Sentinel()
    return state


# Where the sentinel stands in a pickle, each written by Python's own pickler
PICKLES = {
    "alone": pickle.dumps(Sentinel(), protocol=2),
    "with a state": pickle.dumps(Stateful(), protocol=2),
    "protocol 0": pickle.dumps(Sentinel(), protocol=0),
    "protocol 4": pickle.dumps(Sentinel(), protocol=4),
    "a value": pickle.dumps({"weight": Sentinel()}, protocol=2),
    "in a list": pickle.dumps({"weights": [None, Sentinel()]}, protocol=2),
    "an attribute": pickle.dumps(_with_attribute(), protocol=2),
}
