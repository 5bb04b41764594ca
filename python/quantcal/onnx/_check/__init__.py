"""Whether a model may be trusted: it loads, it runs, it computes the same."""
