"""A YAML file of scenarios to what came of each: planned or run, and held against what it must."""
