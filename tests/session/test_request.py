"""Options as text become names and values, or exit 2."""

import pytest

from wanflow.errors import InputError
from wanflow.session.request import pairs, precisions

MODELS = {"text": "bf16", "dit": "bf16", "vae": "fp32"}


class TestPairs:
    """`KEY=VALUE` options."""

    def test_read(self):
        """The first equals sign parts key and value."""
        found = pairs(["a.b=1", "c=", "d=x=y"], "--set", "STAGE.PARAM=VALUE")
        assert found == {"a.b": "1", "c": "", "d": "x=y"}

    @pytest.mark.parametrize("text", ["", "key", "=value"])
    def test_no_pair(self, text):
        """Text without a key and an equals sign says the form."""
        with pytest.raises(InputError, match=r"is not STAGE\.PARAM=VALUE") as caught:
            pairs([text], "--set", "STAGE.PARAM=VALUE")
        assert caught.value.exit_code == 2

    def test_twice(self):
        """A key given twice is refused: neither value is what was meant for sure."""
        with pytest.raises(InputError, match=r"--set a\.b is given twice"):
            pairs(["a.b=1", "a.b=1"], "--set", "STAGE.PARAM=VALUE")


class TestPrecisions:
    """`--precision [MODEL=]TYPE`."""

    def test_default(self):
        """Without the option models have the graph's own."""
        assert precisions([], MODELS) == MODELS

    def test_one(self):
        """A model's own option changes that model."""
        assert precisions(["vae=bf16"], MODELS) == {**MODELS, "vae": "bf16"}

    def test_all_then_one(self):
        """Without a model it counts for all; later options come last."""
        found = precisions(["fp16", "vae=fp32"], MODELS)
        assert found == {"text": "fp16", "dit": "fp16", "vae": "fp32"}

    @pytest.mark.parametrize("text", ["dit=int4", "dit=", "", "bf16=dit"])
    def test_unknown_type(self, text):
        """A type that isn't known lists the known ones."""
        with pytest.raises(InputError, match="is no precision") as caught:
            precisions([text], MODELS)
        assert caught.value.hint == "allowed: fp32, bf16, fp16, int8, fp8"

    @pytest.mark.parametrize("text", ["unet=bf16", "=bf16"])
    def test_unknown_model(self, text):
        """A model that the graph doesn't have lists those it has."""
        with pytest.raises(InputError, match="the graph has no model") as caught:
            precisions([text], MODELS)
        assert caught.value.hint == "its models are text, dit, vae"
