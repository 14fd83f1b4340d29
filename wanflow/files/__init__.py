"""Files of our own: that appear whole, that may be lost, that lock a folder; where they lie."""
