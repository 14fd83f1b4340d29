"""One video on several devices: a process a rank, a plan a rank, one run folder."""
