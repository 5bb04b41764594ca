"""Tests, and what they share with the benches: `tests.models`."""
