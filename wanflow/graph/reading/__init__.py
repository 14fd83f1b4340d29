"""From YAML text to records: nodes with marks, then one module a section of the file."""
