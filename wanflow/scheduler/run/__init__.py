"""A plan and its programs to values; every move through the ledger, played or simulated."""
