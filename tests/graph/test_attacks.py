"""YAML made to hurt: each file is refused in half a second and 100 MiB, by exit code 2."""

from __future__ import annotations

import subprocess
import sys
import time
import tracemalloc
from pathlib import Path

import pytest

from wanflow.graph import GraphError, load

ROOT = Path(__file__).parents[2]
MIB = 2**20
HEAD = b"wanflow: 1\nname: x\n"
MODELS = b"""models: {dit: {part: transformer, config: wan-tiny}, t: {part: text_encoder}}
"""


def _bomb() -> bytes:
    levels = [b"a0: &a0 [lol, lol, lol, lol, lol, lol, lol, lol, lol]"]
    levels += [
        b"a%d: &a%d [%s]" % (n, n, b", ".join([b"*a%d" % (n - 1)] * 9)) for n in range(1, 10)
    ]
    return b"\n".join(levels)


def _merge_bomb() -> bytes:
    rows = [b"a0: &a0 {x: 1}"]
    rows += [
        b"a%d: &a%d {<<: [%s]}" % (n, n, b", ".join([b"*a%d" % (n - 1)] * 9)) for n in range(1, 9)
    ]
    return b"\n".join(rows)


def _stages(row: str, count: int) -> bytes:
    rows = "".join("  " + row.format(n=n, m=(n + 1) % count) + "\n" for n in range(count))
    encode = b"  e: {op: encode_text, model: t, in: {prompt: hi}}\n"
    return HEAD + b"stages:\n" + rows.encode() + encode + b"outputs: {x: s0.latents}\n"


ATTACKS: dict[str, tuple[bytes, str]] = {
    "alias-bomb": (_bomb(), "anchor"),
    "merge-bomb": (_merge_bomb(), "anchor"),
    "alias-to-nothing": (b"a: *b\n", "alias"),
    "recursive-anchor": (b"&a [*a]\n", "anchor"),
    "merge-keys": (b"<<: {a: 1}\n" * 1000, "merge-key"),
    "python-object": (b"a: !!python/object/apply:os.system [echo hi]\n", "tag"),
    "python-name": (b"!!python/name:os.system\n", "tag"),
    "tag-prefix": (b"%TAG ! tag:evil,2000:\n---\n!x {a: 1}\n", "tag"),
    "binary-tag": (b"a: !!binary aGVsbG8=\n", "tag"),
    "long-key": (b"k" * (MIB - 10) + b": 1\n", "yaml-syntax"),
    "long-explicit-key": (b"? " + b"k" * (MIB - 10) + b"\n: 1\n", "unknown-key"),
    "long-stage-name": (_stages("? " + "s" * 900_000 + "\n  : {{op: x}}", 1), "bad-name"),
    "long-value": (HEAD + b"about: " + b"\\x1b" * 250_000, "missing-key"),
    "long-quoted-value": (HEAD.replace(b"x", b'"' + b"\\e" * 500_000 + b'"'), "missing-key"),
    "many-nodes": (b"[" + b"a," * 500_000 + b"]", "too-many-nodes"),
    "many-nodes-in-block": (b"- a\n" * 250_000, "too-many-nodes"),
    "many-unknown-keys": (b"".join(b"k%d: 1\n" % n for n in range(9_900)), "unknown-key"),
    "many-wrong-stages": (_stages("s{n}: {{op: nose}}", 4_000), "unknown-op"),
    "many-wrong-references": (
        _stages("s{n}: {{op: denoise, in: {{latents: x{n}.latents, text: s{n}.text}}}}", 1_500),
        "missing-model",
    ),
    "huge-cycle": (
        MODELS + _stages(
            "s{n}: {{op: denoise, model: dit, in: {{latents: s{m}.latents, text: e.text}}}}", 1_500,
        ), "cycle",
    ),
    "many-documents": (b"--- 1\n" * 100_000, "many-documents"),
    "too-large": (b"#" * (MIB + 1), "too-large"),
    "invalid-utf8": (HEAD + b"about: \xff\xfe\n", "not-utf8"),
    "cut-utf8": (HEAD + "about: 静".encode()[:-1], "not-utf8"),
    "surrogate": (HEAD + b"about: \xed\xa0\x80\n", "not-utf8"),
    "overlong-utf8": (HEAD + b"about: \xc0\xaf\n", "not-utf8"),
    "utf16": ("wanflow: 1\n".encode("utf-16"), "not-utf8"),
    "nul": (HEAD + b"about: a\0b\n", "control-character"),
    "only-nul": (b"\0" * 1000, "control-character"),
    "escape-codes": (HEAD + b"about: \x1b[2J\n", "control-character"),
    "second-bom": (b"\xef\xbb\xbf\xef\xbb\xbf" + HEAD, "control-character"),
    "huge-int": (HEAD + b"inputs: {x: {type: int, max: " + b"9" * 100_000 + b"}}", "wrong-type"),
    "huge-exponent": (HEAD + b"inputs: {shift: {type: float, max: 1e9999}}\n", "wrong-type"),
}  # fmt: skip

