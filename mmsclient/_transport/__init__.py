"""One call from its start to its answer."""
