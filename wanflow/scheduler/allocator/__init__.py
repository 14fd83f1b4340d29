"""Requests of calls to what a card's allocator reserves beyond them. No torch."""
