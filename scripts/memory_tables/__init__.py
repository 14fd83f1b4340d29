"""The tables of docs/memory-tables.md: planned, calculated, and measured where something ran."""
