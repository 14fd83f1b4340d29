"""Weights in fewer bits than they compute in: how they are packed, opened and made."""
