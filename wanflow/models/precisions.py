"""What weights may be computed in, and what they can be packed to here, by name. No torch."""

PRECISIONS = ("fp32", "bf16", "fp16")
PACKINGS = ("int8", "fp8")
