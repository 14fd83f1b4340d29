"""Read prompts with the tokenizer beside the text encoder. Data only: no class from a file."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from wanflow.errors import WeightsError

Tokenize = Callable[[str, int], tuple[list[int], list[int]]]
_PAD = "<pad>"


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


def load_tokenizer(path: Path) -> Tokenize:
    """Return a function from a prompt and a length to ids and mask, padded or cut to the length."""
    from tokenizers import Tokenizer

    try:
        tokenizer = Tokenizer.from_file(str(path))
    except Exception as error:  # noqa: BLE001 - tokenizers raises plain Exception
        raise WeightsError(f"{path}: is no tokenizer: {error}", code="bad-tokenizer") from None
    pad = tokenizer.token_to_id(_PAD)
    if pad is None:
        raise WeightsError(f"{path}: has no {_PAD} token", code="bad-tokenizer")

    def tokenize(prompt: str, count: int) -> tuple[list[int], list[int]]:
        tokenizer.enable_truncation(count)
        tokenizer.no_padding()
        ids = tokenizer.encode(prompt).ids
        padding = count - len(ids)
        return ids + [pad] * padding, [1] * len(ids) + [0] * padding

    return tokenize
