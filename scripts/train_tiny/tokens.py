"""Make the tokenizer: a token for each word of the world, one for each Chinese character."""

from __future__ import annotations

import json
import re
from pathlib import Path

from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers, processors

from scripts.train_tiny.captions import words

SIZE = 256  # rows of the embedding; the tokens left over are never used
SPECIAL = ("<pad>", "</s>", "<unk>")
_PIECE = r"\p{Han}|[a-z]+|[0-9]+|[^\s]"


def vocabulary() -> dict[str, int]:
    """Every token and its number."""
    text = " ".join(re.sub(r"\{\w+\}", " ", piece) for piece in words())
    found = sorted(set(re.findall(r"[\u4e00-\u9fff]|[a-z]+|[^\sa-z]", text.lower())))
    tokens = [*SPECIAL, *found]
    if len(tokens) > SIZE:
        raise ValueError(f"{len(tokens)} tokens do not fit {SIZE}")
    return {token: number for number, token in enumerate(tokens)}


def make_tokenizer() -> Tokenizer:
    """Lower case, compatibility forms, words and single Chinese characters; then `</s>`."""
    tokenizer = Tokenizer(models.WordLevel(vocabulary(), unk_token="<unk>"))  # noqa: S106
    tokenizer.normalizer = normalizers.Sequence([normalizers.NFKC(), normalizers.Lowercase()])
    tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex(_PIECE), "removed", invert=True)
    tokenizer.add_special_tokens(list(SPECIAL))
    end = tokenizer.token_to_id("</s>")
    tokenizer.post_processor = processors.TemplateProcessing(
        single="$A </s>", special_tokens=[("</s>", end)]
    )
    return tokenizer


def write_tokenizer(folder: Path) -> None:
    """Write `tokenizer.json` and the settings that transformers reads."""
    folder.mkdir(parents=True, exist_ok=True)
    make_tokenizer().save(str(folder / "tokenizer.json"))
    settings = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "pad_token": "<pad>",
        "eos_token": "</s>",
        "unk_token": "<unk>",
        "model_max_length": 512,
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(settings, indent=2) + "\n")
