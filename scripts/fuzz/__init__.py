"""Files changed at random, read by the commands that take them; graphs drawn at random, run."""
