"""The tokenizer: the ids and masks that transformers makes, from data alone."""

import json
import os
import sys

import pytest
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import AutoTokenizer

from wanflow.errors import WeightsError
from wanflow.models.weights.tokenizer import PromptTokenizer, find_tokenizer, load_tokenizer

PROMPTS = {
    "English": "a small red circle moves right on a blue background",
    "Chinese": "蓝色背景上一个小的红色圆形向右移动",
    "emoji": "👩‍🚀🌊 a kite 🪁 ☃️",
    "empty": "",
    "2,000 words": "circle " * 2000,
    "special tokens": "<pad> </s> <unk> a</s>b",
    "odd spaces": "  a\tb\n\n c\u00a0d  ",
    "rare letters": "ẞǅ𝔘 \u202eabc\u0000",
}


@pytest.fixture(scope="module")
def path(tiny):
    return find_tokenizer(tiny / "text_encoder")


class TestTokenize:
    """What the Wan pipelines get from `AutoTokenizer` with padding and truncation."""

    @pytest.mark.parametrize("count", [512, 16, 1])
    @pytest.mark.parametrize("prompt", PROMPTS)
    def test_same_as_transformers(self, tiny, path, prompt, count):
        """Same ids and same mask, padded or cut to the length."""
        theirs = AutoTokenizer.from_pretrained(tiny / "tokenizer")(
            PROMPTS[prompt], padding="max_length", max_length=count, truncation=True
        )
        ours = load_tokenizer(path)(PROMPTS[prompt], count)
        assert ours == (theirs["input_ids"], theirs["attention_mask"])

    def test_no_memory(self, path):
        """A long prompt leaves no trace on the next one."""
        tokenize = load_tokenizer(path)
        before = tokenize(PROMPTS["English"], 512)
        tokenize(PROMPTS["2,000 words"], 8)
        assert tokenize(PROMPTS["English"], 512) == before


def pieces():
    """A tokenizer of UMT5's kind: pieces that begin with the space before them."""
    letters = [(letter, -5.0) for letter in "▁abcdefghijklmnopqrstuvwxyz"]
    words = [(f"▁{word}", -1.0) for word in ("red", "circle", "kite")]
    special = [(name, 0.0) for name in ("<pad>", "</s>", "<unk>")]
    made = Tokenizer(models.Unigram([*special, *letters, *words], 2))
    made.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="always")
    made.post_processor = processors.TemplateProcessing(
        single="$A </s>", special_tokens=[("</s>", 1)]
    )
    return PromptTokenizer(made, 0)


class TestCut:
    """What of a prompt does not count."""

    @pytest.mark.parametrize(
        ("prompt", "tokens", "rest"),
        [
            ("circle " * 512, 513, "circle "),
            ("circle " * 600, 601, "circle " * 89),
            ("circle " * 510 + "kites end", 516, "kites end"),  # a word that is cut in two
            ("circle " * 509 + "red, end", 514, "end"),
            ("红色的圆" * 200, 801, "圆" + "红色的圆" * 72),
            ("circle " * 510 + "🪁 end", 517, "🪁 end"),  # a sign that is cut in two
        ],
    )
    def test_long(self, path, prompt, tokens, rest):
        """How long it is, and the rest from the first word on that is cut."""
        cut = load_tokenizer(path).cut(prompt, 512)
        assert (cut.tokens, cut.rest) == (tokens, rest)

    @pytest.mark.parametrize(
        "prompt", ["", "circle", "circle " * 511, "圆" * 511, "circle " * 510 + "."]
    )
    def test_fits(self, path, prompt):
        """Up to the very last token."""
        assert load_tokenizer(path).cut(prompt, 512) is None

    @pytest.mark.parametrize(
        ("count", "rest"),
        [(3, "kites over red sea"), (4, "kites over red sea"), (5, "over red sea"),
         (9, "over red sea"), (10, "red sea"), (14, "sea"), (1, "red circle kites over red sea")],
    )  # fmt: skip
    def test_pieces_with_their_space(self, count, rest):
        """The rest begins with a word, not inside of one or before it."""
        cut = pieces().cut("red circle kites over red sea", count)
        assert (cut.tokens, cut.rest) == (15, rest)

    def test_changes_nothing(self, path):
        """The ids are the same before and after a look."""
        tokenize = load_tokenizer(path)
        before = tokenize(PROMPTS["2,000 words"], 512)
        tokenize.cut(PROMPTS["2,000 words"], 8)
        assert tokenize(PROMPTS["2,000 words"], 512) == before


