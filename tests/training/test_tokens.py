"""The tokenizer of the world."""

import re

import numpy as np
import pytest

from scripts.train_tiny.captions import caption
from scripts.train_tiny.tokens import SIZE, make_tokenizer
from scripts.train_tiny.world import draw_scene


@pytest.fixture(scope="module")
def tokenizer():
    return make_tokenizer()


class TestTokens:
    @pytest.mark.parametrize("language", ["en", "zh"])
    def test_captions_are_a_token_a_word(self, tokenizer, language):
        """A word or a Chinese character of any caption is one token; signs may be more."""
        random = np.random.default_rng(1)
        for turn in range(400):
            text = caption(random, draw_scene(random, held=bool(turn % 2)), language)
            pieces = re.findall(r"[\u4e00-\u9fff]|[a-z]+", text.lower())
            found = [tokenizer.encode(piece).ids for piece in pieces]
            assert all(len(ids) == 2 for ids in found), text
            signs = len(re.findall(r"[^\sa-z\u4e00-\u9fff]", text.lower()))
            assert 0 <= len(tokenizer.encode(text).ids) - len(pieces) - 1 - signs <= 2 * signs

    def test_case_and_width_do_not_matter(self, tokenizer):
        """`RED` and full-width letters are `red`."""
        assert tokenizer.encode("RED \uff52\uff45\uff44").tokens == ["red", "red", "</s>"]

    def test_chinese_is_a_token_a_character(self, tokenizer):
        """Chinese has no spaces to split at."""
        ids = [tokenizer.encode(text).ids for text in ("红", "色", "圆")]
        assert tokenizer.encode("红色圆").ids == [*(first for first, _ in ids), ids[0][-1]]

    @pytest.mark.parametrize(
        "text", ["🪁 привет", "ein grüner Kreis", "日本語", "\0\x07", "a" * 999]
    )
    def test_what_is_not_of_the_world_has_tokens_too(self, tokenizer, text):
        """Emoji and other languages are bytes, never unknown and never an error."""
        encoded = tokenizer.encode(text)
        assert "<unk>" not in encoded.tokens
        assert len(encoded.ids) > 1
        assert max(encoded.ids) < SIZE

    def test_nothing_is_the_end_alone(self, tokenizer):
        """The empty prompt has a token."""
        assert tokenizer.encode("").tokens == ["</s>"]
