"""Read prompts with the tokenizer beside the text encoder. Data only: no class from a file."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import attrs
import regex

from wanflow.errors import WeightsError
from wanflow.native_lines import held_back

_PAD = "<pad>"
_PANIC = "PanicException"
# Scripts that are written without spaces have no words that a look could find.
_WORD = regex.compile(
    r"(?:(?![\p{Han}\p{Hiragana}\p{Katakana}\p{Thai}\p{Lao}\p{Khmer}])[\p{L}\p{M}\p{N}_])+"
)


@attrs.frozen
class PromptCut:
    """Where a prompt is longer than what counts: its tokens, and the text from the cut word on."""

    tokens: int
    rest: str


@attrs.frozen
class PromptTokenizer:
    """From text to ids; the end token is one of them, whatever is cut."""

    tokenizer: Any
    pad: int
    path: Path = Path("tokenizer.json")

    def __call__(self, prompt: str, count: int) -> tuple[list[int], list[int]]:
        """Give ids and mask, padded or cut to *count*; WeightsError where it reads no prompt."""
        with _telling(f"{self.path}: cannot read a prompt"):
            ids = self._encoded(prompt, count).ids
        padding = count - len(ids)
        if padding < 0:  # a template of more tokens than there is room for is not cut
            raise WeightsError(
                f"{self.path}: adds so many tokens that a prompt has {len(ids)}, not {count}",
                code="bad-tokenizer",
            )
        return ids + [self.pad] * padding, [1] * len(ids) + [0] * padding

    def cut(self, prompt: str, count: int) -> PromptCut | None:
        """Say what of a prompt is behind *count* tokens; None where nothing is."""
        with _telling(f"{self.path}: cannot read a prompt"):
            behind = self._encoded(prompt, count).overflowing
            if not behind:
                return None
            start = behind[0].offsets[0][0]
            self.tokenizer.no_truncation()
            tokens = len(self.tokenizer.encode(prompt).ids)
        inside = (m.start() for m in _WORD.finditer(prompt) if m.start() < start < m.end())
        return PromptCut(tokens, prompt[next(inside, start) :].lstrip())

    def _encoded(self, prompt: str, count: int) -> Any:
        self.tokenizer.enable_truncation(count)
        self.tokenizer.no_padding()
        return self.tokenizer.encode(prompt)


def find_tokenizer(text_encoder: Path) -> Path:
    """The `tokenizer.json` of a text encoder's folder or file; WeightsError when there is none.

    It lies in `tokenizer/` beside the folder, or in `google/umt5-xxl/` beside the official file.
    """
    beside = text_encoder.parent
    own = text_encoder if text_encoder.is_dir() else beside
    above = [beside.parent / "tokenizer"] if text_encoder.is_file() else []  # of text_encoder/FILE
    for folder in (beside / "tokenizer", beside / "google" / "umt5-xxl", own, *above):
        if (folder / "tokenizer.json").is_file():
            return folder / "tokenizer.json"
    google = beside / "google" / "umt5-xxl"
    alone = google if google.is_dir() else own
    wanted = (alone if text_encoder.is_file() else beside / "tokenizer").absolute()
    pieces = any((folder / "spiece.model").is_file() for folder in (wanted, own))
    but = "; spiece.model by itself is not read" if pieces else ""
    raise WeightsError(
        f"{wanted}: no tokenizer.json there, for the text encoder {text_encoder.name}{but}",
        hint=f"put tokenizer.json into {wanted}: it is in tokenizer/ of a Wan model in the layout "
        "of diffusers, in google/umt5-xxl/ of an official one, and in google/umt5-xxl on the hub",
        code="missing-tokenizer",
    )


def load_tokenizer(path: Path) -> PromptTokenizer:
    """Read the file of a tokenizer; WeightsError when it is none."""
    from tokenizers import Tokenizer

    with _telling(f"{path}: is no tokenizer"):
        tokenizer = Tokenizer.from_file(str(path))
    pad = tokenizer.token_to_id(_PAD)
    if pad is None:
        raise WeightsError(f"{path}: has no {_PAD} token", code="bad-tokenizer")
    return PromptTokenizer(tokenizer, pad, path)


@contextmanager
def _telling(what: str) -> Iterator[None]:
    """Turn what tokenizers raises into one message: plain Exception, or a panic of Rust.

    A panic (pyo3_runtime.PanicException, which can't be imported) is no Exception to Python.
    """
    try:
        with held_back():
            yield
    except BaseException as error:
        if not isinstance(error, Exception) and type(error).__name__ != _PANIC:
            raise  # Ctrl-C
        said = (str(error).splitlines() or [type(error).__name__])[0]
        raise WeightsError(
            f"{what}: {said}",
            hint="download it again, or take the tokenizer.json of another Wan model",
            code="bad-tokenizer",
        ) from None
