"""A graph's models, ready to run: upstream modules by parts, their weights by segments."""