class TestFile:
    """A tokenizer is found beside the text encoder, and refused when it is none."""

    def test_beside_or_inside(self, tmp_path):
        """`tokenizer/` beside the text encoder comes before its own folder."""
        for folder in ("text_encoder", "tokenizer"):
            (tmp_path / folder).mkdir()
            (tmp_path / folder / "tokenizer.json").touch()
        assert find_tokenizer(tmp_path / "text_encoder").parent.name == "tokenizer"
        (tmp_path / "tokenizer" / "tokenizer.json").unlink()
        assert find_tokenizer(tmp_path / "text_encoder").parent.name == "text_encoder"

    def test_of_a_file(self, tmp_path):
        """A file lies beside it, or in the text encoder's folder of a model."""
        (tmp_path / "text_encoder").mkdir()
        file = tmp_path / "text_encoder" / "umt5.safetensors"
        file.touch()
        for folder in (tmp_path / "tokenizer", file.parent):
            folder.mkdir(exist_ok=True)
            (folder / "tokenizer.json").touch()
            assert find_tokenizer(file).parent == folder

    def test_missing(self, tmp_path):
        """Without one the error names the folder where it belongs, and where it comes from."""
        with pytest.raises(
            WeightsError, match=f"{tmp_path}/tokenizer: no tokenizer.json"
        ) as caught:
            find_tokenizer(tmp_path / "text_encoder")
        assert "google/umt5-xxl on the hub" in caught.value.hint

    def test_pieces_alone(self, tmp_path):
        """The other file of a tokenizer is not enough."""
        for name in ("umt5.safetensors", "spiece.model"):
            (tmp_path / name).touch()
        with pytest.raises(WeightsError, match=r"spiece.model by itself is not read"):
            find_tokenizer(tmp_path / "umt5.safetensors")

    @pytest.mark.parametrize(
        "damage",
        [
            lambda data: data[: len(data) // 2],
            lambda _: b"",
            lambda _: b"[]",
            lambda _: b"\xff\xfe",
            lambda data: data.replace(b'"BPE"', b'"Evil"'),
            lambda data: data.replace(b"<pad>", b"<dap>"),
            lambda _: b"[" * sys.getrecursionlimit(),
        ],
        ids=["cut", "empty", "list", "not text", "other model", "no padding token", "deep"],
    )
    def test_damaged(self, path, tmp_path, damage):
        """A damaged file is one line with its name, exit 4."""
        copy = tmp_path / "tokenizer.json"
        copy.write_bytes(damage(path.read_bytes()))
        with pytest.raises(WeightsError, match=f"^{copy}: ") as caught:
            load_tokenizer(copy)
        assert "\n" not in caught.value.message


class PanicException(BaseException):
    """What pyo3 raises where Rust panics; it can't be imported."""


class Failing:
    """A tokenizer that loads, and fails at each prompt; Rust tells of a panic of its own."""

    def __init__(self, error: BaseException) -> None:
        self.error = error

    def enable_truncation(self, count: int) -> None: ...
    def no_padding(self) -> None: ...

    def encode(self, prompt: str) -> None:
        os.write(2, b"thread panicked\n")
        raise self.error


class TestFailing:
    """What loads may fail at a prompt."""

    @pytest.mark.parametrize("ask", ["call", "cut"])
    def test_no_token_for_what_is_unknown(self, path, tmp_path, ask):
        """A sound file whose model has no word for a prompt, and nothing that stands for others."""
        data = json.loads(path.read_text(encoding="utf-8"))
        data["model"] = {"type": "Unigram", "unk_id": None, "vocab": [["<pad>", 0.0]]}
        own = tmp_path / "tokenizer.json"
        own.write_text(json.dumps(data), encoding="utf-8")
        read = load_tokenizer(own)
        with pytest.raises(WeightsError, match=r"tokenizer.json: cannot read a prompt: ") as caught:
            read("a kite", 64) if ask == "call" else read.cut("a kite", 64)
        assert (caught.value.code, caught.value.exit_code) == ("bad-tokenizer", 4)

    def test_more_tokens_added_than_there_is_room(self, path, tmp_path):
        """What a template adds is not cut."""
        made = Tokenizer.from_file(str(path))
        ends = [("</s>", made.token_to_id("</s>"))]
        made.post_processor = processors.TemplateProcessing(" ".join(["</s>"] * 9), "$A $B", ends)
        made.save(str(tmp_path / "tokenizer.json"))
        with pytest.raises(WeightsError, match="a prompt has 9, not 8") as caught:
            load_tokenizer(tmp_path / "tokenizer.json")("a kite", 8)
        assert (caught.value.code, caught.value.exit_code) == ("bad-tokenizer", 4)

    def test_a_panic_is_one_message(self, capfd):
        """It is no Exception to Python; what Rust writes to stderr stands before no message."""
        read = PromptTokenizer(Failing(PanicException("index out of bounds\nmore")), 0)
        with pytest.raises(WeightsError) as caught:
            read("a kite", 64)
        assert caught.value.message.endswith("cannot read a prompt: index out of bounds")
        assert capfd.readouterr().err == ""

    def test_ctrl_c_is_ctrl_c(self):
        """Whoever ends the process is not told of a tokenizer."""
        read = PromptTokenizer(Failing(KeyboardInterrupt()), 0)
        with pytest.raises(KeyboardInterrupt):
            read("a kite", 64)
