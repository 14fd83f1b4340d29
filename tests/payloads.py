"""Pickles that run a command: every way there is, for the tests that none of them is run."""

import os
import pickle

EXTENSION = 77


def text(value):
    """A BINUNICODE."""
    raw = value.encode()
    return b"X" + len(raw).to_bytes(4, "little") + raw


def payloads(command):
    """Every way of a pickle to run *command*, by the opcode or the trick that it uses."""
    line = command.encode()
    system = b"cos\nsystem\n"
    call = system + text(command) + b"\x85R"
    # tuple(map(os.system, [command])) by class and arguments, without a call
    lazy = b"cbuiltins\ntuple\n(cbuiltins\nmap\n(" + system + b"]" + text(command) + b"at"
    inner = pickle.dumps(Runs(command), protocol=2)
    storage = text("storage")
    return {
        "REDUCE": b"\x80\x02" + call + b".",
        "BUILD": b"\x80\x02ctypes\nSimpleNamespace\n)R}"
        + text("__setstate__") + system + b"sb" + text(command) + b"b.",
        "INST": b"(S'" + line + b"'\nios\nsystem\n.",
        "OBJ": b"(" + system + text(command) + b"o.",
        "NEWOBJ": b"\x80\x02" + lazy + b"\x81t\x81.",
        "NEWOBJ_EX": b"\x80\x04" + lazy + b"}\x92t}\x92.",
        "STACK_GLOBAL": b"\x80\x04\x8c\x02os\x8c\x06system\x93\x8c"
        + bytes([len(line)]) + line + b"\x85R.",
        "extension": b"\x80\x02\x82" + bytes([EXTENSION]) + text(command) + b"\x85R.",
        "persistent id": b"\x80\x02(" + storage + call + text("0") + text("cpu") + b"K\x01tQ.",
        "text persistent id": call + b"0Pstorage\n.",
        "nested": b"\x80\x02c_pickle\nloads\nB" + len(inner).to_bytes(4, "little") + inner
        + b"\x85R.",
        "inside a tensor": b"\x80\x02}" + text("weight") + b"ctorch._utils\n_rebuild_tensor_v2\n("
        + call + b"K\x00)))Ntb.",
        "inside attributes": b"\x80\x02ccollections\nOrderedDict\n)R}" + text("_metadata") + call
        + b"sb.",
        "a name in parts": b"\x80\x02cposix\nsystem\n" + text(command) + b"\x85R.",
        "an iterable": b"\x80\x02ccollections\nOrderedDict\ncbuiltins\nmap\n" + system
        + b"]" + text(command) + b"a\x86R\x85R.",
        "text opcodes": b"cos\nsystem\n(V" + line + b"\ntR.",
    }  # fmt: skip


class Runs:
    """Pickled, it is a command."""

    def __init__(self, command):
        self.command = command

    def __reduce__(self):
        return os.system, (self.command,)


FORMS = tuple(payloads("true"))
