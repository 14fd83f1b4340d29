"""The tokenizer of the world."""

import numpy as np
import pytest

from scripts.train_tiny.captions import caption
from scripts.train_tiny.tokens import make_tokenizer
from scripts.train_tiny.world import draw_scene


@pytest.fixture(scope="module")
def tokenizer():
    return make_tokenizer()


class TestTokens:
    @pytest.mark.parametrize("language", ["en", "zh"])
    def test_captions_have_no_unknown_word(self, tokenizer, language):
        """Every caption is made of words of the vocabulary."""
        random = np.random.default_rng(1)
        for turn in range(400):
            text = caption(random, draw_scene(random, held=bool(turn % 2)), language)
            assert "<unk>" not in tokenizer.encode(text).tokens, text

    def test_case_and_width_do_not_matter(self, tokenizer):
        """`RED` and full-width letters are `red`."""
        assert tokenizer.encode("RED \uff52\uff45\uff44").tokens == ["red", "red", "</s>"]

    def test_chinese_is_a_token_a_character(self, tokenizer):
        """Chinese has no spaces to split at."""
        assert tokenizer.encode("红色圆").tokens == ["红", "色", "圆", "</s>"]

    def test_what_is_not_of_the_world_is_unknown(self, tokenizer):
        """Emoji and other languages are unknown words, never an error."""
        tokens = tokenizer.encode("🪁 привет").tokens
        assert {"<unk>"} == set(tokens[:-1])

    def test_nothing_is_the_end_alone(self, tokenizer):
        """The empty prompt has a token."""
        assert tokenizer.encode("").tokens == ["</s>"]
