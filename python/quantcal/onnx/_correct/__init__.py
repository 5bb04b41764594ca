"""Corrections of a float model before and after its ranges are chosen, each on request."""
