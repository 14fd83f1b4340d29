"""Prompts are cleaned as diffusers' Wan pipelines clean them."""

import pytest
from diffusers.pipelines.wan.pipeline_wan import prompt_clean

from wanflow.stages.encode_text import EncodeText, clean

NASTY = {
    "mojibake": "the kite doesn\u2019t fall".encode().decode("cp1252").encode().decode("cp1252"),
    "entities twice": "&amp;lt;b&amp;gt; &quot;kite&quot; &amp;amp;amp;",
    "curly quotes": "\u201ca kite\u201d \u2018over\u2019 the sea\u2026",
    "spaces": "\t a \u00a0\u2003 kite \r\n\r\n over\u200b the\u3000sea \n",
    "control": "a\x00kite\x07 over \x1b[31mthe sea",
    "surrogates of old": "\ud83d\ude00".encode("utf-16", "surrogatepass").decode("utf-16"),
    "wide letters": "\uff41 \uff4b\uff49\uff54\uff45\uff01",
    "ligatures": "\ufb01lm \ufb02ower \u0133",
    "Chinese": "色调艳丽，过曝，静态　细节模糊不清。",  # noqa: RUF001 - its own commas
    "joined emoji": "👩‍🚀 🏳️‍🌈 ☃️",
    "right to left": "\u202eabc\u202c مرحبا",
    "combining": "e\u0301 o\u0308 \u1e9b\u0323",
    "only spaces": " \n\t\u3000 ",
    "empty": "",
    "html": "<p>a&nbsp;kite &#x1F30A; &#0; &unknown;</p>",
}


class TestClean:
    """`clean` is `pipeline_wan.prompt_clean`."""

    @pytest.mark.parametrize("case", NASTY)
    def test_same_as_diffusers(self, case):
        """Every nasty text comes out the same."""
        assert clean(NASTY[case]) == prompt_clean(NASTY[case])

    def test_no_spaces_left(self):
        """Runs of spaces become one, none at the ends."""
        assert clean(NASTY["spaces"]).split() == clean(NASTY["spaces"]).split(" ")


class TestTokens:
    """A prompt reaches the tokenizer clean; the negative one where guidance wants it."""

    @staticmethod
    def asked(program, inputs, *, negative):
        seen = []

        def tokenize(prompt, count):
            seen.append((prompt, count))
            return [7] * count, [1] * count

        made = program("encode_text", inputs, tokenize=tokenize, wants_negative=negative)
        assert isinstance(made, EncodeText)
        names = ("positive", "negative") if negative else ("positive",)
        values = {}
        for which, prompt in made._prompts().items():
            values.update(made._tokens(made._text(which, prompt, "all")).run({}))
        assert set(values) == {f"encode_text.{v}.{n}" for v in ("ids", "ids_mask") for n in names}
        return list(dict.fromkeys(seen))

    def test_clean(self, program):
        """What is tokenized has been cleaned."""
        asked = self.asked(program, {"prompt": " a&amp;b  c "}, negative=False)
        assert asked == [("a&b c", 512)]

    @pytest.mark.parametrize(("given", "prompt"), [({"negative_prompt": "blur"}, "blur"), ({}, "")])
    def test_negative(self, program, given, prompt):
        """With guidance there is a negative prompt, empty if none was given."""
        asked = self.asked(program, {"prompt": "a", **given}, negative=True)
        assert asked == [("a", 512), (prompt, 512)]
