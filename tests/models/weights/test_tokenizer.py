"""The tokenizer: the ids and masks that transformers makes, from data alone."""

import sys

import pytest
from transformers import AutoTokenizer

from wanflow.errors import WeightsError
from wanflow.models.weights.tokenizer import find_tokenizer, load_tokenizer

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
