"""Writing a planned model: codes, Q/DQ pairs, files."""
