"""Kills, power cuts and failing file operations by the thousand, each tried again from its seed."""
