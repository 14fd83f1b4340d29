"""Prompts longer than the text encoder takes are told by the plan, with where they are cut."""

import pytest

from wanflow.session import Request, plan

LONG = " ".join(f"circle{number}" for number in range(600))
CHINESE = "红色的圆" * 200


def cuts(prompt="a red circle", negative="", graph="t2v-tiny", **options):
    """What a plan says of its prompts."""
    inputs = {"prompt": prompt, "negative_prompt": negative, "frames": 1, "steps": 1}
    inputs["size"] = "32*32" if graph == "t2v-tiny" else "832*480"
    options.setdefault("device", "cpu")
    return plan(Request(graph, inputs, **options)).report["cut_prompts"]


class TestTold:
    def test_prompt(self):
        """Which, how long, and the words; the place is one in the prompt."""
        (cut,) = cuts(LONG)
        assert (cut["stage"], cut["prompt"], cut["max_tokens"]) == ("encode", "prompt", 512)
        assert cut["tokens"] > 600
        assert LONG[cut["cut_at"] :].startswith(cut["cut_from"])
        assert cut["cut_from"].startswith("circle")

    def test_negative_prompt(self):
        """So is the negative one, and both, in their order."""
        assert [cut["prompt"] for cut in cuts(negative=LONG)] == ["negative_prompt"]
        assert [cut["prompt"] for cut in cuts(LONG, LONG)] == ["prompt", "negative_prompt"]

    def test_chinese(self):
        """Without spaces it is told to the character."""
        (cut,) = cuts(CHINESE)
        assert CHINESE[cut["cut_at"] :].startswith(cut["cut_from"])
        assert cut["cut_at"] == 511

    def test_cleaned(self):
        """What is counted is what the encoder is given: spaces and entities count once."""
        (cut,) = cuts("circle&nbsp;&amp;   " * 300)
        assert cut["cut_from"].startswith(("circle &", "&"))

    def test_shorter_limit(self):
        """A graph may count less."""
        (cut,) = cuts("a red circle moves", settings=("encode.max_tokens=3",))
        assert (cut["tokens"], cut["max_tokens"], cut["cut_from"]) == (5, 3, "circle moves")


class TestNotTold:
    @pytest.mark.parametrize("prompt", ["", "a red circle", "circle " * 511, "圆" * 511])
    def test_fits(self, prompt):
        """Up to exactly 512 tokens, with the one that ends it."""
        assert cuts(prompt) == []

    def test_negative_prompt_that_nobody_reads(self):
        """Without guidance it is not encoded."""
        assert cuts(negative=LONG, settings=("denoise.guidance=1",)) == []

    def test_no_tokenizer(self):
        """A plan without weights knows of no token."""
        assert cuts(LONG, LONG, graph="t2v-1.3b", machine="rtx4090", device="auto") == []
