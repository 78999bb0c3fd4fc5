"""Checked arrays from published files: labels, probabilities, masks, logs, noise matrices."""