# Deep nesting overflows the C stack of a parser that recurses, so these run in a process of
# their own: a crash must fail the test, not end the suite.
DEEP: dict[str, str] = {
    "flow-lists": "b'[' * 1_000_000",
    "flow-mappings": "b'{a: ' * 200_000",
    "block-lists": "b'- ' * 500_000",
    "explicit-keys": "b'? ' * 500_000",
    "indented-mappings": "b''.join(b' ' * n + b'a:\\n' for n in range(1_400))",
}

CHILD = """
import sys, time, tracemalloc
from pathlib import Path
from wanflow.graph import GraphError, load
path = Path(sys.argv[1])
path.write_bytes({data})
began = time.process_time()
tracemalloc.start()
try:
    load(path)
except GraphError as error:
    print(error.code, time.process_time() - began, tracemalloc.get_traced_memory()[1])
"""


TRIES = 3  # of processor time the best counts: other programs slow each other down


@pytest.mark.parametrize("name", ATTACKS)
class TestAttack:
    """One hostile file."""

    def test_is_refused_soon(self, name: str, tmp_path: Path) -> None:
        """The error is of the expected kind, short, and there within half a second."""
        data, code = ATTACKS[name]
        path = tmp_path / "attack.yaml"
        path.write_bytes(data)
        for _ in range(TRIES):
            began = time.process_time()
            with pytest.raises(GraphError) as caught:
                load(path)
            seconds = time.process_time() - began
            if seconds < 0.5:
                break
        assert code in {problem.code for problem in caught.value.problems}
        assert seconds < 0.5
        assert len(str(caught.value)) < 20_000

    def test_takes_little_memory(self, name: str, tmp_path: Path) -> None:
        """At most 100 MiB are ever held."""
        path = tmp_path / "attack.yaml"
        path.write_bytes(ATTACKS[name][0])
        tracemalloc.start()
        try:
            with pytest.raises(GraphError):
                load(path)
            assert tracemalloc.get_traced_memory()[1] < 100 * MIB
        finally:
            tracemalloc.stop()

    def test_message_is_safe_to_print(self, name: str, tmp_path: Path) -> None:
        """Nothing in it that a terminal obeys or can't encode."""
        path = tmp_path / "attack.yaml"
        path.write_bytes(ATTACKS[name][0])
        with pytest.raises(GraphError) as caught:
            load(path)
        assert all(line.isprintable() for line in str(caught.value).split("\n"))
        str(caught.value).encode()


@pytest.mark.parametrize("name", DEEP)
def test_deep_nesting_does_not_crash(name: str, tmp_path: Path) -> None:
    """A million levels are refused at the thirty-third."""
    program = CHILD.format(data=DEEP[name])
    for _ in range(TRIES):
        child = subprocess.run(
            [sys.executable, "-c", program, str(tmp_path / "deep.yaml")],
            cwd=ROOT, capture_output=True, text=True, timeout=60, check=True,
        )  # fmt: skip
        code, seconds, memory = child.stdout.split()
        if float(seconds) < 0.5:
            break
    assert code == "too-deep"
    assert float(seconds) < 0.5
    assert int(memory) < 100 * MIB


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
