"""Text on a terminal: made safe to print, and laid out."""
