"""Pieces of packed weights that cannot be right, whatever the model: told when they are read."""

from __future__ import annotations

import torch

from wanflow.models.packing.form import PACKED, Form
from wanflow.models.packing.gguf import Gguf


def fault_of(form: Form, leaf: str, piece: torch.Tensor) -> str:
    """Say what is wrong with a piece of a weight in *form*, or with rows of it; else nothing.

    A row that is all zeros has a scale of zero where quanto wrote it, so only a scale that is zero
    throughout is none.
    """
    if leaf != PACKED:
        if not torch.isfinite(piece).all():
            return "is a scale that is not finite"
        return "" if piece.any() else "is a scale of zero"
    if isinstance(form, Gguf) and (row := form.damaged(piece)) is not None:
        return f"is damaged: row {row} has a {form.type} block whose scale is not finite"
    return ""
