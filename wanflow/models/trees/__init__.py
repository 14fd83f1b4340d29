"""Modules of Wan's models: plain trees of torch.nn under upstream's names, to its bits."""
