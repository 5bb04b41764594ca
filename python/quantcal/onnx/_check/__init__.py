"""Checking a model: it loads, it runs, and it computes the same as before."""
