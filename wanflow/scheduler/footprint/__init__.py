"""What every call of a graph costs, as plain numbers; its rows in a trace, and back. No torch."""
