"""Comparing strategies: the range, error and time of each, by tensor."""
