"""The limits on a graph file: what is just past one is refused soon and in few words."""

from __future__ import annotations

import time
import tracemalloc
from pathlib import Path

import pytest

from wanflow.graph import GraphError, load
from wanflow.graph.reading.nodes import DEEPEST, MOST_NODES
from wanflow.graph.source import LARGEST_FILE
from wanflow.graph.wording import LONGEST, MOST_LISTED

MIB = 2**20
HEAD = b"wanflow: 1\nname: x\n"
MODELS = b"models: {dit: {part: transformer, config: wan-tiny}, t: {part: text_encoder}}\n"


def _stages(row: str, count: int) -> bytes:
    rows = "".join("  " + row.format(n=n, m=(n + 1) % count) + "\n" for n in range(count))
    encode = b"  e: {op: encode_text, model: t, in: {prompt: hi}}\n"
    return HEAD + b"stages:\n" + rows.encode() + encode + b"outputs: {x: s0.latents}\n"


# What each guard is for: one value has one place, so that reading takes no longer than the file.
ONE_PLACE = {
    "anchor": (b"a: &one [1, 2]\n", "anchor"),
    "alias": (b"a: *one\n", "alias"),
    "merge-key": (b"<<: {a: 1}\n", "merge-key"),
}
# Plain values only: no tag makes a file choose what becomes of it.
PLAIN = {
    "own-tag": (b"a: !own 1\n", "tag"),
    "standard-tag": (b"a: !!int 1\n", "tag"),
    "tag-prefix": (b"%TAG ! tag:example.org,2000:\n---\n!x {a: 1}\n", "tag"),
}
# Sizes that a person writes, so that nothing needs more time or memory than a look.
SIZES = {
    "too-large": (b"#" * (LARGEST_FILE + 1), "too-large"),
    "nodes-in-a-line": (b"[" + b"a," * MOST_NODES + b"]", "too-many-nodes"),
    "nodes-in-lines": (b"- a\n" * MOST_NODES, "too-many-nodes"),
    "second-document": (b"--- 1\n--- 2\n", "many-documents"),
    "long-stage-name": (_stages("s" * 65 + ": {{op: x}}", 1), "bad-name"),
    "long-int": (HEAD + b"inputs: {x: {type: int, max: " + b"9" * 31 + b"}}", "wrong-type"),
    "no-finite-float": (HEAD + b"inputs: {shift: {type: float, max: 1e309}}\n", "wrong-type"),
}
# Messages that stay short: a text, a list of names and a cycle are cut.
SHORT = {
    "long-key": (b"? " + b"k" * (LONGEST + 1) + b"\n: 1\n", "unknown-key"),
    "long-value": (HEAD.replace(b"x", b'"' + b"\\e" * (LONGEST + 1) + b'"'), "missing-key"),
    "many-unknown-keys": (b"".join(b"k%d: 1\n" % n for n in range(300)), "unknown-key"),
    "many-wrong-stages": (_stages("s{n}: {{op: nose}}", 300), "unknown-op"),
    "many-wrong-references": (
        _stages("s{n}: {{op: denoise, in: {{latents: x{n}.latents, text: s{n}.text}}}}", 300),
        "missing-model",
    ),
    "long-cycle": (
        MODELS + _stages(
            "s{n}: {{op: denoise, model: dit, in: {{latents: s{m}.latents, text: e.text}}}}",
            MOST_LISTED + 1,
        ), "cycle",
    ),
}  # fmt: skip
# Text that every editor and terminal shows alike.
TEXT = {
    "invalid-utf8": (HEAD + b"about: \xff\xfe\n", "not-utf8"),
    "cut-utf8": (HEAD + "about: 静".encode()[:-1], "not-utf8"),
    "utf16": ("wanflow: 1\n".encode("utf-16"), "not-utf8"),
    "nul": (HEAD + b"about: a\0b\n", "control-character"),
    "bold": (HEAD + b"about: \x1b[1m\n", "control-character"),
    "second-bom": (b"\xef\xbb\xbf\xef\xbb\xbf" + HEAD, "control-character"),
}
# One level more than is read: every level is a frame on the stack of whoever walks the tree.
TOO_DEEP = DEEPEST + 1
DEEP = {
    "flow-lists": b"[" * TOO_DEEP + b"]" * TOO_DEEP,
    "flow-mappings": b"{a: " * TOO_DEEP + b"1" + b"}" * TOO_DEEP,
    "block-lists": b"- " * TOO_DEEP + b"1\n",
    "explicit-keys": b"? " * TOO_DEEP + b"1\n",
    "indented-mappings": b"".join(b" " * n + b"a:\n" for n in range(TOO_DEEP)) + b" " * 40 + b"1\n",
}
GUARDS = {
    **ONE_PLACE, **PLAIN, **SIZES, **SHORT, **TEXT,
    **{name: (data, "too-deep") for name, data in DEEP.items()},
}  # fmt: skip
TRIES = 3  # of processor time the best counts: other programs slow each other down


