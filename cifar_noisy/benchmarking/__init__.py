"""Label-error detectors compared: their cases, the baselines, and the summary."""
