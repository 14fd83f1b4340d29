"""A machine's rates and sizes: named, stored, learned from runs; the seconds of calls. No torch."""