@pytest.mark.parametrize("name", GUARDS)
def test_is_refused(name: str, tmp_path: Path) -> None:
    """The error is of the expected kind, short, and safe to print and to encode."""
    data, code = GUARDS[name]
    path = tmp_path / "odd.yaml"
    path.write_bytes(data)
    with pytest.raises(GraphError) as caught:
        load(path)
    text = str(caught.value)
    assert code in {problem.code for problem in caught.value.problems}
    assert len(text) < 20_000
    assert all(line.isprintable() for line in text.split("\n"))
    text.encode()


@pytest.mark.parametrize("name", [*SIZES, "many-unknown-keys", "many-wrong-references"])
def test_takes_little_time_and_memory(name: str, tmp_path: Path) -> None:
    """Half a second and 100 MiB, for the largest files that are looked into."""
    path = tmp_path / "odd.yaml"
    path.write_bytes(GUARDS[name][0])
    seconds = []
    for _ in range(TRIES):
        began = time.process_time()
        with pytest.raises(GraphError):
            load(path)
        seconds.append(time.process_time() - began)
    tracemalloc.start()
    try:
        with pytest.raises(GraphError):
            load(path)
        assert tracemalloc.get_traced_memory()[1] < 100 * MIB
    finally:
        tracemalloc.stop()
    assert min(seconds) < 0.5


@pytest.mark.parametrize("name", DEEP)
def test_the_deepest_level_is_read(name: str, tmp_path: Path) -> None:
    """A level less is not too deep, whatever else is wrong with it."""
    path = tmp_path / "deep.yaml"
    data = DEEP[name].replace(b" " * DEEPEST + b"a:\n", b"")
    for sign in (b"[", b"{a: ", b"- ", b"? ", b"]", b"}"):
        data = data.replace(sign * TOO_DEEP, sign * DEEPEST)
    path.write_bytes(data)
    with pytest.raises(GraphError) as caught:
        load(path)
    assert "too-deep" not in {problem.code for problem in caught.value.problems}


@pytest.mark.parametrize(
    "change",
    [
        pytest.param(lambda data: b"\xef\xbb\xbf" + data, id="bom"),
        pytest.param(lambda data: data.replace(b"\n", b"\r\n"), id="crlf"),
        pytest.param(lambda data: data.replace(b"\n", b"\r"), id="cr"),
        pytest.param(lambda data: data.rstrip(b"\n"), id="no-last-newline"),
        pytest.param(lambda data: b"---\n" + data + b"...\n", id="document-marks"),
    ],
)
def test_harmless_oddities_are_accepted(change, small: str, tmp_path: Path) -> None:
    """Editors on other systems write these."""
    path = tmp_path / "odd.yaml"
    path.write_bytes(change(small.encode()))
    assert load(path).spec.name == "small"


def test_lines_are_counted_as_yaml_counts_them(small: str, tmp_path: Path) -> None:
    """CRLF and a BOM don't shift the place of a problem."""
    path = tmp_path / "odd.yaml"
    text = small.replace("op: denoise", "op: denose").replace("\n", "\r\n")
    path.write_bytes(b"\xef\xbb\xbf" + text.encode())
    with pytest.raises(GraphError) as caught:
        load(path)
    problem = caught.value.problems[0]
    assert (problem.line, problem.column) == (15, 9)
    assert problem.snippet == "    op: denose"
