"""Label errors from labels and probabilities, as pure functions on arrays."""
