"""Files and texts from outside: read whole, checked, written at once."""
