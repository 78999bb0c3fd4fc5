"""How well label errors are found: scores, verification of what was published, tables."""
