"""What the peak of each stage is made of, and what each model weighs."""

from wanflow.trace import summarise_events
from wanflow.trace.events import Kind, Move, Transfer, Verb
from wanflow.trace.stage_peaks import Loads, stage_loads

GIB = 2**30
GPU = "cuda:0"


def weights(verb, name, nbytes):
    """Move a segment."""
    return Move(verb, Kind.WEIGHTS, name, "s", 0, "disk", GPU, nbytes, nbytes, 0, 0, 0, "")


class TestStages:
    """A row a stage."""

    def test_peak_is_taken_apart(self, run, header) -> None:
        """The kinds add up to the stage's peak."""
        summary = summarise_events(run, header)
        encode, denoise, decode = stage_loads(run, summary.stages, GPU)
        found = denoise.to_dict()
        assert tuple(
            found[f"peak_{kind}_bytes"] for kind in ("weights", "value", "state", "workspace")
        ) == (3 * GIB, GIB, 0, 3 * GIB)
        assert found["peak_bytes"] == sum(
            found[f"peak_{k}_bytes"]
            for k in ("weights", "value", "state", "workspace", "slack", "other")
        )
        assert encode.by_kind.weights_bytes == 2 * GIB
        assert decode.peak is None


class TestModels:
    """Weights by model."""

    def test_each_segment_counts_once(self) -> None:
        """However often it is loaded; rows that are gathered are no segment."""
        loads = Loads(GPU)
        for event in [
            weights(Verb.STREAM, "text/block.0", 6),
            weights(Verb.FREE, "text/block.0", 6),
            weights(Verb.STREAM, "text/block.0", 6),
            weights(Verb.PLACE, "dit/block.0", 2),
            weights(Verb.STREAM, "text/table rows", 50),
            Transfer("text/block.0", "s", 0, "disk", GPU, 6, 0, 9, 5 * 10**8),
        ]:
            loads.add(event)
        text, dit = loads.models()
        assert (text.model, text.segments, text.weights_bytes, text.share) == ("text", 1, 6, 0.75)
        assert (text.loads, text.loaded_bytes, text.waited_seconds) == (2, 12, 0.5)
        assert (dit.weights_bytes, dit.most_bytes) == (2, 2)
