"""UMT5's table of embeddings under both of its names, as transformers takes it.

It is `shared.weight` and the encoder's `embed_tokens.weight`, which is the same. Where a file has
one, that is it; where it has both, the encoder reads its own, which transformers 5 leaves untied if
they differ (modeling_utils.py, `PreTrainedModel.tie_weights`).
"""

from __future__ import annotations

import attrs

from wanflow.models.weights.checkpoint import Checkpoint
from wanflow.models.weights.sample import sample

_SHARED, _OWN = "shared.weight", "encoder.embed_tokens.weight"


def tied(checkpoint: Checkpoint) -> Checkpoint:
    """Name the table that the encoder reads `shared.weight`; a note where two of them differ."""
    entries = dict(checkpoint.entries)
    own, shared = entries.pop(_OWN, None), entries.get(_SHARED)
    if own is None:
        return checkpoint
    entries[_SHARED] = attrs.evolve(own, stored_as=own.stored_as or _OWN)
    notes = checkpoint.notes
    if shared is not None and (
        (own.shape, own.dtype) != (shared.shape, shared.dtype) or sample(own) != sample(shared)
    ):
        notes += (f"{_SHARED} and {_OWN} differ: as in transformers the second is used",)
    return attrs.evolve(checkpoint, entries=entries, notes=notes)
