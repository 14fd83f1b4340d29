"""LoRA and its kin: their files, what of a model they change, and how."""
