"""Programs to footprints: each kind of call is run once on fake tensors, and kept on disk."""
