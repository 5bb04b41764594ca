"""Experiments that take many minutes and end in a page of the documentation."""
